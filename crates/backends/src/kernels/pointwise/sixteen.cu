// nvcc: --fmad=true
// The functions of `pointwise.cu` whose elements and gradients are f16 or bf16: in f32, eight elements of a thread at a time.
//
// The formulas are those of `forms.rs` without what makes up for the rounding of an argument: an f32 that is a few units off
// is within a hundredth of a unit of 16 bits.
#include "multi_tensor.cuh"

// In the order of `code` on the host.
enum Function : uint32_t { RELU, GELU, GELU_TANH, SILU, SIGMOID, TANH, SCALE, SQUARE };

#define INLINE __device__ __forceinline__ float

INLINE unless_zero(float factor, float x) { return factor == 0 ? 0 : factor * x; }

// σ(x) without overflow, and a relative error of a few units for very negative x too.
INLINE sigmoid(float x) {
    float e = __expf(-fabsf(x));
    return __fdividef(x < 0 ? e : 1.f, 1 + e);
}
INLINE sigmoid_slope(float x) {
    float e = __expf(-fabsf(x));
    return __fdividef(e, (1 + e) * (1 + e));
}
// x σ(z), where e^z may be too small for an f32 and x e^z is not.
INLINE gated(float x, float z) {
    if (z >= 0) return __fdividef(x, 1 + __expf(-z));
    float h = __expf(0.5f * z);
    return -unless_zero(h, __fdividef(-x, 1 + h * h) * h);
}
// The derivative of x σ(z), with b = x z′.
INLINE gated_slope(float z, float b) {
    if (z >= 0) {
        float n = __expf(-z);
        return __fdividef(1 + unless_zero(n, __fdividef(b, 1 + n)), 1 + n);
    }
    float h = __expf(0.5f * z), gate = __fdividef(1.f, 1 + h * h);
    return unless_zero(h, h * (1 + b * gate) * gate);
}
INLINE gelu_tanh_argument(float x) {
    return fabsf(x) > 100 ? copysignf(INFINITY, x) : 1.5957691216057308f * x * (1 + 0.044715f * x * x);
}
INLINE gelu_tanh_bend(float x) { return 1.5957691216057308f * x * (1 + 0.134145f * x * x); }
INLINE normal_distribution(float x) { return 0.5f * erfcf(-0.7071067811865476f * x); }
INLINE gelu_slope(float x) {
    return normal_distribution(x) + unless_zero(expf(-0.5f * x * x), x * 0.3989422804014327f);
}

template <uint32_t F> INLINE value(float x, float setting) {
    if constexpr (F == RELU) return x <= 0 ? 0 : x;
    else if constexpr (F == GELU) return -unless_zero(normal_distribution(x), -x);
    else if constexpr (F == GELU_TANH) return gated(x, gelu_tanh_argument(x));
    else if constexpr (F == SILU) return gated(x, x);
    else if constexpr (F == SIGMOID) return sigmoid(x);
    else if constexpr (F == TANH) return tanhf(x);
    else if constexpr (F == SCALE) return x * setting;
    else return x * x;
}
template <uint32_t F> INLINE gradient(float x, float g, float setting) {
    if constexpr (F == RELU) return x <= 0 ? 0 : g;
    else if constexpr (F == GELU) return g * gelu_slope(x);
    else if constexpr (F == GELU_TANH) return g * gated_slope(gelu_tanh_argument(x), gelu_tanh_bend(x));
    else if constexpr (F == SILU) return g * gated_slope(x, x);
    else if constexpr (F == SIGMOID) return g * sigmoid_slope(x);
    else if constexpr (F == TANH) return g * 4 * sigmoid_slope(2 * x);
    else if constexpr (F == SCALE) return g * setting;
    else return 2 * (g * x);
}

#include "packed.cuh"

template <uint32_t F> __device__ __forceinline__ void of(const PackedArgs& a) {
    if (a.bf16) run<F, __nv_bfloat16>(a);
    else run<F, __half>(a);
}

extern "C" __global__ void __launch_bounds__(BLOCK) pointwise_sixteen(const __grid_constant__ PackedArgs a) { PACKED(of, a) }
