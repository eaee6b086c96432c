//! The ops of a step of GPT-2 124M (batch 16, 1,024 tokens) and of a ResNet-18, with their sizes.

use autocast::Result;
use autocast::ops::{self, AttentionDropout, AttentionOptions, ConvOptions, PoolOptions};
use candle_core::{DType, Tensor};

use What::{Classes, Constant, F32, Narrow};

/// An op at a size.
#[derive(Clone, Copy)]
pub(crate) struct OpCase {
    pub(crate) name: &'static str,
    pub(crate) inputs: &'static [(&'static [usize], What)],
    pub(crate) run: fn(&[Tensor]) -> Result<Tensor>,
    /// How many sets of inputs take turns, so that no call finds its own in a cache.
    pub(crate) sets: usize,
}

/// What an input is made of.
#[derive(Clone, Copy)]
pub(crate) enum What {
    /// A parameter in the dtype that is measured.
    Narrow,
    /// A parameter in f32.
    F32,
    /// In the dtype that is measured, and without a gradient.
    Constant,
    /// Classes below a number.
    Classes(u32),
}

const fn case(
    name: &'static str,
    inputs: &'static [(&'static [usize], What)],
    run: fn(&[Tensor]) -> Result<Tensor>,
) -> OpCase {
    OpCase { name, inputs, run, sets: 3 }
}

