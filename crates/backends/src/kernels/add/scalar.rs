//! The oracles.

use super::{Among, Sign};

/// `a ± b` in f32, with `b` repeated, each sum rounded once.
pub fn add_scalar(a: &[f32], b: &[f32], sign: Sign) -> Vec<f32> {
    a.iter().zip(b.iter().cycle()).map(|(a, b)| a + sign.factor() as f32 * b).collect()
}

/// Adds `x`, of the dimensions `dims`, to its places in `target`.
pub fn add_into_scalar(x: &[f32], dims: &[usize], among: &Among, target: &mut [f32]) {
    for (i, x) in x.iter().enumerate() {
        let (mut rest, mut at) = (i, among.offset);
        for (&size, &stride) in dims.iter().zip(&among.strides).rev() {
            at += rest % size * stride;
            rest /= size;
        }
        target[at] += x;
    }
}
