//! The oracle: one element after another.

use super::{F16_MIN_NORMAL, GradStats};
use crate::Floats;

/// The statistics of one gradient, computed without blocks, lanes or threads.
pub fn grad_stats_scalar(grad: Floats<'_>, inv_scale: f32) -> GradStats {
    let mut stats = GradStats::default();
    let mut add = |g: f64, x: f64| {
        stats.len += 1;
        stats.non_finite += u64::from(!x.is_finite());
        stats.zeros += u64::from(g == 0.0);
        stats.subnormal += u64::from(g != 0.0 && g.abs() < F16_MIN_NORMAL);
        stats.sum_squares += x * x;
    };
    let mut add_f32 = |g: f32| add(f64::from(g), f64::from(g * inv_scale));
    match grad {
        Floats::F16(x) => x.iter().for_each(|g| add_f32(g.to_f32())),
        Floats::Bf16(x) => x.iter().for_each(|g| add_f32(g.to_f32())),
        Floats::F32(x) => x.iter().for_each(|&g| add_f32(g)),
        Floats::F64(x) => x.iter().for_each(|&g| add(g, g * f64::from(inv_scale))),
    }
    stats
}
