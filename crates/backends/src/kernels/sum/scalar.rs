//! The oracle: one term after another, with what each addition loses kept beside the sum.

use super::{Axes, Term};
use crate::{Floats, Real, Result};

/// Does what [`sum`](super::sum()) does, in order.
///
/// # Errors
///
/// As [`sum`](super::sum()).
pub fn sum_scalar(x: Floats<'_>, axes: Axes, term: Term) -> Result<Vec<f64>> {
    axes.check(x.len())?;
    let mut values = vec![0f64; x.len()];
    f64::load(x, &mut values);
    let Axes { outer, reduced, inner } = axes;
    let one = |o: usize, i: usize| {
        let (mut sum, mut lost) = (0f64, 0f64);
        for r in 0..reduced {
            let t = term.of(values[(o * reduced + r) * inner + i]);
            let next = sum + t;
            lost += if sum.abs() >= t.abs() { (sum - next) + t } else { (t - next) + sum };
            sum = next;
        }
        if sum.is_finite() { sum + lost } else { sum }
    };
    Ok((0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))).map(|(o, i)| one(o, i)).collect())
}
