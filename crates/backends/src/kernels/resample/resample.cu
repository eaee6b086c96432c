// Weighted sums of a few elements each along the middle of (outer, inputs, inner), in f64 in the order of the taps.
#include "multi_tensor.cuh"

struct Args {
    const void* x;
    void* out;
    const uint32_t* table; // where each output's taps start, and where the last one's end; then three words of each tap
    uint64_t outer, inputs, outputs, inner;
};
static_assert(sizeof(Args) == 56, "");

template <typename From, typename To> __device__ void resample(const Args& a) {
    const From* x = static_cast<const From*>(a.x);
    To* out = static_cast<To*>(a.out);
    const uint32_t* taps = a.table + a.outputs + 1;
    const uint64_t count = a.outer * a.outputs * a.inner;
    for (uint64_t i = uint64_t(blockIdx.x) * BLOCK + threadIdx.x; i < count; i += uint64_t(gridDim.x) * BLOCK) {
        // The host refuses what does not fit 32 bits.
        const uint32_t row = uint32_t(i) / uint32_t(a.inner), column = uint32_t(i) - row * uint32_t(a.inner);
        const uint32_t n = row / uint32_t(a.outputs), output = row - n * uint32_t(a.outputs);
        double sum = 0.0;
        for (uint32_t t = a.table[output]; t < a.table[output + 1]; ++t) {
            const double weight = __hiloint2double(int(taps[3 * t + 2]), int(taps[3 * t + 1]));
            sum += weight * convert<double>(x[(n * a.inputs + taps[3 * t]) * a.inner + column]);
        }
        if constexpr (std::is_same_v<To, double>) out[i] = sum;
        else out[i] = convert<To>(float(sum));
    }
}

#define RESAMPLE(FROM, FROM_NAME, TO, TO_NAME)                                                                   \
    extern "C" __global__ void __launch_bounds__(BLOCK) resample_##FROM_NAME##_##TO_NAME(const Args a) {            \
        resample<FROM, TO>(a);                                                                                      \
    }

RESAMPLE(float, f32, float, f32)
RESAMPLE(double, f64, double, f64)
RESAMPLE(__half, f16, __half, f16)
RESAMPLE(__half, f16, float, f32)
RESAMPLE(float, f32, __half, f16)
RESAMPLE(__nv_bfloat16, bf16, __nv_bfloat16, bf16)
RESAMPLE(__nv_bfloat16, bf16, float, f32)
RESAMPLE(float, f32, __nv_bfloat16, bf16)
