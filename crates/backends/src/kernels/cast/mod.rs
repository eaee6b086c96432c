//! Casts between f32 and the 16-bit types.
//!
//! Narrowing rounds to nearest, ties to even; values beyond the range become infinite, subnormal results are kept, ±0 and
//! ±∞ stay what they are, and a NaN stays a NaN. Widening is exact. Contract: bit-exact, NaN by class.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;
