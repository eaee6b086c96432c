// Rows of a table by their index: a warp copies a row.
#include "multi_tensor.cuh"

struct LookupArgs {
    const void *ids, *table;
    void* out;
    uint64_t count, rows, width;
    uint8_t dtype, kind, unit, unused; // kind of the ids: 0 int64_t, 1 uint32_t, 2 uint8_t; unit: 16 bytes at a time
    uint32_t pad;
};
static_assert(sizeof(LookupArgs) == 56, "");

__device__ __forceinline__ int64_t id_of(const LookupArgs& a, uint64_t i) {
    return a.kind == 0   ? static_cast<const int64_t*>(a.ids)[i]
           : a.kind == 1 ? int64_t(static_cast<const uint32_t*>(a.ids)[i])
                         : int64_t(static_cast<const uint8_t*>(a.ids)[i]);
}

extern "C" __global__ void __launch_bounds__(BLOCK) lookup(const __grid_constant__ LookupArgs a) {
    const uint64_t lane = threadIdx.x % 32, warps = BLOCK / 32;
    typed(a.table, a.dtype, [&](auto* table) {
        using T = std::remove_const_t<std::remove_pointer_t<decltype(table)>>;
        for (uint64_t i = blockIdx.x * warps + threadIdx.x / 32; i < a.count; i += gridDim.x * warps) {
            const int64_t id = id_of(a, i);
            const T* from = table + uint64_t(id) * a.width;
            T* to = static_cast<T*>(a.out) + i * a.width;
            if (id < 0 || uint64_t(id) >= a.rows) {
                for (uint64_t c = lane; c < a.width; c += 32) to[c] = convert<T>(NAN);
            } else if (a.unit) {
                const uint64_t units = a.width * sizeof(T) / 16;
                for (uint64_t c = lane; c < units; c += 32)
                    reinterpret_cast<int4*>(to)[c] = reinterpret_cast<const int4*>(from)[c];
            } else {
                for (uint64_t c = lane; c < a.width; c += 32) to[c] = from[c];
            }
        }
    });
}
