// What the attention kernels share: their arguments, the draws of dropout, and tiles in shared memory.
//
// A tile is rows of D elements. Its 16-byte chunks are permuted within each row, so that the eight rows that
// `ldmatrix` reads at once lie in different banks. Four warps work on a block; each has 16 * MT rows of the result to itself.
#pragma once
#include "copies.cuh"
#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

constexpr int THREADS = 128, WARPS = THREADS / 32;
constexpr float LOG2_E = 1.44269504088896340736f, LN_2 = 0.69314718055994530942f;

// (batch, head, row, D), strided in elements; a row is contiguous and starts at a multiple of 16 bytes.
struct Operand {
    void* at;
    int64_t batch, head, row;
    template <typename T> __device__ __forceinline__ T* of(int head_index, int heads) const {
        return static_cast<T*>(at) + head_index / heads * batch + head_index % heads * head;
    }
};
static_assert(sizeof(Operand) == 32, "");

struct Sizes {
    int32_t queries, keys;
    int32_t heads, all_heads; // of one batch element, and of all
    int32_t group;            // heads whose blocks are launched side by side
    int32_t causal;
    float exponent, sign;     // the scale is ln 2 * exponent * sign
    float scale, kept_factor; // of a probability that is not dropped
    uint64_t key;             // of the draws for dropout
    uint32_t threshold;       // what is drawn below it is dropped
    uint32_t unused;
};
static_assert(sizeof(Sizes) == 56 && offsetof(Sizes, key) == 40 && offsetof(Sizes, threshold) == 48, "");

// Which head a block works on, and which of `blocks` parts of its rows. All first parts of a group come before all
// second ones: what takes longest starts first, and the heads of a group share the second-level cache.
struct Place {
    int head, part;
    __device__ __forceinline__ Place(const Sizes& sizes, int blocks) {
        int whole = sizes.group * blocks, group = blockIdx.x / whole, rest = blockIdx.x % whole;
        int heads = min(sizes.group, sizes.all_heads - group * sizes.group);
        head = group * sizes.group + rest % heads;
        part = rest / heads;
    }
};

__device__ __forceinline__ int ceil_div(int a, int b) { return (a - 1) / b + 1 - (a == 0); }
__device__ __forceinline__ float exp2_of(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// ---- dropout ----------------------------------------------------------------------------------------------------

// `random_bits` of `fused_step.cuh`, from the sum that it begins with.
constexpr uint64_t NEXT = 0x9e3779b97f4a7c15ull; // from one index to the next
__device__ __forceinline__ uint32_t random_bits_of(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return uint32_t((z ^ (z >> 31)) >> 32);
}

// A bit for each of the elements of a thread, set where a probability is kept. Rows are queries and columns keys, from
// `row` and `column` on, or the other way round.
template <int MT, int N, bool ROWS_ARE_KEYS>
__device__ __forceinline__ uint32_t kept_bits(const Sizes& a, int head, int row, int column) {
    static_assert(MT * N <= 64, "");
    row += threadIdx.x % 32 / 4, column += threadIdx.x % 4 * 2;
    int64_t query = ROWS_ARE_KEYS ? column : row, key = ROWS_ARE_KEYS ? row : column;
    const uint64_t start = a.key + uint64_t((int64_t(head) * a.queries + query) * a.keys + key) * NEXT;
    const uint64_t next_query = uint64_t(a.keys) * NEXT, next_row = ROWS_ARE_KEYS ? NEXT : next_query;
    const uint64_t next_column = ROWS_ARE_KEYS ? next_query : NEXT;
    uint32_t bits = 0;
#pragma unroll
    for (int m = 0; m < MT; ++m)
#pragma unroll
        for (int n = 0; n < N / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                uint64_t z = start + (m * 16 + i / 2 * 8) * next_row + (n * 8 + i % 2) * next_column;
                bits |= uint32_t(random_bits_of(z) >= a.threshold) << (m * N / 2 + n * 4 + i);
            }
    return bits;
}

// A choice and no product, which would make NaN of a dropped infinity.
template <int MT, int N> __device__ __forceinline__ void drop(float (&x)[MT][N / 8][4], uint32_t bits, float factor) {
#pragma unroll
    for (int m = 0; m < MT; ++m)
#pragma unroll
        for (int n = 0; n < N / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) x[m][n][i] = bits >> (m * N / 2 + n * 4 + i) & 1 ? x[m][n][i] * factor : 0.0f;
}

// ---- memory -----------------------------------------------------------------------------------------------------

extern __shared__ __align__(128) unsigned char shared_memory[];

__device__ __forceinline__ uint32_t shared_start() { return uint32_t(__cvta_generic_to_shared(shared_memory)); }

__device__ __forceinline__ void load_matrices(uint32_t (&m)[4], uint32_t at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3]) : "r"(at) : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&m)[4], uint32_t at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3]) : "r"(at) : "memory");
}

