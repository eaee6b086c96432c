// batch_norm of (outer, channels, inner), forward and backward: sums by channel in parts, what follows from them, and a pass over
// all elements. Where `inner` is 1, rows of channels; else planes of one channel each.
// nvcc: --fmad=true
#include "walks.cuh"

struct FinishArgs {
    const double* parts;
    const void* x;
    double *statistics, *sums;
    void *first, *second; // forward: mean and unbiased variance; backward: gradients of bias and weight. May be null
    uint64_t parts_count, channels, inner, count; // count: elements of a channel
    double eps;
    uint16_t centred, unused[3];
};
static_assert(sizeof(FinishArgs) == 96, "");

struct GivenArgs {
    const void *mean, *var;
    double* statistics;
    uint64_t channels;
    double eps;
    uint8_t mean_dtype, var_dtype, unused[6];
};
static_assert(sizeof(GivenArgs) == 48, "");

struct MovedArgs {
    const void *old, *fresh, *guard;
    void* out;
    uint64_t count;
    double momentum;
};
static_assert(sizeof(MovedArgs) == 48, "");

// The first value of a channel, from which deviations are taken, so that no mean cancels against its square.
template <typename C, typename T> __device__ __forceinline__ C origin(const T* x, uint64_t channel, uint64_t inner) {
    C first = convert<C>(x[channel * inner]);
    return isfinite(double(first)) ? first : C(0);
}

// A number of a channel, of the elements' type or of the one that is computed in.
template <typename T> __device__ __forceinline__ compute_t<T> parameter(const void* p, bool narrow, uint64_t c) {
    using C = compute_t<T>;
    return narrow ? convert<C>(static_cast<const T*>(p)[c]) : static_cast<const C*>(p)[c];
}

// What a channel is normalised with. What a mean loses in f32 matters beside values of f32, not beside narrower ones.
template <typename T> struct Channel {
    using C = compute_t<T>;
    static constexpr bool NARROW = sizeof(T) == 2;
    C high, low, scale, bias;
    C slope, offset; // of the gradient: of a deviation, and of all elements
    __device__ __forceinline__ void read(const Args& a, uint64_t c) {
        const Split<C> split(a.statistics[c]);
        high = split.high;
        low = NARROW ? C(0) : split.low;
        const C weight = a.weight ? parameter<T>(a.weight, a.narrow_weight, c) : C(1);
        scale = C(a.statistics[a.channels + c] * double(weight));
        bias = a.bias ? parameter<T>(a.bias, a.narrow_bias, c) : C(0);
    }
    __device__ __forceinline__ void read_sums(const Args& a, uint64_t c) {
        const double share = 1.0 / (double(a.outer) * double(a.inner)), rstd = a.statistics[a.channels + c];
        slope = C(-rstd * double(scale) * (a.sums[a.channels + c] * share));
        offset = a.centred ? C(-double(scale) * (a.sums[c] * share)) : C(0);
    }
    __device__ __forceinline__ C deviation(C x) const { return NARROW ? x - high : (x - high) - low; }
    __device__ __forceinline__ C value(C x) const { return deviation(x) * scale + bias; }
    __device__ __forceinline__ C gradient(C g, C x) const { return deviation(x) * slope + (g * scale + offset); }
};

// ---- sums ---------------------------------------------------------------------------------------------------------

template <typename W> __device__ void moments(const Args& a) {
    using T = typename W::T;
    using C = compute_t<T>;
    constexpr int N = W::N;
    const T* x = static_cast<const T*>(a.x);
    const W w(a);
    C from[W::CHANNELS] = {};
    of_channels(a, w, from, [&](uint64_t c) { return a.centred ? origin<C>(x, c, a.inner) : C(0); });
    add_up<1>(a, w, {x}, [&](uint64_t, const Piece<T, N>* raw, C first[N], C second[N]) {
        raw[0].widened(first);
#pragma unroll
        for (int k = 0; k < N; ++k) {
            first[k] -= from[W::which(k)];
            second[k] = first[k] * first[k];
        }
    });
}

// The largest number that is rounded to 0: half of the smallest that is not.
template <typename T> struct Vanishes {
    static constexpr compute_t<T> AT = 0;
};
template <> struct Vanishes<__half> {
    static constexpr float AT = 0x1p-25f;
};
template <> struct Vanishes<__nv_bfloat16> {
    static constexpr float AT = 0x1p-134f;
};
// Whether a relu behind an element let it pass, as it was rounded.
template <typename T> __device__ __forceinline__ bool passes(compute_t<T> value) { return !(value <= Vanishes<T>::AT); }

