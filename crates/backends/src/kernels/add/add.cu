// Sums of two buffers of any float types, and additions into a part of one. Each sum is rounded once.
#include "rows.cuh"

struct AddArgs {
    const void* a;
    const void* b;
    void* out;
    uint64_t len;
    uint64_t period; // elements of b, which is repeated
    double sign;
    uint8_t a_dtype, b_dtype, out_dtype, unused[5];
};
static_assert(sizeof(AddArgs) == 56, "");

template <typename C> __device__ __forceinline__ void add(const AddArgs& a) {
    const uint64_t threads = uint64_t(BLOCK) * gridDim.x, units = (a.len + UNIT - 1) / UNIT;
    const C sign = C(a.sign);
    for (uint64_t i = uint64_t(BLOCK) * blockIdx.x + threadIdx.x; i < units; i += threads) {
        const uint64_t at = i * UNIT;
        const int count = int(min(uint64_t(UNIT), a.len - at));
        C x[UNIT], y[UNIT];
        load_typed(a.a, a.a_dtype, at, count, x);
        // 32-bit division is several times as fast.
        uint64_t from = a.period == a.len ? at : (at | a.period) >> 32 ? at % a.period : uint32_t(at) % uint32_t(a.period);
        if (from + count <= a.period) load_typed(a.b, a.b_dtype, from, count, y);
        else
            for (int k = 0; k < count; ++k) {
                C one[UNIT];
                load_typed(a.b, a.b_dtype, (from + k) % a.period, 1, one);
                y[k] = one[0];
            }
#pragma unroll
        for (int k = 0; k < UNIT; ++k) x[k] = x[k] + sign * y[k];
        store_typed(a.out, a.out_dtype, at, count, x);
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK) add(const __grid_constant__ AddArgs a) { add<float>(a); }
// Where an operand is f64, so that none is rounded before the sum.
extern "C" __global__ void __launch_bounds__(BLOCK) add_f64(const __grid_constant__ AddArgs a) { add<double>(a); }

constexpr int RANK = 6;

struct AddIntoArgs {
    const void* x;
    void* target; // its element of index 0
    uint64_t len;
    uint64_t dims[RANK], strides[RANK]; // of x, in the target; the last first, 1 and 0 where there is none
    uint8_t x_dtype, target_dtype, unused[6];
};
static_assert(sizeof(AddIntoArgs) == 128, "");

template <typename C> __device__ __forceinline__ void add_into(const AddIntoArgs& a) {
    const uint64_t threads = uint64_t(BLOCK) * gridDim.x;
    typed(a.x, a.x_dtype, [&](auto* x) {
        typed(a.target, a.target_dtype, [&](auto* constant) {
            auto* to = const_cast<std::remove_const_t<std::remove_pointer_t<decltype(constant)>>*>(constant);
            for (uint64_t i = uint64_t(BLOCK) * blockIdx.x + threadIdx.x; i < a.len; i += threads) {
                uint64_t rest = i, at = 0;
#pragma unroll
                for (int d = 0; d < RANK; ++d) {
                    if (a.dims[d] == 1) continue;
                    // 32-bit division is several times as fast.
                    uint64_t next = (rest | a.dims[d]) >> 32 ? rest / a.dims[d] : uint32_t(rest) / uint32_t(a.dims[d]);
                    at += (rest - next * a.dims[d]) * a.strides[d];
                    rest = next;
                }
                to[at] = convert<std::remove_reference_t<decltype(to[0])>>(convert<C>(to[at]) + convert<C>(x[i]));
            }
        });
    });
}

extern "C" __global__ void __launch_bounds__(BLOCK) add_into(const __grid_constant__ AddIntoArgs a) {
    if (a.x_dtype == F64 || a.target_dtype == F64) add_into<double>(a);
    else add_into<float>(a);
}

struct AddRowArgs {
    const void* row;
    void* target; // rows of `width`
    uint64_t len, width;
    uint8_t row_dtype, target_dtype, unused[6];
};
static_assert(sizeof(AddRowArgs) == 40, "");

template <typename C, int N, typename R, typename T>
__device__ __forceinline__ void add_row(const AddRowArgs& a, const R* row, T* to) {
    struct alignas(N * sizeof(T)) Elements { T at[N]; };
    struct alignas(N * sizeof(R)) Terms { R at[N]; };
    const uint64_t threads = uint64_t(BLOCK) * gridDim.x;
    for (uint64_t i = uint64_t(BLOCK) * blockIdx.x + threadIdx.x; i < a.len / N; i += threads) {
        uint64_t at = i * N, column = at >> 32 ? at % a.width : uint32_t(at) % uint32_t(a.width);
        Elements x = reinterpret_cast<const Elements*>(to)[i];
        Terms y = *reinterpret_cast<const Terms*>(row + column);
#pragma unroll
        for (int k = 0; k < N; ++k) x.at[k] = convert<T>(convert<C>(x.at[k]) + convert<C>(y.at[k]));
        reinterpret_cast<Elements*>(to)[i] = x;
    }
}

template <typename C> __device__ __forceinline__ void add_row(const AddRowArgs& a) {
    typed(a.row, a.row_dtype, [&](auto* row) {
        typed(a.target, a.target_dtype, [&](auto* constant) {
            using T = std::remove_const_t<std::remove_pointer_t<decltype(constant)>>;
            T* to = const_cast<T*>(constant);
            constexpr int N = 16 / sizeof(T);
            bool packed = a.width % N == 0 && uintptr_t(to) % 16 == 0 && uintptr_t(row) % (N * sizeof(row[0])) == 0;
            if (packed) add_row<C, N>(a, row, to);
            else add_row<C, 1>(a, row, to);
        });
    });
}

extern "C" __global__ void __launch_bounds__(BLOCK) add_row(const __grid_constant__ AddRowArgs a) {
    if (a.row_dtype == F64 || a.target_dtype == F64) add_row<double>(a);
    else add_row<float>(a);
}
