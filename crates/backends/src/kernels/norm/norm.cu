// layer_norm and rms_norm over rows, forward and backward.
// nvcc: --fmad=true
#include "whole.cuh"

// Columns of a block, each of as many threads.
constexpr int FOLDED = 8;

// The sum of all parts.
extern "C" __global__ void __launch_bounds__(BLOCK) norm_reduce(const __grid_constant__ ReduceArgs a) {
    __shared__ double warps[BLOCK / 32][FOLDED];
    const uint64_t c = uint64_t(blockIdx.x) * FOLDED + threadIdx.x % FOLDED;
    double sum = 0.0;
    if (c < a.width) {
        const double* parts = a.parts[blockIdx.y] + c;
#pragma unroll 8
        for (uint64_t part = threadIdx.x / FOLDED; part < a.count; part += BLOCK / FOLDED) sum += parts[part * a.width];
    }
#pragma unroll
    for (int step = FOLDED; step < 32; step <<= 1) sum += shuffled(sum, step);
    if (threadIdx.x % 32 < FOLDED) warps[threadIdx.x / 32][threadIdx.x % FOLDED] = sum;
    __syncthreads();
    if (threadIdx.x >= FOLDED || c >= a.width) return;
    for (int w = 1; w < BLOCK / 32; ++w) sum += warps[w][threadIdx.x];
    typed(a.out[blockIdx.y], a.dtypes[blockIdx.y], [&](auto* constant) {
        using To = std::remove_const_t<std::remove_pointer_t<decltype(constant)>>;
        // To 16 bits by way of f32.
        if constexpr (std::is_same_v<To, double>) const_cast<To*>(constant)[c] = sum;
        else const_cast<To*>(constant)[c] = convert<To>(float(sum));
    });
}

#define STREAMED_FORWARD(T, NAME)                                                                            \
    extern "C" __global__ void __launch_bounds__(BLOCK) norm_forward_stream_##NAME(const ForwardArgs a) {    \
        forward<T, BLOCK / 32, 0>(a);                                                                        \
    }
#define FORWARD(T, NAME, BLOCKS)                                                                                  \
    extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS) norm_forward_warp_##NAME(const ForwardArgs a) {   \
        forward<T, 1, 4>(a);                                                                                      \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS) norm_forward_block_##NAME(const ForwardArgs a) {  \
        forward<T, BLOCK / 32, 4>(a);                                                                             \
    }                                                                                                             \
    STREAMED_FORWARD(T, NAME)
// So many blocks to a multiprocessor: what is short of memory gains more by a fourth than its few spilled registers cost.
FORWARD(float, f32, 3)
FORWARD(__half, f16, 4)
FORWARD(__nv_bfloat16, bf16, 4)
// Rows of f64 would fill the registers.
STREAMED_FORWARD(double, f64)

#define STREAMED_BACKWARD(T, G, NAME)                                                                        \
    extern "C" __global__ void __launch_bounds__(BLOCK) norm_backward_stream_##NAME(const BackwardArgs a) {  \
        streamed<T, G>(a);                                                                                   \
    }                                                                                                        \
    extern "C" __global__ void __launch_bounds__(BLOCK) norm_columns_##NAME(const BackwardArgs a) {          \
        columns<T, G>(a);                                                                                    \
    }
#define BACKWARD(T, G, NAME)                                                                                 \
    extern "C" __global__ void __launch_bounds__(BLOCK) norm_backward_warp_##NAME(const BackwardArgs a) {    \
        backward<T, G, 1, 4>(a);                                                                             \
    }                                                                                                        \
    extern "C" __global__ void __launch_bounds__(BLOCK) norm_backward_block_##NAME(const BackwardArgs a) {   \
        backward<T, G, BLOCK / 32, 4>(a);                                                                    \
    }                                                                                                        \
    STREAMED_BACKWARD(T, G, NAME)
BACKWARD(float, float, f32_f32)
BACKWARD(float, __half, f32_f16)
BACKWARD(float, __nv_bfloat16, f32_bf16)
BACKWARD(__half, __half, f16_f16)
BACKWARD(__half, float, f16_f32)
BACKWARD(__nv_bfloat16, __nv_bfloat16, bf16_bf16)
BACKWARD(__nv_bfloat16, float, bf16_f32)
STREAMED_BACKWARD(double, double, f64_f64)

// Kernels of rows of up to 256, 512, 768 and 1024 elements. Of f32 a forward pass has no instructions to save.
#define WHOLE_FORWARD(T, NAME, UNITS, BLOCKS)                                         \
    extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS)                       \
        norm_forward_whole_##NAME##_##UNITS(const __grid_constant__ ForwardArgs a) {  \
        forward_whole<T, UNITS>(a);                                                   \
    }
#define WHOLE_BACKWARD(T, G, NAME, UNITS)                                              \
    extern "C" __global__ void __launch_bounds__(BLOCK, 2)                             \
        norm_backward_whole_##NAME##_##UNITS(const __grid_constant__ BackwardArgs a) { \
        backward_whole<T, G, UNITS>(a);                                                \
    }
#define WHOLE(UNITS, BLOCKS)                                         \
    WHOLE_FORWARD(__half, f16, UNITS, BLOCKS)                        \
    WHOLE_FORWARD(__nv_bfloat16, bf16, UNITS, BLOCKS)                \
    WHOLE_BACKWARD(float, float, f32_f32, UNITS)                     \
    WHOLE_BACKWARD(float, __half, f32_f16, UNITS)                    \
    WHOLE_BACKWARD(float, __nv_bfloat16, f32_bf16, UNITS)            \
    WHOLE_BACKWARD(__half, __half, f16_f16, UNITS)                   \
    WHOLE_BACKWARD(__half, float, f16_f32, UNITS)                    \
    WHOLE_BACKWARD(__nv_bfloat16, __nv_bfloat16, bf16_bf16, UNITS)   \
    WHOLE_BACKWARD(__nv_bfloat16, float, bf16_f32, UNITS)
WHOLE(1, 4)
WHOLE(2, 4)
WHOLE(3, 4)
WHOLE(4, 3)
