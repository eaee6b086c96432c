// The largest element of each window of (outer, height, width, inner), with the tap that it lies under, and the gradient by the taps.
#include "rows.cuh"

struct Args {
    const void* x;  // backward: the gradient of the largest
    uint8_t* taps;  // written forward, read backward
    void* out;
    uint32_t outer, height, width, inner;
    uint32_t rows, columns; // windows
    uint32_t kernel[2], stride[2], padding[2];
};
static_assert(sizeof(Args) == 72, "");

template <int V> struct alignas(V) Taps {
    uint8_t at[V];
};
template <typename T, int V> struct alignas(V * sizeof(T) < 16 ? V * sizeof(T) : 16) Several {
    T at[V];
};

template <typename C> __device__ __forceinline__ bool above(C value, C best) {
    return value > best || (value != value && best == best);
}

template <typename T, int V> __device__ void forward(const Args& a) {
    using C = compute_t<T>;
    const T* x = static_cast<const T*>(a.x);
    const uint32_t units = a.inner / V;
    const uint64_t count = uint64_t(a.outer) * a.rows * a.columns * units;
    for (uint64_t i = uint64_t(blockIdx.x) * BLOCK + threadIdx.x; i < count; i += uint64_t(gridDim.x) * BLOCK) {
        uint32_t rest = uint32_t(i);
        const uint32_t unit = rest % units;
        rest /= units;
        const uint32_t q = rest % a.columns;
        rest /= a.columns;
        const uint32_t p = rest % a.rows, n = rest / a.rows;
        C best[V];
        Taps<V> taps;
        bool first = true;
        for (uint32_t r = 0; r < a.kernel[0]; ++r) {
            // What is left of or above the first pixel wraps around, and is beyond the last.
            const uint32_t h = p * a.stride[0] + r - a.padding[0];
            if (h >= a.height) continue;
            for (uint32_t s = 0; s < a.kernel[1]; ++s) {
                const uint32_t w = q * a.stride[1] + s - a.padding[1];
                if (w >= a.width) continue;
                const uint64_t at = ((uint64_t(n) * a.height + h) * a.width + w) * a.inner + unit * V;
                const Several<T, V> raw = *reinterpret_cast<const Several<T, V>*>(x + at);
                const uint8_t tap = uint8_t(r * a.kernel[1] + s);
#pragma unroll
                for (int k = 0; k < V; ++k) {
                    const C value = convert<C>(raw.at[k]);
                    if (first || above(value, best[k])) {
                        best[k] = value;
                        taps.at[k] = tap;
                    }
                }
                first = false;
            }
        }
        Several<T, V> out;
#pragma unroll
        for (int k = 0; k < V; ++k) out.at[k] = convert<T>(best[k]);
        *reinterpret_cast<Several<T, V>*>(static_cast<T*>(a.out) + i * V) = out;
        *reinterpret_cast<Taps<V>*>(a.taps + i * V) = taps;
    }
}

template <typename T, int V> __device__ void backward(const Args& a) {
    using C = compute_t<T>;
    const T* dy = static_cast<const T*>(a.x);
    const uint32_t units = a.inner / V;
    const uint64_t count = uint64_t(a.outer) * a.height * a.width * units;
    for (uint64_t i = uint64_t(blockIdx.x) * BLOCK + threadIdx.x; i < count; i += uint64_t(gridDim.x) * BLOCK) {
        uint32_t rest = uint32_t(i);
        const uint32_t unit = rest % units;
        rest /= units;
        const uint32_t w = rest % a.width + a.padding[1];
        rest /= a.width;
        const uint32_t h = rest % a.height + a.padding[0], n = rest / a.height;
        C sum[V] = {};
        // The windows that the pixel is in: p · stride ≤ h < p · stride + kernel.
        const uint32_t p0 = h < a.kernel[0] ? 0 : (h - a.kernel[0]) / a.stride[0] + 1, p1 = min(h / a.stride[0] + 1, a.rows);
        const uint32_t q0 = w < a.kernel[1] ? 0 : (w - a.kernel[1]) / a.stride[1] + 1, q1 = min(w / a.stride[1] + 1, a.columns);
        for (uint32_t p = p0; p < p1; ++p)
            for (uint32_t q = q0; q < q1; ++q) {
                const uint64_t at = ((uint64_t(n) * a.rows + p) * a.columns + q) * a.inner + unit * V;
                const uint8_t tap = uint8_t((h - p * a.stride[0]) * a.kernel[1] + (w - q * a.stride[1]));
                const Taps<V> taps = *reinterpret_cast<const Taps<V>*>(a.taps + at);
                const Several<T, V> raw = *reinterpret_cast<const Several<T, V>*>(dy + at);
#pragma unroll
                for (int k = 0; k < V; ++k)
                    if (taps.at[k] == tap) sum[k] += convert<C>(raw.at[k]);
            }
        Several<T, V> out;
#pragma unroll
        for (int k = 0; k < V; ++k) out.at[k] = convert<T>(sum[k]);
        *reinterpret_cast<Several<T, V>*>(static_cast<T*>(a.out) + i * V) = out;
    }
}

#define WIDTHS(T, NAME, V)                                                                                             \
    extern "C" __global__ void __launch_bounds__(BLOCK) max_pool_forward_##V##_##NAME(const Args a) { forward<T, V>(a); } \
    extern "C" __global__ void __launch_bounds__(BLOCK) max_pool_backward_##V##_##NAME(const Args a) { backward<T, V>(a); }
#define TYPES(T, NAME) WIDTHS(T, NAME, 1) WIDTHS(T, NAME, 8)

TYPES(float, f32)
TYPES(__half, f16)
TYPES(__nv_bfloat16, bf16)
TYPES(double, f64)
