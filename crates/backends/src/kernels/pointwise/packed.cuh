// What the kernels of the functions that networks are made of share: the walk over 16 bytes of each thread at a time, and their
// names. A kernel brings the formulas, `value` and `gradient`, before it includes this.
#pragma once

struct PackedArgs {
    const void* x;
    const void* grad; // of the value, where its gradient is asked for
    void* out;
    uint64_t len;
    float setting;
    uint32_t bf16; // of 16-bit elements
};
static_assert(sizeof(PackedArgs) == 40, "");

template <typename T> struct alignas(16) Pack {
    static constexpr int COUNT = 16 / sizeof(T);
    T at[COUNT];
};
// Two at a time are one conversion.
__device__ __forceinline__ void put(float* at, float a, float b) { at[0] = a, at[1] = b; }
__device__ __forceinline__ void put(__half* at, float a, float b) {
    *reinterpret_cast<__half2*>(at) = __floats2half2_rn(a, b);
}
__device__ __forceinline__ void put(__nv_bfloat16* at, float a, float b) {
    *reinterpret_cast<__nv_bfloat162*>(at) = __floats2bfloat162_rn(a, b);
}

// `one` of every element: of x, and of the gradient beside it where there is one.
template <bool GRADIENT, typename T, typename One> __device__ __forceinline__ void each(const PackedArgs& a, One one) {
    constexpr int COUNT = Pack<T>::COUNT;
    const T* x = static_cast<const T*>(a.x);
    const T* grad = static_cast<const T*>(GRADIENT ? a.grad : a.x);
    T* out = static_cast<T*>(a.out);
    const uint64_t thread = uint64_t(BLOCK) * blockIdx.x + threadIdx.x, threads = uint64_t(BLOCK) * gridDim.x;
    const bool aligned = (uintptr_t(x) | uintptr_t(grad) | uintptr_t(out)) % sizeof(Pack<T>) == 0;
    const uint64_t packs = aligned ? a.len / COUNT : 0;
    for (uint64_t i = thread; i < packs; i += threads) {
        const Pack<T> in = reinterpret_cast<const Pack<T>*>(x)[i];
        Pack<T> g = in, result;
        if constexpr (GRADIENT) g = reinterpret_cast<const Pack<T>*>(grad)[i];
#pragma unroll
        for (int k = 0; k < COUNT; k += 2)
            put(result.at + k, one(convert<float>(in.at[k]), convert<float>(g.at[k])),
                one(convert<float>(in.at[k + 1]), convert<float>(g.at[k + 1])));
        reinterpret_cast<Pack<T>*>(out)[i] = result;
    }
    for (uint64_t i = packs * COUNT + thread; i < a.len; i += threads)
        out[i] = convert<T>(one(convert<float>(x[i]), convert<float>(grad[i])));
}

// A kernel for each function and its gradient, each with registers of its own: `RUN<gradient>(arguments, one)`.
#define KERNEL(RUN, F, NAME)                                                                                      \
    extern "C" __global__ void __launch_bounds__(BLOCK) RUN##_##NAME(const __grid_constant__ PackedArgs a) {      \
        RUN<false>(a, [&](float x, float) { return value<F>(x, a.setting); });                                    \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(BLOCK) RUN##_##NAME##_gradient(                                  \
        const __grid_constant__ PackedArgs a) {                                                                   \
        RUN<true>(a, [&](float x, float g) { return gradient<F>(x, g, a.setting); });                             \
    }
#define KERNELS(RUN)                   \
    KERNEL(RUN, RELU, relu)            \
    KERNEL(RUN, GELU, gelu)            \
    KERNEL(RUN, GELU_TANH, gelu_tanh)  \
    KERNEL(RUN, SILU, silu)            \
    KERNEL(RUN, SIGMOID, sigmoid)      \
    KERNEL(RUN, TANH, tanh)            \
    KERNEL(RUN, SCALE, scale)          \
    KERNEL(RUN, SQUARE, square)
