// Sums along the middle axis of [outer, reduced, inner], in f64: of the values or of their squares.
//
// One launch takes at most `rows` terms into each of its sums; the host launches again on the partial sums until one is
// left. No atomics: every sum is folded in an order that its place decides.
#include "multi_tensor.cuh"
#include "sum.cuh"

struct SumArgs {
    const void* x;
    double* out;        // [outer, chunks, inner]
    uint64_t reduced, inner;
    uint64_t chunks, rows; // chunks per outer index, and the terms of one
    uint64_t tiles;     // of columns, per chunk
    uint64_t blocks;    // in all: more than a grid may have are walked
    uint8_t dtype, columns, unused[2]; // columns: of a lane, where more than one are reduced to
    uint32_t square;
};
static_assert(sizeof(SumArgs) == 72, "");

template <typename T> __device__ __forceinline__ double term(T x, bool square) {
    double v = convert<double>(x);
    return square ? v * v : v;
}
template <> __device__ __forceinline__ double term(__half x, bool square) { return term(__half2float(x), square); }
template <> __device__ __forceinline__ double term(__nv_bfloat16 x, bool square) { return term(__bfloat162float(x), square); }

// The fold over the block, valid in thread 0.
template <bool EXACT> __device__ Sum<EXACT> fold(Sum<EXACT> mine) {
    __shared__ Sum<EXACT> warps[BLOCK / 32];
#pragma unroll
    for (int step = 16; step > 0; step >>= 1)
        mine.merge(__shfl_down_sync(0xffffffffu, mine.sum, step), __shfl_down_sync(0xffffffffu, mine.lost, step));
    __syncthreads();
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = mine;
    __syncthreads();
    if (threadIdx.x == 0)
        for (int w = 1; w < BLOCK / 32; ++w) mine.merge(warps[w].sum, warps[w].lost);
    return mine;
}

// inner == 1: a block for each chunk of a row.
template <bool EXACT, typename T> __device__ void rows(const SumArgs& a, const T* x) {
    for (uint64_t block = blockIdx.x; block < a.blocks; block += gridDim.x) {
        uint64_t row = block / a.chunks, from = block % a.chunks * a.rows;
        uint64_t to = min(from + a.rows, a.reduced);
        const T* start = x + row * a.reduced;
        Sum<EXACT> mine;
        for (uint64_t i = from + threadIdx.x; i < to; i += BLOCK) mine.add(term(start[i], a.square));
        mine = fold<EXACT>(mine);
        if (threadIdx.x == 0) a.out[block] = mine.value();
    }
}

// inner > 1: a block of 32 lanes by 8 rows at a time for each tile of a chunk, of N columns each.
constexpr int WIDE = 32, DEEP = BLOCK / WIDE;
template <bool EXACT, int N, typename T> __device__ void columns(const SumArgs& a, const T* x, void* shared) {
    struct alignas(N * sizeof(T)) Terms { T at[N]; };
    auto tile = static_cast<Sum<EXACT>(*)[WIDE][N]>(shared);
    const uint32_t lane = threadIdx.x % WIDE, depth = threadIdx.x / WIDE;
    for (uint64_t block = blockIdx.x; block < a.blocks; block += gridDim.x) {
        uint64_t column = (block % a.tiles * WIDE + lane) * N, chunk = block / a.tiles;
        uint64_t outer = chunk / a.chunks, from = chunk % a.chunks * a.rows;
        uint64_t to = min(from + a.rows, a.reduced);
        Sum<EXACT> mine[N];
        if (column < a.inner)
            for (uint64_t r = from + depth; r < to; r += DEEP) {
                Terms terms = *reinterpret_cast<const Terms*>(x + (outer * a.reduced + r) * a.inner + column);
#pragma unroll
                for (int k = 0; k < N; ++k) mine[k].add(term(terms.at[k], a.square));
            }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < N; ++k) tile[depth][lane][k] = mine[k];
        __syncthreads();
        if (depth == 0 && column < a.inner)
            for (int k = 0; k < N; ++k) {
                for (int d = 1; d < DEEP; ++d) mine[k].merge(tile[d][lane][k].sum, tile[d][lane][k].lost);
                a.out[chunk * a.inner + column + k] = mine[k].value();
            }
    }
}

template <typename T> __device__ __forceinline__ void sum(const SumArgs& a, const T* x, void* shared) {
    constexpr bool EXACT = std::is_same_v<T, double>;
    if (a.inner == 1) rows<EXACT>(a, x);
    else if (a.columns == 4) columns<EXACT, 4>(a, x, shared);
    else columns<EXACT, 1>(a, x, shared);
}

extern "C" __global__ void __launch_bounds__(BLOCK) sum(const __grid_constant__ SumArgs a) {
    // One for all types: each would have its own otherwise.
    __shared__ double2 shared[DEEP * WIDE * 4];
    typed(a.x, a.dtype, [&](auto* x) { sum(a, x, shared); });
}
