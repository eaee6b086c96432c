// softmax and log_softmax over rows, forward, and backward from the value.
// nvcc: --fmad=true
#include "rows.cuh"

struct SoftmaxArgs {
    const void* dy; // the gradient of the value; null forward
    const void* x;  // forward the input, backward the value
    void* out;
    uint64_t rows, width, x_pitch, dy_pitch;
    uint32_t narrow_out, log;
    uint64_t band, first; // rows of a band of a matrix whose diagonal bounds what is seen, 0 where all is; the first of them
};
static_assert(sizeof(SoftmaxArgs) == 80, "");

// How much of row `r` is seen.
__device__ __forceinline__ uint64_t seen(const SoftmaxArgs& a, uint64_t r) {
    if (a.band == 0) return a.width;
    const uint64_t upto = r % a.band + a.first + 1;
    return upto < a.width ? upto : a.width;
}

// Zeros for what is not. The row's threads take elements in turn.
template <typename T, int WARPS> __device__ __forceinline__ void clear_beyond(const SoftmaxArgs& a, uint64_t r, uint64_t from) {
    for (uint64_t i = from + threadIdx.x % (WARPS * 32); i < a.width; i += WARPS * 32) {
        if (a.narrow_out) static_cast<T*>(a.out)[r * a.width + i] = convert<T>(compute_t<T>(0));
        else static_cast<compute_t<T>*>(a.out)[r * a.width + i] = compute_t<T>(0);
    }
}

__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }

template <typename T, int WARPS, int UNITS> __device__ void forward(const SoftmaxArgs& a) {
    using C = compute_t<T>;
    const T* x = static_cast<const T*>(a.x);
    const bool whole = in_units(x, a.x_pitch);
    const uint64_t groups = BLOCK / (WARPS * 32);
    for (uint64_t r = blockIdx.x * groups + threadIdx.x / (WARPS * 32); r < a.rows; r += gridDim.x * groups) {
        Row<T, WARPS, UNITS> row;
        const uint64_t width = seen(a, r);
        row.read(x + r * a.x_pitch, width, whole);
        C most = C(-INFINITY);
        row.each([&](int, uint64_t, C v[UNIT], int n) {
#pragma unroll
            for (int k = 0; k < UNIT; ++k) most = Larger()(most, k < n ? v[k] : C(-INFINITY));
        });
        most = over_row<WARPS>(most, Larger());
        const double exps = row.sum([&](C v) { return exponential(v - most); });
        const C share = C(1.0 / exps), log = C(::log(exps));
        clear_beyond<T, WARPS>(a, r, width);
        row.each([&](int, uint64_t at, C v[UNIT], int n) {
            C out[UNIT];
#pragma unroll
            for (int k = 0; k < UNIT; ++k) out[k] = a.log ? (v[k] - most) - log : exponential(v[k] - most) * share;
            store_either<T>(a.narrow_out, a.out, r * a.width + at, n, out);
        });
    }
}

template <typename T, typename G, int WARPS, int UNITS> __device__ void backward(const SoftmaxArgs& a) {
    using C = compute_t<T>;
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
            value.each([&](int u, uint64_t at, C v[UNIT], int n) {
                if constexpr (UNITS > 0) {
                    f(at, v, grad.held[u], n);
                } else {
                    C g[UNIT];
                    load_unit<C>(grad.p + at, dy_whole, n, g);
                    f(at, v, g, n);
                }
            });
        };
        double total = 0.0;
        both([&](uint64_t, C v[UNIT], C g[UNIT], int n) {
            C terms[UNIT];
#pragma unroll
            for (int k = 0; k < UNIT; ++k) terms[k] = k < n ? (a.log ? g[k] : g[k] * v[k]) : C(0);
            total += double(tree(terms));
        });
        const C along = C(over_row<WARPS>(total, Add()));
        both([&](uint64_t at, C v[UNIT], C g[UNIT], int n) {
            C out[UNIT];
#pragma unroll
            for (int k = 0; k < UNIT; ++k) out[k] = a.log ? g[k] - exponential(v[k]) * along : v[k] * (g[k] - along);
            store_either<T>(a.narrow_out, a.out, r * a.width + at, n, out);
        });
    }
}

#define KERNEL(NAME, BODY) \
    extern "C" __global__ void __launch_bounds__(BLOCK) NAME(const SoftmaxArgs a) { BODY(a); }
#define KERNELS_OF(WHERE, WARPS, UNITS, NAME, T)                                         \
    KERNEL(softmax_forward_##WHERE##_##NAME, (forward<T, WARPS, UNITS>))                 \
    KERNEL(softmax_backward_##WHERE##_##NAME##_##NAME, (backward<T, T, WARPS, UNITS>))
#define KERNELS(WHERE, WARPS, UNITS)                       \
    KERNELS_OF(WHERE, WARPS, UNITS, f16, __half)           \
    KERNELS_OF(WHERE, WARPS, UNITS, bf16, __nv_bfloat16)   \
    KERNELS_OF(WHERE, WARPS, UNITS, f32, float)            \
    KERNELS_OF(WHERE, WARPS, UNITS, f64, double)
KERNELS(warp, 1, 4)
KERNELS(block, BLOCK / 32, 4)
KERNELS(stream, BLOCK / 32, 0)
