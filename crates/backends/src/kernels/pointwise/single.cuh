// The functions that networks are made of, and their derivatives, of f32 in f32.
//
// An exponential and what it is multiplied by are kept in two parts each, so that a value is rounded about twice on its way:
// where the formulas of `forms.rs` have an f64 that is rounded once, these are within 2 ULP of it. A derivative is a sum of two
// terms, and within 3 ULP of the sum of their sizes; it is rounded before it is multiplied by the gradient.
#pragma once
#include <cmath>
#include <cstdint>

#define INLINE __device__ __forceinline__ float

struct Parts {
    float high, low;
};

INLINE from_bits(int32_t bits) { return __int_as_float(bits); }
// Off by one unit or so, which what follows corrects.
INLINE about_one_over(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// v · 2ⁿ for -250 < n < 250, in two steps of which one rounds.
INLINE scaled(float v, int32_t n) {
    const int32_t half = n >> 1;
    return v * from_bits((half + 127) << 23) * from_bits((n - half + 127) << 23);
}

// exp(x + lost) is the sum of the parts, which is near 1, times 2ⁿ; for -200 < x <= 0.
__device__ __forceinline__ Parts exponential(float x, float lost, int32_t* n) {
    const float whole = fmaf(x, 1.44269504f, 12582912.f), k = whole - 12582912.f; // 1.5 · 2²³: rounds to an integer
    *n = __float_as_int(whole) - 0x4b400000;
    // ln 2 in two parts, of which the first times k is exact.
    const float r = fmaf(k, -1.42860677e-6f, fmaf(k, -0.693145752f, x)) + lost;
    float p = fmaf(0.00138142135f, r, 0.00836889911f);
    p = fmaf(fmaf(fmaf(p, r, 0.0416684076f), r, 0.166665196f), r, 0.49999994f);
    const float rest = fmaf(r * r, p, r), high = 1 + rest;
    return {high, rest - (high - 1)};
}

// ---- gelu -------------------------------------------------------------------------------------------------------

// Φ(-t) exp(t²/2) for 0 <= t <= 15: a polynomial in (t - 4) / (t + 4), over t + 4.
__device__ __forceinline__ Parts tail(float t) {
    const float sum = t + 4, lost = t - (sum - 4);
    const float one_over = about_one_over(sum);
    const float low = one_over * fmaf(-one_over, lost, fmaf(-one_over, sum, 1.f));
    const float s = fmaf(t - 4, one_over, (t - 4) * low);
    float p = fmaf(-0.00013420076f, s, 0.000174651257f);
    p = fmaf(fmaf(fmaf(p, s, 0.00156840798f), s, -0.00351020531f), s, -0.00752400281f);
    p = fmaf(fmaf(fmaf(p, s, 0.0604034886f), s, -0.186523661f), s, 0.387136906f);
    p = fmaf(p, s, -0.607896566f);
    const float high = fmaf(p, s, 0.755285144f), rest = fmaf(p, s, 0.755285144f - high) - 8.60054583e-9f;
    const float product = high * one_over;
    return {product, fmaf(high, one_over, -product) + fmaf(high, low, rest * one_over)};
}

// exp(-t²/2), as `exponential` has it.
__device__ __forceinline__ Parts bell(float t, int32_t* n) {
    const float square = t * t;
    return exponential(-0.5f * square, -0.5f * fmaf(t, t, -square), n);
}

// Beyond it what is left of f32 is 0.
INLINE within_15(float x) { return fabsf(x) > 15 ? 15 : fabsf(x); }

INLINE gelu(float x) {
    int32_t n;
    const float t = within_15(x);
    const Parts e = bell(t, &n), r = tail(t);
    const float high = e.high * r.high;
    const float low = fmaf(e.high, r.high, -high) + fmaf(e.high, r.low, e.low * r.high);
    const float beyond = scaled(fmaf(t, high, t * low), n); // t Φ(-t)
    return x >= 0 ? x - beyond : -beyond;
}

// Φ(x) + x φ(x).
INLINE gelu_slope(float x) {
    int32_t n;
    const float t = within_15(x);
    const Parts e = bell(t, &n), r = tail(t);
    const float both = fmaf(-0.398942292f, t, r.high) + fmaf(1.1335170e-8f, t, r.low);
    const float beyond = scaled(fmaf(e.high, both, e.low * both), n);
    return x >= 0 ? 1 - beyond : beyond;
}

// ---- x σ(z) -----------------------------------------------------------------------------------------------------

// e^-|z| and 1 / (1 + e^-|z|), for z whose rounding has lost something.
struct Gate {
    Parts e;
    int32_t n;
    float scaled_e, sum, sum_low, one_over;
    __device__ __forceinline__ Gate(float size, float lost) {
        e = exponential(-size, -lost, &n);
        scaled_e = scaled(e.high, n);
        sum = 1 + scaled_e;
        sum_low = scaled_e - (sum - 1) + scaled(e.low, n);
        one_over = about_one_over(sum);
    }
    // x / (1 + e^-|z|)
    __device__ __forceinline__ float open(float x) const {
        const float q = x * one_over;
        return fmaf(fmaf(-q, sum_low, fmaf(-q, sum, x)), one_over, q);
    }
    // q e^-|z|
    __device__ __forceinline__ float closed(float q) const { return scaled(fmaf(q, e.high, q * e.low), n); }
};

// x σ(z) and its derivative, with t = |x| and b = |x z′|; z has x's sign.
INLINE gated(const Gate& gate, float x, float t) {
    const float q = gate.open(t);
    return x >= 0 ? q : -gate.closed(q);
}
INLINE gated_slope(const Gate& gate, float x, float b) {
    const float q = gate.open(1);
    return x >= 0 ? fmaf(b, q * gate.scaled_e, 1.f) * q : gate.closed(fmaf(-b, q, 1.f) * q);
}

// Beyond it e^-|x| is 0.
INLINE within_120(float x) { return fabsf(x) > 120 ? 120 : fabsf(x); }
INLINE silu(float x) {
    const float t = within_120(x);
    return x > 120 ? x : gated(Gate(t, 0), x, t);
}
INLINE silu_slope(float x) {
    const float t = within_120(x);
    return gated_slope(Gate(t, 0), x, t);
}
INLINE sigmoid(float x) {
    const Gate gate(within_120(x), 0);
    const float q = gate.open(1);
    return x >= 0 ? q : gate.closed(q);
}
// σ(x) σ(-x)
INLINE sigmoid_slope(float x) {
    const Gate gate(within_120(x), 0);
    const float q = gate.open(1);
    return gate.closed(q * q);
}

// 2 √(2/π) t (1 + 0.044715 t²) in two parts, and its derivative.
__device__ __forceinline__ Parts gelu_tanh_argument(float t) {
    const float square = t * t, square_lost = fmaf(t, t, -square);
    const float cubic = 0.0447149985f * square;
    const float cubic_lost = fmaf(0.0447149985f, square, -cubic) + fmaf(0.0447149985f, square_lost, 1.54614448e-09f * square);
    const float factor = 1 + cubic, added = factor - 1;
    const float factor_lost = (1 - (factor - added)) + (cubic - added) + cubic_lost;
    const float product = t * factor, product_lost = fmaf(t, factor, -product) + t * factor_lost;
    const float argument = 1.59576917f * product;
    return {argument, fmaf(1.59576917f, product, -argument) + fmaf(1.59576917f, product_lost, -4.53406803e-08f * product)};
}
INLINE gelu_tanh_bend(float t) { return 1.59576917f * t * fmaf(0.134145007f * t, t, 1.f); }

INLINE within_12(float x) { return fabsf(x) > 12 ? 12 : fabsf(x); }
INLINE gelu_tanh(float x) {
    const float t = within_12(x);
    const Parts z = gelu_tanh_argument(t);
    return x > 12 ? x : gated(Gate(z.high, z.low), x, t);
}
INLINE gelu_tanh_slope(float x) {
    const float t = within_12(x);
    const Parts z = gelu_tanh_argument(t);
    return gated_slope(Gate(z.high, z.low), x, gelu_tanh_bend(t));
}
