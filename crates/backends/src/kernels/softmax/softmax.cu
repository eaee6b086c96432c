// softmax and log_softmax over rows, forward, and backward from the value.
// nvcc: --fmad=true
#include "rows.cuh"

struct SoftmaxArgs {
    const void* dy; // the gradient of the value; null forward
    const void* x;  // forward the input, backward the value
    void* out;
    uint64_t rows, width, x_pitch, dy_pitch;
    uint32_t narrow_out, log;
    uint64_t causal; // rows of a matrix whose diagonal bounds what is seen; 0 where all is
};
static_assert(sizeof(SoftmaxArgs) == 72, "");

// How much of row `r` is seen.
__device__ __forceinline__ uint64_t seen(const SoftmaxArgs& a, uint64_t r) {
    if (a.causal == 0) return a.width;
    const uint64_t upto = r % a.causal + 1;
    return upto < a.width ? upto : a.width;
}

// Zeros for what is not. The row's threads take elements in turn.
template <typename T, int WARPS> __device__ __forceinline__ void clear_beyond(const SoftmaxArgs& a, uint64_t r, uint64_t from) {
    for (uint64_t i = from + threadIdx.x % (WARPS * 32); i < a.width; i += WARPS * 32) {
        if (a.narrow_out) static_cast<T*>(a.out)[r * a.width + i] = convert<T>(compute_t<T>(0));
        else static_cast<compute_t<T>*>(a.out)[r * a.width + i] = compute_t<T>(0);
    }
}

template <typename T, int WARPS, int UNITS> __device__ void forward(const SoftmaxArgs& a) {
    const T* x = static_cast<const T*>(a.x);
    const bool whole = in_units(x, a.x_pitch);
    const uint64_t groups = BLOCK / (WARPS * 32);
    for (uint64_t r = blockIdx.x * groups + threadIdx.x / (WARPS * 32); r < a.rows; r += gridDim.x * groups) {
        Row<T, WARPS, UNITS> row;
        const uint64_t width = seen(a, r);
        row.read(x + r * a.x_pitch, width, whole);
        float most = -INFINITY;
        row.each([&](int, uint64_t, float v[UNIT], int n) {
#pragma unroll
            for (int k = 0; k < UNIT; ++k) most = Larger()(most, k < n ? v[k] : -INFINITY);
        });
        most = over_row<WARPS>(most, Larger());
        const double exps = row.sum([&](float v) { return expf(v - most); });
        const float share = float(1.0 / exps), log = float(::log(exps));
        clear_beyond<T, WARPS>(a, r, width);
        row.each([&](int, uint64_t at, float v[UNIT], int n) {
            float out[UNIT];
#pragma unroll
            for (int k = 0; k < UNIT; ++k) out[k] = a.log ? (v[k] - most) - log : expf(v[k] - most) * share;
            store_either<T>(a.narrow_out, a.out, r * a.width + at, n, out);
        });
    }
}

template <typename T, typename G, int WARPS, int UNITS> __device__ void backward(const SoftmaxArgs& a) {
    const T* y = static_cast<const T*>(a.x);
    const G* dy = static_cast<const G*>(a.dy);
    const bool y_whole = in_units(y, a.x_pitch), dy_whole = in_units(dy, a.dy_pitch);
    const uint64_t groups = BLOCK / (WARPS * 32);
    for (uint64_t r = blockIdx.x * groups + threadIdx.x / (WARPS * 32); r < a.rows; r += gridDim.x * groups) {
        Row<T, WARPS, UNITS> value;
        Row<G, WARPS, UNITS> grad;
        const uint64_t width = seen(a, r);
        value.read(y + r * a.x_pitch, width, y_whole);
        grad.read(dy + r * a.dy_pitch, width, dy_whole);
        clear_beyond<T, WARPS>(a, r, width);
        auto both = [&](auto f) {
            value.each([&](int u, uint64_t at, float v[UNIT], int n) {
                if constexpr (UNITS > 0) {
                    f(at, v, grad.held[u], n);
                } else {
                    float g[UNIT];
                    load_unit<float>(grad.p + at, dy_whole, n, g);
                    f(at, v, g, n);
                }
            });
        };
        double total = 0.0;
        both([&](uint64_t, float v[UNIT], float g[UNIT], int n) {
            float terms[UNIT];
#pragma unroll
            for (int k = 0; k < UNIT; ++k) terms[k] = k < n ? (a.log ? g[k] : g[k] * v[k]) : 0.f;
            total += double(tree(terms));
        });
        const float along = float(over_row<WARPS>(total, Add()));
        both([&](uint64_t at, float v[UNIT], float g[UNIT], int n) {
            float out[UNIT];
#pragma unroll
            for (int k = 0; k < UNIT; ++k) out[k] = a.log ? g[k] - expf(v[k]) * along : v[k] * (g[k] - along);
            store_either<T>(a.narrow_out, a.out, r * a.width + at, n, out);
        });
    }
}

#define KERNELS(WHERE, WARPS, UNITS)                                                                              \
    extern "C" __global__ void __launch_bounds__(BLOCK) softmax_forward_##WHERE##_f32(const SoftmaxArgs a) {      \
        forward<float, WARPS, UNITS>(a);                                                                          \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(BLOCK) softmax_forward_##WHERE##_f16(const SoftmaxArgs a) {      \
        forward<__half, WARPS, UNITS>(a);                                                                         \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(BLOCK) softmax_forward_##WHERE##_bf16(const SoftmaxArgs a) {     \
        forward<__nv_bfloat16, WARPS, UNITS>(a);                                                                  \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(BLOCK) softmax_backward_##WHERE##_f32_f32(const SoftmaxArgs a) { \
        backward<float, float, WARPS, UNITS>(a);                                                                  \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(BLOCK) softmax_backward_##WHERE##_f16_f16(const SoftmaxArgs a) { \
        backward<__half, __half, WARPS, UNITS>(a);                                                                \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(BLOCK)                                                           \
        softmax_backward_##WHERE##_bf16_bf16(const SoftmaxArgs a) {                                               \
        backward<__nv_bfloat16, __nv_bfloat16, WARPS, UNITS>(a);                                                  \
    }
KERNELS(warp, 1, 4)
KERNELS(block, BLOCK / 32, 4)
KERNELS(stream, BLOCK / 32, 0)
