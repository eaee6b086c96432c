// The frame around an optimizer's rule: which elements a block owns, how a weight is read in full, and how it goes back.
// Element for element the arithmetic of `scalar.rs`: the build keeps products and sums apart.
#pragma once
#include "multi_tensor.cuh"
#include "random.cuh"

// Weights that are stored in the arithmetic's type are always NEAREST.
enum WriteBack : uint8_t { NEAREST = 0, MASTER = 1, KAHAN = 2, STOCHASTIC = 3 };

struct ParamDesc {
    void* weights;
    void* kept;   // MASTER: the weights in full; KAHAN: what rounding has lost so far
    void* first;  // the moments, null where the rule has none
    void* second;
    uint64_t seed; // STOCHASTIC
    uint32_t group;
    uint8_t dtype, write_back;
};
static_assert(sizeof(ParamDesc) == 48 && offsetof(ParamDesc, seed) == 32 && offsetof(ParamDesc, dtype) == 44, "");

struct StepArgs {
    const GradDesc* grads;
    const ParamDesc* params;
    const Chunk* chunks;
    const void* groups;
    const uint32_t* steps;
    const StepState* state;
    double clip_value;    // negative: none
    uint64_t first_chunk; // of those whose weights have the kernel's type
    const double* rates;  // by steps applied before, from `first_rate` on; null where the groups hold their whole rate
    uint32_t first_rate, n_rates;
};
static_assert(sizeof(StepArgs) == 80, "");

// What the groups' rates are multiplied by. Which step this is, the device alone knows: others may have been skipped.
__device__ __forceinline__ double rate(const StepArgs& a) {
    if (!a.rates) return 1.0;
    int32_t at = int32_t(a.state->applied - 1 - a.first_rate);
    return a.rates[min(uint32_t(max(at, 0)), a.n_rates - 1)];
}

template <typename C> struct Transform {
    C inv_scale, clip_coef, limit;
    bool clamps;

    __device__ __forceinline__ C operator()(C g) const {
        g = g * inv_scale * clip_coef;
        if (!clamps) return g;
        C low = g < -limit ? -limit : g;
        return low > limit ? limit : low;
    }
};

__device__ __forceinline__ float round_stochastic(float x, uint32_t, const float*) { return x; }
__device__ __forceinline__ double round_stochastic(double x, uint32_t, const double*) { return x; }

__device__ __forceinline__ __nv_bfloat16 round_stochastic(float x, uint32_t random, const __nv_bfloat16*) {
    if (!isfinite(x)) return __float2bfloat16_rn(x);
    uint32_t carried = (__float_as_uint(x) + (random & 0xffffu)) >> 16;
    if ((carried & 0x7fffu) == 0x7f80u) carried -= 1; // a finite value stays finite
    return __ushort_as_bfloat16(static_cast<unsigned short>(carried));
}

__device__ __forceinline__ __half round_stochastic(float x, uint32_t random, const __half*) {
    const float MIN_NORMAL = 6.103515625e-5f, MAX = 65504.0f, UNITS = 16777216.0f;
    float magnitude = fabsf(x);
    if (!isfinite(x)) return __float2half_rn(x);
    float rounded;
    if (magnitude >= MAX) {
        rounded = MAX;
    } else if (magnitude >= MIN_NORMAL) {
        rounded = fminf(__uint_as_float((__float_as_uint(magnitude) + (random & 0x1fffu)) & ~0x1fffu), MAX);
    } else {
        float units = magnitude * UNITS, floor = floorf(units);
        bool up = units - floor >= 1.0f - float(random >> 8) / UNITS;
        rounded = (floor + (up ? 1.0f : 0.0f)) / UNITS;
    }
    return __float2half_rn(copysignf(rounded, x));
}

template <typename T> __device__ __forceinline__ bool same_bits(T a, T b) {
    if constexpr (sizeof(T) == 2) return *reinterpret_cast<uint16_t*>(&a) == *reinterpret_cast<uint16_t*>(&b);
    else if constexpr (sizeof(T) == 4) return __float_as_uint(a) == __float_as_uint(b);
    else return __double_as_longlong(a) == __double_as_longlong(b);
}

