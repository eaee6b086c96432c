// Rows of heads from one place to another, times a number: 16 bytes of a thread.
#include "multi_tensor.cuh"

struct HeadRowsArgs {
    const void* x;
    void* out;
    uint64_t from[3], to[3]; // from a batch element, a head and a row to the next, in chunks
    uint32_t count, heads, rows, width; // chunks in all, and of a row
    double factor;
};
static_assert(sizeof(HeadRowsArgs) == 88, "");

template <typename T> struct alignas(16) Piece {
    T at[16 / sizeof(T)];
};

// Neighbours take the chunks of a row, then those of the same row of the next head.
template <typename T> __device__ void copy(const HeadRowsArgs& a) {
    const uint32_t i = blockIdx.x * BLOCK + threadIdx.x;
    if (i >= a.count) return;
    const uint32_t row_of_head = i / a.width, chunk = i % a.width;
    const uint32_t row_of_all = row_of_head / a.heads, head = row_of_head % a.heads;
    const uint64_t batch = row_of_all / a.rows, row = row_of_all % a.rows;
    auto at = [&](const uint64_t strides[3]) { return batch * strides[0] + head * strides[1] + row * strides[2] + chunk; };
    Piece<T> x = static_cast<const Piece<T>*>(a.x)[at(a.from)];
    const T factor = T(a.factor);
    if (factor != T(1)) {
#pragma unroll
        for (T& each : x.at) each *= factor;
    }
    static_cast<Piece<T>*>(a.out)[at(a.to)] = x;
}

extern "C" __global__ void __launch_bounds__(BLOCK) head_rows_f32(const __grid_constant__ HeadRowsArgs a) { copy<float>(a); }
extern "C" __global__ void __launch_bounds__(BLOCK) head_rows_f64(const __grid_constant__ HeadRowsArgs a) { copy<double>(a); }
