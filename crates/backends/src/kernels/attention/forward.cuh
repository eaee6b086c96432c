// The forward pass: a block for 64 * MT queries of a head walks the keys and keeps a running softmax.
#pragma once
#include "products.cuh"

struct ForwardArgs {
    Operand query, key, value, out;
    float* lse; // (batch, head, query)
    Sizes sizes;
};
static_assert(sizeof(ForwardArgs) == 192, "");

template <typename T, int D> struct ForwardShape {
    static constexpr bool WIDE = sizeof(T) == 4;
    static constexpr int MT = WIDE && D > 64 ? 1 : 2, QUERIES = WARPS * 16 * MT, KEYS = WIDE || D > 64 ? 32 : 64;
    static constexpr bool KEPT = !WIDE && D <= 64;
    static constexpr int SHARED = Tile<T, D>::bytes(QUERIES + 4 * KEYS);
};

// Scores of the warp's queries from `query` on and the N keys from `key` on: the sign, and -inf where a key is hidden.
template <int MT, int N>
__device__ __forceinline__ void prepare_scores(float (&s)[MT][N / 8][4], const Sizes& a, int query, int key) {
    const int lane = threadIdx.x % 32;
    if (a.sign != 1.0f)
#pragma unroll
        for (int m = 0; m < MT; ++m)
#pragma unroll
            for (int n = 0; n < N / 8; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i) s[m][n][i] *= a.sign;
    if (key + N <= a.keys && (!a.causal || key + N - 1 <= query)) return;
#pragma unroll
    for (int m = 0; m < MT; ++m)
#pragma unroll
        for (int n = 0; n < N / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                int q = query + m * 16 + i / 2 * 8 + lane / 4, k = key + n * 8 + lane % 4 * 2 + i % 2;
                if (k >= a.keys || (a.causal && k > q)) s[m][n][i] = -INFINITY;
            }
}

// One step of the running softmax of the warp's rows: the scores become exponentials, in units of the largest score so far, and what
// was added up before shrinks where that grew.
template <int MT, int N, int D>
__device__ __forceinline__ void weigh(
    float (&s)[MT][N / 8][4], float (&out)[MT][D / 8][4], float (&largest)[MT][2], float (&sum)[MT][2], const Sizes& sizes
) {
    float before[MT][2];
    bool grew = false;
#pragma unroll
    for (int m = 0; m < MT; ++m)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            float x = largest[m][h];
            before[m][h] = x;
#pragma unroll
            for (int n = 0; n < N / 8; ++n) x = fmaxf(x, fmaxf(s[m][n][2 * h], s[m][n][2 * h + 1]));
            x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
            x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
            largest[m][h] = x;
            grew |= x != before[m][h];
        }
    if (__any_sync(0xffffffffu, grew)) {
#pragma unroll
        for (int m = 0; m < MT; ++m)
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                float factor = exp2_of((before[m][h] - largest[m][h]) * sizes.exponent);
                sum[m][h] *= factor;
#pragma unroll
                for (int n = 0; n < D / 8; ++n) out[m][n][2 * h] *= factor, out[m][n][2 * h + 1] *= factor;
            }
    }
#pragma unroll
    for (int m = 0; m < MT; ++m)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const float shift = largest[m][h] * sizes.exponent;
#pragma unroll
            for (int n = 0; n < N / 8; ++n)
#pragma unroll
                for (int i = 2 * h; i < 2 * h + 2; ++i) {
                    s[m][n][i] = exp2_of(s[m][n][i] * sizes.exponent - shift);
                    sum[m][h] += s[m][n][i];
                }
        }
}

// Leaves the logarithm of each row's sum of exponentials, and in `sum` what the row is to be multiplied by.
template <int MT>
__device__ __forceinline__ void close(float (&sum)[MT][2], const float (&largest)[MT][2], const ForwardArgs& a, int head, int own) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int m = 0; m < MT; ++m)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            float x = sum[m][h];
            x += __shfl_xor_sync(0xffffffffu, x, 1);
            x += __shfl_xor_sync(0xffffffffu, x, 2);
            sum[m][h] = x == 0.0f ? 0.0f : 1.0f / x;
            int q = own + m * 16 + h * 8 + lane / 4;
            if (lane % 4 == 0 && q < a.sizes.queries)
                a.lse[int64_t(head) * a.sizes.queries + q] = (largest[m][h] * a.sizes.exponent + log2f(x)) * LN_2;
        }
}

