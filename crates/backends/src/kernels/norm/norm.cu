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
    const void* plus;     // added to dx, and of its type; may be null
    void* dx;             // null where it is not wanted
    double *dweight, *dbias; // [parts, width], null where they are not wanted
    uint64_t rows, width, x_pitch, dy_pitch;
    uint64_t each; // rows of a part
    uint16_t narrow_dx, narrow_weight, centred, unused;
};
static_assert(sizeof(BackwardArgs) == 112, "");

struct ReduceArgs {
    const double* parts[2]; // a grid row each
    void* out[2];
    uint64_t count, width;
    uint8_t dtypes[8]; // of out
};
static_assert(sizeof(ReduceArgs) == 56, "");

// Mean squares between this and its reciprocal have neither overflowed nor vanished on the way.
template <typename C> constexpr double LARGE = std::is_same_v<C, double> ? 0x1p960 : 0x1p100;

template <typename T, int WARPS, int UNITS> __device__ void forward(const ForwardArgs& a) {
    using C = compute_t<T>;
    const T* x = static_cast<const T*>(a.x);
    const bool whole = in_units(x, a.pitch);
    const uint64_t groups = BLOCK / (WARPS * 32);
    const double share = 1.0 / double(a.width);
    for (uint64_t r = blockIdx.x * groups + threadIdx.x / (WARPS * 32); r < a.rows; r += gridDim.x * groups) {
        Row<T, WARPS, UNITS> row;
        row.read(x + r * a.pitch, a.width, whole);
        double high = 0.0, low = 0.0;
        // A first mean, then what is left of it, whose square leaves the mean square.
        if (a.centred) high = double(C(row.sum([](C v) { return v; }) * share));
        const C about = C(high);
        const Two sums = row.sum_and_squares([&](C v) { return v - about; });
        double squares = sums.second * share;
        if (a.centred) {
            low = sums.first * share;
            squares -= low * low;
        }
        // Squares overflow and vanish: what may have done so is added again, in f64, and of f64 at another size.
        constexpr bool WIDE = std::is_same_v<C, double>;
        double size = 1.0;
        if (!(squares < LARGE<C>) || (squares < 1.0 / LARGE<C> && a.eps < 0x1p20 / LARGE<C>)) {
            if constexpr (WIDE) {
                C most = C(0);
                row.each([&](int, uint64_t, C v[UNIT], int n) {
                    for (int k = 0; k < n; ++k) most = fmax(most, fabs(v[k]));
                });
                most = over_row<WARPS>(most, Larger());
                // A power of two, so that only the smallest numbers lose by it.
                if (most > 0.0 && isfinite(most)) size = exp2(-double(max(-1000, min(1000, ilogb(most)))));
            }
            high = low = 0.0;
            if (a.centred) high = row.wide_sum([&](double v) { return v * size; }) / a.width;
            if (WIDE && a.centred) low = row.wide_sum([&](double v) { return v * size - high; }) / a.width;
            const Split<C> mean(high, low);
            squares = row.wide_sum([&](double v) { double d = double(mean.below(C(v * size))); return d * d; }) / a.width;
            high /= size;
            low /= size;
        }
        if (!WIDE) {
            high += low;
            low = 0.0;
        }
        if (squares < 0.0) squares = 0.0;
        const double rstd = rsqrt(squares + a.eps * size * size) * size;
        if (threadIdx.x % (WARPS * 32) == 0) {
            double* saved = a.statistics + 3 * r;
            saved[0] = high;
            saved[1] = low;
            saved[2] = rstd;
        }
        const Split<C> mean(high, low);
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

// The first `valid` elements as they are, and zeros.
template <typename T> __device__ __forceinline__ Unit<T> as_it_is(const T* p, bool whole, int valid) {
    if (whole && valid >= UNIT) return *reinterpret_cast<const Unit<T>*>(p);
    Unit<T> unit;
#pragma unroll
    for (int k = 0; k < UNIT; ++k) unit.at[k] = k < valid ? p[k] : convert<T>(0.f);
    return unit;
}

__device__ __forceinline__ void prefetch(const void* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }

// Has the compiler forget what it has made of these bits, and of what it has read: held back, that takes more registers than
// making it again.
template <typename V> __device__ __forceinline__ void forget(V& value) {
    static_assert(sizeof(V) % 4 == 0, "");
    auto words = reinterpret_cast<uint32_t*>(&value);
#pragma unroll
    for (int i = 0; i < int(sizeof(V) / 4); ++i) asm volatile("" : "+r"(words[i])::"memory");
}

// What a unit of a row comes to: the element normalised, the gradient, and that times the weight.
template <typename T, typename G> struct Terms {
    using C = compute_t<T>;
    C m[UNIT], plain[UNIT], h[UNIT];

    __device__ __forceinline__
    Terms(const BackwardArgs& a, const Split<C>& mean, const Factor<C>& scale, uint64_t at, int count, const Unit<T>& x, const Unit<G>& g) {
        C w[UNIT];
        if (a.weight) load_either<T>(a.narrow_weight, a.weight, at, count, w);
#pragma unroll
        for (int k = 0; k < UNIT; ++k) {
            plain[k] = convert<C>(g.at[k]);
            m[k] = k < count ? scale.times(mean.below(convert<C>(x.at[k]))) : C(0);
            h[k] = a.weight ? plain[k] * w[k] : plain[k];
        }
    }
};

// The gradient of a unit of x.
template <typename T, typename G>
__device__ __forceinline__ void
put(const BackwardArgs& a, const Terms<T, G>& t, const Split<compute_t<T>>& middle, compute_t<T> slope, const Factor<compute_t<T>>& scale, uint64_t at, int count) {
    using C = compute_t<T>;
    C out[UNIT], plus[UNIT];
    if (a.plus) load_either<T>(a.narrow_dx, a.plus, at, count, plus);
#pragma unroll
    for (int k = 0; k < UNIT; ++k) {
        out[k] = scale.times(middle.below(t.h[k]) - t.m[k] * slope);
        if (a.plus) out[k] += plus[k];
    }
    store_either<T>(a.narrow_dx, a.dx, at, count, out);
}

// A row in the registers of its warps, as it is: terms are made twice, so that two blocks fit beside each other.
template <typename T, typename G, int WARPS, int UNITS> __device__ void backward(const BackwardArgs& a) {
    using C = compute_t<T>;
    constexpr int GROUPS = BLOCK / (WARPS * 32), STEP = WARPS * 32 * UNIT;
    const T* x = static_cast<const T*>(a.x);
    const G* dy = static_cast<const G*>(a.dy);
    const bool x_whole = in_units(x, a.x_pitch), dy_whole = in_units(dy, a.dy_pitch);
    const uint64_t first = Row<T, WARPS, UNITS>::first(), group = threadIdx.x / (WARPS * 32);
    C dw[UNITS][UNIT] = {}, db[UNITS][UNIT] = {};
    const uint64_t from = blockIdx.x * a.each, to = from + a.each < a.rows ? from + a.each : a.rows;
    const double share = 1.0 / double(a.width);
    int run = 0;
    bool fresh = true;
    for (uint64_t base = from; base < to; base += GROUPS) {
        const uint64_t r = base + group;
        // Whole warps leave this out together; no block barrier is inside where a row is a warp's.
        if (r < to) {
            Unit<T> held[UNITS];
            Unit<G> grad[UNITS];
#pragma unroll
            for (int u = 0; u < UNITS; ++u) {
                const uint64_t at = first + uint64_t(u) * STEP;
                const int count = Row<T, WARPS, UNITS>::valid(at, a.width);
                if (count == 0) continue;
                held[u] = as_it_is(x + r * a.x_pitch + at, x_whole, count);
                grad[u] = as_it_is(dy + r * a.dy_pitch + at, dy_whole, count);
                if (a.plus) {
                    const uint64_t next = (r * a.width + at) * (a.narrow_dx ? sizeof(T) : sizeof(C));
                    prefetch(static_cast<const char*>(a.plus) + next);
                }
            }
            const double* saved = a.statistics + 3 * r;
            const Split<C> mean(saved[0], saved[1]);
            const Factor<C> scale(saved[2]);
            Two sums = {0.0, 0.0};
#pragma unroll
            for (int u = 0; u < UNITS; ++u) {
                const uint64_t at = first + uint64_t(u) * STEP;
                const int count = Row<T, WARPS, UNITS>::valid(at, a.width);
                if (count == 0) continue;
                forget(held[u]);
                const Terms<T, G> t(a, mean, scale, at, count, held[u], grad[u]);
                C product[UNIT];
#pragma unroll
                for (int k = 0; k < UNIT; ++k) {
                    product[k] = t.h[k] * t.m[k];
                    dw[u][k] += t.plain[k] * t.m[k];
                    db[u][k] += t.plain[k];
                }
                sums = sums + Two{double(tree(t.h)), double(tree(product))};
            }
            if (a.dx) {
                sums = over_row<WARPS>(sums, Add());
                const Split<C> middle(a.centred ? sums.first * share : 0.0);
                const C slope = C(sums.second * share);
#pragma unroll
                for (int u = 0; u < UNITS; ++u) {
                    const uint64_t at = first + uint64_t(u) * STEP;
                    const int count = Row<T, WARPS, UNITS>::valid(at, a.width);
                    if (count == 0) continue;
                    forget(held[u]);
                    forget(grad[u]);
                    const Terms<T, G> t(a, mean, scale, at, count, held[u], grad[u]);
                    put<T, G>(a, t, middle, slope, scale, r * a.width + at, count);
                }
            }
        }
        if (++run == RUN || base + GROUPS >= to) {
            if (a.dweight) flush<WARPS, UNITS>(a.dweight + blockIdx.x * a.width, a.width, dw, fresh);
            if (a.dbias) flush<WARPS, UNITS>(a.dbias + blockIdx.x * a.width, a.width, db, fresh);
            run = 0;
            fresh = false;
        }
    }
}

__device__ __forceinline__ void copy_16(void* shared, const void* from) {
    const uint32_t to = uint32_t(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from));
}
template <int BUT> __device__ __forceinline__ void wait_for_copies() { asm volatile("cp.async.wait_group %0;" ::"n"(BUT)); }

// A row in a warp's shared memory, while the next is on its way. Rows of whole units at multiples of 16 bytes. Each thread reads
// what it has copied itself.
//
// The block's shared memory is the weights in f32, and for each warp two rows of x and of dy.
template <typename T, typename G, int UNITS> __device__ void ahead(const BackwardArgs& a) {
    extern __shared__ __align__(16) unsigned char shared[];
    constexpr int STEP = 32 * UNIT, WARPS = BLOCK / 32;
    const int warp = threadIdx.x / 32, mine = threadIdx.x % 32 * UNIT;
    const T* x = static_cast<const T*>(a.x);
    const G* dy = static_cast<const G*>(a.dy);
    const uint64_t from = blockIdx.x * a.each, to = from + a.each < a.rows ? from + a.each : a.rows;
    const double share = 1.0 / double(a.width);
    const int width = int(a.width);
    float* const weight = reinterpret_cast<float*>(shared);
    T* const x_rows = reinterpret_cast<T*>(weight + width) + 2 * warp * width;
    G* const dy_rows = reinterpret_cast<G*>(reinterpret_cast<T*>(weight + width) + 2 * WARPS * width) + 2 * warp * width;

    auto fetch = [&](uint64_t r, int stage) {
        if (r < to) {
#pragma unroll
            for (int u = 0; u < UNITS; ++u) {
                const int at = mine + u * STEP;
                if (at >= width) continue;
#pragma unroll
                for (int k = 0; k < UNIT; k += 16 / sizeof(T)) copy_16(x_rows + stage * width + at + k, x + r * a.x_pitch + at + k);
#pragma unroll
                for (int k = 0; k < UNIT; k += 16 / sizeof(G)) copy_16(dy_rows + stage * width + at + k, dy + r * a.dy_pitch + at + k);
            }
        }
        asm volatile("cp.async.commit_group;");
    };

    for (int c = threadIdx.x; c < width; c += BLOCK)
        weight[c] = !a.weight         ? 1.f
                    : a.narrow_weight ? convert<float>(static_cast<const T*>(a.weight)[c])
                                      : static_cast<const float*>(a.weight)[c];
    fetch(from + warp, 0);
    __syncthreads();
    float dw[UNITS][UNIT] = {}, db[UNITS][UNIT] = {};
    int run = 0, stage = 0;
    bool fresh = true;
    for (uint64_t base = from; base < to; base += WARPS, stage ^= 1) {
        const uint64_t r = base + warp;
        fetch(r + WARPS, stage ^ 1);
        if (r < to) {
            const double* saved = a.statistics + 3 * r;
            const Split<float> mean(saved[0], saved[1]);
            const Factor<float> scale(saved[2]);
            wait_for_copies<1>();
            // The element normalised, the gradient, and that times the weight.
            auto unit = [&](int at, float m[UNIT], float plain[UNIT], float h[UNIT]) {
                const Unit<T> v = *reinterpret_cast<const Unit<T>*>(x_rows + stage * width + at);
                const Unit<G> g = *reinterpret_cast<const Unit<G>*>(dy_rows + stage * width + at);
                const Unit<float> w = *reinterpret_cast<const Unit<float>*>(weight + at);
#pragma unroll
                for (int k = 0; k < UNIT; ++k) {
                    plain[k] = convert<float>(g.at[k]);
                    m[k] = scale.times(mean.below(convert<float>(v.at[k])));
                    h[k] = plain[k] * w.at[k];
                }
            };
            Two sums = {0.0, 0.0};
#pragma unroll
            for (int u = 0; u < UNITS; ++u) {
                const int at = mine + u * STEP;
                if (at >= width) continue;
                float m[UNIT], plain[UNIT], h[UNIT], product[UNIT];
                unit(at, m, plain, h);
#pragma unroll
                for (int k = 0; k < UNIT; ++k) {
                    product[k] = h[k] * m[k];
                    dw[u][k] += plain[k] * m[k];
                    db[u][k] += plain[k];
                }
                sums = sums + Two{double(tree(h)), double(tree(product))};
            }
            if (a.dx) {
                sums = over_row<1>(sums, Add());
                const Split<float> middle(a.centred ? sums.first * share : 0.0);
                const float slope = float(sums.second * share);
#pragma unroll
                for (int u = 0; u < UNITS; ++u) {
                    const int at = mine + u * STEP;
                    if (at >= width) continue;
                    float m[UNIT], plain[UNIT], h[UNIT], plus[UNIT];
                    if (a.plus) load_either<T>(a.narrow_dx, a.plus, r * a.width + at, UNIT, plus);
                    unit(at, m, plain, h);
#pragma unroll
                    for (int k = 0; k < UNIT; ++k) {
                        h[k] = scale.times(middle.below(h[k]) - m[k] * slope);
                        if (a.plus) h[k] += plus[k];
                    }
                    store_either<T>(a.narrow_dx, a.dx, r * a.width + at, UNIT, h);
                }
            }
        }
        if (++run == RUN || base + WARPS >= to) {
            if (a.dweight) flush<1, UNITS>(a.dweight + blockIdx.x * a.width, a.width, dw, fresh);
            if (a.dbias) flush<1, UNITS>(a.dbias + blockIdx.x * a.width, a.width, db, fresh);
            run = 0;
            fresh = false;
        }
    }
}

// A row that is read twice by its block. The sums over rows are `columns`'.
template <typename T, typename G> __device__ void streamed(const BackwardArgs& a) {
    using C = compute_t<T>;
    constexpr int WARPS = BLOCK / 32;
    const T* x = static_cast<const T*>(a.x);
    const G* dy = static_cast<const G*>(a.dy);
    const bool x_whole = in_units(x, a.x_pitch), dy_whole = in_units(dy, a.dy_pitch);
    const uint64_t from = blockIdx.x * a.each, to = from + a.each < a.rows ? from + a.each : a.rows;
    const double share = 1.0 / double(a.width);
    for (uint64_t r = from; r < to; ++r) {
        const double* saved = a.statistics + 3 * r;
        const Split<C> mean(saved[0], saved[1]);
        const Factor<C> scale(saved[2]);
        auto terms = [&](uint64_t at, int count) {
            const Unit<T> unit = as_it_is(x + r * a.x_pitch + at, x_whole, count);
            return Terms<T, G>(a, mean, scale, at, count, unit, as_it_is(dy + r * a.dy_pitch + at, dy_whole, count));
        };
        auto each = [&](auto f) {
            for (uint64_t at = threadIdx.x * UNIT; at < a.width; at += BLOCK * UNIT)
                f(at, a.width - at >= UNIT ? UNIT : int(a.width - at));
        };
        Two sums = {0.0, 0.0};
        each([&](uint64_t at, int count) {
            const Terms<T, G> t = terms(at, count);
            C product[UNIT];
#pragma unroll
            for (int k = 0; k < UNIT; ++k) product[k] = t.h[k] * t.m[k];
            sums = sums + Two{double(tree(t.h)), double(tree(product))};
        });
        sums = over_row<WARPS>(sums, Add());
        const Split<C> middle(a.centred ? sums.first * share : 0.0);
        const C slope = C(sums.second * share);
        each([&](uint64_t at, int count) {
            put<T, G>(a, terms(at, count), middle, slope, scale, r * a.width + at, count);
        });
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
        const C n = Factor<C>(saved[2]).times(Split<C>(saved[0], saved[1]).below(v));
        dw += double(g * n);
        db += double(g);
    }
    if (a.dweight) a.dweight[blockIdx.y * a.width + c] = dw;
    if (a.dbias) a.dbias[blockIdx.y * a.width + c] = db;
}

// Columns of a block; as many threads for each as there are blocks of so many in it.
constexpr int FOLDED = 16;

// The sum of all parts.
extern "C" __global__ void __launch_bounds__(BLOCK) norm_reduce(const __grid_constant__ ReduceArgs a) {
    __shared__ double sums[BLOCK];
    const uint64_t c = uint64_t(blockIdx.x) * FOLDED + threadIdx.x % FOLDED;
    double sum = 0.0;
    if (c < a.width) {
        const double* parts = a.parts[blockIdx.y] + c;
#pragma unroll 4
        for (uint64_t part = threadIdx.x / FOLDED; part < a.count; part += BLOCK / FOLDED) sum += parts[part * a.width];
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x >= FOLDED || c >= a.width) return;
    for (int w = 1; w < BLOCK / FOLDED; ++w) sum += sums[w * FOLDED + threadIdx.x];
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
    extern "C" __global__ void __launch_bounds__(BLOCK, 2) norm_backward_ahead_##NAME(                       \
        const __grid_constant__ BackwardArgs a) {                                                            \
        ahead<T, G, 4>(a);                                                                                   \
    }                                                                                                        \
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
