// What the multi-tensor kernels share: the tables that the host uploads, conversions, and 16-byte access.
//
// The host writes the tables as 8-byte words (`src/cuda/table.rs`); the assertions hold the two to one layout.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <type_traits>

constexpr int BLOCK = 256;
// Elements per block. A multiple of 4, so that a chunk is aligned where its tensor is.
constexpr uint64_t CHUNK = 8192;

enum DType : uint8_t { F32 = 0, F16 = 1, BF16 = 2, F64 = 3 };

struct GradDesc {
    const void* grad;
    uint64_t len;
    uint32_t slot; // which parameter of the optimizer: the index into everything that outlives a step
    uint8_t dtype;
};
static_assert(sizeof(GradDesc) == 24 && offsetof(GradDesc, slot) == 16 && offsetof(GradDesc, dtype) == 20, "");

struct Chunk {
    uint32_t tensor; // index into the tables of descriptors
    uint32_t index;  // which chunk of that tensor
};
static_assert(sizeof(Chunk) == 8, "");

// One optimizer's step, on the device. A gradient is multiplied by `inv_scale`, then by `clip_coef`.
struct StepState {
    double clip_coef;
    float inv_scale, grad_norm;
    uint32_t found_inf;
    uint32_t serial;      // steps decided so far
    uint32_t blocks_done; // zero between launches
    uint32_t applied;     // of those decided, the ones that were not skipped
};
static_assert(sizeof(StepState) == 32 && offsetof(StepState, found_inf) == 16, "");

// What is kept beside the loss scale.
struct ScalerState {
    int32_t growth_tracker;
    uint32_t hysteresis_left;
    uint32_t found_inf; // in any optimizer since the last update
    uint32_t pad;
};
static_assert(sizeof(ScalerState) == 16, "");

// ---- conversions: to nearest even, subnormals kept, NaN stays NaN -------------------------------------------------

template <typename To, typename From> __device__ __forceinline__ To convert(From x) {
    if constexpr (std::is_same_v<To, From>) return x;
    else if constexpr (std::is_same_v<From, __half>) return To(__half2float(x));
    else if constexpr (std::is_same_v<From, __nv_bfloat16>) return To(__bfloat162float(x));
    else if constexpr (std::is_same_v<To, __half>) return __float2half_rn(x);
    else if constexpr (std::is_same_v<To, __nv_bfloat16>) return __float2bfloat16_rn(x);
    else return To(x);
}

// The type that arithmetic on a `T` runs in.
template <typename T> using compute_t = std::conditional_t<std::is_same_v<T, double>, double, float>;

// ---- four elements at a time --------------------------------------------------------------------------------------

template <typename T> struct alignas(sizeof(T) >= 4 ? 16 : 8) Vec4 {
    T at[4];
};

template <typename T> __device__ __forceinline__ bool aligned4(const T* p) {
    return reinterpret_cast<uintptr_t>(p) % alignof(Vec4<T>) == 0;
}

template <typename C, typename T> __device__ __forceinline__ void load4(const T* p, C out[4]) {
    Vec4<T> raw = *reinterpret_cast<const Vec4<T>*>(p);
#pragma unroll
    for (int k = 0; k < 4; ++k) out[k] = convert<C>(raw.at[k]);
}

template <typename C, typename T> __device__ __forceinline__ void store4(T* p, const C in[4]) {
    Vec4<T> raw;
#pragma unroll
    for (int k = 0; k < 4; ++k) raw.at[k] = convert<T>(in[k]);
    *reinterpret_cast<Vec4<T>*>(p) = raw;
}

// Calls `f` with `p` as a pointer to the dtype's type. A block works on one tensor, so the branch is uniform.
template <typename F> __device__ __forceinline__ void typed(const void* p, uint8_t dtype, F f) {
    switch (dtype) {
        case F16: f(static_cast<const __half*>(p)); break;
        case BF16: f(static_cast<const __nv_bfloat16*>(p)); break;
        case F64: f(static_cast<const double*>(p)); break;
        default: f(static_cast<const float*>(p)); break;
    }
}

// Four elements of any type from `at` on; fewer where the buffer ends.
template <typename C>
__device__ __forceinline__ void load_typed4(const void* p, uint8_t dtype, uint64_t at, int count, C out[4]) {
    typed(p, dtype, [&](auto* x) {
        if (count == 4 && aligned4(x + at)) { load4(x + at, out); return; }
        for (int k = 0; k < count; ++k) out[k] = convert<C>(x[at + k]);
    });
}

template <typename C>
__device__ __forceinline__ void store_typed4(void* p, uint8_t dtype, uint64_t at, int count, const C in[4]) {
    typed(p, dtype, [&](auto* constant) {
        auto* x = const_cast<std::remove_const_t<std::remove_pointer_t<decltype(constant)>>*>(constant);
        if (count == 4 && aligned4(x + at)) { store4(x + at, in); return; }
        for (int k = 0; k < count; ++k) x[at + k] = convert<std::remove_reference_t<decltype(x[0])>>(in[k]);
    });
}
