//! gelu: `x Φ(x)` by what is left of the normal distribution beyond `|x|`, a polynomial times an exponential.

use super::{Parts, Single, Stage, scaled, within};
use crate::simd::Simd;
use crate::simd::map::{BLOCK, Block};

pub(super) struct Gelu;

/// Beyond it what is left of f32 is 0.
const END: f32 = 15.;

/// `exp(−t²/2)` of `t = |x|`.
#[inline(always)]
fn bells<S: Simd>(simd: S, x: &Block<f32>) -> Stage {
    let mut stage = Stage::of(x, |x| {
        let t = within(x, END);
        let square = t * t;
        Parts { high: -0.5 * square, low: -0.5 * simd.mul_add(t, t, -square) }
    });
    stage.exponentials(simd);
    stage
}

/// `Φ(−t) exp(t²/2)` for `0 ≤ t ≤ 15`: a polynomial in `(t − 4) / (t + 4)`, over `t + 4`.
#[inline(always)]
fn tail<S: Simd>(simd: S, t: f32) -> Parts {
    const LAST: f32 = 0.755_285_14;
    /// What that lacks.
    const LAST_LOW: f32 = -8.600_546e-9;
    let sum = t + 4.;
    let lost = t - (sum - 4.);
    let one_over = 1. / sum;
    let low = one_over * simd.mul_add(-one_over, lost, simd.mul_add(-one_over, sum, 1.));
    let s = simd.mul_add(t - 4., one_over, (t - 4.) * low);
    let mut p = -0.000_134_200_76;
    for c in [
        0.000_174_651_26,
        0.001_568_408,
        -0.003_510_205_3,
        -0.007_524_003,
        0.060_403_49,
        -0.186_523_66,
        0.387_136_9,
        -0.607_896_57,
    ] {
        p = simd.mul_add(p, s, c);
    }
    let high = simd.mul_add(p, s, LAST);
    let rest = simd.mul_add(p, s, LAST - high) + LAST_LOW;
    let product = high * one_over;
    let low = simd.mul_add(high, one_over, -product) + simd.mul_add(high, low, rest * one_over);
    Parts { high: product, low }
}

/// [`tail`] of `|x|`.
#[inline(always)]
fn tails<S: Simd>(simd: S, x: &Block<f32>) -> Stage {
    Stage::of(x, |x| tail(simd, within(x, END)))
}

impl Single for Gelu {
    #[inline(always)]
    fn values<S: Simd>(simd: S, x: &Block<f32>, to: &mut Block<f32>) {
        let (bells, tails) = (bells(simd, x), tails(simd, x));
        for i in 0..BLOCK {
            let ((e, n), (r, _), t) = (bells.at(i), tails.at(i), within(x[i], END));
            let high = e.high * r.high;
            let low = simd.mul_add(e.high, r.high, -high) + simd.mul_add(e.high, r.low, e.low * r.high);
            // t Φ(−t).
            let beyond = scaled(simd.mul_add(t, high, t * low), n);
            to[i] = if x[i] < 0. { -beyond } else { x[i] - beyond };
        }
    }

    /// `Φ(x) + x φ(x)`.
    #[inline(always)]
    fn slopes<S: Simd>(simd: S, x: &Block<f32>, to: &mut Block<f32>) {
        /// `1/√(2π)` in two parts.
        const DENSITY: [f32; 2] = [0.398_942_3, -1.133_517e-8];
        let (bells, tails) = (bells(simd, x), tails(simd, x));
        for i in 0..BLOCK {
            let ((e, n), (r, _), t) = (bells.at(i), tails.at(i), within(x[i], END));
            let both = simd.mul_add(-DENSITY[0], t, r.high) + simd.mul_add(-DENSITY[1], t, r.low);
            let beyond = scaled(simd.mul_add(e.high, both, e.low * both), n);
            to[i] = if x[i] < 0. { beyond } else { 1. - beyond };
        }
    }
}
