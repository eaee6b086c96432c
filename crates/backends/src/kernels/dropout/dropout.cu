// Dropout by a counter: an element is kept where the draw of its index is at least the threshold, and scaled.
#include "multi_tensor.cuh"
#include "random.cuh"

struct DropoutArgs {
    const void* x;
    void* out;
    uint64_t len;
    uint64_t key;
    double scale;
    uint64_t threshold; // out of 2^32
    uint64_t dtype;
};
static_assert(sizeof(DropoutArgs) == 56, "");

template <typename C, typename T> __device__ __forceinline__ void dropout(const DropoutArgs& a, const T* x) {
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
            v[k] = random_bits(a.key, at + k) >= a.threshold ? v[k] * C(a.scale) : C(0);
            if (!whole) out[at + k] = convert<T>(v[k]);
        }
        if (whole) store4(out + at, v);
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK) dropout(const __grid_constant__ DropoutArgs a) {
    typed(a.x, uint8_t(a.dtype), [&](auto* x) {
        using T = std::remove_const_t<std::remove_pointer_t<decltype(x)>>;
        dropout<compute_t<T>>(a, x);
    });
}
