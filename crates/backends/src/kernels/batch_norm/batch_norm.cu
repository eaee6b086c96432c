// batch_norm of (outer, channels, inner), forward and backward: sums by channel in parts, what follows from them, and a pass over
// all elements. Where `inner` is 1, rows of channels; else planes of one channel each.
// nvcc: --fmad=true
#include "rows.cuh"

struct Args {
    const void *x, *dy;
    const void* beside;   // forward: added before the relu; backward: the value, which says where the relu let pass
    const void *weight, *bias;
    double* statistics;   // [2, channels]: mean and 1/std
    double* parts;        // [parts, 2, channels]
    double* sums;         // [2, channels], backward
    void* out;            // forward: y; backward: dx
    void* passed;         // backward: what the relu let pass, the gradient of what was added; may be null
    uint64_t outer, channels, inner;
    uint64_t each;        // rows or planes of a part
    uint16_t narrow_weight, narrow_bias, relu, centred;
    uint16_t threads_across, unused[3];
};
static_assert(sizeof(Args) == 128, "");

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
        const C weight = a.weight ? (a.narrow_weight ? convert<C>(static_cast<const T*>(a.weight)[c]) : static_cast<const C*>(a.weight)[c]) : C(1);
        scale = C(a.statistics[a.channels + c] * double(weight));
        bias = a.bias ? (a.narrow_bias ? convert<C>(static_cast<const T*>(a.bias)[c]) : static_cast<const C*>(a.bias)[c]) : C(0);
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

// Eight elements as they are stored, and zeros behind the last.
template <typename T> __device__ __forceinline__ Unit<T> raw_unit(const T* p, bool whole, int valid) {
    Unit<T> raw;
    if (whole && valid >= UNIT) {
        raw = *reinterpret_cast<const Unit<T>*>(p);
    } else {
#pragma unroll
        for (int k = 0; k < UNIT; ++k) raw.at[k] = k < valid ? p[k] : convert<T>(0.0f);
    }
    return raw;
}
template <typename C, typename T> __device__ __forceinline__ void widened(const Unit<T>& raw, C out[UNIT]) {
#pragma unroll
    for (int k = 0; k < UNIT; ++k) out[k] = convert<C>(raw.at[k]);
}

// ---- walks over a block's elements of its channels ----------------------------------------------------------------

// Rows: a thread has the same UNIT channels in each of its rows. `f(index of the element, unit whole, elements, which of the channels)`.
template <typename T> struct Rows {
    static constexpr int CHANNELS = UNIT;
    uint64_t channel;
    int valid;
    uint64_t begin, end, step;
    bool whole;
    __device__ __forceinline__ explicit Rows(const Args& a) {
        const int across = a.threads_across, down = BLOCK / across;
        channel = (uint64_t(blockIdx.x) * across + threadIdx.x % across) * UNIT;
        valid = channel >= a.channels ? 0 : a.channels - channel >= UNIT ? UNIT : int(a.channels - channel);
        begin = uint64_t(blockIdx.y) * a.each + threadIdx.x / across;
        end = min(uint64_t(blockIdx.y + 1) * a.each, a.outer);
        step = down;
        whole = a.channels * sizeof(T) % 16 == 0;
    }
    __device__ __forceinline__ uint64_t at(const Args& a, uint64_t i) const { return i * a.channels + channel; }
    __device__ __forceinline__ int count(uint64_t) const { return valid; }
    __device__ __forceinline__ static constexpr int which(int k) { return k; }
};

// Planes: all of a block's elements are of one channel, in units where planes are made of those.
template <typename T> struct Planes {
    static constexpr int CHANNELS = 1;
    uint64_t channel;
    int valid;
    uint64_t begin, end, step;
    bool whole;
    uint64_t first, units;
    __device__ __forceinline__ explicit Planes(const Args& a) {
        channel = blockIdx.x;
        valid = 1;
        whole = a.inner % UNIT == 0 && a.inner * sizeof(T) % 16 == 0;
        units = whole ? a.inner / UNIT : a.inner;
        first = uint64_t(blockIdx.y) * a.each;
        begin = threadIdx.x;
        end = first < a.outer ? (min(first + a.each, a.outer) - first) * units : 0;
        step = BLOCK;
    }
    __device__ __forceinline__ uint64_t at(const Args& a, uint64_t i) const {
        const uint32_t plane = uint32_t(i) / uint32_t(units), within = uint32_t(i) - plane * uint32_t(units);
        return ((first + plane) * a.channels + channel) * a.inner + (whole ? within * UNIT : within);
    }
    __device__ __forceinline__ int count(uint64_t) const { return whole ? UNIT : 1; }
    __device__ __forceinline__ static constexpr int which(int) { return 0; }
};

