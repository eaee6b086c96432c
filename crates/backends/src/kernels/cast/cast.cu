// Casts between f32 and the 16-bit types, four elements a thread.
#include "multi_tensor.cuh"

template <typename To, typename From> __device__ __forceinline__ void cast(const From* src, To* dst, uint64_t len) {
    uint64_t step = 4ull * BLOCK * gridDim.x, first = 4ull * (uint64_t(BLOCK) * blockIdx.x + threadIdx.x);
    uint64_t vec_end = aligned4(src) && aligned4(dst) ? len / 4 * 4 : 0;
    for (uint64_t i = first; i < vec_end; i += step) {
        float x[4];
        load4(src + i, x);
        store4(dst + i, x);
    }
    for (uint64_t i = vec_end + first / 4; i < len; i += step / 4) dst[i] = convert<To>(convert<float>(src[i]));
}

#define CAST(name, From, To)                                                                                          \
    extern "C" __global__ void __launch_bounds__(BLOCK) name(const From* src, To* dst, uint64_t len) { cast(src, dst, len); }

CAST(cast_f32_f16, float, __half)
CAST(cast_f32_bf16, float, __nv_bfloat16)
CAST(cast_f16_f32, __half, float)
CAST(cast_bf16_f32, __nv_bfloat16, float)