// One tensor of weights stored in `T` and updated in `C`, `N` elements at a time: 4, or 1 where memory is not aligned.
template <typename T, typename C, typename Rule> struct Update {
    const GradDesc& grad;
    const ParamDesc& param;
    const Transform<C>& transform;
    const Rule& rule;
    uint64_t key;
    static constexpr bool NARROW = !std::is_same_v<T, C>;

    template <int N, typename F> static __device__ __forceinline__ void load(const F* p, C* out) {
        if constexpr (N == 4) load4(p, out); else out[0] = convert<C>(*p);
    }
    template <int N, typename F> static __device__ __forceinline__ void store(F* p, const C* in) {
        if constexpr (N == 4) store4(p, in); else *p = convert<F>(in[0]);
    }

    __device__ bool aligned() const {
        bool ok = aligned4(static_cast<const T*>(param.weights));
        typed(grad.grad, grad.dtype, [&](auto* p) { ok = ok && aligned4(p); });
        // A null pointer is aligned.
        ok = ok && aligned4(static_cast<const C*>(param.first)) && aligned4(static_cast<const C*>(param.second));
        return ok && (param.write_back == MASTER ? aligned4(static_cast<const C*>(param.kept))
                                                 : aligned4(static_cast<const T*>(param.kept)));
    }

    template <int N> __device__ __forceinline__ void at(uint64_t i) const {
        T* weights = static_cast<T*>(param.weights) + i;
        C* first = static_cast<C*>(param.first) + i;
        C* second = static_cast<C*>(param.second) + i;
        C w[N], g[N], m[N], v[N];
        load<N>(weights, w);
        if constexpr (Rule::MOMENTS > 0) load<N>(first, m);
        if constexpr (Rule::MOMENTS > 1) load<N>(second, v);
        typed(grad.grad, grad.dtype, [&](auto* p) { load<N>(p + i, g); });
        if constexpr (NARROW) unpack<N>(i, w);
#pragma unroll
        for (int k = 0; k < N; ++k) rule(w[k], transform(g[k]), m[k], v[k]);
        if constexpr (Rule::MOMENTS > 0) store<N>(first, m);
        if constexpr (Rule::MOMENTS > 1) store<N>(second, v);
        if constexpr (NARROW) pack<N>(i, w);
        store<N>(weights, w);
    }

    // From the weights as stored to the weights in full.
    template <int N> __device__ __forceinline__ void unpack(uint64_t i, C* w) const {
        if (param.write_back == MASTER) {
            // Whoever wrote to the weights since the last step is believed over the master.
            C master[N];
            load<N>(static_cast<const C*>(param.kept) + i, master);
#pragma unroll
            for (int k = 0; k < N; ++k)
                if (same_bits(convert<T>(master[k]), convert<T>(w[k]))) w[k] = master[k];
        } else if (param.write_back == KAHAN) {
            C lost[N];
            load<N>(static_cast<const T*>(param.kept) + i, lost);
#pragma unroll
            for (int k = 0; k < N; ++k) w[k] = w[k] + lost[k];
        }
    }

    // Keeps what `T` cannot hold, and leaves in `w` what is to be stored.
    template <int N> __device__ __forceinline__ void pack(uint64_t i, C* w) const {
        if (param.write_back == STOCHASTIC) {
#pragma unroll
            for (int k = 0; k < N; ++k)
                w[k] = convert<C>(round_stochastic(w[k], random_bits(key, i + k), static_cast<const T*>(nullptr)));
        } else if (param.write_back == MASTER) {
            store<N>(static_cast<C*>(param.kept) + i, w);
        } else if (param.write_back == KAHAN) {
            C lost[N];
#pragma unroll
            for (int k = 0; k < N; ++k) lost[k] = w[k] - convert<C>(convert<T>(w[k]));
            store<N>(static_cast<T*>(param.kept) + i, lost);
        }
    }

    __device__ __forceinline__ void run(uint64_t start, uint64_t end) const {
        uint64_t vec_end = aligned() ? start + (end - start) / 4 * 4 : start;
        for (uint64_t i = start + 4 * threadIdx.x; i < vec_end; i += 4 * BLOCK) at<4>(i);
        for (uint64_t i = vec_end + threadIdx.x; i < end; i += BLOCK) at<1>(i);
    }
};

// Steps the weights that are stored in `T`. A skipped step touches nothing. The last chunks come first: their gradients
// are the ones that `grad_stats` left in the L2 cache. `RuleOf<C>` is prepared once per block, as it may use `pow`.
template <template <typename> class RuleOf, typename Group, typename T>
__device__ __forceinline__ void fused_step(const StepArgs& a) {
    using C = compute_t<T>;
    if (a.state->found_inf) return;
    const Chunk chunk = a.chunks[a.first_chunk + gridDim.x - 1 - blockIdx.x];
    const GradDesc grad = a.grads[chunk.tensor];
    const ParamDesc param = a.params[chunk.tensor];
    const uint32_t step = a.steps[grad.slot];
    __shared__ RuleOf<C> shared;
    if (threadIdx.x == 0) {
        Group group = static_cast<const Group*>(a.groups)[param.group];
        group.lr *= rate(a);
        shared = RuleOf<C>::prepare(group, step);
    }
    __syncthreads();
    const RuleOf<C> rule = shared;
    const Transform<C> transform = {C(a.state->inv_scale), C(a.state->clip_coef), C(a.clip_value), a.clip_value >= 0.0};
    // A key of its own for every step of every parameter, as the host makes it.
    const uint64_t slot_key = uint64_t(random_bits(param.seed, grad.slot)) << 32;
    const uint64_t key = slot_key | random_bits(param.seed ^ slot_key, step);
    const uint64_t start = CHUNK * chunk.index;
    Update<T, C, RuleOf<C>>{grad, param, transform, rule, key}.run(start, min(start + CHUNK, grad.len));
}

// One entry point for each type that weights are stored in.
#define FUSED_STEP(name, RuleOf, Group)                                                                               \
    extern "C" __global__ void __launch_bounds__(BLOCK) name##_f32(const __grid_constant__ StepArgs a) {               \
        fused_step<RuleOf, Group, float>(a);                                                                          \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(BLOCK) name##_f16(const __grid_constant__ StepArgs a) {               \
        fused_step<RuleOf, Group, __half>(a);                                                                         \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(BLOCK) name##_bf16(const __grid_constant__ StepArgs a) {              \
        fused_step<RuleOf, Group, __nv_bfloat16>(a);                                                                  \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(BLOCK) name##_f64(const __grid_constant__ StepArgs a) {               \
        fused_step<RuleOf, Group, double>(a);                                                                         \
    }
