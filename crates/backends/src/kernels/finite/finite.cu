// Zeros in the place of what is not finite, and NaN where it is seen.
#include "multi_tensor.cuh"

struct FiniteArgs {
    const void* x;
    void* out;
    uint64_t len; // elements; columns of all matrices for the spread
    uint64_t rows, into, width;
    uint32_t dtype, later;
};
static_assert(sizeof(FiniteArgs) == 56, "");

template <typename C, typename T> __device__ __forceinline__ void finite_or_zero(const FiniteArgs& a, const T* x) {
    T* out = static_cast<T*>(a.out);
    const uint64_t threads = uint64_t(BLOCK) * gridDim.x, packs = (a.len + 3) / 4;
    for (uint64_t i = uint64_t(BLOCK) * blockIdx.x + threadIdx.x; i < packs; i += threads) {
        uint64_t at = 4 * i;
        C v[4];
        bool whole = at + 4 <= a.len && aligned4(x + at) && aligned4(out + at);
        if (whole) load4(x + at, v);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            if (at + k >= a.len) break;
            if (!whole) v[k] = convert<C>(x[at + k]);
            v[k] = isfinite(v[k]) ? v[k] : C(0);
            if (!whole) out[at + k] = convert<T>(v[k]);
        }
        if (whole) store4(out + at, v);
    }
}

// A thread walks one column of one matrix until it finds something: the first row, which later ones see, or the last.
template <typename C, typename T> __device__ __forceinline__ void spread(const FiniteArgs& a, const T* x) {
    T* out = static_cast<T*>(a.out);
    const uint64_t threads = uint64_t(BLOCK) * gridDim.x;
    for (uint64_t i = uint64_t(BLOCK) * blockIdx.x + threadIdx.x; i < a.len; i += threads) {
        const uint64_t matrix = i / a.width, column = i % a.width;
        const T* from = x + matrix * a.rows * a.width + column;
        T* to = out + matrix * a.into * a.width + column;
        for (uint64_t j = 0; j < a.rows; ++j) {
            const uint64_t row = a.later ? j : a.rows - 1 - j;
            if (isfinite(convert<C>(from[row * a.width]))) continue;
            const uint64_t first = a.later ? row : 0, end = a.later ? a.into : row + 1 < a.into ? row + 1 : a.into;
            for (uint64_t t = first; t < end; ++t) to[t * a.width] = convert<T>(C(NAN));
            break;
        }
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK) finite_or_zero(const __grid_constant__ FiniteArgs a) {
    typed(a.x, uint8_t(a.dtype), [&](auto* x) {
        using T = std::remove_const_t<std::remove_pointer_t<decltype(x)>>;
        finite_or_zero<compute_t<T>>(a, x);
    });
}

extern "C" __global__ void __launch_bounds__(BLOCK) finite_spread(const __grid_constant__ FiniteArgs a) {
    typed(a.x, uint8_t(a.dtype), [&](auto* x) {
        using T = std::remove_const_t<std::remove_pointer_t<decltype(x)>>;
        spread<compute_t<T>>(a, x);
    });
}
