// The backward pass by `wgmma`, in the two kernels of `backward.cuh`.
#pragma once
#include "backward.cuh"
#include "warpgroup_forward.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
// Of STAGES places for keys and values, a third lets the last product of a step run on while the next begins.
template <typename T, int D, bool DROPS, int GROUPS, int STAGES>
__device__ __forceinline__ void warpgroup_backward_query(const BackwardArgs& a) {
    constexpr int QUERIES = 64 * GROUPS, COUNT = 128 * GROUPS, KEYS = 64;
    using Queries = Panel<T, D, QUERIES>;
    using Keys = Panel<T, D, KEYS>;
    static_assert(2 * STAGES * KEYS >= QUERIES, "the result of the forward pass is where keys and values come");
    constexpr uint32_t VALUES = Keys::BYTES, STAGE = 2 * VALUES;
    const Sizes& sizes = a.sizes;
    const int parts = ceil_div(sizes.queries, QUERIES);
    const Place place(sizes, parts);
    const int first = (parts - 1 - place.part) * QUERIES;
    const int warp = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0), lane = threadIdx.x % 32, group_row = warp / 4 * 64, own = first + warp * 16;

    const T* key = a.key.of<T>(place.head, sizes.heads);
    const T* value = a.value.of<T>(place.head, sizes.heads);
    const uint32_t queries_at = shared_start(), grads_at = queries_at + Queries::BYTES, keys_at = grads_at + Queries::BYTES;

    Queries::template load<COUNT>(queries_at, a.query.of<T>(place.head, sizes.heads), a.query.row, first, sizes.queries);
    Queries::template load<COUNT>(grads_at, a.grad.of<T>(place.head, sizes.heads), a.grad.row, first, sizes.queries);
    Queries::template load<COUNT>(keys_at, a.out.of<T>(place.head, sizes.heads), a.out.row, first, sizes.queries);
    commit_copies();
    float log2_sum = 0.0f;
    // A lane for each of the warp's rows.
    const int64_t row = int64_t(place.head) * sizes.queries + own + lane;
    const bool there = lane < 16 && own + lane < sizes.queries;
    if (there) log2_sum = a.lse[row] * LOG2_E;
    await_copies();
    publish();
    __syncthreads();
    float row_sum = row_product<T, Queries>(keys_at, grads_at, warp * 16 + lane % 16);
    if (there) a.rows[row] = make_float2(log2_sum, row_sum);
    float shift[2], delta[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        shift[h] = __shfl_sync(0xffffffffu, log2_sum, h * 8 + lane / 4);
        delta[h] = __shfl_sync(0xffffffffu, row_sum, h * 8 + lane / 4);
    }
    __syncthreads();

    // Keys that no query sees are not read, whatever they hold.
    const int seen = sizes.causal ? min(sizes.keys, sizes.queries) : sizes.keys;
    const int end = sizes.causal ? min(seen, first + QUERIES) : seen, steps = ceil_div(end, KEYS);
    if (steps > 0) {
        Keys::template load<COUNT>(keys_at, key, a.key.row, 0, seen);
        Keys::template load<COUNT>(keys_at + VALUES, value, a.value.row, 0, seen);
    }
    commit_copies();
    float query_grad[1][D / 8][4] = {};
    uint32_t rounded[KEYS / 16][4];

    auto arrive = [&](int step) {
        const uint32_t other = keys_at + (step + 1) % STAGES * STAGE;
        await_copies();
        publish();
        __syncthreads();
        if (step + 1 < steps) {
            Keys::template load<COUNT>(other, key, a.key.row, (step + 1) * KEYS, seen);
            Keys::template load<COUNT>(other + VALUES, value, a.value.row, (step + 1) * KEYS, seen);
        }
        commit_copies();
    };
    const int own_steps = sizes.causal ? ceil_div(min(seen, first + group_row + 64), KEYS) : steps;
    for (int step = 0; step < own_steps; ++step) {
        const int from = step * KEYS;
        const uint32_t stage = keys_at + step % STAGES * STAGE;
        arrive(step);
        float p[1][KEYS / 8][4], d[1][KEYS / 8][4];
        begin_products();
        start_transposed<T, D, QUERIES, KEYS>(p[0], queries_at, group_row, stage);
        commit_products();
        start_transposed<T, D, QUERIES, KEYS>(d[0], grads_at, group_row, stage + VALUES);
        commit_products();
        await_products<1>(p[0]);
        prepare_scores<1, KEYS>(p, sizes, own, from);
#pragma unroll
        for (int n = 0; n < KEYS / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) p[0][n][i] = exp2_of(p[0][n][i] * sizes.exponent - shift[i / 2]);
        await_products<0>(d[0]);
        if constexpr (DROPS) drop<1, KEYS>(d, kept_bits<1, KEYS, false>(sizes, place.head, own, from), sizes.kept_factor);
#pragma unroll
        for (int n = 0; n < KEYS / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) d[0][n][i] = p[0][n][i] * (d[0][n][i] - delta[i / 2]);
        round_rows<T, KEYS>(rounded, d[0]);
        begin_products();
        start_weighted<T, D, KEYS>(query_grad[0], rounded, stage);
        commit_products();
        if constexpr (STAGES == 2) await_products<0>(query_grad[0]);
    }
    await_products<0>(query_grad[0]);
    for (int step = own_steps; step < steps; ++step) arrive(step);
    await_copies();
    __syncthreads();
    const float factor[1][2] = {{sizes.scale, sizes.scale}};
    store<T, D, 1>(query_grad, factor, queries_at + warp * 16 * Tile<T, D>::ROW, a.query_grad.of<T>(place.head, sizes.heads), a.query_grad.row, own, sizes.queries);
}

