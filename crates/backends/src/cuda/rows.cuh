// What the kernels over rows share: eight elements at a time whatever their type, and reductions over a row's threads.
//
// A row belongs to one warp or to one block. Its threads take units of eight elements in turn, so that a 16-bit unit is one
// 16-byte load; they hold the row in registers where it fits, and read it again where it does not.
#pragma once
#include "multi_tensor.cuh"

constexpr int UNIT = 8;

template <typename T> struct alignas(16) Unit {
    T at[UNIT];
};

// Whether every row that starts at `p`, `pitch` elements apart, may be read in units.
template <typename T> __device__ __forceinline__ bool in_units(const T* p, uint64_t pitch) {
    return reinterpret_cast<uintptr_t>(p) % 16 == 0 && pitch * sizeof(T) % 16 == 0;
}

// All of a unit in another type. 16-bit neighbours lie in one word, and are one or two instructions.
template <typename C, typename T> __device__ __forceinline__ void widen(const Unit<T>& raw, C out[UNIT]) {
#pragma unroll
    for (int k = 0; k < UNIT; k += 2) {
        if constexpr (std::is_same_v<T, __nv_bfloat16>) {
            const uint32_t pair = *reinterpret_cast<const uint32_t*>(raw.at + k);
            out[k] = C(__uint_as_float(pair << 16)), out[k + 1] = C(__uint_as_float(pair & 0xffff0000u));
        } else if constexpr (std::is_same_v<T, __half>) {
            const float2 pair = __half22float2(*reinterpret_cast<const __half2*>(raw.at + k));
            out[k] = C(pair.x), out[k + 1] = C(pair.y);
        } else {
            out[k] = convert<C>(raw.at[k]), out[k + 1] = convert<C>(raw.at[k + 1]);
        }
    }
}
template <typename C, typename T> __device__ __forceinline__ Unit<T> narrow(const C in[UNIT]) {
    Unit<T> raw;
#pragma unroll
    for (int k = 0; k < UNIT; k += 2) {
        if constexpr (std::is_same_v<T, __nv_bfloat16> && std::is_same_v<C, float>)
            *reinterpret_cast<__nv_bfloat162*>(raw.at + k) = __floats2bfloat162_rn(in[k], in[k + 1]);
        else if constexpr (std::is_same_v<T, __half> && std::is_same_v<C, float>)
            *reinterpret_cast<__half2*>(raw.at + k) = __floats2half2_rn(in[k], in[k + 1]);
        else raw.at[k] = convert<T>(in[k]), raw.at[k + 1] = convert<T>(in[k + 1]);
    }
    return raw;
}

// Stores a unit 16 bytes at a time. The compiler on its own may store the words that it was made of one by one, which are writes
// of parts of a line, and cost the cache several times as much.
template <typename T> __device__ __forceinline__ void put(T* p, const Unit<T>& raw) {
#pragma unroll
    for (int i = 0; i < int(sizeof(raw) / sizeof(uint4)); ++i)
        __stwb(reinterpret_cast<uint4*>(p) + i, reinterpret_cast<const uint4*>(&raw)[i]);
}

// The first `valid` elements, and zeros.
template <typename C, typename T>
__device__ __forceinline__ void load_unit(const T* p, bool whole, int valid, C out[UNIT]) {
    if (whole && valid >= UNIT) {
        widen(*reinterpret_cast<const Unit<T>*>(p), out);
    } else {
#pragma unroll
        for (int k = 0; k < UNIT; ++k) out[k] = k < valid ? convert<C>(p[k]) : C(0);
    }
}

template <typename C, typename T>
__device__ __forceinline__ void store_unit(T* p, bool whole, int valid, const C in[UNIT]) {
    if (whole && valid >= UNIT) {
        put(p, narrow<C, T>(in));
    } else {
#pragma unroll
        for (int k = 0; k < UNIT; ++k)
            if (k < valid) p[k] = convert<T>(in[k]);
    }
}

