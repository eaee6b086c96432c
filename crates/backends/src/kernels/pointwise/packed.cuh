// What the kernels of the functions that networks are made of share: their list, and the walk over 16 bytes of each thread at a
// time. A kernel brings the formulas, `value` and `gradient`, before it includes this.
#pragma once

struct PackedArgs {
    const void* x;
    const void* grad; // of the value, or null for the value itself
    void* out;
    uint64_t len;
    float setting;
    uint32_t function;
    uint32_t bf16; // of 16-bit elements
    uint32_t unused;
};
static_assert(sizeof(PackedArgs) == 48, "");

template <typename T> struct alignas(16) Pack {
    static constexpr int COUNT = 16 / sizeof(T);
    T at[COUNT];
};

template <uint32_t F, typename T> __device__ __forceinline__ void run(const PackedArgs& a) {
    const T* x = static_cast<const T*>(a.x);
    const T* grad = static_cast<const T*>(a.grad);
    T* out = static_cast<T*>(a.out);
    auto one = [&](T x, T g) {
        float v = convert<float>(x);
        return convert<T>(grad ? gradient<F>(v, convert<float>(g), a.setting) : value<F>(v, a.setting));
    };
    const uint64_t thread = uint64_t(BLOCK) * blockIdx.x + threadIdx.x, threads = uint64_t(BLOCK) * gridDim.x;
    const bool aligned = (uintptr_t(x) | uintptr_t(grad) | uintptr_t(out)) % sizeof(Pack<T>) == 0;
    const uint64_t packs = aligned ? a.len / Pack<T>::COUNT : 0;
    for (uint64_t i = thread; i < packs; i += threads) {
        Pack<T> in = reinterpret_cast<const Pack<T>*>(x)[i], g = {}, result;
        if (grad) g = reinterpret_cast<const Pack<T>*>(grad)[i];
#pragma unroll
        for (int k = 0; k < Pack<T>::COUNT; ++k) result.at[k] = one(in.at[k], g.at[k]);
        reinterpret_cast<Pack<T>*>(out)[i] = result;
    }
    for (uint64_t i = packs * Pack<T>::COUNT + thread; i < a.len; i += threads) out[i] = one(x[i], grad ? grad[i] : x[i]);
}

// Calls `RUN` of the function that is asked for.
#define PACKED(RUN, ARGS)                              \
    switch ((ARGS).function) {                         \
        case RELU: return RUN<RELU>(ARGS);             \
        case GELU: return RUN<GELU>(ARGS);             \
        case GELU_TANH: return RUN<GELU_TANH>(ARGS);   \
        case SILU: return RUN<SILU>(ARGS);             \
        case SIGMOID: return RUN<SIGMOID>(ARGS);       \
        case TANH: return RUN<TANH>(ARGS);             \
        case SCALE: return RUN<SCALE>(ARGS);           \
        default: return RUN<SQUARE>(ARGS);             \
    }