template <typename T, int D, bool DROPS, int GROUPS>
__device__ __forceinline__ void warpgroup_backward_key(const BackwardArgs& a) {
    constexpr int KEYS = 64 * GROUPS, COUNT = 128 * GROUPS, QUERIES = 64;
    using Keys = Panel<T, D, KEYS>;
    using Queries = Panel<T, D, QUERIES>;
    constexpr uint32_t GRADS = Queries::BYTES, STAGE = 2 * GRADS, STATS = QUERIES * sizeof(float2);
    const Sizes& sizes = a.sizes;
    const Place place(sizes, ceil_div(sizes.keys, KEYS));
    const int first = place.part * KEYS; // the first keys are seen by the most queries
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group_row = warp / 4 * 64, own = first + warp * 16;

    const T* query = a.query.of<T>(place.head, sizes.heads);
    const T* grad = a.grad.of<T>(place.head, sizes.heads);
    const float2* rows = a.rows + int64_t(place.head) * sizes.queries;
    const uint32_t keys_at = shared_start(), values_at = keys_at + Keys::BYTES, stages_at = values_at + Keys::BYTES;
    const uint32_t stats_at = stages_at + 2 * STAGE;
    auto load_queries = [&](int stage, int from) {
        const uint32_t to = stages_at + stage * STAGE;
        Queries::template load<COUNT>(to, query, a.query.row, from, sizes.queries);
        Queries::template load<COUNT>(to + GRADS, grad, a.grad.row, from, sizes.queries);
        if (threadIdx.x < QUERIES) {
            int q = from + threadIdx.x;
            bool there = q < sizes.queries;
            copy_8(stats_at + stage * STATS + threadIdx.x * sizeof(float2), rows + (there ? q : 0), there);
        }
    };
    // Keys that no query sees are not read, whatever they hold.
    const int seen = sizes.causal ? min(sizes.keys, sizes.queries) : sizes.keys;
    const int begin = sizes.causal ? first / QUERIES : 0, end = ceil_div(sizes.queries, QUERIES);
    Keys::template load<COUNT>(keys_at, a.key.of<T>(place.head, sizes.heads), a.key.row, first, seen);
    Keys::template load<COUNT>(values_at, a.value.of<T>(place.head, sizes.heads), a.value.row, first, seen);
    if (begin < end) load_queries(0, begin * QUERIES);
    commit_copies();
    float key_grad[1][D / 8][4] = {}, value_grad[1][D / 8][4] = {};

    for (int step = begin; step < end; ++step) {
        const int from = step * QUERIES, parity = (step - begin) % 2;
        const uint32_t queries = stages_at + parity * STAGE, grads = queries + GRADS;
        await_copies();
        publish();
        __syncthreads();
        if (step + 1 < end) load_queries(1 - parity, from + QUERIES);
        commit_copies();
        if (sizes.causal && from + QUERIES - 1 < first + group_row) continue;

        float p[1][QUERIES / 8][4], d[1][QUERIES / 8][4];
        begin_products();
        start_transposed<T, D, KEYS, QUERIES>(p[0], keys_at, group_row, queries);
        commit_products();
        start_transposed<T, D, KEYS, QUERIES>(d[0], values_at, group_row, grads);
        commit_products();
        uint32_t kept = 0;
        if constexpr (DROPS) kept = kept_bits<1, QUERIES, true>(sizes, place.head, own, from);
        await_products<1>(p[0]);
        const bool hides = sizes.causal && from < own + 15;
        float delta[QUERIES / 8][2];
#pragma unroll
        for (int n = 0; n < QUERIES / 8; ++n) {
            float shift[2]; // of two queries: a query beyond the last has zeros, and a gradient of zero
            asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                         : "=f"(shift[0]), "=f"(delta[n][0]), "=f"(shift[1]), "=f"(delta[n][1])
                         : "r"(stats_at + parity * STATS + (n * 8 + lane % 4 * 2) * uint32_t(sizeof(float2))) : "memory");
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                float x = p[0][n][i];
                if (sizes.sign != 1.0f) x *= sizes.sign;
                x = exp2_of(x * sizes.exponent - shift[i % 2]);
                int k = own + i / 2 * 8 + lane / 4, q = from + n * 8 + lane % 4 * 2 + i % 2;
                if (hides && k > q) x = 0.0f;
                p[0][n][i] = x;
            }
        }
        await_products<0>(d[0]);
        if constexpr (DROPS) drop<1, QUERIES>(d, kept, sizes.kept_factor);
