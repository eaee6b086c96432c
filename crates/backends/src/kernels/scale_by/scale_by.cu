// A tensor times one number, of any float types, rounded once.
#include "rows.cuh"

struct ScaleByArgs {
    const void* x;
    const void* factor;
    void* out;
    uint64_t len;
    uint8_t x_dtype, factor_dtype, out_dtype, unused[5];
};
static_assert(sizeof(ScaleByArgs) == 40, "");

template <typename C> __device__ __forceinline__ void scale_by(const ScaleByArgs& a) {
    const C factor = a.factor_dtype == F64 ? C(*static_cast<const double*>(a.factor)) : C(*static_cast<const float*>(a.factor));
    const uint64_t threads = uint64_t(BLOCK) * gridDim.x, units = (a.len + UNIT - 1) / UNIT;
    for (uint64_t i = uint64_t(BLOCK) * blockIdx.x + threadIdx.x; i < units; i += threads) {
        const uint64_t at = i * UNIT;
        const int count = int(min(uint64_t(UNIT), a.len - at));
        C x[UNIT];
        load_typed(a.x, a.x_dtype, at, count, x);
#pragma unroll
        for (int k = 0; k < UNIT; ++k) x[k] = factor == C(0) ? C(0) : x[k] * factor;
        store_typed(a.out, a.out_dtype, at, count, x);
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK) scale_by(const __grid_constant__ ScaleByArgs a) {
    if (a.x_dtype == F64) scale_by<double>(a);
    else scale_by<float>(a);
}
