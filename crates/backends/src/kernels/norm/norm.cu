// layer_norm and rms_norm over rows, forward and backward.
// nvcc: --fmad=true
#include "rows.cuh"

struct ForwardArgs {
    const void *x, *weight, *bias; // weight and bias may be null
    void* y;
    double* statistics; // [rows, 3]
    uint64_t rows, width, pitch;
    double eps;
    // Whether these are of x's type, and not f32.
    uint16_t narrow_y, narrow_weight, narrow_bias;
    uint16_t centred;
};
static_assert(sizeof(ForwardArgs) == 80, "");

struct BackwardArgs {
    const void *dy, *x, *weight;
    const double* statistics;
    void* dx;             // null where it is not wanted
    double *dweight, *dbias; // [parts, width], null where they are not wanted
    uint64_t rows, width, x_pitch, dy_pitch;
    uint64_t each; // rows of a part
    uint16_t narrow_dx, narrow_weight, centred, unused;
};
static_assert(sizeof(BackwardArgs) == 104, "");

struct ReduceArgs {
    const double* parts;
    float* out;
    uint64_t count, width;
};

template <typename T, int WARPS, int UNITS> __device__ void forward(const ForwardArgs& a) {
    using C = compute_t<T>;
    const T* x = static_cast<const T*>(a.x);
    const bool whole = in_units(x, a.pitch);
    const uint64_t groups = blockDim.x / (WARPS * 32);
    for (uint64_t r = blockIdx.x * groups + threadIdx.x / (WARPS * 32); r < a.rows; r += gridDim.x * groups) {
        Row<T, WARPS, UNITS> row;
        row.read(x + r * a.pitch, a.width, whole);
        double high = 0.0, low = 0.0;
        // A first mean, then what is left of it, whose square leaves the mean square.
        if (a.centred) high = double(C(row.sum([](C v) { return v; }) / a.width));
        const C about = C(high);
        double squares = row.sum([&](C v) { return (v - about) * (v - about); }) / a.width;
        if (a.centred) {
            low = row.sum([&](C v) { return v - about; }) / a.width;
            squares -= low * low;
        }
        // Squares of f32 overflow and vanish: what may have done so is added again.
        if (!(squares < 0x1p100) || (squares < 0x1p-100 && a.eps < 0x1p-80)) {
            high = low = 0.0;
            if (a.centred) high = row.wide_sum([](double v) { return v; }) / a.width;
            const Split<C> mean(high);
            squares = row.wide_sum([&](double v) { double d = double(mean.below(C(v))); return d * d; }) / a.width;
        }
        high += low;
        if (squares < 0.0) squares = 0.0;
        const double rstd = 1.0 / sqrt(squares + a.eps);
        if (threadIdx.x % (WARPS * 32) == 0) {
            double* saved = a.statistics + 3 * r;
            saved[0] = high;
            saved[1] = 0.0;
            saved[2] = rstd;
        }
        const Split<C> mean(high);
        const Factor<C> scale(rstd);
        row.each([&](int, uint64_t at, C v[UNIT], int n) {
            C w[UNIT], b[UNIT], out[UNIT];
            if (a.weight) load_either<T>(a.narrow_weight, a.weight, at, n, w);
            if (a.bias) load_either<T>(a.narrow_bias, a.bias, at, n, b);
#pragma unroll
            for (int k = 0; k < UNIT; ++k) {
                C y = scale.times(mean.below(v[k]));
                if (a.weight) y *= w[k];
                if (a.bias) y += b[k];
                out[k] = y;
            }
            store_either<T>(a.narrow_y, a.y, r * a.width + at, n, out);
        });
    }
}

