//! The oracle: one element after another, each step of the formula on its own line.

use super::{GradTransform, Parameter, Rule, WriteBack, check, random_bits};
use crate::{Floats, Real, Result, Store};

/// Does what [`fused_step`](super::fused_step) does, without blocks or threads.
///
/// # Errors
///
/// As [`fused_step`](super::fused_step).
pub fn fused_step_scalar<T, A>(
    parameter: Parameter<'_, T, A>,
    rule: &impl Rule<A>,
    transform: &GradTransform,
) -> Result<()>
where
    T: Store<A>,
    A: Real + Store<A>,
{
    check(&parameter, rule.moments())?;
    let Parameter { weights, mut write_back, grad, first, second } = parameter;
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
