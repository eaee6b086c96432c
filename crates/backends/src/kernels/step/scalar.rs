//! The oracles: one element after another, each step of the formula on its own line.

use super::stats::{F16_MIN_NORMAL, GradStats};
use super::update::{Buffers, GradTransform, Rule, check};
use super::{WriteBack, random_bits};
use crate::{Floats, Real, Result, Store};

/// Does what [`fused_step`](super::fused_step) does, without blocks or threads.
///
/// # Errors
///
/// As [`fused_step`](super::fused_step).
pub fn fused_step_scalar<T, A>(
    buffers: Buffers<'_, T, A>,
    rule: &impl Rule<A>,
    transform: &GradTransform,
) -> Result<()>
where
    T: Store<A>,
    A: Real + Store<A>,
{
    check(&buffers, rule.moments())?;
    let Buffers { weights, mut write_back, grad, first, second } = buffers;
    for i in 0..weights.len() {
        let grad = grad.get(i..i + 1).map_or(A::ZERO, widen);
        let mut g = grad * A::from_f64(f64::from(transform.inv_scale));
        g = g * A::from_f64(transform.clip_coef);
        if let Some(limit) = transform.clip_value {
            g = g.clamp_to(A::from_f64(limit));
        }
        let stored = widen(T::floats(&weights[i..=i]));
        let mut w = match &write_back {
            WriteBack::Nearest | WriteBack::Stochastic { .. } => stored,
            WriteBack::Master(master) if narrow::<T, A>(master[i]).same_bits(weights[i]) => master[i],
            WriteBack::Master(_) => stored,
            WriteBack::Kahan(compensation) => stored + widen(T::floats(&compensation[i..=i])),
        };
        rule.update(
            std::slice::from_mut(&mut w),
            &mut [g],
            first.get_mut(i..=i).unwrap_or_default(),
            second.get_mut(i..=i).unwrap_or_default(),
        );
        weights[i] = match &mut write_back {
            WriteBack::Nearest => narrow(w),
            WriteBack::Master(master) => {
                master[i] = w;
                narrow(w)
            }
            WriteBack::Kahan(compensation) => {
                let rounded: T = narrow(w);
                compensation[i] = narrow(w - widen(T::floats(&[rounded])));
                rounded
            }
            WriteBack::Stochastic { key } => T::round_stochastic(w, random_bits(*key, i as u64)),
        };
    }
    Ok(())
}

fn widen<A: Real>(one: Floats<'_>) -> A {
    let mut wide = [A::ZERO];
    A::load(one, &mut wide);
    wide[0]
}

fn narrow<T: Store<A>, A: Real>(value: A) -> T {
    let mut narrow = [T::default()];
    T::store(&[value], &mut narrow);
    narrow[0]
}

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
