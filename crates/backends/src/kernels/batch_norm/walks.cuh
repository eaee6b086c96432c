// Walks over the elements of some channels: which pieces of them a thread has, and how it loads those.
#pragma once
#include "rows.cuh"

struct Args {
    const void *x, *dy;
    const void* beside;   // forward: added before the relu; backward: the value, which says where the relu let pass
    const void *weight, *bias;
    double* statistics;   // [2, channels]: mean and 1/std
    double* parts;        // [parts, 2, channels]
    double* sums;         // [2, channels], backward
    void* out;            // forward: y; backward: dx
    void* passed;         // backward: what the relu let pass, the gradient of what was added; may be null
    uint64_t outer, channels, inner;
    uint64_t each;        // rows or planes of a part
    uint16_t narrow_weight, narrow_bias, relu, centred;
    uint16_t threads_across, unused[3];
};
static_assert(sizeof(Args) == 128, "");

// Neighbours that are loaded and stored at once: a unit, or one element where units do not fit.
template <typename T, int N> struct Piece;
template <typename T> struct Piece<T, UNIT> {
    Unit<T> raw;
    __device__ __forceinline__ void load(const T* p) { raw = *reinterpret_cast<const Unit<T>*>(p); }
    template <typename C> __device__ __forceinline__ void widened(C out[UNIT]) const { widen(raw, out); }
    template <typename C> __device__ __forceinline__ static void store(T* p, const C in[UNIT]) {
        put(p, narrow<C, T>(in));
    }
};
template <typename T> struct Piece<T, 1> {
    T raw;
    __device__ __forceinline__ void load(const T* p) { raw = *p; }
    template <typename C> __device__ __forceinline__ void widened(C out[1]) const { out[0] = convert<C>(raw); }
    template <typename C> __device__ __forceinline__ static void store(T* p, const C in[1]) { *p = convert<T>(in[0]); }
};

// Rows of channels: a thread has the same N of them in each of its rows.
template <typename Element, int WIDTH> struct Rows {
    using T = Element;
    static constexpr int N = WIDTH, CHANNELS = WIDTH;
    static constexpr bool SHARED = false;
    uint64_t channel, begin, end;
    uint32_t step, steps; // between the thread's rows; of the thread that has most
    __device__ __forceinline__ explicit Rows(const Args& a) {
        const int across = a.threads_across;
        channel = (uint64_t(blockIdx.x) * across + threadIdx.x % across) * N;
        const uint64_t first = uint64_t(blockIdx.y) * a.each, last = min(first + a.each, a.outer);
        step = BLOCK / across;
        steps = uint32_t((last - first + step - 1) / step);
        begin = first + threadIdx.x / across;
        end = channel < a.channels ? last : 0;
    }
    __device__ __forceinline__ uint64_t at(const Args& a, uint64_t i) const { return i * a.channels + channel; }
    __device__ __forceinline__ static constexpr int which(int k) { return k; }
};

// Planes: all of a block's elements are of one channel.
template <typename Element, int WIDTH> struct Planes {
    using T = Element;
    static constexpr int N = WIDTH, CHANNELS = 1;
    static constexpr bool SHARED = true;
    uint64_t channel, begin, end;
    uint32_t step, steps;
    uint64_t first;
    uint32_t pieces; // of a plane
    __device__ __forceinline__ explicit Planes(const Args& a) {
        channel = blockIdx.x;
        pieces = uint32_t(a.inner / N);
        first = uint64_t(blockIdx.y) * a.each;
        step = BLOCK;
        end = first < a.outer ? (min(first + a.each, a.outer) - first) * pieces : 0;
        steps = uint32_t((end + step - 1) / step);
        begin = threadIdx.x;
    }
    __device__ __forceinline__ uint64_t at(const Args& a, uint64_t i) const {
        const uint32_t plane = uint32_t(i) / pieces, within = uint32_t(i) - plane * pieces;
        return ((first + plane) * a.channels + channel) * a.inner + within * N;
    }
    __device__ __forceinline__ static constexpr int which(int) { return 0; }
};

// Which end a walk begins at. What was read last by a walk forth is still in the cache for one back.
enum class Order { FORTH, BACK };