// ---- sums ---------------------------------------------------------------------------------------------------------

// What a block's threads know of their channels: `make(channel)` is called once for each of them.
template <template <typename> class Walk, typename T, typename V, typename F>
__device__ __forceinline__ void of_channels(const Args& a, const Walk<T>& w, V mine[], F make) {
    if constexpr (Walk<T>::CHANNELS == 1) {
        mine[0] = make(w.channel);
    } else {
        __shared__ V staged[BLOCK];
        const int columns = a.threads_across * UNIT;
        const uint64_t channel = uint64_t(blockIdx.x) * columns + threadIdx.x;
        if (threadIdx.x < columns && channel < a.channels) staged[threadIdx.x] = make(channel);
        __syncthreads();
#pragma unroll
        for (int k = 0; k < UNIT; ++k) mine[k] = staged[threadIdx.x % a.threads_across * UNIT + k];
    }
}

// The arrays that a pass reads side by side: all loads of several units are under way before the first is used.
template <typename T, int STREAMS, int DEEP> struct Ahead {
    Unit<T> raw[DEEP][STREAMS];
    template <typename W> __device__ __forceinline__ void load(const Args& a, const W& w, uint64_t i, const T* const (&from)[STREAMS]) {
#pragma unroll
        for (int j = 0; j < DEEP; ++j) {
            const uint64_t at = i + j * w.step;
            if (at < w.end)
#pragma unroll
                for (int s = 0; s < STREAMS; ++s)
                    if (from[s]) raw[j][s] = raw_unit(from[s] + w.at(a, at), w.whole, w.count(at));
        }
    }
};

// Adds `terms(walk, at, n, raw, first, second)` of all elements up by channel, in trees of as many as are loaded at a time and in f64
// beyond, into the block's part.
template <template <typename> class Walk, typename T, int STREAMS, int DEEP, typename F>
__device__ __forceinline__ void add_up(const Args& a, const Walk<T>& walk, const T* const (&from)[STREAMS], F terms) {
    using C = compute_t<T>;
    constexpr int N = Walk<T>::CHANNELS;
    double sums[2][N] = {};
    if (walk.valid > 0) {
        for (uint64_t i = walk.begin; i < walk.end; i += DEEP * walk.step) {
            Ahead<T, STREAMS, DEEP> ahead;
            ahead.load(a, walk, i, from);
            C near[2][UNIT] = {};
#pragma unroll
            for (int j = 0; j < DEEP; ++j) {
                const uint64_t at = i + j * walk.step;
                if (at < walk.end) {
                    C first[UNIT], second[UNIT];
                    terms(walk.at(a, at), walk.count(at), ahead.raw[j], first, second);
#pragma unroll
                    for (int k = 0; k < UNIT; ++k) {
                        near[0][k] += first[k];
                        near[1][k] += second[k];
                    }
                }
            }
            if constexpr (N == 1) {
                sums[0][0] += double(tree(near[0]));
                sums[1][0] += double(tree(near[1]));
            } else {
#pragma unroll
                for (int k = 0; k < UNIT; ++k) {
                    sums[0][k] += double(near[0][k]);
                    sums[1][k] += double(near[1][k]);
                }
            }
        }
    }
    double* part = a.parts + uint64_t(blockIdx.y) * 2 * a.channels;
    if constexpr (N == 1) {
        const Two both = over_row<BLOCK / 32>(Two{sums[0][0], sums[1][0]}, Add());
        if (threadIdx.x == 0) {
            part[walk.channel] = both.first;
            part[a.channels + walk.channel] = both.second;
        }
    } else {
        __shared__ double shared[BLOCK * UNIT];
        const int columns = a.threads_across * UNIT, rows = BLOCK / a.threads_across;
        const uint64_t base = uint64_t(blockIdx.x) * columns;
#pragma unroll
        for (int s = 0; s < 2; ++s) {
            __syncthreads();
#pragma unroll
            for (int k = 0; k < UNIT; ++k) shared[threadIdx.x * UNIT + k] = sums[s][k];
            __syncthreads();
            for (int c = threadIdx.x; c < columns; c += BLOCK) {
                double sum = 0.0;
                for (int r = 0; r < rows; ++r) sum += shared[r * columns + c];
                if (base + c < a.channels) part[s * a.channels + base + c] = sum;
            }
        }
    }
}

