// cross_entropy of rows of logits with class indices: the loss and the logarithm of the sum of exponentials in one read, and
// the gradient of the logits, which may overwrite them.
// nvcc: --fmad=true
#include "rows.cuh"

// The classes of the rows.
struct Targets {
    const void* at;
    uint64_t pitch;
    int64_t ignore_index;
    uint64_t kind; // 0: int64_t, 1: uint32_t, 2: uint8_t
};

struct LossArgs {
    const void* x;
    void* losses; // f32, f64 of f64
    double* lse;  // of a row of f64 two, the maximum and what is to be added
    uint64_t rows, width, pitch;
    double smoothing;
    Targets targets;
};
static_assert(sizeof(LossArgs) == 88, "");

struct GradientArgs {
    const void* x; // `dx` in place
    void* dx;
    const double* lse;
    const void* factors;
    uint64_t rows, width, pitch, factor_pitch;
    double smoothing;
    Targets targets;
    uint32_t narrow_dx, wide_factors;
};
static_assert(sizeof(GradientArgs) == 112, "");

// Losses and gradients in one pass, in place: every row has the same factor.
struct BothArgs {
    void* x;
    void* losses;
    uint64_t rows, width;
    double smoothing, factor;
    Targets targets;
};
static_assert(sizeof(BothArgs) == 80, "");

enum class Kind { Class, Ignored, Bad };

__device__ __forceinline__ Kind target_of(const Targets& t, uint64_t row, uint64_t width, uint64_t* chosen) {
    const uint64_t at = row * t.pitch;
    const int64_t target = t.kind == 0   ? static_cast<const int64_t*>(t.at)[at]
                           : t.kind == 1 ? int64_t(static_cast<const uint32_t*>(t.at)[at])
                                         : int64_t(static_cast<const uint8_t*>(t.at)[at]);
    *chosen = uint64_t(target);
    if (target == t.ignore_index) return Kind::Ignored;
    return target >= 0 && uint64_t(target) < width ? Kind::Class : Kind::Bad;
}

// Elements before the first that is aligned to 16 bytes.
template <typename T> __device__ __forceinline__ uint64_t head_of(const T* p, uint64_t width) {
    const uint64_t head = (16 - reinterpret_cast<uintptr_t>(p) % 16) % 16 / sizeof(T);
    return head < width ? head : width;
}

// e^x of a difference of logits of type `T`. Of 16-bit logits two instructions, and 0 where it is no normal f32.
template <typename T, typename C> __device__ __forceinline__ C exp_of(C x) {
    if constexpr (sizeof(T) == 2) {
        float y;
        asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * 1.4426950408889634f));
        return y;
    } else if constexpr (std::is_same_v<T, double>) {
        return exp(x);
    } else {
        return expf(x);
    }
}

// What a thread has read: the maximum, the sum of exp(x - maximum), and the sum.
template <typename T> struct Online {
    using C = compute_t<T>;
    C most = -INFINITY;
    double exps = 0.0, total = 0.0;

    // What is missing of a unit is -INFINITY.
    __device__ __forceinline__ void add(const C x[UNIT]) {
        C largest = x[0], terms[UNIT];
#pragma unroll
        for (int k = 1; k < UNIT; ++k) largest = Larger()(largest, x[k]);
        if (largest > most) {
            exps *= double(exp_of<T>(most - largest));
            most = largest;
        }
        // A NaN is passed over by the maximum, and makes the sum one.
        const C from = most == -INFINITY ? C(0) : most;
#pragma unroll
        for (int k = 0; k < UNIT; ++k) terms[k] = exp_of<T>(x[k] - from);
        exps += double(tree(terms));
    }
    __device__ __forceinline__ void count(const C x[UNIT], int n) {
        C terms[UNIT];
#pragma unroll
        for (int k = 0; k < UNIT; ++k) terms[k] = k < n ? x[k] : C(0);
        total += double(tree(terms));
    }
};