// Calls `each(index of the piece's first element, its piece of every array)` for the thread's pieces, and `between()` now and then:
// the loads of up to 128 bytes, at most eight pieces of each array, are under way before the first is used.
template <Order ORDER, int STREAMS, typename W, typename Each, typename Between>
__device__ __forceinline__ void
over(const Args& a, const W& w, const typename W::T* const (&from)[STREAMS], Each each, Between between) {
    constexpr int FIT = 128 / (STREAMS * W::N * int(sizeof(typename W::T))), DEEP = FIT > 8 ? 8 : FIT < 1 ? 1 : FIT;
    for (uint32_t done = 0; done < w.steps; done += DEEP) {
        Piece<typename W::T, W::N> raw[DEEP][STREAMS];
        auto index = [&](int j) {
            const uint32_t nth = done + j;
            if (nth >= w.steps) return w.end;
            return w.begin + uint64_t(ORDER == Order::FORTH ? nth : w.steps - 1 - nth) * w.step;
        };
#pragma unroll
        for (int j = 0; j < DEEP; ++j) {
            const uint64_t i = index(j);
            if (i < w.end) {
                const uint64_t at = w.at(a, i);
#pragma unroll
                for (int s = 0; s < STREAMS; ++s) raw[j][s].load(from[s] + at);
            }
        }
#pragma unroll
        for (int j = 0; j < DEEP; ++j) {
            const uint64_t i = index(j);
            if (i < w.end) each(w.at(a, i), raw[j]);
        }
        between();
    }
}

// What a block's threads know of their channels: `make(channel)` is called once for each of them.
template <typename W, typename V, typename F>
__device__ __forceinline__ void of_channels(const Args& a, const W& w, V mine[], F make) {
    if constexpr (W::CHANNELS == 1) {
        if (w.channel < a.channels) mine[0] = make(w.channel);
    } else {
        __shared__ V staged[BLOCK];
        const int columns = a.threads_across * W::N;
        const uint64_t channel = uint64_t(blockIdx.x) * columns + threadIdx.x;
        if (threadIdx.x < columns && channel < a.channels) staged[threadIdx.x] = make(channel);
        __syncthreads();
#pragma unroll
        for (int k = 0; k < W::N; ++k) mine[k] = staged[threadIdx.x % a.threads_across * W::N + k];
    }
}

// Adds `terms(index, raw, first, second)` of all elements up by channel, in f32 of as many as are loaded at a time and in f64 beyond,
// into the block's part.
template <int STREAMS, typename W, typename F>
__device__ __forceinline__ void add_up(const Args& a, const W& w, const typename W::T* const (&from)[STREAMS], F terms) {
    using C = compute_t<typename W::T>;
    constexpr int N = W::N, CHANNELS = W::CHANNELS;
    double sums[2][CHANNELS] = {};
    C near[2][N] = {};
    over<Order::FORTH>(
        a, w, from,
        [&](uint64_t at, const Piece<typename W::T, N>* raw) {
            C first[N], second[N];
            terms(at, raw, first, second);
#pragma unroll
            for (int k = 0; k < N; ++k) near[0][k] += first[k], near[1][k] += second[k];
        },
        [&] {
#pragma unroll
            for (int s = 0; s < 2; ++s) {
                if constexpr (CHANNELS < N) {
                    sums[s][0] += double(tree(near[s]));
                } else {
#pragma unroll
                    for (int k = 0; k < N; ++k) sums[s][k] += double(near[s][k]);
                }
#pragma unroll
                for (int k = 0; k < N; ++k) near[s][k] = C(0);
            }
        });
    double* part = a.parts + uint64_t(blockIdx.y) * 2 * a.channels;
    if constexpr (W::SHARED) {
        const Two both = over_row<BLOCK / 32>(Two{sums[0][0], sums[1][0]}, Add());
        if (threadIdx.x == 0) part[w.channel] = both.first, part[a.channels + w.channel] = both.second;
    } else {
        __shared__ double shared[BLOCK * N];
        const int columns = a.threads_across * N, rows = BLOCK / a.threads_across;
        const uint64_t base = uint64_t(blockIdx.x) * columns;
#pragma unroll
        for (int s = 0; s < 2; ++s) {
            __syncthreads();
#pragma unroll
            for (int k = 0; k < N; ++k) shared[threadIdx.x * N + k] = sums[s][k];
            __syncthreads();
            for (int c = threadIdx.x; c < columns; c += BLOCK) {
                double sum = 0.0;
                for (int r = 0; r < rows; ++r) sum += shared[r * columns + c];
                if (base + c < a.channels) part[s * a.channels + base + c] = sum;
            }
        }
    }
}
