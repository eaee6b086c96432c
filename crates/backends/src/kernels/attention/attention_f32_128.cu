// nvcc: --fmad=true
#include "entries.cuh"

ATTENTION(float, 128, false)
