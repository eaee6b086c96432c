// The backward pass, in two kernels that both make the scores anew: the first walks the keys for each block of queries, and
// leaves for the second what it needs of each query. Every sum has one order: results do not vary from run to run.
#pragma once
#include "forward.cuh"

struct BackwardArgs {
    Operand query, key, value, out, grad;
    Operand query_grad, key_grad, value_grad;
    const float* lse; // (batch, head, query)
    float2* rows;     // (batch, head, query): lse / ln 2, and the sum of out * grad
    Sizes sizes;
};
static_assert(sizeof(BackwardArgs) == 328, "");

template <typename T, int D> struct QueryShape {
    static constexpr bool WIDE = sizeof(T) == 4;
    static constexpr int MT = WIDE && D > 64 ? 1 : 2, QUERIES = WARPS * 16 * MT;
    static constexpr int KEYS = WIDE ? (D > 96 ? 16 : 32) : (D > 64 ? 32 : 64), AT_ONCE = KEYS < 32 ? KEYS : 32;
    static constexpr bool KEPT = !WIDE && D <= 64;
    static constexpr int SHARED = Tile<T, D>::bytes(2 * QUERIES + 4 * KEYS);
    static_assert(4 * KEYS >= QUERIES, "");
};

// The sum of out * grad of a row in two places, where `Rows` has it.
template <typename T, typename Rows> __device__ __forceinline__ float row_product(uint32_t out, uint32_t grad, int row) {
    float sum = 0.0f;
#pragma unroll
    for (int chunk = 0; chunk < Rows::CHUNKS; ++chunk) {
        uint32_t x[4], y[4], at = Rows::at(row, chunk);
        asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(out + at) : "memory");
        asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(y[0]), "=r"(y[1]), "=r"(y[2]), "=r"(y[3]) : "r"(grad + at) : "memory");
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            sum += Unit<T>::dot(x[i], y[i]);
        }
    }
    return sum;
}

template <typename T, int D, bool DROPS> __device__ __forceinline__ void backward_query(const BackwardArgs& a) {
    using Shape = QueryShape<T, D>;
    using Rows = Tile<T, D>;
    constexpr int MT = Shape::MT, QUERIES = Shape::QUERIES, KEYS = Shape::KEYS, N = Shape::AT_ONCE;
    const Sizes& sizes = a.sizes;
    const int parts = ceil_div(sizes.queries, QUERIES);
    const Place place(sizes, parts);
    const int first = (parts - 1 - place.part) * QUERIES;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, own = first + warp * 16 * MT;

    const T* key = a.key.of<T>(place.head, sizes.heads);
    const T* value = a.value.of<T>(place.head, sizes.heads);
    const uint32_t queries_at = shared_start(), grads_at = queries_at + Rows::bytes(QUERIES);
    const uint32_t keys_at = grads_at + Rows::bytes(QUERIES), own_rows = warp * 16 * MT * Rows::ROW;
    constexpr uint32_t VALUES = Rows::bytes(KEYS), STAGE = 2 * VALUES;

    Rows::load<QUERIES>(queries_at, a.query.of<T>(place.head, sizes.heads), a.query.row, first, sizes.queries);
    Rows::load<QUERIES>(grads_at, a.grad.of<T>(place.head, sizes.heads), a.grad.row, first, sizes.queries);
    Rows::load<QUERIES>(keys_at, a.out.of<T>(place.head, sizes.heads), a.out.row, first, sizes.queries);
    commit_copies();
    float log2_sum = 0.0f;
    // A lane for each of the warp's rows, where there are as many.
    const int64_t row = int64_t(place.head) * sizes.queries + own + lane;
    const bool there = lane < 16 * MT && own + lane < sizes.queries;
    if (there) log2_sum = a.lse[row] * LOG2_E;
    await_copies();
    __syncthreads();
    float row_sum = row_product<T, Rows>(keys_at, grads_at, warp * 16 * MT + lane % (16 * MT));
    if (there) a.rows[row] = make_float2(log2_sum, row_sum);
    float shift[MT][2], delta[MT][2];
#pragma unroll
    for (int m = 0; m < MT; ++m)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            shift[m][h] = __shfl_sync(0xffffffffu, log2_sum, m * 16 + h * 8 + lane / 4);
            delta[m][h] = __shfl_sync(0xffffffffu, row_sum, m * 16 + h * 8 + lane / 4);
        }
    __syncthreads();

    // Keys that no query sees are not read, whatever they hold.
    const int seen = sizes.causal ? min(sizes.keys, sizes.queries) : sizes.keys;
    const int end = sizes.causal ? min(seen, first + QUERIES) : seen, steps = ceil_div(end, KEYS);
    if (steps > 0) {
        Rows::load<KEYS>(keys_at, key, a.key.row, 0, seen);
        Rows::load<KEYS>(keys_at + VALUES, value, a.value.row, 0, seen);
    }
    commit_copies();
    Left<T, D, MT, Shape::KEPT> query, grad;
    query.open(queries_at + own_rows);
    grad.open(grads_at + own_rows);
    float query_grad[MT][D / 8][4] = {};

    for (int step = 0; step < steps; ++step) {
        const uint32_t stage = keys_at + step % 2 * STAGE, other = keys_at + (step + 1) % 2 * STAGE;
        await_copies();
        __syncthreads();
        if (step + 1 < steps) {
            Rows::load<KEYS>(other, key, a.key.row, (step + 1) * KEYS, seen);
            Rows::load<KEYS>(other + VALUES, value, a.value.row, (step + 1) * KEYS, seen);
        }
        commit_copies();
#pragma unroll 1
        for (int part = 0; part < KEYS / N; ++part) {
            const int from = step * KEYS + part * N;
            if (from >= end || (sizes.causal && from > own + 16 * MT - 1)) break;
            const uint32_t keys = stage + part * N * Rows::ROW, values = keys + VALUES;
            float p[MT][N / 8][4], d[MT][N / 8][4];
            multiply_transposed<T, D, MT, N>(p, query, keys + Rows::by_columns());
            multiply_transposed<T, D, MT, N>(d, grad, values + Rows::by_columns());
            prepare_scores<MT, N>(p, sizes, own, from);
            if constexpr (DROPS) drop<MT, N>(d, kept_bits<MT, N, false>(sizes, place.head, own, from), sizes.kept_factor);
#pragma unroll
            for (int m = 0; m < MT; ++m)
#pragma unroll
                for (int n = 0; n < N / 8; ++n)
#pragma unroll
                    for (int i = 0; i < 4; ++i) {
                        float x = exp2_of(p[m][n][i] * sizes.exponent - shift[m][i / 2]);
                        d[m][n][i] = x * (d[m][n][i] - delta[m][i / 2]);
                    }
            add_weighted<T, D, MT, N>(query_grad, d, keys + Rows::across());
        }
    }
    float factor[MT][2];
