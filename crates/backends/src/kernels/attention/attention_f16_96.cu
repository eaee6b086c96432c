// nvcc: --fmad=true
#include "entries.cuh"

ATTENTION(__half, 96, false)
