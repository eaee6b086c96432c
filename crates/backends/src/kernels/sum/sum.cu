// Sums along the middle axis of [outer, reduced, inner], in f64: of the values or of their squares.
//
// One launch takes at most `rows` terms into each of its sums; the host launches again on the partial sums until one is
// left. No atomics: every sum is folded in an order that its place decides.
#include "multi_tensor.cuh"
#include "sum.cuh"

struct SumArgs {
    const void* x;
    void* out;          // [outer, chunks, inner]
    uint64_t reduced, inner;
    uint64_t chunks, rows; // chunks per outer index, and the terms of one
    uint64_t tiles;     // of columns, per chunk
    uint64_t blocks;    // in all: more than a grid may have are walked
    uint8_t dtype, to, columns, square; // columns: of a lane, where more than one are reduced to
    uint32_t lanes;     // that read a run of a row
};
static_assert(sizeof(SumArgs) == 72, "");

template <typename T> __device__ __forceinline__ double term(T x, bool square) {
    double v = convert<double>(x);
    return square ? v * v : v;
}
template <> __device__ __forceinline__ double term(__half x, bool square) { return term(__half2float(x), square); }
template <> __device__ __forceinline__ double term(__nv_bfloat16 x, bool square) { return term(__bfloat162float(x), square); }

// Rounded once, to 16 bits by way of f32.
__device__ __forceinline__ void store(const SumArgs& a, uint64_t at, double sum) {
    switch (a.to) {
        case F16: static_cast<__half*>(a.out)[at] = convert<__half>(float(sum)); break;
        case BF16: static_cast<__nv_bfloat16*>(a.out)[at] = convert<__nv_bfloat16>(float(sum)); break;
        case F64: static_cast<double*>(a.out)[at] = sum; break;
        default: static_cast<float*>(a.out)[at] = float(sum); break;
    }
}

// The fold over the block, valid in thread 0.
template <bool EXACT> __device__ Sum<EXACT> fold(Sum<EXACT> mine) {
    __shared__ Sum<EXACT> warps[BLOCK / 32];
#pragma unroll
    for (int step = 16; step > 0; step >>= 1)
        mine.merge(mine.elsewhere([&](double x) { return __shfl_down_sync(0xffffffffu, x, step); }));
    __syncthreads();
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = mine;
    __syncthreads();
    if (threadIdx.x == 0)
        for (int w = 1; w < BLOCK / 32; ++w) mine.merge(warps[w]);
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
        if (threadIdx.x == 0) store(a, block, mine.value());
    }
}

// Bytes that a lane reads at once, and lanes that read a run of a row: 512 bytes, or 128 of one that is no longer.
constexpr int MOST = 16, FAR = 32, NEAR = 8;

// inner > 1: a block for each tile of a chunk, of WIDE lanes by BLOCK / WIDE rows at a time, with N columns to a lane.
template <bool EXACT, int WIDE, int N, typename T>
__device__ void columns(const SumArgs& a, const T* x, void* shared) {
    struct alignas(N * sizeof(T)) Terms { T at[N]; };
    constexpr int DEEP = BLOCK / WIDE, WARPS = BLOCK / 32, TILE = WIDE * N;
    auto warps = static_cast<Sum<EXACT>(*)[TILE]>(shared);
    const uint32_t lane = threadIdx.x % WIDE, depth = threadIdx.x / WIDE;
    for (uint64_t block = blockIdx.x; block < a.blocks; block += gridDim.x) {
        const uint64_t first = block % a.tiles * TILE, column = first + lane * N, chunk = block / a.tiles;
        const uint64_t outer = chunk / a.chunks, from = chunk % a.chunks * a.rows;
        const uint64_t to = min(from + a.rows, a.reduced);
        Sum<EXACT> mine[N];
        if (column < a.inner) {
            const T* start = x + outer * a.reduced * a.inner + column;
#pragma unroll 4
            for (uint64_t r = from + depth; r < to; r += DEEP) {
                const Terms terms = *reinterpret_cast<const Terms*>(start + r * a.inner);
#pragma unroll
                for (int k = 0; k < N; ++k) mine[k].add(term(terms.at[k], a.square));
            }
        }
        // The rows of a warp, then the warps.
#pragma unroll
        for (int step = WIDE; step < 32; step <<= 1)
#pragma unroll
            for (int k = 0; k < N; ++k)
                mine[k].merge(mine[k].elsewhere([&](double x) { return __shfl_xor_sync(0xffffffffu, x, step); }));
        __syncthreads();
        if (threadIdx.x % 32 < WIDE)
#pragma unroll
            for (int k = 0; k < N; ++k) warps[threadIdx.x / 32][lane * N + k] = mine[k];
        __syncthreads();
        if (threadIdx.x < TILE && first + threadIdx.x < a.inner) {
            Sum<EXACT> all = warps[0][threadIdx.x];
            for (int w = 1; w < WARPS; ++w) all.merge(warps[w][threadIdx.x]);
            store(a, chunk * a.inner + first + threadIdx.x, all.value());
        }
    }
}

template <typename T> __device__ __forceinline__ void sum(const SumArgs& a, const T* x, void* shared) {
    constexpr bool EXACT = std::is_same_v<T, double>;
    if (a.inner == 1) rows<EXACT>(a, x);
    else if (a.columns == 1) columns<EXACT, FAR, 1>(a, x, shared);
    else if (a.lanes == FAR) columns<EXACT, FAR, MOST / sizeof(T)>(a, x, shared);
    else columns<EXACT, NEAR, MOST / sizeof(T)>(a, x, shared);
}

extern "C" __global__ void __launch_bounds__(BLOCK) sum(const __grid_constant__ SumArgs a) {
    // One for all types: each would have its own otherwise. Sums of f64 are two numbers of half as many columns.
    __shared__ double shared[BLOCK / 32 * FAR * MOST / 2];
    typed(a.x, a.dtype, [&](auto* x) { sum(a, x, shared); });
}
