// nvcc: --fmad=true
#include "entries.cuh"

ATTENTION(__half, 64, false)
