//! Reductions.

use autocast::ops;
use candle_core::Tensor;

use super::{OpCase, Samples};

fn plain(s: &mut Samples) -> Vec<Tensor> {
    vec![s.uniform(&[2, 3, 4], -2., 2.)]
}

fn distinct(s: &mut Samples) -> Vec<Tensor> {
    vec![s.distinct(&[2, 3, 4])]
}

/// Sums, means, extrema and scans.
pub const CASES: &[OpCase] = &[
    OpCase::new("sum", plain, |x| ops::sum(&x[0], 2)),
    OpCase::new("sum outer", plain, |x| ops::sum(&x[0], (0, 1))),
    OpCase::new("sum all", plain, |x| ops::sum_all(&x[0])),
    OpCase::new("mean", plain, |x| ops::mean(&x[0], (0, 2))),
    OpCase::new("mean all", plain, |x| ops::mean_all(&x[0])),
    OpCase::new("var", plain, |x| ops::var(&x[0], 1, 1)),
    OpCase::new("var biased", plain, |x| ops::var(&x[0], (0, 2), 0)),
    OpCase::new("std", plain, |x| ops::std(&x[0], 1, 1)),
    OpCase::new("std biased", plain, |x| ops::std(&x[0], (0, 2), 0)),
    OpCase::new("norm", plain, |x| ops::norm(&x[0], (1, 2))),
    OpCase::new("prod", plain, |x| ops::prod(&x[0], 2)),
    OpCase::new(
        "prod with zeros",
        |s| vec![s.uniform(&[3, 4], -2., 2.)],
        |x| {
            let mask = Tensor::new(&[[1., 1., 1., 1.], [1., 0., 1., 1.], [0., 1., 0., 1.]], x[0].device())?;
            ops::prod(&ops::mul(&x[0], &mask.to_dtype(x[0].dtype())?)?, 1)
        },
    ),
    OpCase::new("cumsum", plain, |x| ops::cumsum(&x[0], 1)),
    OpCase::new("cumprod", plain, |x| ops::cumprod(&x[0], 2)),
    OpCase::new(
        "cumprod with zeros",
        |s| vec![s.uniform(&[3, 5], -2., 2.)],
        |x| {
            let mask = Tensor::new(
                &[[1., 1., 1., 1., 1.], [1., 0., 1., 1., 1.], [0., 1., 1., 0., 1.]],
                x[0].device(),
            )?;
            ops::cumprod(&ops::mul(&x[0], &mask.to_dtype(x[0].dtype())?)?, 1)
        },
    ),
    OpCase::new("max", distinct, |x| Ok(ops::max(&x[0], 1)?.0)),
    OpCase::new("min", distinct, |x| Ok(ops::min(&x[0], 2)?.0)),
    OpCase::new("amax", distinct, |x| ops::amax(&x[0], (0, 2))),
    OpCase::new("amin", distinct, |x| ops::amin(&x[0], 1)),
];
