// Norms of rows of whole units at multiples of 16 bytes, which a warp holds: those of nearly all models. The next row is on
// its way to shared memory while one is worked on, and an element takes few instructions, of which there are more to wait for than
// of bytes. UNITS is as many as each lane has, but for the last, which some may not have.
#pragma once
#include "any.cuh"
#include "copies.cuh"

constexpr int WARPS = BLOCK / 32;

// Both sums over the lanes of a warp, in every one of them: a half of the warp adds each.
__device__ __forceinline__ Two over_warp(Two mine) {
    const bool upper = threadIdx.x & 16;
    double sum = upper ? mine.second : mine.first;
    sum += shuffled(upper ? mine.first : mine.second, 16);
#pragma unroll
    for (int step = 8; step > 0; step >>= 1) sum += shuffled(sum, step);
    return {__shfl_sync(0xffffffffu, sum, 0), __shfl_sync(0xffffffffu, sum, 16)};
}

// A parameter in f32, and `none` where there is none.
template <typename T>
__device__ __forceinline__ void spread(float* to, const void* parameter, bool narrow, float none, int width) {
    for (int c = threadIdx.x; c < width; c += BLOCK)
        to[c] = !parameter ? none
                : narrow   ? convert<float>(static_cast<const T*>(parameter)[c])
                           : static_cast<const float*>(parameter)[c];
}

// Neither it nor its square overflows or vanishes as an f32, nor does a product of these with ordinary numbers.
__device__ __forceinline__ bool is_plain(double x) { return x > 0x1p-60 && x < 0x1p60; }

// What stands for the reciprocal of a deviation until a row is worked on again.
constexpr double AGAIN = -1.0;

// What of a row is a lane's: `at` is a lane's first element of a unit.
template <int UNITS> struct Share {
    static constexpr int STEP = 32 * UNIT;
    int width, mine;
    __device__ __forceinline__ explicit Share(uint64_t width) : width(int(width)), mine(threadIdx.x % 32 * UNIT) {}

    template <typename F> __device__ __forceinline__ void each(F f) const {
#pragma unroll
        for (int u = 0; u < UNITS; ++u)
            if (u + 1 < UNITS || mine + u * STEP < width) f(u, mine + u * STEP);
    }
    // Starts the copy of a row. Each thread reads what it has copied itself.
    template <typename T> __device__ __forceinline__ void copy(T* shared, const T* row) const {
        each([&](int, int at) {
#pragma unroll
            for (int k = 0; k < UNIT; k += 16 / sizeof(T)) copy_16(shared + at + k, row + at + k);
        });
    }
};

template <typename T> __device__ __forceinline__ const Unit<T>& unit_at(const T* p) { return *reinterpret_cast<const Unit<T>*>(p); }

// `f` of the pointer, as one to T where `narrow`, and to f32.
template <typename T, typename F> __device__ __forceinline__ void as_typed(bool narrow, const void* p, F f) {
    if (std::is_same_v<T, float> || narrow) f(static_cast<T*>(const_cast<void*>(p)));
    else f(static_cast<float*>(const_cast<void*>(p)));
}

