// The kernels of one dtype and width, with dropout or without. They are a module of their own, because the driver
// compiles a module as a whole when its first kernel is asked for.
#pragma once
#include "warpgroup_backward.cuh"

// How the kernels of a width are launched where they are of `wgmma`: warpgroups of a block, for 64 queries or keys each, and
// blocks to a multiprocessor.
template <int D> struct Groups {
    static constexpr int OF_QUERIES = D > 64 ? 1 : 2, QUERY_BLOCKS = 2, QUERY_STAGES = D > 64 ? 2 : 3;
    static constexpr int OF_KEYS = D > 64 ? 2 : 1, KEY_BLOCKS = D > 64 ? 1 : 3;
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
template <typename T, int D> constexpr bool BY_WARPGROUPS = sizeof(T) == 2 && D % 64 == 0;
#define EITHER(T, D, WARPGROUP_KERNEL, KERNEL)          \
    if constexpr (BY_WARPGROUPS<T, D>) WARPGROUP_KERNEL; \
    else KERNEL
#else
template <typename T, int D> constexpr bool BY_WARPGROUPS = false;
#define EITHER(T, D, WARPGROUP_KERNEL, KERNEL) KERNEL
#endif

template <typename T, int D, bool DROPS> __device__ __forceinline__ void run_forward(const ForwardArgs& a) {
    EITHER(T, D, (warpgroup_forward<T, D, DROPS, Groups<D>::OF_QUERIES>(a)), (forward<T, D, DROPS>(a)));
}
template <typename T, int D, bool DROPS> __device__ __forceinline__ void run_backward_query(const BackwardArgs& a) {
    EITHER(T, D, (warpgroup_backward_query<T, D, DROPS, Groups<D>::OF_QUERIES, Groups<D>::QUERY_STAGES>(a)), (backward_query<T, D, DROPS>(a)));
}
template <typename T, int D, bool DROPS> __device__ __forceinline__ void run_backward_key(const BackwardArgs& a) {
    EITHER(T, D, (warpgroup_backward_key<T, D, DROPS, Groups<D>::OF_KEYS>(a)), (backward_key<T, D, DROPS>(a)));
}

#define ATTENTION_KERNEL(NAME, ARGS, T, D, DROPS, GROUPS, BLOCKS)                                             \
    extern "C" __global__ void                                                                                \
        __launch_bounds__(BY_WARPGROUPS<T, D> ? 128 * GROUPS : THREADS, BY_WARPGROUPS<T, D> ? BLOCKS : 2)     \
            attention_##NAME(const __grid_constant__ ARGS a) {                                                \
        run_##NAME<T, D, DROPS>(a);                                                                           \
    }

#define ATTENTION(T, D, DROPS)                                                                                        \
    ATTENTION_KERNEL(forward, ForwardArgs, T, D, DROPS, Groups<D>::OF_QUERIES, Groups<D>::QUERY_BLOCKS)               \
    ATTENTION_KERNEL(backward_query, BackwardArgs, T, D, DROPS, Groups<D>::OF_QUERIES, Groups<D>::QUERY_BLOCKS)       \
    ATTENTION_KERNEL(backward_key, BackwardArgs, T, D, DROPS, Groups<D>::OF_KEYS, Groups<D>::KEY_BLOCKS)