// Adds what the warps of a block have summed of their columns to the block's part, in f64.
template <int WARPS, int UNITS, typename C>
__device__ __forceinline__ void flush(double* part, uint64_t width, C sums[UNITS][UNIT], bool fresh) {
    if constexpr (WARPS > 1) {
        // Each thread has columns of its own.
#pragma unroll
        for (int u = 0; u < UNITS; ++u)
#pragma unroll
            for (int k = 0; k < UNIT; ++k) {
                uint64_t at = threadIdx.x * UNIT + uint64_t(u) * WARPS * 32 * UNIT + k;
                if (at < width) part[at] = (fresh ? 0.0 : part[at]) + double(sums[u][k]);
                sums[u][k] = C(0);
            }
    } else {
        // Eight warps have the same columns: 256 of them at a time.
        __shared__ C warps[BLOCK / 32][32 * UNIT];
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
        for (int u = 0; u < UNITS; ++u) {
            __syncthreads();
#pragma unroll
            for (int k = 0; k < UNIT; ++k) {
                warps[warp][k * 32 + lane] = sums[u][k];
                sums[u][k] = C(0);
            }
            __syncthreads();
            const uint64_t at = uint64_t(u) * 32 * UNIT + threadIdx.x;
            if (at < width) {
                const int from = threadIdx.x % UNIT * 32 + threadIdx.x / UNIT;
                double sum = fresh ? 0.0 : part[at];
                for (int w = 0; w < BLOCK / 32; ++w) sum += double(warps[w][from]);
                part[at] = sum;
            }
        }
    }
}

// Rows between two flushes of a group's sums.
constexpr int RUN = 16;

template <typename T, typename G, int WARPS, int UNITS> __device__ void backward(const BackwardArgs& a) {
    using C = compute_t<T>;
    constexpr int HELD = UNITS > 0 ? UNITS : 1;
    constexpr int GROUPS = BLOCK / (WARPS * 32);
    const T* x = static_cast<const T*>(a.x);
    const G* dy = static_cast<const G*>(a.dy);
    const bool x_whole = in_units(x, a.x_pitch), dy_whole = in_units(dy, a.dy_pitch);
    C dw[HELD][UNIT] = {}, db[HELD][UNIT] = {};
    const uint64_t from = blockIdx.x * a.each, to = from + a.each < a.rows ? from + a.each : a.rows;
    int run = 0;
    bool fresh = true;
    for (uint64_t base = from; base < to; base += GROUPS) {
        const uint64_t r = base + threadIdx.x / (WARPS * 32);
        // Whole warps leave this out together; no block barrier is inside where a row is a warp's.
        if (r < to) {
            Row<T, WARPS, UNITS> n;
            Row<G, WARPS, UNITS> g;
            n.read(x + r * a.x_pitch, a.width, x_whole);
            g.read(dy + r * a.dy_pitch, a.width, dy_whole);
            const double* saved = a.statistics + 3 * r;
            const Split<C> mean(saved[0]);
            const Factor<C> scale(saved[2]);
            auto both = [&](auto f) {
                n.each([&](int u, uint64_t at, C v[UNIT], int count) {
                    C w[UNIT], h[UNIT];
                    if constexpr (UNITS > 0) {
#pragma unroll
                        for (int k = 0; k < UNIT; ++k) h[k] = C(g.held[u][k]);
                    } else {
                        load_unit<C>(g.p + at, dy_whole, count, h);
                    }
                    if (a.weight) load_either<T>(a.narrow_weight, a.weight, at, count, w);
                    C m[UNIT];
#pragma unroll
                    for (int k = 0; k < UNIT; ++k) {
                        m[k] = k < count ? scale.times(mean.below(v[k])) : C(0);
                        w[k] = a.weight && k < count ? w[k] : C(1);
                    }
                    f(u, at, m, h, w, count);
                });
            };
            double total = 0.0, along = 0.0;
            both([&](int u, uint64_t, C m[UNIT], C h[UNIT], C w[UNIT], int count) {
                C plain[UNIT], product[UNIT];
#pragma unroll
                for (int k = 0; k < UNIT; ++k) {
                    const C grad = k < count ? h[k] : C(0);
                    if constexpr (UNITS > 0) {
                        dw[u][k] += grad * m[k];
                        db[u][k] += grad;
                    }
                    plain[k] = grad * w[k];
                    product[k] = plain[k] * m[k];
                }
                total += double(tree(plain));
                along += double(tree(product));
            });
            if (a.dx) {
                along = over_row<WARPS>(along, Add()) / a.width;
                total = a.centred ? over_row<WARPS>(total, Add()) / a.width : 0.0;
                const Split<C> middle(total);
                const C slope = C(along);
                both([&](int, uint64_t at, C m[UNIT], C h[UNIT], C w[UNIT], int count) {
                    C out[UNIT];
#pragma unroll
                    for (int k = 0; k < UNIT; ++k) out[k] = scale.times(middle.below(h[k] * w[k]) - m[k] * slope);
                    store_either<T>(a.narrow_dx, a.dx, r * a.width + at, count, out);
                });
            }
        }
        if constexpr (UNITS > 0) {
            if (++run == RUN || base + GROUPS >= to) {
                if (a.dweight) flush<WARPS, UNITS>(a.dweight + blockIdx.x * a.width, a.width, dw, fresh);
                if (a.dbias) flush<WARPS, UNITS>(a.dbias + blockIdx.x * a.width, a.width, db, fresh);
                run = 0;
                fresh = false;
            }
        }
    }
}