// The block's shared memory is weight and bias in f32, and for each warp two rows.
template <typename T, int UNITS> __device__ __forceinline__ void forward_whole(const ForwardArgs& a) {
    extern __shared__ __align__(16) float parameters[];
    const Share<UNITS> share(a.width);
    const int width = share.width, warp = threadIdx.x / 32;
    const uint64_t rows_at_once = uint64_t(gridDim.x) * WARPS, first = uint64_t(blockIdx.x) * WARPS + warp;
    const double part = 1.0 / double(width);
    float* const weight = parameters;
    float* const bias = parameters + width;
    T* const rows = reinterpret_cast<T*>(parameters + 2 * width) + 2 * warp * width;
    auto fetch = [&](uint64_t r, int stage) {
        if (r < a.rows) share.copy(rows + stage * width, static_cast<const T*>(a.x) + r * a.pitch);
        commit_copies();
    };
    fetch(first, 0);
    spread<T>(weight, a.weight, a.narrow_weight, 1.0f, width);
    spread<T>(bias, a.bias, a.narrow_bias, -0.0f, width); // which leaves a zero's sign
    __syncthreads();
    bool again = false;
    int stage = 0;
    for (uint64_t r = first; r < a.rows; r += rows_at_once, stage ^= 1) {
        fetch(r + rows_at_once, stage ^ 1);
        await_copies<1>();
        float v[UNITS][UNIT];
        share.each([&](int u, int at) {
            widen(unit_at(rows + stage * width + at), v[u]);
        });
        // About the mean, then what is left of it, whose square leaves the mean square.
        float about = 0.0f;
        if (a.centred) {
            float sums[UNIT] = {};
            share.each([&](int u, int) {
#pragma unroll
                for (int k = 0; k < UNIT; ++k) sums[k] += v[u][k];
            });
            about = over_row<1>(tree(sums), Add()) * float(part);
        }
        float sums[UNIT] = {}, squared[UNIT] = {};
        share.each([&](int u, int) {
#pragma unroll
            for (int k = 0; k < UNIT; ++k) {
                v[u][k] -= about;
                sums[k] += v[u][k];
                squared[k] += v[u][k] * v[u][k];
            }
        });
        const Two both = over_warp({double(tree(sums)), double(tree(squared))});
        const double left = a.centred ? both.first * part : 0.0;
        const double squares = both.second * part - left * left;
        const double rstd = rsqrt((squares > 0.0 ? squares : 0.0) + a.eps);
        // Squares that may have overflowed or vanished are added again, in f64, when all other rows are done.
        const bool lost = !(squares < LARGE<float>) || (squares < 1.0 / LARGE<float> && a.eps < 0x1p20 / LARGE<float>);
        const bool put_off = lost || !is_plain(rstd);
        again |= put_off;
        if (threadIdx.x % 32 == 0) {
            double* saved = a.statistics + 3 * r;
            saved[0] = about + left;
            saved[1] = 0.0;
            saved[2] = put_off ? AGAIN : rstd;
        }
        if (put_off) continue;
        const float scale = float(rstd), shift = float(-left * rstd);
        as_typed<T>(a.narrow_y, a.y, [&](auto* y) {
            using To = std::remove_pointer_t<decltype(y)>;
            share.each([&](int u, int at) {
                const Unit<float> w = unit_at(weight + at), b = unit_at(bias + at);
#pragma unroll
                for (int k = 0; k < UNIT; ++k) v[u][k] = fmaf(fmaf(v[u][k], scale, shift), w.at[k], b.at[k]);
                put(y + r * a.width + at, narrow<float, To>(v[u]));
            });
        });
    }
    if (!again) return;
    __syncwarp();
    for (uint64_t r = first; r < a.rows; r += rows_at_once)
        if (a.statistics[3 * r + 2] == AGAIN) forward_row<T, 1, 0>(a, r);
}

// The statistics of a row as f32 takes them.
struct Statistics {
    float mean, lost; // what f32 has lost of the mean
    double rstd;
    __device__ __forceinline__ explicit Statistics(const double* saved) : mean(float(saved[0])), rstd(saved[2]) {
        lost = float(saved[0] - double(mean));
    }
};

