//! Reductions along dimensions. Sums are [`crate::total`]'s.

mod extremum;
mod scan;
pub(crate) mod sums;

pub use extremum::{amax, amin, max, min};
pub use sums::{cumprod, cumsum, mean, mean_all, norm, prod, std, sum, sum_all, var};
