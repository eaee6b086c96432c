// Products of tiles on tensor cores: the warp's rows of a tile, or of a product before, by a tile or its transpose.
#pragma once
#include "units.cuh"

// The rows of a warp in a tile as the left factor, read anew for each product, or kept in registers.
template <typename T, int D, int MT, bool KEPT> struct Left {
    using Rows = Tile<T, D>;
    uint32_t lane;
    uint32_t kept[KEPT ? Rows::CHUNKS / 2 : 1][MT][4];
    __device__ __forceinline__ void open(uint32_t rows) {
        lane = rows + Rows::by_rows();
        if constexpr (KEPT)
#pragma unroll
            for (int k = 0; k < Rows::CHUNKS / 2; ++k) read(kept[k], k);
    }
    __device__ __forceinline__ void read(uint32_t (&a)[MT][4], int k) const {
#pragma unroll
        for (int m = 0; m < MT; ++m) load_matrices(a[m], Rows::step(lane, 2 * k) + m * 16 * Rows::ROW);
    }
    // Chunks 2 k and 2 k + 1, in `fresh` where they are not kept.
    __device__ __forceinline__ const uint32_t (&columns(uint32_t (&fresh)[MT][4], int k) const)[MT][4] {
        if constexpr (KEPT) return kept[k];
        else {
            read(fresh, k);
            return fresh;
        }
    }
};

// Adds left * right to columns 8 n to 8 n + 15 of `c`, and what of it is a product of a small part to `small`: each addition to a
// large sum would cut it off once more. 16 bits have no small parts.
template <typename T, int MT, int N>
__device__ __forceinline__ void add_product(
    float (&c)[MT][N][4], float (&small)[MT][N][4], int n, const uint32_t (&left)[MT][4], const uint32_t (&right)[4]
) {
    const Parts<T, 4> b(right);
#pragma unroll
    for (int pass = 0; pass < Unit<T>::PASSES; ++pass)
#pragma unroll
        for (int m = 0; m < MT; ++m)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                float(&sum)[4] = pass + 1 < Unit<T>::PASSES ? small[m][n + half] : c[m][n + half];
                Unit<T>::mma(sum, Parts<T, 4>(left[m]), b, half, pass);
            }
}

// Clears `c`, then adds left * rightᵀ, where `right` is `by_columns` in the first of N rows of a tile.
template <typename T, int D, int MT, int N, bool KEPT>
__device__ __forceinline__ void multiply_transposed(float (&c)[MT][N / 8][4], const Left<T, D, MT, KEPT>& left, uint32_t right) {
    using Rows = Tile<T, D>;
    float small[MT][N / 8][4] = {};
#pragma unroll
    for (int m = 0; m < MT; ++m)
#pragma unroll
        for (int n = 0; n < N / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) c[m][n][i] = 0.0f;
#pragma unroll
    for (int k = 0; k < Rows::CHUNKS / 2; ++k) {
        uint32_t fresh[MT][4];
        const uint32_t(&a)[MT][4] = left.columns(fresh, k);
#pragma unroll
        for (int n = 0; n < N / 16; ++n) {
            uint32_t b[4];
            load_matrices(b, Rows::step(right, 2 * k) + n * 16 * Rows::ROW);
            add_product<T, MT, N / 8>(c, small, 2 * n, a, b);
        }
    }
    if constexpr (Unit<T>::PASSES > 1)
#pragma unroll
        for (int m = 0; m < MT; ++m)
#pragma unroll
            for (int n = 0; n < N / 8; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i) c[m][n][i] += small[m][n][i];
}

