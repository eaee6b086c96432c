// nvcc: --fmad=true
#include "entries.cuh"

ATTENTION(float, 96, true)
