// Losses of the difference of two buffers of any float types, their sums, and their gradient. Each result is rounded once.
#include "multi_tensor.cuh"

enum Loss : uint8_t { SQUARE, ABSOLUTE, SMOOTH_L1, HUBER };

struct DifferenceArgs {
    const void* x;
    const void* t;
    const void* grad; // one, or one of each element
    void* out;
    uint64_t len;
    double turn, divisor;
    uint8_t x_dtype, t_dtype, grad_dtype, out_dtype, grad_of_each;
    Loss loss;
    uint8_t unused[2];
};
static_assert(sizeof(DifferenceArgs) == 64 && offsetof(DifferenceArgs, loss) == 61, "");

constexpr int PACK = 4;
// Elements of one sum, as on the host.
constexpr uint64_t RUN = 16384;

template <typename C> __device__ __forceinline__ C sign(C d) { return d > 0 ? C(1) : d < 0 ? C(-1) : d; }
template <typename C> __device__ __forceinline__ C size(C d) { return fabs(d); }

template <typename C> __device__ __forceinline__ C value(const DifferenceArgs& a, C d) {
    C turn = C(a.turn), half = C(0.5), beyond = C(0.5 * a.turn);
    switch (a.loss) {
        case ABSOLUTE: return size(d);
        case SMOOTH_L1: return size(d) < turn ? (d * (d / turn)) * half : size(d) - beyond;
        case HUBER: return size(d) < turn ? d * (d * half) : (size(d) - beyond) * turn;
        default: return d * d;
    }
}

template <typename C> __device__ __forceinline__ C slope(const DifferenceArgs& a, C d) {
    C turn = C(a.turn);
    switch (a.loss) {
        case ABSOLUTE: return sign(d);
        case SMOOTH_L1: return size(d) < turn ? d / turn : sign(d);
        case HUBER: return size(d) < turn ? d : sign(d) * turn;
        default: return d * C(2);
    }
}

// Calls `f` with the index, the number and the differences of each four elements from `from` to `to` that are this thread's.
template <typename C, typename F>
__device__ __forceinline__ void each(const DifferenceArgs& a, uint64_t from, uint64_t to, uint64_t thread, uint64_t threads, F f) {
    for (uint64_t at = from + thread * PACK; at < to; at += threads * PACK) {
        int count = int(min(uint64_t(PACK), to - at));
        C d[PACK] = {}, t[PACK] = {};
        load_typed4(a.x, a.x_dtype, at, count, d);
        load_typed4(a.t, a.t_dtype, at, count, t);
#pragma unroll
        for (int k = 0; k < PACK; ++k) d[k] = d[k] - t[k];
        f(at, count, d);
    }
}

template <typename C> __device__ __forceinline__ void losses(const DifferenceArgs& a) {
    uint64_t thread = uint64_t(BLOCK) * blockIdx.x + threadIdx.x;
    each<C>(a, 0, a.len, thread, uint64_t(BLOCK) * gridDim.x, [&](uint64_t at, int count, C d[PACK]) {
#pragma unroll
        for (int k = 0; k < PACK; ++k) d[k] = value(a, d[k]);
        store_typed4(a.out, a.out_dtype, at, count, d);
    });
}

extern "C" __global__ void __launch_bounds__(BLOCK) losses(const __grid_constant__ DifferenceArgs a) {
    if (a.x_dtype == F64 || a.t_dtype == F64) losses<double>(a);
    else losses<float>(a);
}

template <typename C> __device__ __forceinline__ void gradient(const DifferenceArgs& a) {
    uint64_t thread = uint64_t(BLOCK) * blockIdx.x + threadIdx.x;
    C divisor = C(a.divisor), shared[PACK] = {};
    if (!a.grad_of_each) load_typed4(a.grad, a.grad_dtype, 0, 1, shared);
    shared[0] = shared[0] / divisor;
    each<C>(a, 0, a.len, thread, uint64_t(BLOCK) * gridDim.x, [&](uint64_t at, int count, C d[PACK]) {
        C grad[PACK] = {};
        if (a.grad_of_each) load_typed4(a.grad, a.grad_dtype, at, count, grad);
#pragma unroll
        for (int k = 0; k < PACK; ++k) d[k] = slope(a, d[k]) * (a.grad_of_each ? grad[k] / divisor : shared[0]);
        store_typed4(a.out, a.out_dtype, at, count, d);
    });
}

extern "C" __global__ void __launch_bounds__(BLOCK) gradient(const __grid_constant__ DifferenceArgs a) {
    if (a.x_dtype == F64 || a.t_dtype == F64) gradient<double>(a);
    else gradient<float>(a);
}

// One sum a block.
extern "C" __global__ void __launch_bounds__(BLOCK) sums(const __grid_constant__ DifferenceArgs a) {
    __shared__ double of_warp[BLOCK / 32];
    uint64_t from = blockIdx.x * RUN, to = min(a.len, from + RUN);
    double sum = 0;
    each<float>(a, from, to, threadIdx.x, BLOCK, [&](uint64_t, int count, float d[PACK]) {
        for (int k = 0; k < count; ++k) sum += double(value(a, d[k]));
    });
#pragma unroll
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int w = 1; w < BLOCK / 32; ++w) sum += of_warp[w];
    static_cast<double*>(a.out)[blockIdx.x] = sum;
}
