// nvcc: --fmad=true
#include "entries.cuh"

ATTENTION(__half, 128, false)
