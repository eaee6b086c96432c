//! The oracle: every element of the result on its own.

use super::{RowSums, check};
use crate::kernels::sum::{Axes, Term, sum_scalar};
use crate::{Floats, Real, Result};

/// Does what [`row_sums`](super::row_sums()) does, looking at every id for every row.
///
/// # Errors
///
/// As [`row_sums`](super::row_sums()).
pub fn row_sums_scalar(ids: &[i64], x: Floats<'_>, rows: usize, width: usize) -> Result<RowSums> {
    check(ids, x, width)?;
    let mut wide = vec![0f64; x.len()];
    f64::load(x, &mut wide);
    let mut out = Vec::with_capacity(rows * width);
    for row in 0..rows {
        for column in 0..width {
            let hits = ids.iter().enumerate().filter(|&(_, &id)| id == row as i64);
            let terms: Vec<f64> = hits.map(|(place, _)| wide[place * width + column]).collect();
            let axes = Axes { outer: 1, reduced: terms.len(), inner: 1 };
            out.extend(sum_scalar(Floats::F64(&terms), axes, Term::Value)?);
        }
    }
    Ok(match x {
        Floats::F64(_) => RowSums::F64(out),
        _ => RowSums::F32(out.into_iter().map(|sum| sum as f32).collect()),
    })
}
