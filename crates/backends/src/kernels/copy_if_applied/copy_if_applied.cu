// Copies a list of tensors over others, unless the step was skipped.
#include "multi_tensor.cuh"

struct CopyDesc {
    const uint16_t* src;
    uint16_t* dst;
    uint64_t len; // in 16-bit units, of which every float has a whole number
};
static_assert(sizeof(CopyDesc) == 24, "");

struct CopyArgs {
    const CopyDesc* copies;
    const StepState* state;
    uint32_t serial, blocks_per_copy;
};
static_assert(sizeof(CopyArgs) == 24, "");

extern "C" __global__ void __launch_bounds__(BLOCK) copy_if_applied(const __grid_constant__ CopyArgs a) {
    // A later step has taken the decision's place: what was asked for is not known any more.
    if (a.state->found_inf || a.state->serial != a.serial) return;
    const CopyDesc copy = a.copies[blockIdx.x / a.blocks_per_copy];
    uint64_t first = uint64_t(blockIdx.x % a.blocks_per_copy) * BLOCK + threadIdx.x;
    for (uint64_t i = first; i < copy.len; i += uint64_t(a.blocks_per_copy) * BLOCK) copy.dst[i] = copy.src[i];
}
