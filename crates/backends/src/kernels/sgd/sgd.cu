// SGD over every parameter in one launch.
#include "fused_step.cuh"

struct SgdGroup {
    double lr, momentum, dampening, weight_decay;
    uint64_t nesterov, pad;
};
static_assert(sizeof(SgdGroup) == 48, "");

template <typename C> struct Sgd {
    C decay, momentum, rest, neg_lr;
    bool nesterov, first_step;

    static __device__ Sgd prepare(const SgdGroup& s, uint32_t step) {
        return {C(s.weight_decay), C(s.momentum), C(1.0 - s.dampening), C(-s.lr), s.nesterov != 0, step == 1};
    }

    __device__ __forceinline__ C decayed(C w, C g) const { return decay == C(0) ? g : g + decay * w; }
};

template <typename C> struct SgdPlain : Sgd<C> {
    static constexpr int MOMENTS = 0;
    static __device__ SgdPlain prepare(const SgdGroup& s, uint32_t step) { return {Sgd<C>::prepare(s, step)}; }
    __device__ __forceinline__ void operator()(C& w, C g, C&, C&) const { w = w + this->neg_lr * this->decayed(w, g); }
};

template <typename C> struct SgdMomentum : Sgd<C> {
    static constexpr int MOMENTS = 1;
    static __device__ SgdMomentum prepare(const SgdGroup& s, uint32_t step) { return {Sgd<C>::prepare(s, step)}; }
    __device__ __forceinline__ void operator()(C& w, C g, C& m, C&) const {
        g = this->decayed(w, g);
        m = this->first_step ? g : m * this->momentum + this->rest * g;
        w = w + this->neg_lr * (this->nesterov ? g + this->momentum * m : m);
    }
};

FUSED_STEP(sgd_plain, SgdPlain, SgdGroup)
FUSED_STEP(sgd_momentum, SgdMomentum, SgdGroup)
