// Zeros in the place of what is not finite, and NaN where it is seen.
#include "multi_tensor.cuh"

struct FiniteArgs {
    const void* x;
    void* out;
    uint64_t len;
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

// A thread looks at one element after another. One that begins a run of what is not finite marks all rows that see it; all
// threads that mark an element write the same.
template <typename C, typename T> __device__ __forceinline__ void spread(const FiniteArgs& a, const T* x) {
    T* out = static_cast<T*>(a.out);
    const uint64_t threads = uint64_t(BLOCK) * gridDim.x;
    auto is_odd = [&](uint64_t i) { return !isfinite(convert<C>(x[i])); };
    for (uint64_t i = uint64_t(BLOCK) * blockIdx.x + threadIdx.x; i < a.len; i += threads) {
        if (!is_odd(i)) continue;
        const uint64_t column = i % a.width, row = i / a.width % a.rows, matrix = i / a.width / a.rows;
        if (a.later ? row > 0 && is_odd(i - a.width) : row + 1 < a.rows && is_odd(i + a.width)) continue;
        const uint64_t first = a.later ? row : 0, end = a.later ? a.into : row + 1 < a.into ? row + 1 : a.into;
        for (uint64_t t = first; t < end; ++t) out[(matrix * a.into + t) * a.width + column] = convert<T>(C(NAN));
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