// Adds left * right, where `left` is rounded to T of 16 bits and `right` is `across` in the first of N rows of a tile.
template <typename T, int D, int MT, int N>
__device__ __forceinline__ void multiply(float (&c)[MT][D / 8][4], const float (&left)[MT][N / 8][4], uint32_t right) {
    using Rows = Tile<T, D>;
#pragma unroll
    for (int k = 0; k < N / 16; ++k) {
        uint32_t a[MT][4];
#pragma unroll
        for (int m = 0; m < MT; ++m)
#pragma unroll
            for (int i = 0; i < 4; ++i)
                a[m][i] = Unit<T>::pack(left[m][2 * k + i / 2][i % 2 * 2], left[m][2 * k + i / 2][i % 2 * 2 + 1]);
#pragma unroll
        for (int n = 0; n < D / 16; ++n) {
            uint32_t b[4];
            load_matrices_transposed(b, Rows::step(right, 2 * n) + k * 16 * Rows::ROW);
            add_product<T, MT, D / 8>(c, c, 2 * n, a, b);
        }
    }
}

// The same of f32. A register of `left` holds columns 2 j and 2 j + 1 where the instruction takes j and j + 4: rows of `right`
// are taken in that order. The N terms are added up from 0 and then to `c`, since tensor cores cut a sum off that an
// addition would round.
template <typename T, int D, int MT, int N>
__device__ __forceinline__ void multiply_wide(float (&c)[MT][D / 8][4], const float (&left)[MT][N / 8][4], uint32_t right) {
    using Rows = Tile<T, D>;
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
        float sum[MT][2][4] = {}, small[MT][2][4] = {};
#pragma unroll
        for (int k = 0; k < N / 8; ++k) {
            uint32_t a[MT][4], b[4];
#pragma unroll
            for (int m = 0; m < MT; ++m)
#pragma unroll
                for (int i = 0; i < 4; ++i) a[m][i] = __float_as_uint(left[m][k][i % 2 * 2 + i / 2]);
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const uint32_t even = Rows::step(right, 4 * n + 2 * half) + k * 8 * Rows::ROW;
                load_word(b[2 * half], even);
                load_word(b[2 * half + 1], (even ^ 16) + Rows::ROW);
            }
            add_product<T, MT, 2>(sum, small, 0, a, b);
        }
#pragma unroll
        for (int m = 0; m < MT; ++m)
#pragma unroll
            for (int half = 0; half < 2; ++half)
#pragma unroll
                for (int i = 0; i < 4; ++i) c[m][2 * n + half][i] += sum[m][half][i] + small[m][half][i];
    }
}

template <typename T, int D, int MT, int N>
__device__ __forceinline__ void add_weighted(float (&c)[MT][D / 8][4], const float (&left)[MT][N / 8][4], uint32_t right) {
    if constexpr (sizeof(T) == 4) multiply_wide<T, D, MT, N>(c, left, right);
    else multiply<T, D, MT, N>(c, left, right);
}

// Rounds the warp's rows, each times its factor, and writes those before `limit`. `rows` is a part of a tile that no other
// warp reads any more.
template <typename T, int D, int MT>
__device__ __forceinline__ void store(
    const float (&c)[MT][D / 8][4], const float (&factor)[MT][2], uint32_t rows, T* to, int64_t stride, int first, int limit
) {
    using Rows = Tile<T, D>;
    const int lane = threadIdx.x % 32;
    __syncwarp();
#pragma unroll
    for (int m = 0; m < MT; ++m)
#pragma unroll
        for (int n = 0; n < D / 8; ++n)
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const float x = c[m][n][2 * h] * factor[m][h], y = c[m][n][2 * h + 1] * factor[m][h];
                Unit<T>::put(x, y, rows + Rows::at(m * 16 + h * 8 + lane / 4, (n * 8 + lane % 4 * 2) / Rows::IN_CHUNK) + lane * 2 * sizeof(T) % 16);
            }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 16 * MT * Rows::CHUNKS / 32; ++i) {
        int index = lane + i * 32, row = index / Rows::CHUNKS, chunk = index % Rows::CHUNKS;
        if (first + row >= limit) continue;
        uint4 x;
        asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "r"(rows + Rows::at(row, chunk)) : "memory");
        *reinterpret_cast<uint4*>(to + (first + row) * stride + chunk * Rows::IN_CHUNK) = x;
    }
}
