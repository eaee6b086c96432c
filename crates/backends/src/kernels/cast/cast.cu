// Casts between floats that round once, four elements a thread.
#include "multi_tensor.cuh"

// What `To` is rounded from: the source, or an f64 as the f32 that remembers in its last bit whether there was more.
template <typename From> __device__ __forceinline__ float as_float(From x) { return convert<float>(x); }
__device__ __forceinline__ float as_float(double x) {
    float towards_zero = __double2float_rz(x);
    return __uint_as_float(__float_as_uint(towards_zero) | uint32_t(double(towards_zero) != x));
}

template <typename To, typename From> __device__ __forceinline__ void cast(const From* src, To* dst, uint64_t len) {
    uint64_t step = 4ull * BLOCK * gridDim.x, first = 4ull * (uint64_t(BLOCK) * blockIdx.x + threadIdx.x);
    uint64_t vec_end = aligned4(src) && aligned4(dst) ? len / 4 * 4 : 0;
    for (uint64_t i = first; i < vec_end; i += step) {
        From x[4];
        float y[4];
        load4(src + i, x);
#pragma unroll
        for (int k = 0; k < 4; ++k) y[k] = as_float(x[k]);
        store4(dst + i, y);
    }
    for (uint64_t i = vec_end + first / 4; i < len; i += step / 4) dst[i] = convert<To>(as_float(src[i]));
}

#define CAST(name, From, To)                                                                                          \
    extern "C" __global__ void __launch_bounds__(BLOCK) name(const From* src, To* dst, uint64_t len) { cast(src, dst, len); }

CAST(cast_f32_f16, float, __half)
CAST(cast_f32_bf16, float, __nv_bfloat16)
CAST(cast_f16_f32, __half, float)
CAST(cast_bf16_f32, __nv_bfloat16, float)
CAST(cast_f64_f16, double, __half)
CAST(cast_f64_bf16, double, __nv_bfloat16)