template <typename T, int D, bool DROPS> __device__ __forceinline__ void forward(const ForwardArgs& a) {
    using Shape = ForwardShape<T, D>;
    using Rows = Tile<T, D>;
    constexpr int MT = Shape::MT, QUERIES = Shape::QUERIES, KEYS = Shape::KEYS;
    const Sizes& sizes = a.sizes;
    const int parts = ceil_div(sizes.queries, QUERIES);
    const Place place(sizes, parts);
    const int first = (parts - 1 - place.part) * QUERIES; // the last queries see the most keys
    const int warp = threadIdx.x / 32, own = first + warp * 16 * MT;

    const T* query = a.query.of<T>(place.head, sizes.heads);
    const T* key = a.key.of<T>(place.head, sizes.heads);
    const T* value = a.value.of<T>(place.head, sizes.heads);
    const uint32_t queries_at = shared_start(), keys_at = queries_at + Rows::bytes(QUERIES);
    constexpr uint32_t VALUES = Rows::bytes(KEYS), STAGE = 2 * VALUES;

    // Keys that no query sees are not read, whatever they hold.
    const int seen = sizes.causal ? min(sizes.keys, sizes.queries) : sizes.keys;
    const int end = sizes.causal ? min(seen, first + QUERIES) : seen, steps = ceil_div(end, KEYS);
    Rows::load<QUERIES>(queries_at, query, a.query.row, first, sizes.queries);
    if (steps > 0) {
        Rows::load<KEYS>(keys_at, key, a.key.row, 0, seen);
        Rows::load<KEYS>(keys_at + VALUES, value, a.value.row, 0, seen);
    }
    commit_copies();

    Left<T, D, MT, Shape::KEPT> left;
    float out[MT][D / 8][4] = {}, largest[MT][2], sum[MT][2] = {};
#pragma unroll
    for (int m = 0; m < MT; ++m) largest[m][0] = largest[m][1] = -INFINITY;

    for (int step = 0; step < steps; ++step) {
        const int from = step * KEYS;
        const uint32_t stage = keys_at + step % 2 * STAGE, other = keys_at + (step + 1) % 2 * STAGE;
        await_copies();
        __syncthreads();
        if (step == 0) left.open(queries_at + warp * 16 * MT * Rows::ROW);
        if (step + 1 < steps) {
            Rows::load<KEYS>(other, key, a.key.row, from + KEYS, seen);
            Rows::load<KEYS>(other + VALUES, value, a.value.row, from + KEYS, seen);
        }
        commit_copies();
        if (sizes.causal && from > own + 16 * MT - 1) continue;

        float s[MT][KEYS / 8][4];
        multiply_transposed<T, D, MT, KEYS>(s, left, stage + Rows::by_columns());
        prepare_scores<MT, KEYS>(s, sizes, own, from);

        weigh<MT, KEYS, D>(s, out, largest, sum, sizes);
        if constexpr (DROPS)
#pragma unroll
            for (int m = 0; m < MT; ++m) {
                float(&part)[1][KEYS / 8][4] = reinterpret_cast<float(&)[1][KEYS / 8][4]>(s[m]);
                drop<1, KEYS>(part, kept_bits<1, KEYS, false>(sizes, place.head, own + m * 16, from), sizes.kept_factor);
            }
        add_weighted<T, D, MT, KEYS>(out, s, stage + VALUES + Rows::across());
    }
    await_copies();
    if (steps == 0) __syncthreads();

    close<MT>(sum, largest, a, place.head, own);
    store<T, D, MT>(out, sum, queries_at + warp * 16 * MT * Rows::ROW, a.out.of<T>(place.head, sizes.heads), a.out.row, own, sizes.queries);
}
