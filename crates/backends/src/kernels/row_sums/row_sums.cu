// Rows added up by their index, in the order of the rows, without atomic additions.
//
// All lists are made empty; every row is hung into the list of its id, in whatever order; each list is sorted, and its rows
// are added up in f64 (of f64 with what its additions lose). A list that is longer than fits is found again by going through all ids.
#include "multi_tensor.cuh"
#include "sum.cuh"

struct RowSumsArgs {
    const int64_t* ids;
    const void* x;
    void* out;
    uint32_t* head; // for each row of the result: 1 + the last row hung in, or 0
    uint32_t* next; // for each row of x: as `head`
    uint64_t count, rows, width;
    uint32_t dtype, unused;
};
static_assert(sizeof(RowSumsArgs) == 72, "");

extern "C" __global__ void __launch_bounds__(BLOCK) row_sums_clear(const __grid_constant__ RowSumsArgs a) {
    for (uint64_t i = uint64_t(BLOCK) * blockIdx.x + threadIdx.x; i < a.rows; i += uint64_t(BLOCK) * gridDim.x) a.head[i] = 0;
}

extern "C" __global__ void __launch_bounds__(BLOCK) row_sums_link(const __grid_constant__ RowSumsArgs a) {
    for (uint64_t i = uint64_t(BLOCK) * blockIdx.x + threadIdx.x; i < a.count; i += uint64_t(BLOCK) * gridDim.x) {
        int64_t id = a.ids[i];
        if (id >= 0 && uint64_t(id) < a.rows) a.next[i] = atomicExch(&a.head[id], uint32_t(i) + 1);
    }
}

constexpr int LONGEST = 1024;

template <typename T>
__device__ void row_sums(const RowSumsArgs& a, const T* x, uint32_t* hung, uint32_t* sorted, uint32_t& length) {
    constexpr bool EXACT = std::is_same_v<T, double>;
    using Out = compute_t<T>;
    for (uint64_t row = blockIdx.x; row < a.rows; row += gridDim.x) {
        Out* out = static_cast<Out*>(a.out) + row * a.width;
        __syncthreads();
        if (threadIdx.x == 0) {
            uint32_t n = 0;
            for (uint32_t at = a.head[row]; at != 0 && n <= LONGEST; at = a.next[at - 1], ++n)
                if (n < LONGEST) hung[n] = at - 1;
            length = n;
        }
        __syncthreads();
        const uint32_t n = length;
        if (n <= LONGEST) {
            for (uint32_t i = threadIdx.x; i < n; i += BLOCK) {
                uint32_t before = 0;
                for (uint32_t j = 0; j < n; ++j) before += hung[j] < hung[i];
                sorted[before] = hung[i];
            }
            __syncthreads();
            for (uint64_t column = threadIdx.x; column < a.width; column += BLOCK) {
                Sum<EXACT> total;
                for (uint32_t i = 0; i < n; ++i) total.add(convert<double>(convert<Out>(x[sorted[i] * a.width + column])));
                out[column] = convert<Out>(total.value());
            }
        } else {
            for (uint64_t column = threadIdx.x; column < a.width; column += BLOCK) {
                Sum<EXACT> total;
                for (uint64_t i = 0; i < a.count; ++i)
                    if (a.ids[i] == int64_t(row)) total.add(convert<double>(convert<Out>(x[i * a.width + column])));
                out[column] = convert<Out>(total.value());
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK) row_sums(const __grid_constant__ RowSumsArgs a) {
    __shared__ uint32_t hung[LONGEST], sorted[LONGEST], length;
    typed(a.x, uint8_t(a.dtype), [&](auto* x) { row_sums(a, x, hung, sorted, length); });
}
