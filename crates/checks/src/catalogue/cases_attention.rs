//! Attention and rotary embeddings.

use autocast::ops::{self, AttentionDropout, AttentionMask, AttentionOptions, RopePairs};
use candle_core::Tensor;

use super::{OpCase, Samples};

fn qkv(s: &mut Samples) -> Vec<Tensor> {
    vec![
        s.uniform(&[2, 2, 3, 4], -1., 1.),
        s.uniform(&[2, 2, 5, 4], -1., 1.),
        s.uniform(&[2, 2, 5, 3], -1., 1.),
    ]
}

/// Heads of a width that a kernel takes where there is one.
fn wide_heads(s: &mut Samples) -> Vec<Tensor> {
    (0..3).map(|_| s.uniform(&[1, 2, 5, 32], -1., 1.)).collect()
}

/// A batch without a dimension of heads.
fn one_head(s: &mut Samples) -> Vec<Tensor> {
    (0..3).map(|_| s.uniform(&[2, 5, 32], -1., 1.)).collect()
}

/// Heads as [`wide_heads`] has them, side by side in one tensor `(batch, rows, 3, heads, width)`.
fn packed_heads(s: &mut Samples) -> Vec<Tensor> {
    vec![s.uniform(&[1, 5, 3 * 2 * 32], -1., 1.)]
}

/// Queries, keys and values as views of one value.
fn attend_packed(x: &[Tensor], options: AttentionOptions) -> autocast::Result<Tensor> {
    let packed = ops::mul_scalar(&x[0], 1.)?.reshape((1, 5, 3, 2, 32))?;
    let part = |i| packed.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2);
    ops::scaled_dot_product_attention(&part(0)?, &part(1)?, &part(2)?, &options)
}

fn attend(x: &[Tensor], options: AttentionOptions) -> autocast::Result<Tensor> {
    ops::scaled_dot_product_attention(&x[0], &x[1], &x[2], &options)
}

/// The cosine and the sine of a few angles, as constants.
fn angles(x: &Tensor) -> (Tensor, Tensor) {
    let angles = Tensor::new(&[[0f64, 0.], [1., 0.1], [2., 0.2]], x.device()).unwrap();
    (angles.cos().unwrap(), angles.sin().unwrap())
}

/// On a GPU the 16-bit products of attention round what they take and give: the scaled query, the scores, the
/// probabilities and the result, and as many gradients on the way back.
const ROUNDINGS: u32 = 8;

/// Attention by each kind of mask, and rotary embeddings.
pub const CASES: &[OpCase] = &[
    OpCase::new("scaled_dot_product_attention", qkv, |x| attend(x, AttentionOptions::default()))
        .rounding(ROUNDINGS),
    OpCase::new("scaled_dot_product_attention, causal", qkv, |x| attend(x, AttentionOptions::causal()))
        .rounding(ROUNDINGS),
    OpCase::new("scaled_dot_product_attention, heads of 32", wide_heads, |x| {
        attend(x, AttentionOptions::default())
    })
    .rounding(ROUNDINGS),
    OpCase::new("scaled_dot_product_attention, packed heads, causal", packed_heads, |x| {
        attend_packed(x, AttentionOptions::causal())
    })
    .rounding(ROUNDINGS),
    OpCase::new("scaled_dot_product_attention, heads of 32, dropout", wide_heads, |x| {
        let dropout = Some(AttentionDropout { p: 0.4, seed: 3.into() });
        attend(x, AttentionOptions { dropout, ..AttentionOptions::causal() })
    })
    .rounding(ROUNDINGS),
    OpCase::new("scaled_dot_product_attention, heads of 32, boolean mask", wide_heads, |x| {
        let seen = [[1u8, 0, 1, 1, 0], [0; 5], [1; 5], [0, 0, 0, 0, 1], [1; 5]];
        let mask = AttentionMask::Boolean(Tensor::new(&seen, x[0].device())?);
        attend(x, AttentionOptions { mask, ..Default::default() })
    })
    .rounding(ROUNDINGS),
    OpCase::new("scaled_dot_product_attention, one head, added mask", one_head, |x| {
        let added = [[[0.5f64, -1., f64::NEG_INFINITY, 0., 2.]], [[0.; 5]]];
        let mask = AttentionMask::Additive(Tensor::new(&added, x[0].device())?);
        attend(x, AttentionOptions { mask, ..Default::default() })
    })
    .rounding(ROUNDINGS),
    OpCase::new("scaled_dot_product_attention, boolean mask", qkv, |x| {
        let seen = [[1u8, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]];
        let mask = AttentionMask::Boolean(Tensor::new(&seen, x[0].device())?);
        attend(x, AttentionOptions { mask, scale: Some(0.7), ..Default::default() })
    })
    .rounding(ROUNDINGS),
    OpCase::new(
        "scaled_dot_product_attention, trained mask",
        |s| {
            let mut inputs = qkv(s);
            inputs.push(s.uniform(&[2, 1, 1, 5], -1., 1.));
            inputs
        },
        |x| {
            let mask = AttentionMask::Additive(x[3].clone());
            attend(x, AttentionOptions { mask, ..Default::default() })
        },
    )
    .rounding(ROUNDINGS),
    OpCase::new("scaled_dot_product_attention, dropout", qkv, |x| {
        let dropout = Some(AttentionDropout { p: 0.4, seed: 3.into() });
        attend(x, AttentionOptions { dropout, ..Default::default() })
    })
    .rounding(ROUNDINGS),
    OpCase::new(
        "rope",
        |s| vec![s.uniform(&[2, 3, 4], -1., 1.)],
        |x| {
            let (cos, sin) = angles(&x[0]);
            ops::rope(&x[0], &cos, &sin, RopePairs::Halves)
        },
    ),
    OpCase::new(
        "rope, interleaved",
        |s| vec![s.uniform(&[2, 3, 4], -1., 1.)],
        |x| {
            let (cos, sin) = angles(&x[0]);
            ops::rope(&x[0], &cos, &sin, RopePairs::Interleaved)
        },
    ),
];
