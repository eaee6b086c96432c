//! The oracle, and the only path on a CPU: rows of consecutive elements, which the compiler vectorises.

use crate::floats::Real;

/// `y`, the weighted sum of those rows of `x` that `taps` names; `sums` is scratch of a row's length.
pub(super) fn row<T: Real>(x: &[T], taps: &[(usize, f64)], sums: &mut [f64], y: &mut [T]) {
    let inner = y.len();
    if inner == 1 {
        y[0] = T::from_f64(taps.iter().fold(0., |sum, &(input, weight)| sum + weight * x[input].to_f64()));
        return;
    }
    sums.fill(0.);
    for &(input, weight) in taps {
        for (sum, x) in sums.iter_mut().zip(&x[input * inner..(input + 1) * inner]) {
            *sum += weight * x.to_f64();
        }
    }
    for (y, &sum) in y.iter_mut().zip(&*sums) {
        *y = T::from_f64(sum);
    }
}
