// Norms of rows of any width and layout, held by a warp or a block, or read again by a block.
#pragma once
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

template <typename T, int WARPS, int UNITS> __device__ __forceinline__ void forward_row(const ForwardArgs& a, uint64_t r) {
    using C = compute_t<T>;
    const T* x = static_cast<const T*>(a.x);
    const bool whole = in_units(x, a.pitch);
    const double share = 1.0 / double(a.width);
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

template <typename T, int WARPS, int UNITS> __device__ void forward(const ForwardArgs& a) {
    const uint64_t groups = BLOCK / (WARPS * 32);
    for (uint64_t r = blockIdx.x * groups + threadIdx.x / (WARPS * 32); r < a.rows; r += gridDim.x * groups)
        forward_row<T, WARPS, UNITS>(a, r);
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
