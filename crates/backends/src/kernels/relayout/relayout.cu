// (n, a, b) to (n, b, width), with zeros behind a: by square tiles through shared memory, or by strips where a side is short.
#include "multi_tensor.cuh"

constexpr int TILE = 32;

struct Args {
    const void* x;
    void* out;
    uint64_t n, a, b, width;
    uint64_t strip[2]; // a strip's elements along a and b
};
static_assert(sizeof(Args) == 64, "");

template <typename T> __device__ void tiles(const Args& args) {
    // A column more, so that a column of the tile lies in as many banks.
    __shared__ T tile[TILE][TILE + 1];
    const T* x = static_cast<const T*>(args.x);
    T* out = static_cast<T*>(args.out);
    const uint64_t across = (args.b + TILE - 1) / TILE, down = (args.a + TILE - 1) / TILE;
    const int column = threadIdx.x % TILE, row = threadIdx.x / TILE;
    for (uint64_t t = blockIdx.x; t < args.n * across * down; t += gridDim.x) {
        const uint64_t b0 = t % across * TILE, a0 = t / across % down * TILE, n = t / (across * down);
        const uint64_t base = n * args.a * args.b;
        __syncthreads();
#pragma unroll
        for (int i = 0; i < TILE; i += BLOCK / TILE) {
            const uint64_t a = a0 + row + i, b = b0 + column;
            if (a < args.a && b < args.b) tile[row + i][column] = x[base + a * args.b + b];
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < TILE; i += BLOCK / TILE) {
            const uint64_t b = b0 + row + i, a = a0 + column;
            if (a < args.a && b < args.b) out[base + b * args.a + a] = tile[column][row + i];
        }
    }
}

// Elements of a strip, with what keeps its columns in different banks: rows are of odd lengths.
constexpr int STRIP = 4096;

// One side of a strip is the whole short side, so that what is read or written is one run, and the other side many runs of some length.
template <typename T> __device__ void strips(const Args& args) {
    __shared__ T strip[STRIP];
    const T* x = static_cast<const T*>(args.x);
    T* out = static_cast<T*>(args.out);
    const uint32_t along_a = uint32_t(args.strip[0]), along_b = uint32_t(args.strip[1]), pitch = along_b | 1;
    const uint64_t across = (args.b + along_b - 1) / along_b, down = (args.a + along_a - 1) / along_a;
    for (uint64_t t = blockIdx.x; t < args.n * across * down; t += gridDim.x) {
        const uint64_t b0 = t % across * along_b, a0 = t / across % down * along_a, n = t / (across * down);
        const uint32_t as = uint32_t(min(uint64_t(along_a), args.a - a0)), bs = uint32_t(min(uint64_t(along_b), args.b - b0));
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < as * bs; i += BLOCK) {
            const uint32_t a = i / bs, b = i - a * bs;
            strip[a * pitch + b] = x[(n * args.a + a0 + a) * args.b + b0 + b];
        }
        __syncthreads();
        const uint32_t wide = a0 + as == args.a ? uint32_t(args.width - a0) : as;
        for (uint32_t i = threadIdx.x; i < wide * bs; i += BLOCK) {
            const uint32_t b = i / wide, a = i - b * wide;
            out[(n * args.b + b0 + b) * args.width + a0 + a] = a < as ? strip[a * pitch + b] : T(0);
        }
    }
}

#define RELAYOUT(T, BYTES)                                                                                        \
    extern "C" __global__ void __launch_bounds__(BLOCK) relayout_tiles_##BYTES(const Args args) { tiles<T>(args); } \
    extern "C" __global__ void __launch_bounds__(BLOCK) relayout_strips_##BYTES(const Args args) { strips<T>(args); }

RELAYOUT(uint16_t, 2)
RELAYOUT(uint32_t, 4)
RELAYOUT(uint64_t, 8)