#pragma unroll
    for (int m = 0; m < MT; ++m) factor[m][0] = factor[m][1] = sizes.scale;
    store<T, D, MT>(query_grad, factor, queries_at + own_rows, a.query_grad.of<T>(place.head, sizes.heads), a.query_grad.row, own, sizes.queries);
}

template <typename T, int D> struct KeyShape {
    static constexpr bool WIDE = sizeof(T) == 4;
    static constexpr int MT = D <= 64 ? 2 : 1, KEYS = WARPS * 16 * MT;
    static constexpr int QUERIES = !WIDE ? 64 : D > 96 ? 16 : 32, AT_ONCE = WIDE ? 16 : 32;
    static constexpr bool KEPT = !WIDE && D == 96;
    static constexpr int STAGE = 2 * Tile<T, D>::bytes(QUERIES) + QUERIES * int(sizeof(float2));
    static constexpr int SHARED = 2 * Tile<T, D>::bytes(KEYS) + 2 * STAGE;
    static_assert(STAGE % 128 == 0, "");
};

template <typename T, int D, bool DROPS> __device__ __forceinline__ void backward_key(const BackwardArgs& a) {
    using Shape = KeyShape<T, D>;
    using Rows = Tile<T, D>;
    constexpr int MT = Shape::MT, QUERIES = Shape::QUERIES, KEYS = Shape::KEYS, N = Shape::AT_ONCE;
    constexpr uint32_t GRADS = Rows::bytes(QUERIES), STATS = 2 * GRADS, STAGE = Shape::STAGE;
    const Sizes& sizes = a.sizes;
    const Place place(sizes, ceil_div(sizes.keys, KEYS));
    const int first = place.part * KEYS; // the first keys are seen by the most queries
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, own = first + warp * 16 * MT;

    const T* query = a.query.of<T>(place.head, sizes.heads);
    const T* grad = a.grad.of<T>(place.head, sizes.heads);
    const float2* rows = a.rows + int64_t(place.head) * sizes.queries;
    const uint32_t keys_at = shared_start(), values_at = keys_at + Rows::bytes(KEYS), stages_at = values_at + Rows::bytes(KEYS);
    auto load_queries = [&](uint32_t to, int from) {
        Rows::load<QUERIES>(to, query, a.query.row, from, sizes.queries);
        Rows::load<QUERIES>(to + GRADS, grad, a.grad.row, from, sizes.queries);
        if (threadIdx.x < QUERIES) {
            int q = from + threadIdx.x;
            bool there = q < sizes.queries;
            copy_8(to + STATS + threadIdx.x * sizeof(float2), rows + (there ? q : 0), there);
        }
    };
    // Keys that no query sees are not read, whatever they hold.
    const int seen = sizes.causal ? min(sizes.keys, sizes.queries) : sizes.keys;
    const int begin = sizes.causal ? first / QUERIES : 0, end = ceil_div(sizes.queries, QUERIES);
    Rows::load<KEYS>(keys_at, a.key.of<T>(place.head, sizes.heads), a.key.row, first, seen);
    Rows::load<KEYS>(values_at, a.value.of<T>(place.head, sizes.heads), a.value.row, first, seen);
    if (begin < end) load_queries(stages_at, begin * QUERIES);
    commit_copies();

    Left<T, D, MT, Shape::KEPT> key, value;
    float key_grad[MT][D / 8][4] = {}, value_grad[MT][D / 8][4] = {};
    const uint32_t own_rows = warp * 16 * MT * Rows::ROW;
    await_copies();
    __syncthreads();
    key.open(keys_at + own_rows);
    value.open(values_at + own_rows);

    for (int step = begin; step < end; ++step) {
        const uint32_t stage = stages_at + (step - begin) % 2 * STAGE, other = stages_at + (step - begin + 1) % 2 * STAGE;
        await_copies();
        __syncthreads();
        if (step + 1 < end) load_queries(other, (step + 1) * QUERIES);
        commit_copies();
#pragma unroll 1
        for (int part = 0; part < QUERIES / N; ++part) {
            const int from = step * QUERIES + part * N;
            if (sizes.causal && from + N - 1 < own) continue;
            if (from >= sizes.queries) break;
            const uint32_t queries = stage + part * N * Rows::ROW, grads = queries + GRADS;
            float p[MT][N / 8][4], d[MT][N / 8][4];
            multiply_transposed<T, D, MT, N>(p, key, queries + Rows::by_columns());
            multiply_transposed<T, D, MT, N>(d, value, grads + Rows::by_columns());
            uint32_t kept = 0;
            if constexpr (DROPS) {
                kept = kept_bits<MT, N, true>(sizes, place.head, own, from);
                drop<MT, N>(d, kept, sizes.kept_factor);
            }
            const bool hides = sizes.causal && from < own + 16 * MT - 1;
#pragma unroll
            for (int n = 0; n < N / 8; ++n) {
                float shift[2], delta[2]; // of two queries: a query beyond the last has zeros, and a gradient of zero
                asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                             : "=f"(shift[0]), "=f"(delta[0]), "=f"(shift[1]), "=f"(delta[1])
                             : "r"(stage + STATS + (part * N + n * 8 + lane % 4 * 2) * uint32_t(sizeof(float2))) : "memory");
#pragma unroll
                for (int m = 0; m < MT; ++m)
#pragma unroll
                    for (int i = 0; i < 4; ++i) {
                        float x = p[m][n][i];
                        if (sizes.sign != 1.0f) x *= sizes.sign;
                        x = exp2_of(x * sizes.exponent - shift[i % 2]);
                        int k = own + m * 16 + i / 2 * 8 + lane / 4, q = from + n * 8 + lane % 4 * 2 + i % 2;
                        if (hides && k > q) x = 0.0f;
                        p[m][n][i] = x;
                        d[m][n][i] = x * (d[m][n][i] - delta[i % 2]);
                    }
            }
            if constexpr (DROPS) drop<MT, N>(p, kept, sizes.kept_factor);
            add_weighted<T, D, MT, N>(value_grad, p, grads + Rows::across());
            add_weighted<T, D, MT, N>(key_grad, d, queries + Rows::across());
        }
    }
    float factor[MT][2];
#pragma unroll
    for (int m = 0; m < MT; ++m) factor[m][0] = factor[m][1] = sizes.scale;
    store<T, D, MT>(key_grad, factor, keys_at + own_rows, a.key_grad.of<T>(place.head, sizes.heads), a.key_grad.row, own, sizes.keys);
#pragma unroll
    for (int m = 0; m < MT; ++m) factor[m][0] = factor[m][1] = 1.0f;
    store<T, D, MT>(value_grad, factor, values_at + own_rows, a.value_grad.of<T>(place.head, sizes.heads), a.value_grad.row, own, sizes.keys);
}
