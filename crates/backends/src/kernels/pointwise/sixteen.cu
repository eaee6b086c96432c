// nvcc: --fmad=true
// The functions of `pointwise.cu` whose elements and gradients are f16 or bf16: in f32, eight elements of a thread at a time.
//
// The formulas are those of `forms.rs` without what makes up for the rounding of an argument: an f32 that is a few units off
// is within a hundredth of a unit of 16 bits.
#include "multi_tensor.cuh"

enum Function { RELU, GELU, GELU_TANH, SILU, SIGMOID, TANH, SCALE, SQUARE };

#define INLINE __device__ __forceinline__ float

INLINE unless_zero(float factor, float x) { return factor == 0 ? 0 : factor * x; }

// One instruction each. What would be below the smallest normal f32 is 0.
INLINE power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
INLINE reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// σ(z) = side · whole · side, of t = z / (2 log 2): its root on the negative side, because e^z may be too small for an f32
// where x e^z is not. No branch, so that the threads of a warp stay together.
struct Gate {
    float root, whole, side; // e^(-|z|/2), σ(|z|), and 1 or the root
    bool right;
    __device__ __forceinline__ explicit Gate(float t) {
        root = power_of_two(-fabsf(t));
        whole = reciprocal(fmaf(root, root, 1.f));
        right = t >= 0;
        side = right ? 1.f : root;
    }
    // x σ(z), for x of one sign with z. An infinity does not meet the 0 that it makes.
    __device__ __forceinline__ float times(float x) const { return fmaxf(x, -3e38f) * side * whole * side; }
    // The derivative of x σ(z), with b = x z′, finite.
    __device__ __forceinline__ float slope(float b) const {
        const float square = root * root, other = right ? square : 1.f;
        return side * (fmaf(other * b, whole, 1.f) * whole * side);
    }
    // The derivative of σ(z).
    __device__ __forceinline__ float own_slope() const { return (root * whole) * (root * whole); }
};

constexpr float HALF_LOG2_E = 0.72134752f, GELU_SCALE = 1.5957691216057308f, GELU_CUBIC = 0.044715f;

INLINE gelu_tanh_argument(float x) {
    return x * fmaf(HALF_LOG2_E * GELU_SCALE * GELU_CUBIC, x * x, HALF_LOG2_E * GELU_SCALE);
}
// Beyond this, every gate's e^(-|z|/2) is 0, or so is what it is multiplied by.
INLINE near(float x) { return fminf(fmaxf(x, -250.f), 250.f); }
INLINE gelu_tanh_bend(float x) { return x * fmaf(3 * GELU_SCALE * GELU_CUBIC, x * x, GELU_SCALE); }
INLINE normal_distribution(float x) { return 0.5f * erfcf(-0.7071067811865476f * x); }
INLINE gelu_slope(float x) {
    return normal_distribution(x) + unless_zero(expf(-0.5f * x * x), x * 0.3989422804014327f);
}

template <uint32_t F> INLINE value(float x, float setting) {
    if constexpr (F == RELU) return x <= 0 ? 0 : x;
    else if constexpr (F == GELU) return -unless_zero(normal_distribution(x), -x);
    else if constexpr (F == GELU_TANH) return Gate(gelu_tanh_argument(x)).times(x);
    else if constexpr (F == SILU) return Gate(HALF_LOG2_E * x).times(x);
    else if constexpr (F == SIGMOID) return Gate(HALF_LOG2_E * x).times(1);
    else if constexpr (F == TANH) return tanhf(x);
    else if constexpr (F == SCALE) return x * setting;
    else return x * x;
}
template <uint32_t F> INLINE gradient(float x, float g, float setting) {
    if constexpr (F == RELU) return x <= 0 ? 0 : g;
    else if constexpr (F == GELU) return g * gelu_slope(x);
    else if constexpr (F == GELU_TANH) return g * Gate(gelu_tanh_argument(x)).slope(gelu_tanh_bend(near(x)));
    else if constexpr (F == SILU) return g * Gate(HALF_LOG2_E * x).slope(near(x));
    else if constexpr (F == SIGMOID) return g * Gate(HALF_LOG2_E * x).own_slope();
    else if constexpr (F == TANH) return g * 4 * Gate(2 * HALF_LOG2_E * x).own_slope();
    else if constexpr (F == SCALE) return g * setting;
    else return 2 * (g * x);
}

#include "packed.cuh"

template <bool GRADIENT, typename One> __device__ __forceinline__ void sixteen(const PackedArgs& a, One one) {
    if (a.bf16) each<GRADIENT, __nv_bfloat16>(a, one);
    else each<GRADIENT, __half>(a, one);
}
KERNELS(sixteen)