// The same where the elements are of type `T` or of the type that is computed in. All threads take one branch.
template <typename T>
__device__ __forceinline__ void load_either(bool narrow, const void* p, uint64_t at, int valid, compute_t<T> out[UNIT]) {
    using C = compute_t<T>;
    auto get = [&](auto* from) { load_unit<C>(from, reinterpret_cast<uintptr_t>(from) % 16 == 0, valid, out); };
    if (narrow) get(static_cast<const T*>(p) + at);
    else get(static_cast<const C*>(p) + at);
}
template <typename T>
__device__ __forceinline__ void
store_either(bool narrow, void* p, uint64_t at, int valid, const compute_t<T> in[UNIT]) {
    using C = compute_t<T>;
    auto put = [&](auto* to) { store_unit<C>(to, reinterpret_cast<uintptr_t>(to) % 16 == 0, valid, in); };
    if (narrow) put(static_cast<T*>(p) + at);
    else put(static_cast<C*>(p) + at);
}

// The same of any type, from `at` on. All threads take one branch.
template <typename C>
__device__ __forceinline__ void load_typed(const void* p, uint8_t dtype, uint64_t at, int valid, C out[UNIT]) {
    typed(p, dtype, [&](auto* x) { load_unit(x + at, reinterpret_cast<uintptr_t>(x + at) % 16 == 0, valid, out); });
}
template <typename C>
__device__ __forceinline__ void store_typed(void* p, uint8_t dtype, uint64_t at, int valid, const C in[UNIT]) {
    typed(p, dtype, [&](auto* constant) {
        auto* x = const_cast<std::remove_const_t<std::remove_pointer_t<decltype(constant)>>*>(constant);
        store_unit(x + at, reinterpret_cast<uintptr_t>(x + at) % 16 == 0, valid, in);
    });
}

// The sum of eight, as a tree.
template <typename C> __device__ __forceinline__ C tree(const C x[UNIT]) {
    return ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7]));
}

struct Add {
    template <typename V> __device__ __forceinline__ V operator()(V a, V b) const { return a + b; }
};
// Two sums that are folded together: their latencies overlap, and a block waits once.
struct Two {
    double first, second;
};
__device__ __forceinline__ Two operator+(Two a, Two b) { return {a.first + b.first, a.second + b.second}; }
__device__ __forceinline__ double shuffled(double x, int step) { return __shfl_xor_sync(0xffffffffu, x, step); }
__device__ __forceinline__ float shuffled(float x, int step) { return __shfl_xor_sync(0xffffffffu, x, step); }
__device__ __forceinline__ Two shuffled(Two x, int step) { return {shuffled(x.first, step), shuffled(x.second, step)}; }
// Passes over a NaN, which the sum of exponentials brings back.
struct Larger {
    __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
    __device__ __forceinline__ double operator()(double a, double b) const { return fmax(a, b); }
};

// The fold over the threads of a row, in every one of them, in an order that depends on nothing. All threads of the block
// come here where a row has several warps.
template <int WARPS, typename V, typename Op> __device__ __forceinline__ V over_row(V mine, Op op) {
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) mine = op(mine, shuffled(mine, step));
    if constexpr (WARPS > 1) {
        __shared__ V warps[WARPS];
        __syncthreads();
        if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = mine;
        __syncthreads();
        mine = warps[0];
#pragma unroll
        for (int w = 1; w < WARPS; ++w) mine = op(mine, warps[w]);
    }
    return mine;
}

