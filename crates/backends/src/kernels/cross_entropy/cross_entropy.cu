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
    float* losses;
    double* lse;
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

// What a thread has read: the maximum, the sum of exp(x - maximum), and the sum.
struct Online {
    float most = -INFINITY;
    double exps = 0.0, total = 0.0;

    __device__ __forceinline__ void add(const float x[UNIT], int n) {
        float largest = x[0], terms[UNIT];
#pragma unroll
        for (int k = 1; k < UNIT; ++k)
            if (k < n) largest = Larger()(largest, x[k]);
        // A NaN makes the sum one, which stays.
        if (largest > most || largest != largest) {
            exps *= double(expf(most - largest));
            most = largest;
        }
        if (most != -INFINITY) {
#pragma unroll
            for (int k = 0; k < UNIT; ++k) terms[k] = k < n ? expf(x[k] - most) : 0.f;
            exps += double(tree(terms));
        }
    }
    __device__ __forceinline__ void count(const float x[UNIT], int n) {
        float terms[UNIT];
#pragma unroll
        for (int k = 0; k < UNIT; ++k) terms[k] = k < n ? x[k] : 0.f;
        total += double(tree(terms));
    }
};

template <typename T, int WARPS> __device__ void losses(const LossArgs& a) {
    const uint64_t groups = BLOCK / (WARPS * 32), lane = threadIdx.x % (WARPS * 32);
    for (uint64_t r = blockIdx.x * groups + threadIdx.x / (WARPS * 32); r < a.rows; r += gridDim.x * groups) {
        const T* row = static_cast<const T*>(a.x) + r * a.pitch;
        const uint64_t head = head_of(row, a.width);
        Online mine;
        auto take = [&](uint64_t at, int n) {
            float x[UNIT];
            load_unit<float>(row + at, true, n, x);
            mine.add(x, n);
            if (a.smoothing > 0.0) mine.count(x, n);
        };
        if (lane < head) take(lane, 1);
        for (uint64_t at = head + lane * UNIT; at < a.width; at += WARPS * 32 * UNIT)
            take(at, a.width - at >= UNIT ? UNIT : int(a.width - at));
        const float most = over_row<WARPS>(mine.most, Larger());
        const double part = mine.most == -INFINITY ? 0.0 : mine.exps * double(expf(mine.most - most));
        const double exps = over_row<WARPS>(part, Add());
        const double total = a.smoothing > 0.0 ? over_row<WARPS>(mine.total, Add()) : 0.0;
        if (lane != 0) continue;
        const double lse = double(most) + log(exps);
        a.lse[r] = lse;
        uint64_t target;
        const Kind kind = target_of(a.targets, r, a.width, &target);
        double loss = kind == Kind::Bad ? NAN : 0.0;
        if (kind == Kind::Class) {
            if (a.smoothing < 1.0) loss += (1.0 - a.smoothing) * (lse - double(convert<float>(row[target])));
            if (a.smoothing > 0.0) loss += a.smoothing * (lse - total / double(a.width));
        }
        a.losses[r] = float(loss);
    }
}

// A thread for each unit. Those of a row are its elements before the first aligned one, and then eight at a time, so that a
// row whose length is no multiple of eight is read in units, too.
template <typename T> __device__ void gradient(const GradientArgs& a) {
    const uint64_t units = (a.width + UNIT - 1) / UNIT + 1, all = a.rows * units;
    for (uint64_t i = uint64_t(blockIdx.x) * BLOCK + threadIdx.x; i < all; i += uint64_t(gridDim.x) * BLOCK) {
        // 32-bit division is several times as fast.
        const uint64_t r = all <= UINT32_MAX ? uint32_t(i) / uint32_t(units) : i / units;
        const uint64_t unit = i - r * units;
        const T* row = static_cast<const T*>(a.x) + r * a.pitch;
        const uint64_t head = head_of(row, a.width);
        const uint64_t at = unit == 0 ? 0 : head + (unit - 1) * UNIT;
        const uint64_t end = unit == 0 ? head : a.width;
        if (at >= end) continue;
        const int n = end - at >= UNIT ? UNIT : int(end - at);
        uint64_t target;
        const Kind kind = target_of(a.targets, r, a.width, &target);
        const double factor = a.wide_factors ? static_cast<const double*>(a.factors)[r * a.factor_pitch]
                                             : double(static_cast<const float*>(a.factors)[r * a.factor_pitch]);
        float out[UNIT];
        if (kind == Kind::Class && factor != 0.0) {
            load_unit<float>(row + at, unit != 0, n, out);
            const Split<float> lse(a.lse[r]);
            const float f = float(factor), own = float(factor * (1.0 - a.smoothing));
            const float even = float(factor * a.smoothing / double(a.width));
#pragma unroll
            for (int k = 0; k < UNIT; ++k) {
                out[k] = expf(lse.below(out[k])) * f - even;
                if (at + k == target) out[k] -= own;
            }
        } else {
            const float value = kind == Kind::Bad ? NAN : 0.f;
#pragma unroll
            for (int k = 0; k < UNIT; ++k) out[k] = value;
        }
        store_either<T>(a.narrow_dx, a.dx, r * a.width + at, n, out);
    }
}

#define KERNELS(T, NAME)                                                                                       \
    extern "C" __global__ void __launch_bounds__(BLOCK) cross_entropy_losses_warp_##NAME(const LossArgs a) {   \
        losses<T, 1>(a);                                                                                       \
    }                                                                                                          \
    extern "C" __global__ void __launch_bounds__(BLOCK) cross_entropy_losses_block_##NAME(const LossArgs a) {  \
        losses<T, BLOCK / 32>(a);                                                                              \
    }                                                                                                          \
    extern "C" __global__ void __launch_bounds__(BLOCK) cross_entropy_gradient_##NAME(const GradientArgs a) {  \
        gradient<T>(a);                                                                                        \
    }
KERNELS(float, f32)
KERNELS(__half, f16)
KERNELS(__nv_bfloat16, bf16)