/// `a bᵀ`, forward only: the products of a backward pass are products, too.
const fn product(name: &'static str, inputs: &'static [(&'static [usize], What)]) -> OpCase {
    OpCase { name, inputs, run: |x| ops::matmul(&x[0], &x[1].t()?), sets: 2 }
}

const fn conv(name: &'static str, inputs: &'static [(&'static [usize], What)]) -> OpCase {
    case(name, inputs, |x| {
        let padding = x[1].dims()[2] / 2;
        ops::conv2d(&x[0], &x[1], None, &ConvOptions { padding, ..Default::default() })
    })
}

/// A convolution of an image whose channels lie last, with the bias that is given or none.
const fn conv_last(name: &'static str, inputs: &'static [(&'static [usize], What)]) -> OpCase {
    case(name, inputs, |x| {
        let padding = x[1].dims()[2] / 2;
        let image = x[0].permute((0, 3, 1, 2))?;
        ops::conv2d(&image, &x[1], x.get(2), &ConvOptions { padding, ..Default::default() })
    })
}

fn attend(x: &[Tensor]) -> Result<Tensor> {
    ops::scaled_dot_product_attention(&x[0], &x[1], &x[2], &AttentionOptions::causal())
}

/// Rows of a batch, one a token.
const N: usize = 16_384;
const C: usize = 768;
const V: usize = 50_304;

const HEADS_OF_64: (&[usize], What) = (&[16, 12, 1024, 64], Narrow);
const HEADS_OF_128: (&[usize], What) = (&[16, 6, 1024, 128], Narrow);
const LONG_ROWS: (&[usize], What) = (&[4, 12, 4096, 64], Narrow);

pub(crate) const CASES: &[OpCase] = &[
    product("matmul 16384x2304x768", &[(&[N, C], Constant), (&[3 * C, C], Constant)]),
    product("matmul 16384x768x768", &[(&[N, C], Constant), (&[C, C], Constant)]),
    product("matmul 16384x3072x768", &[(&[N, C], Constant), (&[4 * C, C], Constant)]),
    product("matmul 16384x768x3072", &[(&[N, 4 * C], Constant), (&[C, 4 * C], Constant)]),
    product("matmul 16384x50304x768", &[(&[N, C], Constant), (&[V, C], Constant)]),
    product("matmul 8192x8192x8192", &[(&[8192, 8192], Constant), (&[8192, 8192], Constant)]),
    case("linear+bias 768->3072", &[(&[N, C], Narrow), (&[4 * C, C], Narrow), (&[4 * C], Narrow)], |x| {
        ops::linear(&x[0], &x[1], Some(&x[2]))
    }),
    case("gelu_tanh 16384x3072", &[(&[N, 4 * C], Narrow)], |x| ops::gelu_tanh(&x[0])),
    case("layer_norm 16384x768", &[(&[N, C], Narrow), (&[C], Narrow), (&[C], Narrow)], |x| {
        ops::layer_norm(&x[0], &[C], Some(&x[1]), Some(&x[2]), 1e-5)
    }),
    case("layer_norm f32 16384x768", &[(&[N, C], F32), (&[C], F32), (&[C], F32)], |x| {
        ops::layer_norm(&x[0], &[C], Some(&x[1]), Some(&x[2]), 1e-5)
    }),
    case("rms_norm 16384x768", &[(&[N, C], Narrow), (&[C], Narrow)], |x| {
        ops::rms_norm(&x[0], &[C], Some(&x[1]), 1e-5)
    }),
    case("softmax 16384x4096", &[(&[N, 4096], Narrow)], |x| ops::softmax(&x[0], 1)),
    case("sdpa causal b16 h12 T1024 d64", &[HEADS_OF_64; 3], attend),
    case("sdpa causal dropout 0.1 b16 h12 T1024 d64", &[HEADS_OF_64; 3], |x| {
        let dropout = Some(AttentionDropout { p: 0.1, seed: 1.into() });
        ops::scaled_dot_product_attention(
            &x[0],
            &x[1],
            &x[2],
            &AttentionOptions { dropout, ..AttentionOptions::causal() },
        )
    }),
    case("sdpa causal b16 h6 T1024 d128", &[HEADS_OF_128; 3], attend),
    case("sdpa causal b4 h12 T4096 d64", &[LONG_ROWS; 3], attend),
    OpCase {
        name: "cross_entropy 16384x50304 (logits as they are, f32 inside)",
        inputs: &[(&[N, V], Narrow), (&[N], Classes(V as u32))],
        sets: 1,
        run: |x| ops::cross_entropy(&x[0], &x[1], &Default::default()),
    },
    OpCase {
        name: "cross_entropy 16384x50304 (widened)",
        inputs: &[(&[N, V], Narrow), (&[N], Classes(V as u32))],
        run: |x| {
            let logits = autocast::cast_to(&x[0], DType::F32)?;
            ops::cross_entropy(&logits, &x[1], &Default::default())
        },
        sets: 1,
    },
    case("embedding 50304x768", &[(&[V, C], F32), (&[N], Classes(V as u32))], |x| {
        ops::embedding(&x[1], &x[0])
    }),
    case("dropout 0.1 16384x768", &[(&[N, C], Narrow)], |x| ops::dropout(&x[0], 0.1, 1)),
    conv("conv2d b128 64->64 56x56 k3", &[(&[128, 64, 56, 56], Narrow), (&[64, 64, 3, 3], Narrow)]),
    conv("conv2d b128 128->128 28x28 k3", &[(&[128, 128, 28, 28], Narrow), (&[128, 128, 3, 3], Narrow)]),
    conv("conv2d b128 256->256 14x14 k3", &[(&[128, 256, 14, 14], Narrow), (&[256, 256, 3, 3], Narrow)]),
    conv("conv2d b128 64->256 56x56 k1", &[(&[128, 64, 56, 56], Narrow), (&[256, 64, 1, 1], Narrow)]),
    conv_last(
        "conv2d b128 64->64 56x56 k3 channels_last",
        &[(&[128, 56, 56, 64], Narrow), (&[64, 64, 3, 3], Narrow)],
    ),
    conv_last(
        "conv2d b128 64->64 56x56 k3 bias channels_last",
        &[(&[128, 56, 56, 64], Narrow), (&[64, 64, 3, 3], Narrow), (&[64], Narrow)],
    ),
    conv_last(
        "conv2d b128 128->128 28x28 k3 channels_last",
        &[(&[128, 28, 28, 128], Narrow), (&[128, 128, 3, 3], Narrow)],
    ),
    conv_last(
        "conv2d b128 256->256 14x14 k3 channels_last",
        &[(&[128, 14, 14, 256], Narrow), (&[256, 256, 3, 3], Narrow)],
    ),
    conv_last(
        "conv2d b128 64->256 56x56 k1 channels_last",
        &[(&[128, 56, 56, 64], Narrow), (&[256, 64, 1, 1], Narrow)],
    ),
    case(
        "batch_norm b128 64x56x56 channels_last",
        &[(&[128, 56, 56, 64], Narrow), (&[64], F32), (&[64], F32)],
        |x| {
            let image = x[0].permute((0, 3, 1, 2))?;
            Ok(ops::batch_norm_train(&image, Some(&x[1]), Some(&x[2]), 1e-5)?.output)
        },
    ),
    case(
        "batch_norm_relu b128 64x56x56 channels_last",
        &[(&[128, 56, 56, 64], Narrow), (&[64], F32), (&[64], F32)],
        |x| {
            let image = x[0].permute((0, 3, 1, 2))?;
            Ok(ops::batch_norm_relu(&image, Some(&x[1]), Some(&x[2]), 1e-5)?.output)
        },
    ),
    case("max_pool2d b128 64x112x112 k3 channels_last", &[(&[128, 112, 112, 64], Narrow)], |x| {
        let windows = PoolOptions { kernel: [3, 3], stride: [2, 2], padding: [1, 1] };
        ops::max_pool2d(&x[0].permute((0, 3, 1, 2))?, &windows)
    }),
    case("batch_norm b128 64x56x56", &[(&[128, 64, 56, 56], Narrow), (&[64], F32), (&[64], F32)], |x| {
        Ok(ops::batch_norm_train(&x[0], Some(&x[1]), Some(&x[2]), 1e-5)?.output)
    }),
];