// A row as its threads see it: `WARPS` warps, of which each thread holds up to `UNITS` units, or reads them again where
// `UNITS` is 0.
template <typename T, int WARPS, int UNITS> struct Row {
    using C = compute_t<T>;
    static constexpr int STEP = WARPS * 32 * UNIT;
    C held[UNITS > 0 ? UNITS : 1][UNIT];
    const T* p;
    uint64_t width;
    bool whole;

    __device__ __forceinline__ static uint64_t first() { return threadIdx.x % (WARPS * 32) * UNIT; }
    __device__ __forceinline__ static int valid(uint64_t at, uint64_t width) {
        return at >= width ? 0 : width - at >= UNIT ? UNIT : int(width - at);
    }

    __device__ __forceinline__ void read(const T* from, uint64_t length, bool in_whole_units) {
        p = from;
        width = length;
        whole = in_whole_units;
        if constexpr (UNITS > 0) {
#pragma unroll
            for (int u = 0; u < UNITS; ++u) {
                uint64_t at = first() + uint64_t(u) * STEP;
                int n = valid(at, width);
                if (n > 0) load_unit<C>(p + at, whole, n, held[u]);
            }
        }
    }

    // Calls `f(index of the unit, of its first element, elements, their number)` for this thread's units. What `f` changes is
    // kept where the row is held.
    template <typename F> __device__ __forceinline__ void each(F f) {
        if constexpr (UNITS > 0) {
#pragma unroll
            for (int u = 0; u < UNITS; ++u) {
                uint64_t at = first() + uint64_t(u) * STEP;
                int n = valid(at, width);
                if (n > 0) f(u, at, held[u], n);
            }
        } else {
            for (uint64_t at = first(); at < width; at += STEP) {
                C x[UNIT];
                int n = valid(at, width);
                load_unit<C>(p + at, whole, n, x);
                f(0, at, x, n);
            }
        }
    }

    // The sum over the row of `f(element)`, as trees of eight and in f64 beyond.
    template <typename F> __device__ __forceinline__ double sum(F f) {
        double mine = 0.0;
        each([&](int, uint64_t, C x[UNIT], int n) {
            C terms[UNIT];
            if (n == UNIT) {
#pragma unroll
                for (int k = 0; k < UNIT; ++k) terms[k] = f(x[k]);
            } else {
#pragma unroll
                for (int k = 0; k < UNIT; ++k) terms[k] = k < n ? f(x[k]) : C(0);
            }
            mine += double(tree(terms));
        });
        return over_row<WARPS>(mine, Add());
    }

    // The sums of `f(element)` and of its square.
    template <typename F> __device__ __forceinline__ Two sum_and_squares(F f) {
        Two mine = {0.0, 0.0};
        each([&](int, uint64_t, C x[UNIT], int n) {
            C terms[UNIT], squares[UNIT];
#pragma unroll
            for (int k = 0; k < UNIT; ++k) {
                terms[k] = n == UNIT || k < n ? f(x[k]) : C(0);
                squares[k] = terms[k] * terms[k];
            }
            mine = mine + Two{double(tree(terms)), double(tree(squares))};
        });
        return over_row<WARPS>(mine, Add());
    }

    // The sum of `f(element)` in f64 from the start.
    template <typename F> __device__ __forceinline__ double wide_sum(F f) {
        double mine = 0.0;
        each([&](int, uint64_t, C x[UNIT], int n) {
#pragma unroll
            for (int k = 0; k < UNIT; ++k)
                if (k < n) mine += f(double(x[k]));
        });
        return over_row<WARPS>(mine, Add());
    }
};

// A number in two parts. What an infinity loses is nothing.
template <typename C> struct Split {
    C high, low;
    __device__ __forceinline__ explicit Split(double x) : high(C(x)), low(isfinite(double(C(x))) ? C(x - double(C(x))) : C(0)) {}
    // What an f64 has lost is kept where it is what is computed in.
    __device__ __forceinline__ Split(double x, double lost) : Split(x) {
        if constexpr (std::is_same_v<C, double>) low = lost;
    }
    __device__ __forceinline__ C below(C x) const { return (x - high) - low; }
};

// `x · factor`. A factor that is no normal f32, or nearly none, is applied in two steps, of which the first is exact.
template <typename C> struct Factor {
    C step, rest;
    __device__ __forceinline__ explicit Factor(double x) {
        const double size = fabs(x);
        const double power = size > 0x1p100 && size <= 0x1p400 ? 0x1p64 : size < 0x1p-100 && size > 0.0 ? 0x1p-64 : 1.0;
        step = C(power);
        rest = C(x / power);
    }
    __device__ __forceinline__ C times(C x) const { return x * step * rest; }
};