// Where something was added before the relu, its value says what passed; else the value is computed again.
template <typename W, bool ADDED> __device__ void gradient_sums(const Args& a) {
    using T = typename W::T;
    using C = compute_t<T>;
    constexpr int N = W::N;
    const W w(a);
    Channel<T> of[W::CHANNELS];
    of_channels(a, w, of, [&](uint64_t c) { Channel<T> made; made.read(a, c); return made; });
    const T *x = static_cast<const T*>(a.x), *dy = static_cast<const T*>(a.dy);
    auto terms = [&](uint64_t at, const Piece<T, N>* raw, C first[N], C second[N]) {
        C v[N], value[N];
        raw[0].widened(v);
        raw[1].widened(first);
        if constexpr (ADDED) raw[2].widened(value);
#pragma unroll
        for (int k = 0; k < N; ++k) {
            const Channel<T>& c = of[W::which(k)];
            if constexpr (ADDED) {
                if (value[k] <= C(0)) first[k] = C(0);
            } else {
                if (a.relu && !passes<T>(c.value(v[k]))) first[k] = C(0);
            }
            second[k] = first[k] * c.deviation(v[k]);
        }
        if constexpr (ADDED) Piece<T, N>::store(static_cast<T*>(a.passed) + at, first);
    };
    if constexpr (ADDED) add_up<3>(a, w, {x, dy, static_cast<const T*>(a.beside)}, terms);
    else add_up<2>(a, w, {x, dy}, terms);
}

// ---- what follows from the sums -----------------------------------------------------------------------------------

// Channels of a block, each added up by as many threads as are left for it.
constexpr int FINISHED = 2;

// The sums of a channel's parts, in the first FINISHED threads.
__device__ __forceinline__ Two of_parts(const double* parts, uint64_t count, uint64_t channels, uint64_t c) {
    constexpr int GROUPS = BLOCK / FINISHED;
    __shared__ Two warps[BLOCK / 32][FINISHED];
    const int lane = threadIdx.x % FINISHED;
    Two mine = {0.0, 0.0};
    if (c < channels)
#pragma unroll 4
        for (uint64_t p = threadIdx.x / FINISHED; p < count; p += GROUPS)
            mine = mine + Two{parts[p * 2 * channels + c], parts[(p * 2 + 1) * channels + c]};
#pragma unroll
    for (int step = 16; step >= FINISHED; step >>= 1) mine = mine + shuffled(mine, step);
    if (threadIdx.x % 32 < FINISHED) warps[threadIdx.x / 32][lane] = mine;
    __syncthreads();
    mine = warps[0][lane];
#pragma unroll
    for (int w = 1; w < BLOCK / 32; ++w) mine = mine + warps[w][lane];
    return mine;
}

template <typename T> __device__ void finish_moments(const FinishArgs& a) {
    using C = compute_t<T>;
    const uint64_t c = uint64_t(blockIdx.x) * FINISHED + threadIdx.x % FINISHED;
    Two sums = of_parts(a.parts, a.parts_count, a.channels, c);
    if (c >= a.channels || threadIdx.x >= FINISHED) return;
    const double count = double(a.count), moved = sums.first / count;
    const double from = a.centred ? double(origin<C>(static_cast<const T*>(a.x), c, a.inner)) : 0.0;
    const double mean = from + moved;
    double squares = a.centred ? sums.second - moved * sums.first : sums.second;
    if (squares < 0.0) squares = 0.0;
    a.statistics[c] = a.centred ? mean : 0.0;
    a.statistics[a.channels + c] = rsqrt(squares / count + a.eps);
    static_cast<C*>(a.first)[c] = C(mean);
    static_cast<C*>(a.second)[c] = C(squares / (count - 1.0));
}

template <typename T> __device__ void finish_gradients(const FinishArgs& a) {
    using C = compute_t<T>;
    const uint64_t c = uint64_t(blockIdx.x) * FINISHED + threadIdx.x % FINISHED;
    Two sums = of_parts(a.parts, a.parts_count, a.channels, c);
    if (c >= a.channels || threadIdx.x >= FINISHED) return;
    // Of what was normalised, from that of the deviations.
    sums.second *= a.statistics[a.channels + c];
    a.sums[c] = sums.first;
    a.sums[a.channels + c] = sums.second;
    if (a.first) static_cast<C*>(a.first)[c] = C(sums.first);
    if (a.second) static_cast<C*>(a.second)[c] = C(sums.second);
}

extern "C" __global__ void __launch_bounds__(BLOCK) batch_norm_given(const GivenArgs a) {
    const uint64_t c = uint64_t(blockIdx.x) * BLOCK + threadIdx.x;
    if (c >= a.channels) return;
    typed(a.mean, a.mean_dtype, [&](auto* mean) { a.statistics[c] = convert<double>(mean[c]); });
    typed(a.var, a.var_dtype, [&](auto* var) { a.statistics[a.channels + c] = rsqrt(convert<double>(var[c]) + a.eps); });
}

// A running statistic after another batch; as it was where the batch's are not finite.
template <typename C> __device__ void moved(const MovedArgs& a) {
    const uint64_t c = uint64_t(blockIdx.x) * BLOCK + threadIdx.x;
    if (c >= a.count) return;
    const C old = static_cast<const C*>(a.old)[c], fresh = static_cast<const C*>(a.fresh)[c];
    const bool finite = isfinite(double(fresh)) && isfinite(double(static_cast<const C*>(a.guard)[c]));
    const C kept = old * C(1.0 - a.momentum), added = fresh * C(a.momentum);
    static_cast<C*>(a.out)[c] = finite ? kept + added : old;
}