// Calls `f(first element, elements)` for a thread's part of a row: of elements before the first that is aligned one, then eight at
// a time.
template <int WARPS, typename T, typename F> __device__ __forceinline__ void each_unit(const T* row, uint64_t width, F f) {
    const uint64_t lane = threadIdx.x % (WARPS * 32), head = head_of(row, width);
    if (lane < head) f(lane, 1);
#pragma unroll 2
    for (uint64_t at = head + lane * UNIT; at < width; at += WARPS * 32 * UNIT)
        f(at, width - at >= UNIT ? UNIT : int(width - at));
}

// Of a row, in all of its threads: log Σ exp(x) in two parts (of f32 the first is the whole, which an f64 holds), and Σ x where
// there is smoothing.
struct Sums {
    double above, rest, total;
};

template <typename T, int WARPS> __device__ __forceinline__ Sums sums_of(const T* row, uint64_t width, bool smooth) {
    using C = compute_t<T>;
    constexpr bool WIDE = std::is_same_v<C, double>;
    Online<T> mine;
    each_unit<WARPS>(row, width, [&](uint64_t at, int n) {
        C x[UNIT];
        load_unit<C>(row + at, true, n, x);
        if (smooth) mine.count(x, n);
        if (n < UNIT) {
#pragma unroll
            for (int k = 0; k < UNIT; ++k)
                if (k >= n) x[k] = -INFINITY;
        }
        mine.add(x);
    });
    const C most = over_row<WARPS>(mine.most, Larger());
    const double part = mine.most == -INFINITY ? mine.exps : mine.exps * double(exp_of<T>(mine.most - most));
    const double exps = over_row<WARPS>(part, Add());
    const double total = smooth ? over_row<WARPS>(mine.total, Add()) : 0.0;
    return {WIDE ? double(most) : double(most) + log(exps), WIDE ? log(exps) : 0.0, total};
}

// `own` is the logit of the row's class, where it has one.
__device__ __forceinline__ double loss_of(const Sums& sums, Kind kind, double own, uint64_t width, double smoothing) {
    double loss = kind == Kind::Bad ? NAN : 0.0;
    if (kind == Kind::Class) {
        if (smoothing < 1.0) loss += (1.0 - smoothing) * (sums.rest + (sums.above - own));
        if (smoothing > 0.0) loss += smoothing * (sums.rest + (sums.above - sums.total / double(width)));
    }
    return loss;
}

template <typename T, int WARPS> __device__ void losses(const LossArgs& a) {
    using C = compute_t<T>;
    constexpr bool WIDE = std::is_same_v<C, double>;
    const uint64_t groups = BLOCK / (WARPS * 32);
    for (uint64_t r = blockIdx.x * groups + threadIdx.x / (WARPS * 32); r < a.rows; r += gridDim.x * groups) {
        const T* row = static_cast<const T*>(a.x) + r * a.pitch;
        const Sums sums = sums_of<T, WARPS>(row, a.width, a.smoothing > 0.0);
        if (threadIdx.x % (WARPS * 32) != 0) continue;
        a.lse[WIDE ? 2 * r : r] = sums.above;
        if constexpr (WIDE) a.lse[2 * r + 1] = sums.rest;
        uint64_t target;
        const Kind kind = target_of(a.targets, r, a.width, &target);
        const double own = kind == Kind::Class ? double(convert<C>(row[target])) : 0.0;
        static_cast<C*>(a.losses)[r] = C(loss_of(sums, kind, own, a.width, a.smoothing));
    }
}

// Writes the gradient of a row, which may lie where the row does: each thread reads what it then writes.
template <typename T, int WARPS>
__device__ __forceinline__ void write_gradient(
    const T* row, void* dx, uint64_t from, bool narrow, uint64_t width, const Split<compute_t<T>>& lse, Kind kind, uint64_t target,
    double factor, double smoothing) {
    using C = compute_t<T>;
    const double share = smoothing / double(width);
    const C f = C(factor), own = C(factor * (1.0 - smoothing)), even = C(factor * share);
    const bool counts = kind == Kind::Class && factor != 0.0;
    each_unit<WARPS>(row, width, [&](uint64_t at, int n) {
        C out[UNIT];
        if (counts) {
            load_unit<C>(row + at, true, n, out);
#pragma unroll
            for (int k = 0; k < UNIT; ++k) out[k] = exp_of<T>(lse.below(out[k])) * f - even;
            if (target - at < uint64_t(n)) {
#pragma unroll
                for (int k = 0; k < UNIT; ++k)
                    if (at + k == target) out[k] -= own;
            }
        } else {
#pragma unroll
            for (int k = 0; k < UNIT; ++k) out[k] = kind == Kind::Bad ? C(NAN) : C(0);
        }
        store_either<T>(narrow, dx, from + at, n, out);
    });
}