// The sums over rows where a row is too wide to be held: a thread for each column.
template <typename T, typename G> __device__ void columns(const BackwardArgs& a) {
    using C = compute_t<T>;
    const uint64_t c = uint64_t(blockIdx.x) * BLOCK + threadIdx.x;
    if (c >= a.width) return;
    const uint64_t from = blockIdx.y * a.each, to = from + a.each < a.rows ? from + a.each : a.rows;
    double dw = 0.0, db = 0.0;
    for (uint64_t r = from; r < to; ++r) {
        const double* saved = a.statistics + 3 * r;
        const C g = convert<C>(static_cast<const G*>(a.dy)[r * a.dy_pitch + c]);
        const C v = convert<C>(static_cast<const T*>(a.x)[r * a.x_pitch + c]);
        const C n = Factor<C>(saved[2]).times(Split<C>(saved[0]).below(v));
        dw += double(g * n);
        db += double(g);
    }
    if (a.dweight) a.dweight[blockIdx.y * a.width + c] = dw;
    if (a.dbias) a.dbias[blockIdx.y * a.width + c] = db;
}

// The sum of all parts of 32 columns, in 8 threads for each.
extern "C" __global__ void norm_reduce(const ReduceArgs a) {
    __shared__ double sums[BLOCK];
    const uint64_t c = uint64_t(blockIdx.x) * 32 + threadIdx.x % 32;
    double sum = 0.0;
    if (c < a.width)
        for (uint64_t part = threadIdx.x / 32; part < a.count; part += BLOCK / 32) sum += a.parts[part * a.width + c];
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x >= 32 || c >= a.width) return;
    for (int w = 1; w < BLOCK / 32; ++w) sum += sums[w * 32 + threadIdx.x];
    a.out[c] = float(sum);
}

#define FORWARD(T, NAME)                                                                                     \
    extern "C" __global__ void __launch_bounds__(BLOCK) norm_forward_warp_##NAME(const ForwardArgs a) {      \
        forward<T, 1, 4>(a);                                                                                 \
    }                                                                                                        \
    extern "C" __global__ void __launch_bounds__(BLOCK) norm_forward_block_##NAME(const ForwardArgs a) {     \
        forward<T, BLOCK / 32, 4>(a);                                                                        \
    }                                                                                                        \
    extern "C" __global__ void __launch_bounds__(BLOCK) norm_forward_stream_##NAME(const ForwardArgs a) {    \
        forward<T, BLOCK / 32, 0>(a);                                                                        \
    }
FORWARD(float, f32)
FORWARD(__half, f16)
FORWARD(__nv_bfloat16, bf16)

#define BACKWARD(T, G, NAME)                                                                                 \
    extern "C" __global__ void __launch_bounds__(BLOCK) norm_backward_warp_##NAME(const BackwardArgs a) {    \
        backward<T, G, 1, 4>(a);                                                                             \
    }                                                                                                        \
    extern "C" __global__ void __launch_bounds__(BLOCK) norm_backward_block_##NAME(const BackwardArgs a) {   \
        backward<T, G, BLOCK / 32, 4>(a);                                                                    \
    }                                                                                                        \
    extern "C" __global__ void __launch_bounds__(BLOCK) norm_backward_stream_##NAME(const BackwardArgs a) {  \
        backward<T, G, BLOCK / 32, 0>(a);                                                                    \
    }                                                                                                        \
    extern "C" __global__ void __launch_bounds__(BLOCK) norm_columns_##NAME(const BackwardArgs a) {          \
        columns<T, G>(a);                                                                                    \
    }
BACKWARD(float, float, f32_f32)
BACKWARD(__half, __half, f16_f16)
BACKWARD(__half, float, f16_f32)
BACKWARD(__nv_bfloat16, __nv_bfloat16, bf16_bf16)
BACKWARD(__nv_bfloat16, float, bf16_f32)