template <template <typename> class Walk, typename T> __device__ void moments(const Args& a) {
    using C = compute_t<T>;
    const T* x = static_cast<const T*>(a.x);
    const Walk<T> walk(a);
    C from[Walk<T>::CHANNELS] = {};
    of_channels<Walk, T>(a, walk, from, [&](uint64_t c) { return a.centred ? origin<C>(x, c, a.inner) : C(0); });
    add_up<Walk, T, 1, 4>(a, walk, {x}, [&](uint64_t, int n, const Unit<T> raw[1], C first[UNIT], C second[UNIT]) {
        C v[UNIT];
        widened(raw[0], v);
#pragma unroll
        for (int k = 0; k < UNIT; ++k) {
            first[k] = k < n ? v[k] - from[Walk<T>::which(k)] : C(0);
            second[k] = first[k] * first[k];
        }
    });
}

// Whether a relu behind an element let it pass, as it was rounded.
template <typename T> __device__ __forceinline__ bool passes(compute_t<T> value) {
    return !(convert<compute_t<T>>(convert<T>(value)) <= compute_t<T>(0));
}

// Where something was added before the relu, its value says what passed; else the value is computed again.
template <template <typename> class Walk, typename T, bool ADDED> __device__ void gradient_sums(const Args& a) {
    using C = compute_t<T>;
    using W = Walk<T>;
    const W walk(a);
    Channel<T> of[W::CHANNELS];
    of_channels<Walk, T>(a, walk, of, [&](uint64_t c) { Channel<T> made; made.read(a, c); return made; });
    const T *x = static_cast<const T*>(a.x), *dy = static_cast<const T*>(a.dy);
    auto terms = [&](uint64_t at, int n, const Unit<T>* raw, C first[UNIT], C second[UNIT]) {
        C v[UNIT];
        widened(raw[0], v);
        widened(raw[1], first);
#pragma unroll
        for (int k = 0; k < UNIT; ++k) {
            const Channel<T>& c = of[W::which(k)];
            if constexpr (ADDED) {
                if (convert<C>(raw[2].at[k]) <= C(0)) first[k] = C(0);
            } else {
                if (a.relu && !passes<T>(c.value(v[k]))) first[k] = C(0);
            }
            if (k >= n) first[k] = C(0);
            second[k] = k < n ? first[k] * c.deviation(v[k]) : C(0);
        }
        if constexpr (ADDED) store_unit<C>(static_cast<T*>(a.passed) + at, walk.whole, n, first);
    };
    if constexpr (ADDED) add_up<Walk, T, 3, 2>(a, walk, {x, dy, static_cast<const T*>(a.beside)}, terms);
    else add_up<Walk, T, 2, 2>(a, walk, {x, dy}, terms);
}

// ---- what follows from the sums -----------------------------------------------------------------------------------

// Channels of a block, each added up by as many threads as are left for it.
constexpr int FINISHED = 8, GROUPS = BLOCK / FINISHED;

__device__ __forceinline__ void of_parts(const double* parts, uint64_t count, uint64_t channels, double out[2], uint64_t c) {
    __shared__ double shared[2][GROUPS][FINISHED];
    const int lane = threadIdx.x % FINISHED, group = threadIdx.x / FINISHED;
    double mine[2] = {};
    if (c < channels)
#pragma unroll 4
        for (uint64_t p = group; p < count; p += GROUPS) {
            mine[0] += parts[p * 2 * channels + c];
            mine[1] += parts[(p * 2 + 1) * channels + c];
        }
    shared[0][group][lane] = mine[0];
    shared[1][group][lane] = mine[1];
    __syncthreads();
#pragma unroll
    for (int s = 0; s < 2; ++s) {
        out[s] = 0.0;
        for (int g = 0; g < GROUPS; ++g) out[s] += shared[s][g][lane];
    }
}

template <typename T> __device__ void finish_moments(const FinishArgs& a) {
    using C = compute_t<T>;
    const uint64_t c = uint64_t(blockIdx.x) * FINISHED + threadIdx.x % FINISHED;
    double sums[2];
    of_parts(a.parts, a.parts_count, a.channels, sums, c);
    if (c >= a.channels || threadIdx.x >= FINISHED) return;
    const double count = double(a.count), moved = sums[0] / count;
    const double from = a.centred ? double(origin<C>(static_cast<const T*>(a.x), c, a.inner)) : 0.0;
    const double mean = from + moved;
    double squares = a.centred ? sums[1] - moved * sums[0] : sums[1];
    if (squares < 0.0) squares = 0.0;
    a.statistics[c] = a.centred ? mean : 0.0;
    a.statistics[a.channels + c] = rsqrt(squares / count + a.eps);
    static_cast<C*>(a.first)[c] = C(mean);
    static_cast<C*>(a.second)[c] = C(squares / (count - 1.0));
}

