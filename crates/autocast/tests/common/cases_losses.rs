//! Losses.

use autocast::ops::{self, CrossEntropy, Reduction};
use candle_core::Tensor;

use super::OpCase;

fn class_weight(x: &Tensor) -> Tensor {
    Tensor::new(&[0.5, 1., 2., 0.25], x.device()).unwrap().to_dtype(x.dtype()).unwrap()
}

pub const CASES: &[OpCase] = &[
    OpCase::new(
        "cross_entropy",
        |s| vec![s.uniform(&[5, 4], -3., 3.), s.indices(&[5], 4)],
        |x| ops::cross_entropy(&x[0], &x[1], &CrossEntropy::default()),
    ),
    OpCase::new(
        "cross_entropy smoothed, weighted, one class ignored",
        |s| vec![s.uniform(&[6, 4], -3., 3.), s.indices(&[6], 4)],
        |x| {
            let weight = Some(class_weight(&x[0]));
            let options =
                CrossEntropy { weight, label_smoothing: 0.2, ignore_index: 2, ..Default::default() };
            ops::cross_entropy(&x[0], &x[1], &options)
        },
    ),
    OpCase::new(
        "cross_entropy of images, unreduced",
        |s| vec![s.uniform(&[2, 4, 3], -3., 3.), s.indices(&[2, 3], 4)],
        |x| {
            let options = CrossEntropy { reduction: Reduction::None, ignore_index: 1, ..Default::default() };
            ops::cross_entropy(&x[0], &x[1], &options)
        },
    ),
    OpCase::new(
        "cross_entropy with probabilities",
        |s| vec![s.uniform(&[3, 4], -3., 3.), s.uniform(&[3, 4], 0., 1.)],
        |x| {
            let weight = Some(class_weight(&x[0]));
            let options = CrossEntropy { weight, label_smoothing: 0.1, ..Default::default() };
            ops::cross_entropy(&x[0], &x[1], &options)
        },
    ),
];
