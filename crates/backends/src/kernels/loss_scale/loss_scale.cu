// Moves the loss scale by what the optimizers found since the last update: `ScaleState::update` where the scale lives. One
// thread. Products are taken in f64 and rounded to f32 once.
#include "multi_tensor.cuh"

struct UpdateArgs {
    float* scale;
    ScalerState* state;
    double growth_factor, backoff_factor;
    double min_scale, max_scale; // negative: none
    uint32_t growth_interval, hysteresis, refill_on_clean_step, is_static;
};
static_assert(sizeof(UpdateArgs) == 64, "");

extern "C" __global__ void loss_scale(const __grid_constant__ UpdateArgs a) {
    if (threadIdx.x != 0) return;
    ScalerState s = *a.state;
    float scale = *a.scale;
    if (a.is_static) {
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
    *a.scale = scale;
    *a.state = s;
}
