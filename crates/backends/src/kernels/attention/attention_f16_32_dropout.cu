// nvcc: --fmad=true
#include "entries.cuh"

ATTENTION(__half, 32, true)
