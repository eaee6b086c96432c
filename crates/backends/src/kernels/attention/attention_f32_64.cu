// nvcc: --fmad=true
#include "entries.cuh"

ATTENTION(float, 64, false)
