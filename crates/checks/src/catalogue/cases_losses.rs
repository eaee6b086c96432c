//! Losses.

use autocast::ops::{
    self, BinaryCrossEntropy, CrossEntropy, KlTarget, LinearCrossEntropy, NllLoss, Reduction,
};
use candle_core::Tensor;

use super::{OpCase, Samples};

fn class_weight(x: &Tensor) -> Tensor {
    Tensor::new(&[0.5, 1., 2., 0.25], x.device()).unwrap().to_dtype(x.dtype()).unwrap()
}

fn pair(s: &mut Samples) -> Vec<Tensor> {
    vec![s.uniform(&[3, 4], -2., 2.), s.uniform(&[3, 4], -2., 2.)]
}

/// Two tensors that are equal nowhere.
fn apart(s: &mut Samples) -> Vec<Tensor> {
    vec![s.uniform(&[3, 4], 0., 2.), s.uniform(&[3, 4], -2., -0.1)]
}

/// Losses, by each reduction and option.
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
        "cross_entropy weighted",
        |s| vec![s.uniform(&[6, 4], -3., 3.), s.indices(&[6], 4)],
        |x| {
            let options = CrossEntropy { weight: Some(class_weight(&x[0])), ..Default::default() };
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
    OpCase::new(
        "linear_cross_entropy",
        |s| vec![s.uniform(&[2, 3, 5], -2., 2.), s.uniform(&[4, 5], -2., 2.), s.indices(&[2, 3], 4)],
        |x| ops::linear_cross_entropy(&x[0], &x[1], &x[2], &LinearCrossEntropy::default()),
    )
    .rounding(2),
    OpCase::new(
        "linear_cross_entropy in parts, one class ignored",
        |s| vec![s.uniform(&[7, 5], -2., 2.), s.uniform(&[4, 5], -2., 2.), s.indices(&[7], 4)],
        |x| {
            let loss = CrossEntropy { ignore_index: 2, label_smoothing: 0.1, ..Default::default() };
            ops::linear_cross_entropy(&x[0], &x[1], &x[2], &LinearCrossEntropy { loss, max_bytes: 32 })
        },
    )
    .rounding(2),
    OpCase::new(
        "nll_loss",
        |s| vec![s.uniform(&[2, 4, 3], -3., -0.1), s.indices(&[2, 3], 4)],
        |x| {
            let weight = Some(class_weight(&x[0]));
            ops::nll_loss(&x[0], &x[1], &NllLoss { weight, ignore_index: 3, ..Default::default() })
        },
    ),
    OpCase::new("mse_loss", pair, |x| ops::mse_loss(&x[0], &x[1], Reduction::Mean)),
    OpCase::new("mse_loss summed", pair, |x| ops::mse_loss(&x[0], &x[1], Reduction::Sum)),
    OpCase::new("l1_loss", apart, |x| ops::l1_loss(&x[0], &x[1], Reduction::None)),
    OpCase::new("smooth_l1_loss", pair, |x| ops::smooth_l1_loss(&x[0], &x[1], 0.8, Reduction::Mean)),
    OpCase::new("huber_loss", pair, |x| ops::huber_loss(&x[0], &x[1], 0.8, Reduction::Mean)),
    OpCase::new(
        "kl_div",
        |s| vec![s.uniform(&[3, 4], -3., 0.), s.uniform(&[3, 4], 0.1, 1.)],
        |x| ops::kl_div(&x[0], &x[1], KlTarget::Probability, Reduction::Sum),
    ),
    OpCase::new(
        "kl_div of a batch",
        |s| vec![s.uniform(&[3, 4], -3., 0.), s.uniform(&[3, 4], 0.1, 1.)],
        |x| ops::kl_div(&x[0], &x[1], KlTarget::Probability, Reduction::BatchMean),
    ),
    OpCase::new(
        "cross_entropy of a batch of images",
        |s| vec![s.uniform(&[2, 4, 3], -3., 3.), s.indices(&[2, 3], 4)],
        |x| {
            let options = CrossEntropy { reduction: Reduction::BatchMean, ..Default::default() };
            ops::cross_entropy(&x[0], &x[1], &options)
        },
    ),
    OpCase::new("kl_div of logarithms", pair, |x| {
        ops::kl_div(&x[0], &x[1], KlTarget::LogProbability, Reduction::Mean)
    }),
    OpCase::new(
        "binary_cross_entropy_with_logits",
        |s| vec![s.uniform(&[3, 4], -3., 3.), s.uniform(&[3, 4], 0., 1.)],
        |x| ops::binary_cross_entropy_with_logits(&x[0], &x[1], &BinaryCrossEntropy::default()),
    ),
    OpCase::new(
        "binary_cross_entropy_with_logits, weighted",
        |s| vec![s.uniform(&[3, 4], -3., 3.), s.uniform(&[3, 4], 0., 1.)],
        |x| {
            let weight = Some(Tensor::new(&[[0.5], [1.], [2.]], x[0].device())?);
            let pos_weight = Some(class_weight(&x[0]));
            let options = BinaryCrossEntropy { weight, pos_weight, reduction: Reduction::None };
            ops::binary_cross_entropy_with_logits(&x[0], &x[1], &options)
        },
    ),
    OpCase::new(
        "binary_cross_entropy",
        |s| vec![s.uniform(&[3, 4], 0.1, 0.9), s.uniform(&[3, 4], 0., 1.)],
        |x| ops::binary_cross_entropy(&x[0], &x[1], Some(&class_weight(&x[0])), Reduction::Mean),
    ),
];
