// AdamW and Adam over every parameter in one launch.
#include "fused_step.cuh"

struct AdamGroup {
    double lr, beta1, beta2, eps;
    double decoupled, l2; // weight decay: one of the two is 0
};
static_assert(sizeof(AdamGroup) == 48, "");

template <typename C> struct AdamW {
    static constexpr int MOMENTS = 2;
    C l2, keep, lerp, beta2, one_minus_beta2, root_correction, eps, neg_step_size;
    bool from_start;

    static __device__ AdamW prepare(const AdamGroup& s, uint32_t step) {
        double weight = 1.0 - s.beta1;
        AdamW rule;
        rule.l2 = C(s.l2);
        rule.keep = C(1.0 - s.lr * s.decoupled);
        rule.from_start = weight < 0.5;
        rule.lerp = rule.from_start ? C(weight) : C(1) - C(weight);
        rule.beta2 = C(s.beta2);
        rule.one_minus_beta2 = C(1.0 - s.beta2);
        rule.root_correction = C(sqrt(1.0 - pow(s.beta2, double(step))));
        rule.eps = C(s.eps);
        rule.neg_step_size = C(-(s.lr / (1.0 - pow(s.beta1, double(step)))));
        return rule;
    }

    __device__ __forceinline__ void operator()(C& w, C g, C& m, C& v) const {
        if (l2 != C(0)) g = g + l2 * w;
        w = w * keep;
        m = from_start ? m + lerp * (g - m) : g - (g - m) * lerp;
        v = v * beta2 + one_minus_beta2 * g * g;
        w = w + neg_step_size * m / (sqrt(v) / root_correction + eps);
    }
};

FUSED_STEP(adamw, AdamW, AdamGroup)
