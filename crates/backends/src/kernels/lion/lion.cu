// Lion over every parameter in one launch.
#include "fused_step.cuh"

struct LionGroup {
    double lr, beta1, beta2, weight_decay;
    uint64_t pad[2];
};
static_assert(sizeof(LionGroup) == 48, "");

template <typename C> struct Lion {
    static constexpr int MOMENTS = 1;
    C lr, keep, beta1, one_minus_beta1, beta2, one_minus_beta2;

    static __device__ Lion prepare(const LionGroup& s, uint32_t) {
        return {C(s.lr),          C(1.0 - s.lr * s.weight_decay), C(s.beta1), C(1.0 - s.beta1), C(s.beta2),
                C(1.0 - s.beta2)};
    }

    __device__ __forceinline__ void operator()(C& w, C g, C& m, C&) const {
        C direction = m * beta1 + one_minus_beta1 * g;
        // Zero stays zero and NaN stays NaN.
        C moved = direction > C(0) ? lr : direction < C(0) ? -lr : direction;
        w = w * keep - moved;
        m = m * beta2 + one_minus_beta2 * g;
    }
};

FUSED_STEP(lion, Lion, LionGroup)