__device__ __forceinline__ void load_word(uint32_t& word, uint32_t at) {
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(word) : "r"(at) : "memory");
}

// Starts the copy of `COUNT` rows from `first` on, by so many threads, to where `Rows` has them; those from `limit` on are zeros.
template <typename Rows, int COUNT, int BY, typename T>
__device__ __forceinline__ void load_rows(uint32_t to, const T* from, int64_t stride, int first, int limit) {
    static_assert(COUNT * Rows::CHUNKS % BY == 0, "");
#pragma unroll
    for (int i = 0; i < COUNT * Rows::CHUNKS / BY; ++i) {
        int index = threadIdx.x + i * BY, row = index / Rows::CHUNKS, chunk = index % Rows::CHUNKS;
        bool there = first + row < limit;
        copy_16(to + Rows::at(row, chunk), from + (there ? (first + row) * stride : 0) + chunk * Rows::IN_CHUNK, there);
    }
}

template <typename T, int D> struct Tile {
    static_assert(D % 32 == 0, "");
    static constexpr int IN_CHUNK = 16 / sizeof(T), CHUNKS = D / IN_CHUNK, ROW = D * sizeof(T);
    static constexpr int GROUP = CHUNKS % 8 == 0 ? 8 : 4; // chunks that are permuted among themselves
    __host__ __device__ static constexpr int bytes(int rows) { return rows * ROW; }

    __device__ static __forceinline__ uint32_t at(uint32_t row, uint32_t chunk) {
        return row * ROW + ((chunk ^ (GROUP == 8 ? row & 7 : row >> 1 & 3)) * 16);
    }
    // The address of an even chunk in the row of `lane`, which is the address of chunk 0 or 1.
    __device__ static __forceinline__ uint32_t step(uint32_t lane, int chunk) {
        return (lane ^ (chunk % GROUP * 16)) + chunk / GROUP * GROUP * 16;
    }
    // Where the lane's row of a matrix begins: rows first, then columns; and columns first, then rows.
    __device__ static __forceinline__ uint32_t by_rows() {
        uint32_t lane = threadIdx.x % 32;
        return at((lane >> 3 & 1) * 8 + lane % 8, lane >> 4);
    }
    __device__ static __forceinline__ uint32_t by_columns() {
        uint32_t lane = threadIdx.x % 32;
        return at((lane >> 4) * 8 + lane % 8, lane >> 3 & 1);
    }
    // Where the lane reads a right factor that is not transposed: `ldmatrix` transposes 16 bits, and 32 are read one by one,
    // from the even rows.
    __device__ static __forceinline__ uint32_t across() {
        uint32_t lane = threadIdx.x % 32;
        return sizeof(T) == 2 ? by_rows() : at(lane % 4 * 2, lane / 16) + lane / 4 % 4 * 4;
    }
    template <int ROWS>
    __device__ static __forceinline__ void load(uint32_t to, const T* from, int64_t stride, int first, int limit) {
        load_rows<Tile, ROWS, THREADS>(to, from, stride, first, limit);
    }
};
