// The functions of `pointwise.cu` that networks are made of, whose elements and gradients are f32: in f32, four elements of a
// thread at a time. What is exact in f64 and rounded once is the same number here.
#include "multi_tensor.cuh"
#include "single.cuh"

enum Function { RELU, GELU, GELU_TANH, SILU, SIGMOID, TANH, SCALE, SQUARE };

template <uint32_t F> INLINE value(float x, float setting) {
    if constexpr (F == RELU) return x <= 0 ? 0 : x;
    else if constexpr (F == GELU) return gelu(x);
    else if constexpr (F == GELU_TANH) return gelu_tanh(x);
    else if constexpr (F == SILU) return silu(x);
    else if constexpr (F == SIGMOID) return sigmoid(x);
    else if constexpr (F == TANH) return tanhf(x);
    else if constexpr (F == SCALE) return x * setting;
    else return x * x;
}
template <uint32_t F> INLINE gradient(float x, float g, float setting) {
    if constexpr (F == RELU) return x <= 0 ? 0 : g;
    else if constexpr (F == GELU) return g * gelu_slope(x);
    else if constexpr (F == GELU_TANH) return g * gelu_tanh_slope(x);
    else if constexpr (F == SILU) return g * silu_slope(x);
    else if constexpr (F == SIGMOID) return g * sigmoid_slope(x);
    else if constexpr (F == TANH) return g * (4 * sigmoid_slope(2 * x));
    else if constexpr (F == SCALE) return g * setting;
    else return fabsf(x) < fabsf(g) ? 2 * x * g : 2 * g * x; // what is doubled first is exact
}

#include "packed.cuh"

template <bool GRADIENT, typename One> __device__ __forceinline__ void single(const PackedArgs& a, One one) {
    each<GRADIENT, float>(a, one);
}
KERNELS(single)
