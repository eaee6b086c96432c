// The kernels of one dtype and one width. They are a module of their own, because the driver compiles a module as a whole
// when its first kernel is asked for.
#pragma once
#include "backward.cuh"

#define ATTENTION(T, D)                                                                                                \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_forward(const __grid_constant__ ForwardArgs a) { \
        forward<T, D>(a);                                                                                              \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_backward_query(const __grid_constant__ BackwardArgs a) { \
        backward_query<T, D>(a);                                                                                       \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_backward_key(const __grid_constant__ BackwardArgs a) { \
        backward_key<T, D>(a);                                                                                         \
    }
