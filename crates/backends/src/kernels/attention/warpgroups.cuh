// Products of tiles by `wgmma`, which four warps (a warpgroup) issue together: 64 rows by N columns, the left factor in registers
// or in shared memory, the right one in shared memory. Of compute capability 9.0 alone.
#pragma once
#include "units.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// ROWS rows of D elements of 16 bits as `wgmma` reads them: columns of 64 elements one after the other, rows of 128 bytes, whose
// 16-byte chunks are permuted within eight rows. It begins at a multiple of 1024 bytes.
template <typename T, int D, int ROWS> struct Panel {
    static_assert(D % 64 == 0 && ROWS % 8 == 0 && sizeof(T) == 2, "");
    static constexpr int COLUMN = ROWS * 128, BYTES = COLUMN * (D / 64), IN_CHUNK = 8, CHUNKS = D / IN_CHUNK;

    __device__ static __forceinline__ uint32_t at(uint32_t row, uint32_t chunk) {
        return chunk / 8 * COLUMN + row * 128 + ((chunk % 8 ^ (row & 7)) * 16);
    }
    // By `BY` threads.
    template <int BY>
    __device__ static __forceinline__ void load(uint32_t to, const T* from, int64_t stride, int first, int limit) {
        load_rows<Panel, ROWS, BY>(to, from, stride, first, limit);
    }
    // What `wgmma` is told of a factor: its address, the distance of columns of 64, that of eight rows, the permutation.
    __device__ static __forceinline__ uint64_t described(uint32_t at) {
        return uint64_t(at >> 4 & 0x3fff) | uint64_t(COLUMN >> 4) << 16 | uint64_t(1024 >> 4) << 32 | uint64_t(1) << 62;
    }
    // Columns 16 k to 16 k + 15 of the rows from `row` on: a left factor, or the transpose of a right one.
    __device__ static __forceinline__ uint64_t columns(uint32_t panel, int row, int k) {
        return described(panel + k / 4 * COLUMN + row * 128 + k % 4 * 32);
    }
    // Rows 16 k to 16 k + 15: a right factor.
    __device__ static __forceinline__ uint64_t rows(uint32_t panel, int k) { return described(panel + k * 2048); }
};

// Shared memory that this thread wrote, or that arrived by its copies, is seen by `wgmma` after the next barrier.
__device__ __forceinline__ void publish() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until all products but those of the last `LEFT` groups are there. `c` is what they write.
template <int LEFT, int N> __device__ __forceinline__ void await_products(float (&c)[N][4]) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
#pragma unroll
    for (int n = 0; n < N; ++n) asm volatile("" : "+f"(c[n][0]), "+f"(c[n][1]), "+f"(c[n][2]), "+f"(c[n][3])::"memory");
}

// c = left * rightᵀ (`first`) or c += left * rightᵀ (`next`), of factors of 16 columns in shared memory.
// c += left * right (`add`), where `left` is in registers, as two neighbouring eights of columns of a product, and `right` has 16
// rows.
template <typename T, int N> struct Warpgroup;

#define FOUR(AS, c, n) AS(c[n][0]), AS(c[n][1]), AS(c[n][2]), AS(c[n][3])
#define ALL_32(AS, c, n)                                                                                        \
    FOUR(AS, c, n), FOUR(AS, c, n + 1), FOUR(AS, c, n + 2), FOUR(AS, c, n + 3), FOUR(AS, c, n + 4), FOUR(AS, c, n + 5), \
        FOUR(AS, c, n + 6), FOUR(AS, c, n + 7)
#define ALL_64(AS, c, n) ALL_32(AS, c, n), ALL_32(AS, c, n + 8)
#define WRITTEN(x) "=f"(x)
#define CHANGED(x) "+f"(x)
#define NAMES_32                                                                                            \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, " \
    "%23, %24, %25, %26, %27, %28, %29, %30, %31"
#define NAMES_64                                                                                                \
    NAMES_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, " \
             "%51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define INSTRUCTION(N, TYPES, NAMES, FACTORS) "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPES " {" NAMES "}, " FACTORS ";"
#define WARPGROUP(T, TYPES, N, ALL, NAMES, TWO, FIVE)                                                             \
    template <> struct Warpgroup<T, N> {                                                                          \
        __device__ static __forceinline__ void first(float (&c)[N / 8][4], uint64_t left, uint64_t right) {       \
            asm volatile(INSTRUCTION(N, TYPES, NAMES, TWO ", 0, 1, 1, 0, 0")                                      \
                         : ALL(WRITTEN, c, 0) : "l"(left), "l"(right));                                           \
        }                                                                                                         \
        __device__ static __forceinline__ void next(float (&c)[N / 8][4], uint64_t left, uint64_t right) {        \
            asm volatile(INSTRUCTION(N, TYPES, NAMES, TWO ", 1, 1, 1, 0, 0")                                      \
                         : ALL(CHANGED, c, 0) : "l"(left), "l"(right));                                           \
        }                                                                                                         \
        __device__ static __forceinline__ void add(float (&c)[N / 8][4], const uint32_t (&left)[4], uint64_t right) { \
            asm volatile(INSTRUCTION(N, TYPES, NAMES, FIVE ", 1, 1, 1, 1")                                        \
                         : ALL(CHANGED, c, 0) : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(right)); \
        }                                                                                                         \
    };
#define WARPGROUPS(T, TYPES)                                                                         \
    WARPGROUP(T, TYPES, 64, ALL_32, NAMES_32, "%32, %33", "{%32, %33, %34, %35}, %36")               \
    WARPGROUP(T, TYPES, 128, ALL_64, NAMES_64, "%64, %65", "{%64, %65, %66, %67}, %68")
WARPGROUPS(__half, "f16.f16")
WARPGROUPS(__nv_bfloat16, "bf16.bf16")
#undef WARPGROUPS
#undef WARPGROUP

// Starts c = left * rightᵀ for 64 rows of `left` from `row` on.
template <typename T, int D, int LEFT_ROWS, int N>
__device__ __forceinline__ void start_transposed(float (&c)[N / 8][4], uint32_t left, int row, uint32_t right) {
#pragma unroll
    for (int k = 0; k < D / 16; ++k) {
        const uint64_t rows = Panel<T, D, LEFT_ROWS>::columns(left, row, k), columns = Panel<T, D, N>::columns(right, 0, k);
        if (k == 0) Warpgroup<T, N>::first(c, rows, columns);
        else Warpgroup<T, N>::next(c, rows, columns);
    }
}

// `left` in 16 bits, as a left factor.
template <typename T, int N> __device__ __forceinline__ void round_rows(uint32_t (&to)[N / 16][4], const float (&left)[N / 8][4]) {
#pragma unroll
    for (int k = 0; k < N / 16; ++k)
#pragma unroll
        for (int i = 0; i < 4; ++i)
            to[k][i] = Unit<T>::pack(left[2 * k + i / 2][i % 2 * 2], left[2 * k + i / 2][i % 2 * 2 + 1]);
}

// Starts c += left * right.
template <typename T, int D, int N>
__device__ __forceinline__ void start_weighted(float (&c)[D / 8][4], const uint32_t (&left)[N / 16][4], uint32_t right) {
#pragma unroll
    for (int k = 0; k < N / 16; ++k) Warpgroup<T, D>::add(c, left[k], Panel<T, D, N>::rows(right, k));
}

#endif
