// Finiteness and L2 norm of every unscaled gradient in one launch, and the decision whether the step is taken.
//
// Deterministic: each block leaves its partial sum in its own slot, and the last block to finish folds the slots in an
// order that does not depend on which block that was.
#include "multi_tensor.cuh"

struct Partial {
    double sum_squares;
    uint32_t non_finite;
    uint32_t pad;
};

// What is asked of a launch. `scale`, `scaler` and `counts` are null where there is no scaler and no diagnosis.
struct StatsArgs {
    const GradDesc* grads;
    const Chunk* chunks;
    Partial* partials;
    uint32_t* steps;  // per slot: steps applied
    uint64_t* counts; // per slot: non-finite, zero and f16-subnormal elements, added to
    StepState* state;
    const float* scale;
    ScalerState* scaler;
    uint64_t* outcomes; // host memory: a ring of (serial; norm, steps applied before, found_inf)
    double max_norm;    // negative: no clipping by norm
    uint32_t n_chunks, n_grads, ring, pad;
};
static_assert(sizeof(StatsArgs) == 96, "");

// Fold over the block, in an order fixed by the threads' indices. The result is valid in thread 0.
__device__ Partial block_fold(Partial mine) {
    __shared__ Partial warps[BLOCK / 32];
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) {
        mine.sum_squares += __shfl_down_sync(0xffffffffu, mine.sum_squares, step);
        mine.non_finite |= __shfl_down_sync(0xffffffffu, mine.non_finite, step);
    }
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = mine;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int w = 1; w < BLOCK / 32; ++w) {
            mine.sum_squares += warps[w].sum_squares;
            mine.non_finite |= warps[w].non_finite;
        }
    }
    return mine;
}

// The square of an f32 is exact in f64, so the fused multiply-add rounds as the oracle's product and sum do.
template <typename C> __device__ __forceinline__ void add(Partial& to, C g, C inv_scale) {
    C x = g * inv_scale;
    to.non_finite |= !isfinite(x);
    to.sum_squares = fma(double(x), double(x), to.sum_squares);
}

template <typename G> __device__ Partial chunk_stats(const G* grad, uint64_t start, uint64_t end, float inv) {
    using C = compute_t<G>;
    Partial mine = {0.0, 0, 0};
    uint64_t vec_end = aligned4(grad) ? start + (end - start) / 4 * 4 : start;
#pragma unroll 4
    for (uint64_t i = start + 4 * threadIdx.x; i < vec_end; i += 4 * BLOCK) {
        C g[4];
        load4(grad + i, g);
#pragma unroll
        for (int k = 0; k < 4; ++k) add<C>(mine, g[k], inv);
    }
    for (uint64_t i = vec_end + threadIdx.x; i < end; i += BLOCK) add<C>(mine, convert<C>(grad[i]), inv);
    return mine;
}

// Integer atomics: the sums do not depend on their order.
template <typename G> __device__ void count(const G* grad, uint64_t start, uint64_t end, float inv, uint64_t* counts) {
    using C = compute_t<G>;
    unsigned long long bad = 0, zeros = 0, subnormal = 0;
    for (uint64_t i = start + threadIdx.x; i < end; i += BLOCK) {
        C g = convert<C>(grad[i]);
        bad += !isfinite(g * C(inv));
        zeros += g == C(0);
        subnormal += g != C(0) && fabs(g) < C(6.103515625e-5);
    }
    auto* to = reinterpret_cast<unsigned long long*>(counts);
    if (bad) atomicAdd(to, bad);
    if (zeros) atomicAdd(to + 1, zeros);
    if (subnormal) atomicAdd(to + 2, subnormal);
}

__device__ __forceinline__ float inverse(const float* scale) { return scale ? float(1.0 / double(*scale)) : 1.0f; }

// Takes or skips the step, and tells the host. Only a scaler skips. As torch.nn.utils.clip_grad_norm_, clipping only ever
// shrinks, and a NaN norm makes every gradient NaN: the comparison is the one that a NaN fails.
__device__ void decide(const StatsArgs& a, Partial total) {
    StepState* s = a.state;
    double norm = sqrt(total.sum_squares);
    double coef = a.max_norm / (norm + 1e-6);
    s->clip_coef = a.max_norm < 0.0 || coef > 1.0 ? 1.0 : coef;
    s->inv_scale = inverse(a.scale);
    s->grad_norm = float(norm);
    s->found_inf = a.scaler && total.non_finite;
    s->blocks_done = 0;
    uint32_t serial = s->serial + 1;
    s->serial = serial;
    if (s->found_inf) a.scaler->found_inf = 1;
    uint32_t before = s->applied;
    s->applied = before + !s->found_inf;
    // The host polls the first word, so the second has to be there before it.
    volatile uint64_t* slot = a.outcomes + 2 * (serial % a.ring);
    slot[1] = (uint64_t(__float_as_uint(s->grad_norm)) << 32) | uint32_t(before << 1) | s->found_inf;
    __threadfence_system();
    slot[0] = serial;
}

extern "C" __global__ void __launch_bounds__(BLOCK) grad_stats(const __grid_constant__ StatsArgs a) {
    __shared__ bool last;
    __shared__ uint32_t skip;
    if (a.n_chunks > 0) {
        Chunk chunk = a.chunks[blockIdx.x];
        GradDesc t = a.grads[chunk.tensor];
        uint64_t start = CHUNK * chunk.index;
        uint64_t end = min(start + CHUNK, t.len);
        float inv = inverse(a.scale);
        Partial mine;
        typed(t.grad, t.dtype, [&](auto* grad) {
            mine = chunk_stats(grad, start, end, inv);
            if (a.counts) count(grad, start, end, inv, a.counts + 3 * t.slot);
        });
        mine = block_fold(mine);
        if (threadIdx.x == 0) a.partials[blockIdx.x] = mine;
    }
    if (threadIdx.x == 0) {
        __threadfence();
        last = atomicAdd(&a.state->blocks_done, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last) return;
    __threadfence();
    Partial total = {0.0, 0, 0};
    for (uint32_t i = threadIdx.x; i < a.n_chunks; i += BLOCK) {
        total.sum_squares += __ldcg(&a.partials[i].sum_squares);
        total.non_finite |= __ldcg(&a.partials[i].non_finite);
    }
    total = block_fold(total);
    if (threadIdx.x == 0) {
        decide(a, total);
        skip = a.state->found_inf;
    }
    __syncthreads();
    if (skip) return;
    for (uint32_t i = threadIdx.x; i < a.n_grads; i += BLOCK) a.steps[a.grads[i].slot] += 1;
}
