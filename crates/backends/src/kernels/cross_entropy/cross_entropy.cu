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

__device__ __forceinline__ float exp_of(float x) { return expf(x); }
__device__ __forceinline__ double exp_of(double x) { return exp(x); }

// What a thread has read: the maximum, the sum of exp(x - maximum), and the sum.
template <typename C> struct Online {
    C most = -INFINITY;
    double exps = 0.0, total = 0.0;

    // What is missing of a unit is -INFINITY.
    __device__ __forceinline__ void add(const C x[UNIT]) {
        C largest = x[0], terms[UNIT];
#pragma unroll
        for (int k = 1; k < UNIT; ++k) largest = Larger()(largest, x[k]);
        if (largest > most) {
            exps *= double(exp_of(most - largest));
            most = largest;
        }
        // A NaN is passed over by the maximum, and makes the sum one.
        const C from = most == -INFINITY ? C(0) : most;
#pragma unroll
        for (int k = 0; k < UNIT; ++k) terms[k] = exp_of(x[k] - from);
        exps += double(tree(terms));
    }
    __device__ __forceinline__ void count(const C x[UNIT], int n) {
        C terms[UNIT];
#pragma unroll
        for (int k = 0; k < UNIT; ++k) terms[k] = k < n ? x[k] : C(0);
        total += double(tree(terms));
    }
};

template <typename T, int WARPS> __device__ void losses(const LossArgs& a) {
    using C = compute_t<T>;
    constexpr bool WIDE = std::is_same_v<C, double>;
    const uint64_t groups = BLOCK / (WARPS * 32), lane = threadIdx.x % (WARPS * 32);
    for (uint64_t r = blockIdx.x * groups + threadIdx.x / (WARPS * 32); r < a.rows; r += gridDim.x * groups) {
        const T* row = static_cast<const T*>(a.x) + r * a.pitch;
        const uint64_t head = head_of(row, a.width);
        Online<C> mine;
        auto take = [&](uint64_t at, int n) {
            C x[UNIT];
            load_unit<C>(row + at, true, n, x);
            if (a.smoothing > 0.0) mine.count(x, n);
            if (n < UNIT) {
#pragma unroll
                for (int k = 0; k < UNIT; ++k)
                    if (k >= n) x[k] = -INFINITY;
            }
            mine.add(x);
        };
        if (lane < head) take(lane, 1);
        for (uint64_t at = head + lane * UNIT; at < a.width; at += WARPS * 32 * UNIT)
            take(at, a.width - at >= UNIT ? UNIT : int(a.width - at));
        const C most = over_row<WARPS>(mine.most, Larger());
        const double part = mine.most == -INFINITY ? mine.exps : mine.exps * double(exp_of(mine.most - most));
        const double exps = over_row<WARPS>(part, Add());
        const double total = a.smoothing > 0.0 ? over_row<WARPS>(mine.total, Add()) : 0.0;
        if (lane != 0) continue;
        // What is subtracted is `above`, and then `rest`: of f32 the whole, which an f64 holds.
        const double above = WIDE ? double(most) : double(most) + log(exps), rest = WIDE ? log(exps) : 0.0;
        a.lse[WIDE ? 2 * r : r] = above;
        if constexpr (WIDE) a.lse[2 * r + 1] = rest;
        uint64_t target;
        const Kind kind = target_of(a.targets, r, a.width, &target);
        double loss = kind == Kind::Bad ? NAN : 0.0;
        if (kind == Kind::Class) {
            if (a.smoothing < 1.0) loss += (1.0 - a.smoothing) * (rest + (above - double(convert<C>(row[target]))));
            if (a.smoothing > 0.0) loss += a.smoothing * (rest + (above - total / double(a.width)));
        }
        static_cast<C*>(a.losses)[r] = C(loss);
    }
}

template <typename T, int WARPS> __device__ void gradient(const GradientArgs& a) {
    using C = compute_t<T>;
    constexpr bool WIDE = std::is_same_v<C, double>;
    const uint64_t groups = BLOCK / (WARPS * 32), lane = threadIdx.x % (WARPS * 32);
    const double share = a.smoothing / double(a.width);
    for (uint64_t r = blockIdx.x * groups + threadIdx.x / (WARPS * 32); r < a.rows; r += gridDim.x * groups) {
        const T* row = static_cast<const T*>(a.x) + r * a.pitch;
        const uint64_t head = head_of(row, a.width);
        uint64_t target;
        const Kind kind = target_of(a.targets, r, a.width, &target);
        const double factor = a.wide_factors ? static_cast<const double*>(a.factors)[r * a.factor_pitch]
                                             : double(static_cast<const float*>(a.factors)[r * a.factor_pitch]);
        Split<C> lse(a.lse[WIDE ? 2 * r : r]);
        if constexpr (WIDE) lse.low = a.lse[2 * r + 1];
        const C f = C(factor), own = C(factor * (1.0 - a.smoothing)), even = C(factor * share);
        const bool counts = kind == Kind::Class && factor != 0.0;
        auto put = [&](uint64_t at, int n) {
            C out[UNIT];
            if (counts) {
                load_unit<C>(row + at, true, n, out);
#pragma unroll
                for (int k = 0; k < UNIT; ++k) out[k] = exp_of(lse.below(out[k])) * f - even;
                if (target - at < uint64_t(n)) {
#pragma unroll
                    for (int k = 0; k < UNIT; ++k)
                        if (at + k == target) out[k] -= own;
                }
            } else {
#pragma unroll
                for (int k = 0; k < UNIT; ++k) out[k] = kind == Kind::Bad ? C(NAN) : C(0);
            }
            store_either<T>(a.narrow_dx, a.dx, r * a.width + at, n, out);
        };
        // Elements before the first that is aligned, one for each thread; then eight at a time.
        if (lane < head) put(lane, 1);
        for (uint64_t at = head + lane * UNIT; at < a.width; at += WARPS * 32 * UNIT)
            put(at, a.width - at >= UNIT ? UNIT : int(a.width - at));
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
    }
KERNELS(float, f32)
KERNELS(__half, f16)
KERNELS(__nv_bfloat16, bf16)
KERNELS(double, f64)