template <typename T> __device__ void finish_gradients(const FinishArgs& a) {
    using C = compute_t<T>;
    const uint64_t c = uint64_t(blockIdx.x) * FINISHED + threadIdx.x % FINISHED;
    double sums[2];
    of_parts(a.parts, a.parts_count, a.channels, sums, c);
    if (c >= a.channels || threadIdx.x >= FINISHED) return;
    // Of what was normalised, from that of the deviations.
    sums[1] *= a.statistics[a.channels + c];
    a.sums[c] = sums[0];
    a.sums[a.channels + c] = sums[1];
    if (a.first) static_cast<C*>(a.first)[c] = C(sums[0]);
    if (a.second) static_cast<C*>(a.second)[c] = C(sums[1]);
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

template <template <typename> class Walk, typename T> __device__ void apply(const Args& a) {
    using C = compute_t<T>;
    using W = Walk<T>;
    constexpr int DEEP = 4;
    const W w(a);
    Channel<T> of[W::CHANNELS] = {};
    of_channels<Walk, T>(a, w, of, [&](uint64_t c) { Channel<T> made; made.read(a, c); return made; });
    if (w.valid == 0) return;
    const T* const from[2] = {static_cast<const T*>(a.x), static_cast<const T*>(a.beside)};
    for (uint64_t i = w.begin; i < w.end; i += DEEP * w.step) {
        Ahead<T, 2, DEEP> ahead;
        ahead.load(a, w, i, from);
#pragma unroll
        for (int j = 0; j < DEEP; ++j) {
            const uint64_t at = i + j * w.step;
            if (at >= w.end) break;
            C v[UNIT];
            widened(ahead.raw[j][0], v);
#pragma unroll
            for (int k = 0; k < UNIT; ++k) {
                C y = of[W::which(k)].value(v[k]);
                if (a.beside) y += convert<C>(ahead.raw[j][1].at[k]);
                v[k] = a.relu && y <= C(0) ? C(0) : y;
            }
            store_unit<C>(static_cast<T*>(a.out) + w.at(a, at), w.whole, w.count(at), v);
        }
    }
}

template <template <typename> class Walk, typename T> __device__ void gradient(const Args& a) {
    using C = compute_t<T>;
    using W = Walk<T>;
    constexpr int DEEP = 2;
    const W w(a);
    Channel<T> of[W::CHANNELS];
    of_channels<Walk, T>(a, w, of, [&](uint64_t c) {
        Channel<T> made;
        made.read(a, c);
        made.read_sums(a, c);
        return made;
    });
    if (w.valid == 0) return;
    const T* const from[2] = {static_cast<const T*>(a.x), static_cast<const T*>(a.dy)};
    for (uint64_t i = w.begin; i < w.end; i += DEEP * w.step) {
        Ahead<T, 2, DEEP> ahead;
        ahead.load(a, w, i, from);
#pragma unroll
        for (int j = 0; j < DEEP; ++j) {
            const uint64_t at = i + j * w.step;
            if (at >= w.end) break;
            C v[UNIT], g[UNIT];
            widened(ahead.raw[j][0], v);
            widened(ahead.raw[j][1], g);
#pragma unroll
            for (int k = 0; k < UNIT; ++k) {
                const Channel<T>& c = of[W::which(k)];
                if (a.relu && !passes<T>(c.value(v[k]))) g[k] = C(0);
                g[k] = c.gradient(g[k], v[k]);
            }
            store_unit<C>(static_cast<T*>(a.out) + w.at(a, at), w.whole, w.count(at), g);
        }
    }
}

#define KERNEL(NAME, BLOCKS, BODY) \
    extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS) batch_norm_##NAME(const Args a) { BODY(a); }
#define WALKS(T, NAME, WALK, WALK_NAME, BLOCKS)                                        \
    KERNEL(moments_##WALK_NAME##_##NAME, BLOCKS, (moments<WALK, T>))                   \
    KERNEL(apply_##WALK_NAME##_##NAME, BLOCKS, (apply<WALK, T>))                       \
    KERNEL(sums_##WALK_NAME##_##NAME, BLOCKS, (gradient_sums<WALK, T, false>))         \
    KERNEL(added_sums_##WALK_NAME##_##NAME, BLOCKS, (gradient_sums<WALK, T, true>))    \
    KERNEL(gradient_##WALK_NAME##_##NAME, BLOCKS, (gradient<WALK, T>))
#define TYPES(T, NAME, BLOCKS)                                                                                             \
    WALKS(T, NAME, Rows, rows, BLOCKS)                                                                                     \
    WALKS(T, NAME, Planes, planes, BLOCKS)                                                                                 \
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
