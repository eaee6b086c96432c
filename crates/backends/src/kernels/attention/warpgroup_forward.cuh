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
    const int warp = threadIdx.x / 32, group_row = warp / 4 * 64, own = first + warp * 16;

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

    float out[1][D / 8][4] = {}, largest[1][2] = {{-INFINITY, -INFINITY}}, sum[1][2] = {};
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

        weigh<1, KEYS, D>(s, out, largest, sum, sizes);
        if constexpr (DROPS) drop<1, KEYS>(s, kept_bits<1, KEYS, false>(sizes, place.head, own, from), sizes.kept_factor);
        uint32_t p[KEYS / 16][4];
        round_rows<T, KEYS>(p, s[0]);
        begin_products();
        start_weighted<T, D, KEYS>(out[0], p, stage + VALUES);
        commit_products();
        await_products<0>(out[0]);
    }
    await_copies();
    __syncthreads(); // all have read the queries, whose place the result takes

    close<1>(sum, largest, a, place.head, own);
    store<T, D, 1>(out, sum, queries_at + warp * 16 * Tile<T, D>::ROW, a.out.of<T>(place.head, sizes.heads), a.out.row, own, sizes.queries);
}
#endif