#pragma unroll
        for (int n = 0; n < QUERIES / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) d[0][n][i] = p[0][n][i] * (d[0][n][i] - delta[n][i % 2]);
        if constexpr (DROPS) drop<1, QUERIES>(p, kept, sizes.kept_factor);
        uint32_t shares[QUERIES / 16][4], score_grads[QUERIES / 16][4];
        round_rows<T, QUERIES>(shares, p[0]);
        round_rows<T, QUERIES>(score_grads, d[0]);
        begin_products();
        start_weighted<T, D, QUERIES>(value_grad[0], shares, grads);
        start_weighted<T, D, QUERIES>(key_grad[0], score_grads, queries);
        commit_products();
        await_products<0>(value_grad[0]);
        await_products<0>(key_grad[0]);
    }
    await_copies();
    __syncthreads();
    float factor[1][2] = {{sizes.scale, sizes.scale}};
    const uint32_t own_rows = warp * 16 * Tile<T, D>::ROW;
    store<T, D, 1>(key_grad, factor, keys_at + own_rows, a.key_grad.of<T>(place.head, sizes.heads), a.key_grad.row, own, sizes.keys);
    factor[0][0] = factor[0][1] = 1.0f;
    store<T, D, 1>(value_grad, factor, values_at + own_rows, a.value_grad.of<T>(place.head, sizes.heads), a.value_grad.row, own, sizes.keys);
}
#endif
