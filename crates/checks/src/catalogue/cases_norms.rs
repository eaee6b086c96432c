//! Norms and softmax.

use autocast::ops;
use candle_core::Tensor;

use super::OpCase;

/// Norms and softmax.
pub const CASES: &[OpCase] = &[
    OpCase::new("softmax", |s| vec![s.uniform(&[3, 5], -3., 3.)], |x| ops::softmax(&x[0], 1)),
    OpCase::new("softmax inner", |s| vec![s.uniform(&[2, 4, 3], -3., 3.)], |x| ops::softmax(&x[0], 1)),
    OpCase::new("log_softmax", |s| vec![s.uniform(&[3, 5], -3., 3.)], |x| ops::log_softmax(&x[0], 1)),
    OpCase::new("logsumexp", |s| vec![s.uniform(&[3, 5], -3., 3.)], |x| ops::logsumexp(&x[0], 0)),
    OpCase::new(
        "layer_norm",
        |s| vec![s.uniform(&[2, 3, 6], -2., 2.), s.uniform(&[6], 0.5, 1.5), s.uniform(&[6], -1., 1.)],
        |x| ops::layer_norm(&x[0], &[6], Some(&x[1]), Some(&x[2]), 1e-5),
    ),
    OpCase::new(
        "layer_norm two dims",
        |s| vec![s.uniform(&[2, 3, 4], -2., 2.), s.uniform(&[3, 4], 0.5, 1.5)],
        |x| ops::layer_norm(&x[0], &[3, 4], Some(&x[1]), None, 1e-5),
    ),
    OpCase::new(
        "layer_norm plain",
        |s| vec![s.uniform(&[3, 6], -2., 2.)],
        |x| ops::layer_norm(&x[0], &[6], None, None, 1e-5),
    ),
    OpCase::new(
        "layer_norm bias",
        |s| vec![s.uniform(&[3, 6], -2., 2.), s.uniform(&[6], -1., 1.)],
        |x| ops::layer_norm(&x[0], &[6], None, Some(&x[1]), 1e-5),
    ),
    OpCase::new(
        "rms_norm",
        |s| vec![s.uniform(&[3, 6], -2., 2.), s.uniform(&[6], 0.5, 1.5)],
        |x| ops::rms_norm(&x[0], &[6], Some(&x[1]), 1e-5),
    ),
    OpCase::new(
        "group_norm",
        |s| vec![s.uniform(&[2, 4, 3], -2., 2.), s.uniform(&[4], 0.5, 1.5), s.uniform(&[4], -1., 1.)],
        |x| ops::group_norm(&x[0], 2, Some(&x[1]), Some(&x[2]), 1e-5),
    ),
    OpCase::new(
        "batch_norm",
        |s| vec![s.uniform(&[3, 2, 4], -2., 2.), s.uniform(&[2], 0.5, 1.5), s.uniform(&[2], -1., 1.)],
        |x| Ok(ops::batch_norm_train(&x[0], Some(&x[1]), Some(&x[2]), 1e-5)?.output),
    ),
    OpCase::new(
        "batch_norm of rows, plain",
        |s| vec![s.uniform(&[5, 3], -2., 2.)],
        |x| Ok(ops::batch_norm_train(&x[0], None, None, 1e-5)?.output),
    ),
    OpCase::new(
        "batch_norm in evaluation",
        |s| vec![s.uniform(&[3, 2, 4], -2., 2.), s.uniform(&[2], 0.5, 1.5), s.uniform(&[2], -1., 1.)],
        |x| {
            let statistic = |values: [f64; 2]| Tensor::new(&values, x[0].device());
            let (mean, var) = (statistic([0.2, -0.1])?, statistic([0.5, 2.])?);
            ops::batch_norm_eval(&x[0], &mean, &var, Some(&x[1]), Some(&x[2]), 1e-5)
        },
    ),
];
