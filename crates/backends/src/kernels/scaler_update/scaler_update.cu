// Moves the loss scale by what the optimizers found since the last update: `ScaleState::update` of `grad-scaler`, where
// the scale lives. One thread. Products are taken in f64 and rounded to f32 once.
#include "multi_tensor.cuh"

struct UpdateArgs {
    float* scale;
    ScalerState* state;
    uint64_t* outcomes; // host memory: a ring of (serial, scale and tracker)
    double growth_factor, backoff_factor;
    double min_scale, max_scale; // negative: none
    uint32_t growth_interval, hysteresis, refill_on_clean_step, fixed;
    uint64_t ring;
};
static_assert(sizeof(UpdateArgs) == 80, "");

extern "C" __global__ void scaler_update(const __grid_constant__ UpdateArgs a) {
    if (threadIdx.x != 0) return;
    ScalerState s = *a.state;
    float scale = *a.scale;
    if (a.fixed) {
    } else if (s.found_inf) {
        s.hysteresis_left -= s.hysteresis_left > 0;
        s.growth_tracker = 0;
        if (s.hysteresis_left == 0) {
            scale = float(double(scale) * a.backoff_factor);
            if (a.min_scale >= 0.0) scale = fmaxf(scale, float(a.min_scale));
        }
    } else {
        if (s.growth_tracker < INT32_MAX) s.growth_tracker += 1;
        bool grows = uint32_t(s.growth_tracker) == a.growth_interval;
        if (grows || a.refill_on_clean_step) s.hysteresis_left = a.hysteresis;
        if (grows) {
            float grown = float(double(scale) * a.growth_factor);
            if (a.max_scale >= 0.0) grown = fminf(grown, float(a.max_scale));
            if (isfinite(grown)) scale = grown;
            s.growth_tracker = 0;
        }
    }
    s.found_inf = 0;
    s.serial += 1;
    *a.scale = scale;
    *a.state = s;
    volatile uint64_t* slot = a.outcomes + 2 * (s.serial % a.ring);
    slot[1] = (uint64_t(__float_as_uint(scale)) << 32) | uint32_t(s.growth_tracker);
    __threadfence_system();
    slot[0] = s.serial;
}
