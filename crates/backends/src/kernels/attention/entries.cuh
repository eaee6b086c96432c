// The kernels of one dtype and one width, with dropout or without. They are a module of their own, because the driver
// compiles a module as a whole when its first kernel is asked for.
#pragma once
#include "backward.cuh"

#define ATTENTION_KERNEL(NAME, ARGS, T, D, DROPS)                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_##NAME(const __grid_constant__ ARGS a) { \
        NAME<T, D, DROPS>(a);                                                                                  \
    }

#define ATTENTION(T, D, DROPS)                                     \
    ATTENTION_KERNEL(forward, ForwardArgs, T, D, DROPS)            \
    ATTENTION_KERNEL(backward_query, BackwardArgs, T, D, DROPS)    \
    ATTENTION_KERNEL(backward_key, BackwardArgs, T, D, DROPS)