// ---- passes over all elements -------------------------------------------------------------------------------------

template <typename W, bool ADDED> __device__ void apply(const Args& a) {
    using T = typename W::T;
    using C = compute_t<T>;
    constexpr int N = W::N;
    const W w(a);
    Channel<T> of[W::CHANNELS] = {};
    of_channels(a, w, of, [&](uint64_t c) { Channel<T> made; made.read(a, c); return made; });
    auto normalise = [&](uint64_t at, const Piece<T, N>* raw) {
        C v[N], added[N];
        raw[0].widened(v);
        if constexpr (ADDED) raw[1].widened(added);
#pragma unroll
        for (int k = 0; k < N; ++k) {
            C y = of[W::which(k)].value(v[k]);
            if constexpr (ADDED) y += added[k];
            v[k] = a.relu && y <= C(0) ? C(0) : y;
        }
        Piece<T, N>::store(static_cast<T*>(a.out) + at, v);
    };
    const T* x = static_cast<const T*>(a.x);
    if constexpr (ADDED) over<Order::BACK, 2>(a, w, {x, static_cast<const T*>(a.beside)}, normalise, [] {});
    else over<Order::BACK, 1>(a, w, {x}, normalise, [] {});
}

template <typename W> __device__ void gradient(const Args& a) {
    using T = typename W::T;
    using C = compute_t<T>;
    constexpr int N = W::N;
    const W w(a);
    Channel<T> of[W::CHANNELS];
    of_channels(a, w, of, [&](uint64_t c) {
        Channel<T> made;
        made.read(a, c);
        made.read_sums(a, c);
        return made;
    });
    auto differentiate = [&](uint64_t at, const Piece<T, N>* raw) {
        C v[N], g[N];
        raw[0].widened(v);
        raw[1].widened(g);
#pragma unroll
        for (int k = 0; k < N; ++k) {
            const Channel<T>& c = of[W::which(k)];
            if (a.relu && !passes<T>(c.value(v[k]))) g[k] = C(0);
            g[k] = c.gradient(g[k], v[k]);
        }
        Piece<T, N>::store(static_cast<T*>(a.out) + at, g);
    };
    over<Order::BACK, 2>(a, w, {static_cast<const T*>(a.x), static_cast<const T*>(a.dy)}, differentiate, [] {});
}

#define KERNEL(NAME, BLOCKS, ...) \
    extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS) batch_norm_##NAME(const Args a) { __VA_ARGS__(a); }
#define WALK(NAME, WALK, WALK_NAME, BLOCKS)                                   \
    KERNEL(moments_##WALK_NAME##_##NAME, BLOCKS, moments<WALK>)               \
    KERNEL(apply_##WALK_NAME##_##NAME, BLOCKS, apply<WALK, false>)            \
    KERNEL(added_##WALK_NAME##_##NAME, BLOCKS, apply<WALK, true>)             \
    KERNEL(sums_##WALK_NAME##_##NAME, BLOCKS, gradient_sums<WALK, false>)     \
    KERNEL(added_sums_##WALK_NAME##_##NAME, BLOCKS, gradient_sums<WALK, true>) \
    KERNEL(gradient_##WALK_NAME##_##NAME, BLOCKS, gradient<WALK>)
#define TYPES(T, NAME, BLOCKS)                                                                                             \
    using Rows_##NAME = Rows<T, UNIT>;                                                                                     \
    using Rows_1_##NAME = Rows<T, 1>;                                                                                      \
    using Planes_##NAME = Planes<T, UNIT>;                                                                                 \
    using Planes_1_##NAME = Planes<T, 1>;                                                                                  \
    WALK(NAME, Rows_##NAME, rows, BLOCKS)                                                                                  \
    WALK(NAME, Rows_1_##NAME, rows_1, BLOCKS)                                                                              \
    WALK(NAME, Planes_##NAME, planes, BLOCKS)                                                                              \
    WALK(NAME, Planes_1_##NAME, planes_1, BLOCKS)                                                                          \
    extern "C" __global__ void __launch_bounds__(BLOCK) batch_norm_finish_moments_##NAME(const FinishArgs a) {             \
        finish_moments<T>(a);                                                                                              \
    }                                                                                                                      \
    extern "C" __global__ void __launch_bounds__(BLOCK) batch_norm_finish_gradients_##NAME(const FinishArgs a) {           \
        finish_gradients<T>(a);                                                                                            \
    }

TYPES(float, f32, 2)
TYPES(__half, f16, 2)
TYPES(__nv_bfloat16, bf16, 2)
TYPES(double, f64, 1)

extern "C" __global__ void __launch_bounds__(BLOCK) batch_norm_moved_f32(const MovedArgs a) { moved<float>(a); }
extern "C" __global__ void __launch_bounds__(BLOCK) batch_norm_moved_f64(const MovedArgs a) { moved<double>(a); }