template <typename T, int WARPS> __device__ void gradient(const GradientArgs& a) {
    using C = compute_t<T>;
    constexpr bool WIDE = std::is_same_v<C, double>;
    const uint64_t groups = BLOCK / (WARPS * 32);
    for (uint64_t r = blockIdx.x * groups + threadIdx.x / (WARPS * 32); r < a.rows; r += gridDim.x * groups) {
        uint64_t target;
        const Kind kind = target_of(a.targets, r, a.width, &target);
        const double factor = a.wide_factors ? static_cast<const double*>(a.factors)[r * a.factor_pitch]
                                             : double(static_cast<const float*>(a.factors)[r * a.factor_pitch]);
        Split<C> lse(a.lse[WIDE ? 2 * r : r]);
        if constexpr (WIDE) lse.low = a.lse[2 * r + 1];
        write_gradient<T, WARPS>(
            static_cast<const T*>(a.x) + r * a.pitch, a.dx, r * a.width, a.narrow_dx, a.width, lse, kind, target, factor, a.smoothing);
    }
}

// Of few rows at a time, so that what is read again is still in the second-level cache.
template <typename T, int WARPS> __device__ void both(const BothArgs& a) {
    using C = compute_t<T>;
    const uint64_t groups = blockDim.x / (WARPS * 32);
    for (uint64_t r = blockIdx.x * groups + threadIdx.x / (WARPS * 32); r < a.rows; r += gridDim.x * groups) {
        T* row = static_cast<T*>(a.x) + r * a.width;
        uint64_t target;
        const Kind kind = target_of(a.targets, r, a.width, &target);
        // Before anybody writes over it, which is after the sums.
        const double own = kind == Kind::Class ? double(convert<C>(row[target])) : 0.0;
        const Sums sums = sums_of<T, WARPS>(row, a.width, a.smoothing > 0.0);
        Split<C> lse(sums.above);
        if constexpr (std::is_same_v<C, double>) lse.low = sums.rest;
        write_gradient<T, WARPS>(row, row, 0, true, a.width, lse, kind, target, a.factor, a.smoothing);
        if (threadIdx.x % (WARPS * 32) == 0)
            static_cast<C*>(a.losses)[r] = C(loss_of(sums, kind, own, a.width, a.smoothing));
    }
}

#define KERNELS(T, NAME)                                                                                       \
    extern "C" __global__ void __launch_bounds__(BLOCK) cross_entropy_losses_warp_##NAME(const LossArgs a) {   \
        losses<T, 1>(a);                                                                                       \
    }                                                                                                          \
    extern "C" __global__ void __launch_bounds__(BLOCK) cross_entropy_losses_block_##NAME(const LossArgs a) {  \
        losses<T, BLOCK / 32>(a);                                                                              \
    }                                                                                                          \
    extern "C" __global__ void __launch_bounds__(BLOCK) cross_entropy_gradient_warp_##NAME(                    \
        const GradientArgs a) {                                                                                \
        gradient<T, 1>(a);                                                                                     \
    }                                                                                                          \
    extern "C" __global__ void __launch_bounds__(BLOCK) cross_entropy_gradient_block_##NAME(                   \
        const GradientArgs a) {                                                                                \
        gradient<T, BLOCK / 32>(a);                                                                            \
    }                                                                                                          \
    extern "C" __global__ void __launch_bounds__(BLOCK) cross_entropy_both_warp_##NAME(const BothArgs a) {     \
        both<T, 1>(a);                                                                                         \
    }                                                                                                          \
    extern "C" __global__ void __launch_bounds__(512, 2) cross_entropy_both_block_##NAME(const BothArgs a) {   \
        both<T, 16>(a);                                                                                        \
    }
KERNELS(float, f32)
KERNELS(__half, f16)
KERNELS(__nv_bfloat16, bf16)
KERNELS(double, f64)