// The block's shared memory is the weights in f32, and for each warp two rows of x and of dy and one of what is added to dx.
template <typename T, typename G, int UNITS> __device__ __forceinline__ void backward_whole(const BackwardArgs& a) {
    extern __shared__ __align__(16) unsigned char shared[];
    const Share<UNITS> share(a.width);
    const int warp = threadIdx.x / 32, width = share.width;
    const uint64_t from = blockIdx.x * a.each, to = from + a.each < a.rows ? from + a.each : a.rows;
    const double part = 1.0 / double(width);
    float* const weight = reinterpret_cast<float*>(shared);
    T* const all_x = reinterpret_cast<T*>(weight + width);
    G* const all_dy = reinterpret_cast<G*>(all_x + 2 * WARPS * width);
    T* const x_rows = all_x + 2 * warp * width;
    G* const dy_rows = all_dy + 2 * warp * width;
    unsigned char* const plus_row =
        reinterpret_cast<unsigned char*>(all_dy + 2 * WARPS * width) + warp * width * (a.narrow_dx ? sizeof(T) : sizeof(float));

    auto fetch = [&](uint64_t r, int stage) {
        if (r < to) {
            share.copy(x_rows + stage * width, static_cast<const T*>(a.x) + r * a.x_pitch);
            share.copy(dy_rows + stage * width, static_cast<const G*>(a.dy) + r * a.dy_pitch);
        }
        commit_copies();
    };
    auto fetch_plus = [&](uint64_t r) {
        if (a.plus && r < to)
            as_typed<T>(a.narrow_dx, a.plus, [&](auto* plus) { share.copy(reinterpret_cast<decltype(plus)>(plus_row), plus + r * a.width); });
        commit_copies();
    };
    auto statistics_of = [&](uint64_t r) { return Statistics(a.statistics + 3 * (r < to ? r : from)); };

    fetch(from + warp, 0);
    Statistics next = statistics_of(from + warp);
    spread<T>(weight, a.weight, a.narrow_weight, 1.0f, width);
    __syncthreads();
    float dw[UNITS][UNIT] = {}, db[UNITS][UNIT] = {};
    int run = 0, stage = 0;
    bool fresh = true;
    for (uint64_t base = from; base < to; base += WARPS, stage ^= 1) {
        const uint64_t r = base + warp;
        const Statistics saved = next;
        fetch_plus(r);
        fetch(r + WARPS, stage ^ 1);
        next = statistics_of(r + WARPS);
        auto row = [&](auto plain) {
            constexpr bool PLAIN = decltype(plain)::value;
            const Factor<float> factor(saved.rstd);
            const float scale = float(saved.rstd), shift = -saved.lost * scale;
            // The element without the mean, the gradient, and that times the weight.
            auto normalised = [&](float below) {
                return PLAIN ? fmaf(below, scale, shift) : factor.times(below - saved.lost);
            };
            auto terms = [&](int at, float below[UNIT], float g[UNIT], float h[UNIT]) {
                widen(unit_at(x_rows + stage * width + at), below);
                widen(unit_at(dy_rows + stage * width + at), g);
                const Unit<float> w = unit_at(weight + at);
#pragma unroll
                for (int k = 0; k < UNIT; ++k) {
                    below[k] -= saved.mean;
                    h[k] = g[k] * w.at[k];
                }
            };
            await_copies<2>();
            float sums[UNIT] = {}, products[UNIT] = {};
            share.each([&](int u, int at) {
                float below[UNIT], g[UNIT], h[UNIT];
                terms(at, below, g, h);
#pragma unroll
                for (int k = 0; k < UNIT; ++k) {
                    const float m = normalised(below[k]);
                    sums[k] += h[k];
                    products[k] += h[k] * m;
                    dw[u][k] += g[k] * m;
                    db[u][k] += g[k];
                }
            });
            if (!a.dx) return;
            const Two both = over_warp({double(tree(sums)), double(tree(products))});
            const Split<float> middle(a.centred ? both.first * part : 0.0);
            // (h - middle - m · slope) · rstd, as multiples of h and of what is below the mean, and the rest.
            const float slope = float(both.second * part), each = -slope * scale * scale;
            const float rest = -(middle.low + slope * shift) * scale - middle.high * scale;
            await_copies<1>();
            as_typed<T>(a.narrow_dx, a.dx, [&](auto* dx) {
                using To = std::remove_pointer_t<decltype(dx)>;
                share.each([&](int, int at) {
                    float below[UNIT], g[UNIT], h[UNIT], plus[UNIT];
                    terms(at, below, g, h);
                    if (a.plus) widen(unit_at(reinterpret_cast<const To*>(plus_row) + at), plus);
#pragma unroll
                    for (int k = 0; k < UNIT; ++k) {
                        if (PLAIN) h[k] = fmaf(h[k], scale, fmaf(below[k], each, rest));
                        else h[k] = factor.times(middle.below(h[k]) - normalised(below[k]) * slope);
                        if (a.plus) h[k] += plus[k];
                    }
                    put(dx + r * a.width + at, narrow<float, To>(h));
                });
            });
        };
        if (r < to) {
            if (is_plain(saved.rstd)) row(std::true_type());
            else row(std::false_type());
        }
        if (++run == RUN || base + WARPS >= to) {
            if (a.dweight) flush<1, UNITS>(a.dweight + blockIdx.x * a.width, a.width, dw, fresh);
            if (a.dbias) flush<1, UNITS>(a.dbias + blockIdx.x * a.width, a.width, db, fresh);
            run = 0;
            fresh = false;
        }
    }
}
