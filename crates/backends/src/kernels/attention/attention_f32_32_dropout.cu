// nvcc: --fmad=true
#include "entries.cuh"

ATTENTION(float, 32, true)
