// The forward pass by `wgmma`: each of the GROUPS warpgroups of a block has 64 queries, and walks the keys with a running softmax.
#pragma once
#include "forward.cuh"
#include "warpgroups.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
template <typename T, int D, bool DROPS, int GROUPS>
__device__ __forceinline__ void warpgroup_forward(const ForwardArgs& a) {
    constexpr int QUERIES = 64 * GROUPS, COUNT = 128 * GROUPS, KEYS = 64;
    using Queries = Panel<T, D, QUERIES>;
    using Keys = Panel<T, D, KEYS>;
    constexpr uint32_t VALUES = Keys::BYTES, STAGE = 2 * VALUES;
    const Sizes& sizes = a.sizes;
    const int parts = ceil_div(sizes.queries, QUERIES);
    const Place place(sizes, parts);
    const int first = (parts - 1 - place.part) * QUERIES; // the last queries see the most keys
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group_row = warp / 4 * 64, own = first + warp * 16;

    const T* key = a.key.of<T>(place.head, sizes.heads);
    const T* value = a.value.of<T>(place.head, sizes.heads);
    const uint32_t queries_at = shared_start(), keys_at = queries_at + Queries::BYTES;

    // Keys that no query sees are not read, whatever they hold.
    const int seen = sizes.causal ? min(sizes.keys, sizes.queries) : sizes.keys;
    const int end = sizes.causal ? min(seen, first + QUERIES) : seen, steps = ceil_div(end, KEYS);
    Queries::template load<COUNT>(queries_at, a.query.of<T>(place.head, sizes.heads), a.query.row, first, sizes.queries);
    if (steps > 0) {
        Keys::template load<COUNT>(keys_at, key, a.key.row, 0, seen);
        Keys::template load<COUNT>(keys_at + VALUES, value, a.value.row, 0, seen);
    }
    commit_copies();

    float out[D / 8][4] = {}, largest[2] = {-INFINITY, -INFINITY}, sum[2] = {};
    for (int step = 0; step < steps; ++step) {
        const int from = step * KEYS;
        const uint32_t stage = keys_at + step % 2 * STAGE, other = keys_at + (step + 1) % 2 * STAGE;
        await_copies();
        publish();
        __syncthreads();
        if (step + 1 < steps) {
            Keys::template load<COUNT>(other, key, a.key.row, from + KEYS, seen);
            Keys::template load<COUNT>(other + VALUES, value, a.value.row, from + KEYS, seen);
        }
        commit_copies();
        if (sizes.causal && from > first + group_row + 63) continue;

        float s[1][KEYS / 8][4];
        begin_products();
        start_transposed<T, D, QUERIES, KEYS>(s[0], queries_at, group_row, stage);
        commit_products();
        await_products<0>(s[0]);
        prepare_scores<1, KEYS>(s, sizes, own, from);

        float before[2];
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            float x = before[h] = largest[h];
#pragma unroll
            for (int n = 0; n < KEYS / 8; ++n) x = fmaxf(x, fmaxf(s[0][n][2 * h], s[0][n][2 * h + 1]));
            x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
            largest[h] = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
        }
        if (__any_sync(0xffffffffu, before[0] != largest[0] || before[1] != largest[1])) {
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                // Of a row that has seen no key yet the largest is as before, and there is nothing to multiply.
                const float factor = exp2_of((before[h] - largest[h]) * sizes.exponent);
                sum[h] *= factor;
#pragma unroll
                for (int n = 0; n < D / 8; ++n) out[n][2 * h] *= factor, out[n][2 * h + 1] *= factor;
            }
        }
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const float shift = largest[h] * sizes.exponent;
#pragma unroll
            for (int n = 0; n < KEYS / 8; ++n)
#pragma unroll
                for (int i = 2 * h; i < 2 * h + 2; ++i) {
                    s[0][n][i] = exp2_of(s[0][n][i] * sizes.exponent - shift);
                    sum[h] += s[0][n][i];
                }
        }
        if constexpr (DROPS) drop<1, KEYS>(s, kept_bits<1, KEYS, false>(sizes, place.head, own, from), sizes.kept_factor);
        uint32_t p[KEYS / 16][4];
        round_rows<T, KEYS>(p, s[0]);
        begin_products();
        start_weighted<T, D, KEYS>(out, p, stage + VALUES);
        commit_products();
        await_products<0>(out);
    }
    await_copies();
    __syncthreads(); // all have read the queries, whose place the result takes

    float factor[1][2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        float x = sum[h];
        x += __shfl_xor_sync(0xffffffffu, x, 1);
        x += __shfl_xor_sync(0xffffffffu, x, 2);
        factor[0][h] = x == 0.0f ? 0.0f : 1.0f / x;
        const int q = own + h * 8 + lane / 4;
        if (lane % 4 == 0 && q < sizes.queries)
            a.lse[int64_t(place.head) * sizes.queries + q] = (largest[h] * sizes.exponent + log2f(x)) * LN_2;
    }
    const float(&rows)[1][D / 8][4] = reinterpret_cast<const float(&)[1][D / 8][4]>(out);
    store<T, D, 1>(rows, factor, queries_at + warp * 16 * Tile<T, D>::ROW, a.out.of<T>(place.head, sizes.heads), a.out.row, own, sizes.queries);
}
#endif
