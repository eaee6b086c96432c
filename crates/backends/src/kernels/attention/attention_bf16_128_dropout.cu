// nvcc: --fmad=true
#include "entries.cuh"

ATTENTION(__nv_bfloat16, 128, true)
