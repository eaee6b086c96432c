// What the attention kernels share: their arguments, tiles in shared memory, and products of tiles on tensor cores.
//
// A tile is rows of D 16-bit elements. Its 16-byte chunks are permuted within each row, so that the eight rows that
// `ldmatrix` reads at once lie in different banks. Four warps work on a block; each has 16 * MT rows of the result to itself.
#pragma once
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

// Zeros where there is nothing to read.
__device__ __forceinline__ void copy_16(uint32_t to, const void* from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0));
}
__device__ __forceinline__ void copy_8(uint32_t to, const void* from, bool there) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(to), "l"(from), "r"(there ? 8 : 0));
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
__device__ __forceinline__ void await_copies() { asm volatile("cp.async.wait_group 0;" ::: "memory"); }

__device__ __forceinline__ void load_matrices(uint32_t (&m)[4], uint32_t at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3]) : "r"(at) : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&m)[4], uint32_t at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3]) : "r"(at) : "memory");
}

template <int D> struct Tile {
    static_assert(D % 32 == 0, "");
    static constexpr int CHUNKS = D / 8, ROW = D * 2;
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
    // Starts the copy of `ROWS` rows from `first` on; those from `limit` on are zeros.
    template <int ROWS, typename T>
    __device__ static __forceinline__ void load(uint32_t to, const T* from, int64_t stride, int first, int limit) {
#pragma unroll
        for (int i = 0; i < ROWS * CHUNKS / THREADS; ++i) {
            int index = threadIdx.x + i * THREADS, row = index / CHUNKS, chunk = index % CHUNKS;
            bool there = first + row < limit;
            copy_16(to + at(row, chunk), from + (there ? (first + row) * stride : 0) + chunk * 8, there);
        }
    }
};

// ---- products ---------------------------------------------------------------------------------------------------

template <typename T> struct Half;
template <> struct Half<__half> {
    __device__ static __forceinline__ uint32_t pack(float low, float high) {
        uint32_t both;
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
        return both;
    }
    __device__ static __forceinline__ float2 unpack(uint32_t both) {
        return __half22float2(*reinterpret_cast<const __half2*>(&both));
    }
    __device__ static __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};
template <> struct Half<__nv_bfloat16> {
    __device__ static __forceinline__ uint32_t pack(float low, float high) {
        uint32_t both;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
        return both;
    }
    __device__ static __forceinline__ float2 unpack(uint32_t both) {
        return make_float2(__uint_as_float(both << 16), __uint_as_float(both & 0xffff0000u));
    }
    __device__ static __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};

// The rows of a warp in a tile as the left factor, read anew for each product, or kept in registers.
template <int D, int MT, bool KEPT> struct Left {
    uint32_t lane;
    uint32_t kept[KEPT ? D / 16 : 1][MT][4];
    __device__ __forceinline__ void open(uint32_t rows) {
        lane = rows + Tile<D>::by_rows();
        if constexpr (KEPT)
#pragma unroll
            for (int k = 0; k < D / 16; ++k) read(kept[k], k);
    }
    __device__ __forceinline__ void read(uint32_t (&a)[MT][4], int k) const {
#pragma unroll
        for (int m = 0; m < MT; ++m) load_matrices(a[m], Tile<D>::step(lane, 2 * k) + m * 16 * Tile<D>::ROW);
    }
    // Columns 16 k to 16 k + 15, in `fresh` where they are not kept.
    __device__ __forceinline__ const uint32_t (&columns(uint32_t (&fresh)[MT][4], int k) const)[MT][4] {
        if constexpr (KEPT) return kept[k];
        else {
            read(fresh, k);
            return fresh;
        }
    }
};

// Clears `c`, then adds left * rightᵀ, where `right` is `by_columns` in the first of N rows of a tile.
template <typename T, int D, int MT, int N, bool KEPT>
__device__ __forceinline__ void multiply_transposed(float (&c)[MT][N / 8][4], const Left<D, MT, KEPT>& left, uint32_t right) {
#pragma unroll
    for (int m = 0; m < MT; ++m)
#pragma unroll
        for (int n = 0; n < N / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) c[m][n][i] = 0.0f;
#pragma unroll
    for (int k = 0; k < D / 16; ++k) {
        uint32_t fresh[MT][4];
        const uint32_t(&a)[MT][4] = left.columns(fresh, k);
#pragma unroll
        for (int n = 0; n < N / 16; ++n) {
            uint32_t b[4];
            load_matrices(b, Tile<D>::step(right, 2 * k) + n * 16 * Tile<D>::ROW);
#pragma unroll
            for (int m = 0; m < MT; ++m) {
                Half<T>::mma(c[m][2 * n], a[m], b[0], b[1]);
                Half<T>::mma(c[m][2 * n + 1], a[m], b[2], b[3]);
            }
        }
    }
}

// Adds left * right, where `left` is rounded to T and `right` is `by_rows` in the first of N rows of a tile.
template <typename T, int D, int MT, int N>
__device__ __forceinline__ void multiply(float (&c)[MT][D / 8][4], const float (&left)[MT][N / 8][4], uint32_t right) {
#pragma unroll
    for (int k = 0; k < N / 16; ++k) {
        uint32_t a[MT][4];
#pragma unroll
        for (int m = 0; m < MT; ++m)
#pragma unroll
            for (int i = 0; i < 4; ++i)
                a[m][i] = Half<T>::pack(left[m][2 * k + i / 2][i % 2 * 2], left[m][2 * k + i / 2][i % 2 * 2 + 1]);
#pragma unroll
        for (int n = 0; n < D / 16; ++n) {
            uint32_t b[4];
            load_matrices_transposed(b, Tile<D>::step(right, 2 * n) + k * 16 * Tile<D>::ROW);
#pragma unroll
            for (int m = 0; m < MT; ++m) {
                Half<T>::mma(c[m][2 * n], a[m], b[0], b[1]);
                Half<T>::mma(c[m][2 * n + 1], a[m], b[2], b[3]);
            }
        }
    }
}

// Rounds the warp's rows, each times its factor, and writes those before `limit`. `rows` is a part of a tile that no other
// warp reads any more.
template <typename T, int D, int MT>
__device__ __forceinline__ void store(
    const float (&c)[MT][D / 8][4], const float (&factor)[MT][2], uint32_t rows, T* to, int64_t stride, int first, int limit
) {
    using Rows = Tile<D>;
    const int lane = threadIdx.x % 32;
    __syncwarp();
#pragma unroll
    for (int m = 0; m < MT; ++m)
#pragma unroll
        for (int n = 0; n < D / 8; ++n)
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                uint32_t both = Half<T>::pack(c[m][n][2 * h] * factor[m][h], c[m][n][2 * h + 1] * factor[m][h]);
                asm volatile("st.shared.b32 [%0], %1;" ::"r"(rows + Rows::at(m * 16 + h * 8 + lane / 4, n) + lane % 4 * 4), "r"(both) : "memory");
            }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 16 * MT * Rows::CHUNKS / 32; ++i) {
        int index = lane + i * 32, row = index / Rows::CHUNKS, chunk = index % Rows::CHUNKS;
        if (first + row >= limit) continue;
        uint4 x;
        asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "r"(rows + Rows::at(row, chunk)) : "memory");
        *reinterpret_cast<uint4*>(to + (first + row) * stride + chunk * 8) = x;
    }
}
