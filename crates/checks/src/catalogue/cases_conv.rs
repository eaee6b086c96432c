//! Convolutions, pooling, interpolation and `prelu`.

use autocast::ops::{self, ConvOptions, ConvTransposeOptions, InterpolateMode, PoolOptions};

use super::OpCase;

const STEPS: ConvOptions = ConvOptions { padding: 1, stride: 2, dilation: 1, groups: 1 };
const GROUPS: ConvOptions = ConvOptions { padding: 2, stride: 1, dilation: 2, groups: 2 };
const BACK: ConvTransposeOptions =
    ConvTransposeOptions { padding: 1, output_padding: 1, stride: 2, dilation: 1, groups: 1 };
const BACK_IN_GROUPS: ConvTransposeOptions =
    ConvTransposeOptions { padding: 0, output_padding: 0, stride: 1, dilation: 2, groups: 2 };
const WINDOW: PoolOptions<2> = PoolOptions { kernel: [3, 2], stride: [2, 1], padding: [1, 0] };

/// Convolutions, pools, interpolation and `prelu`.
pub const CASES: &[OpCase] = &[
    OpCase::new(
        "conv1d",
        |s| vec![s.uniform(&[2, 3, 6], -1., 1.), s.uniform(&[2, 3, 3], -1., 1.), s.uniform(&[2], -1., 1.)],
        |x| ops::conv1d(&x[0], &x[1], Some(&x[2]), &STEPS),
    )
    .rounding(2),
    OpCase::new(
        "conv1d, groups",
        |s| vec![s.uniform(&[2, 4, 5], -1., 1.), s.uniform(&[4, 2, 3], -1., 1.)],
        |x| ops::conv1d(&x[0], &x[1], None, &GROUPS),
    ),
    OpCase::new(
        "conv2d",
        |s| {
            vec![
                s.uniform(&[2, 2, 4, 5], -1., 1.),
                s.uniform(&[3, 2, 2, 3], -1., 1.),
                s.uniform(&[3], -1., 1.),
            ]
        },
        |x| ops::conv2d(&x[0], &x[1], Some(&x[2]), &STEPS),
    )
    .rounding(2),
    OpCase::new(
        "conv2d, groups",
        |s| vec![s.uniform(&[1, 4, 4, 3], -1., 1.), s.uniform(&[2, 2, 3, 2], -1., 1.)],
        |x| ops::conv2d(&x[0], &x[1], None, &GROUPS),
    ),
    OpCase::new(
        "conv_transpose1d",
        |s| vec![s.uniform(&[2, 3, 4], -1., 1.), s.uniform(&[3, 2, 3], -1., 1.), s.uniform(&[2], -1., 1.)],
        |x| ops::conv_transpose1d(&x[0], &x[1], Some(&x[2]), &BACK),
    )
    .rounding(2),
    OpCase::new(
        "conv_transpose1d, groups",
        |s| vec![s.uniform(&[2, 4, 3], -1., 1.), s.uniform(&[4, 1, 3], -1., 1.)],
        |x| ops::conv_transpose1d(&x[0], &x[1], None, &BACK_IN_GROUPS),
    ),
    OpCase::new(
        "conv_transpose2d",
        |s| {
            vec![
                s.uniform(&[2, 2, 3, 3], -1., 1.),
                s.uniform(&[2, 3, 2, 3], -1., 1.),
                s.uniform(&[3], -1., 1.),
            ]
        },
        |x| ops::conv_transpose2d(&x[0], &x[1], Some(&x[2]), &BACK),
    )
    .rounding(2),
    OpCase::new(
        "conv_transpose2d, groups",
        |s| vec![s.uniform(&[1, 4, 2, 3], -1., 1.), s.uniform(&[4, 1, 2, 2], -1., 1.)],
        |x| ops::conv_transpose2d(&x[0], &x[1], None, &BACK_IN_GROUPS),
    ),
    OpCase::new(
        "avg_pool1d",
        |s| vec![s.uniform(&[2, 2, 5], -1., 1.)],
        |x| ops::avg_pool1d(&x[0], &PoolOptions::new([2])),
    ),
    OpCase::new(
        "avg_pool2d",
        |s| vec![s.uniform(&[2, 2, 5, 4], -1., 1.)],
        |x| ops::avg_pool2d(&x[0], &WINDOW),
    ),
    OpCase::new(
        "max_pool1d",
        |s| vec![s.distinct(&[2, 2, 5])],
        |x| ops::max_pool1d(&x[0], &PoolOptions::new([2])),
    ),
    OpCase::new("max_pool2d", |s| vec![s.distinct(&[1, 2, 5, 4])], |x| ops::max_pool2d(&x[0], &WINDOW)),
    OpCase::new(
        "adaptive_avg_pool2d",
        |s| vec![s.uniform(&[2, 2, 5, 4], -1., 1.)],
        |x| ops::adaptive_avg_pool2d(&x[0], [2, 3]),
    ),
    OpCase::new(
        "upsample_nearest1d",
        |s| vec![s.uniform(&[2, 2, 5], -1., 1.)],
        |x| ops::interpolate(&x[0], &[7], InterpolateMode::Nearest),
    ),
    OpCase::new(
        "upsample_nearest2d",
        |s| vec![s.uniform(&[1, 2, 5, 3], -1., 1.)],
        |x| ops::interpolate(&x[0], &[3, 6], InterpolateMode::Nearest),
    ),
    OpCase::new(
        "upsample_linear1d",
        |s| vec![s.uniform(&[2, 2, 5], -1., 1.)],
        |x| ops::interpolate(&x[0], &[8], InterpolateMode::Linear { align_corners: false }),
    ),
    OpCase::new(
        "upsample_bilinear2d",
        |s| vec![s.uniform(&[1, 2, 5, 3], -1., 1.)],
        |x| ops::interpolate(&x[0], &[3, 7], InterpolateMode::Linear { align_corners: false }),
    ),
    OpCase::new(
        "upsample_bilinear2d, aligned",
        |s| vec![s.uniform(&[1, 2, 5, 3], -1., 1.)],
        |x| ops::interpolate(&x[0], &[3, 7], InterpolateMode::Linear { align_corners: true }),
    ),
    OpCase::new(
        "prelu",
        |s| vec![s.away_from(&[2, 3, 4], &[0.]), s.uniform(&[3], -1., 1.)],
        |x| ops::prelu(&x[0], &x[1]),
    ),
    OpCase::new(
        "prelu, one slope",
        |s| vec![s.away_from(&[5], &[0.]), s.uniform(&[1], -1., 1.)],
        |x| ops::prelu(&x[0], &x[1]),
    ),
];
