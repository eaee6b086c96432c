//! The ops by PyTorch's names, with a call of each: what runs in a region, on either device, to be held to the table.

use autocast::ops::{self, AttentionOptions, InterpolateMode, KlTarget, PoolOptions, Reduction};
use autocast::{Autocast, OpTable, Result};
use candle_core::{DType, Device, Tensor};

/// A call of an op.
pub type Run = fn(&[Tensor]) -> Result<Tensor>;

/// An op by its name in the table, the shapes of its inputs, and its call.
pub const OPS: &[(&str, &[&[usize]], Run)] = &[
    ("linear", &[&[2, 3], &[4, 3], &[4]], |x| ops::linear(&x[0], &x[1], Some(&x[2]))),
    ("matmul", &[&[2, 3], &[3, 4]], |x| ops::matmul(&x[0], &x[1])),
    ("mm", &[&[2, 3], &[3, 4]], |x| ops::mm(&x[0], &x[1])),
    ("bmm", &[&[1, 2, 3], &[1, 3, 4]], |x| ops::bmm(&x[0], &x[1])),
    ("mv", &[&[2, 3], &[3]], |x| ops::mv(&x[0], &x[1])),
    ("dot", &[&[3], &[3]], |x| ops::dot(&x[0], &x[1])),
    ("outer", &[&[3], &[3]], |x| ops::outer(&x[0], &x[1])),
    ("linalg_vecdot", &[&[3], &[3]], |x| ops::linalg_vecdot(&x[0], &x[1], 0)),
    ("einsum", &[&[2, 3], &[3, 4]], |x| ops::einsum("ij,jk->ik", &[&x[0], &x[1]])),
    ("chain_matmul", &[&[2, 3], &[3, 4]], |x| ops::chain_matmul(&[&x[0], &x[1]])),
    ("addmm", &[&[4], &[2, 3], &[3, 4]], |x| ops::addmm(&x[0], &x[1], &x[2], 1., 1.)),
    ("addmv", &[&[2], &[2, 3], &[3]], |x| ops::addmv(&x[0], &x[1], &x[2], 1., 1.)),
    ("addr", &[&[2, 3], &[2], &[3]], |x| ops::addr(&x[0], &x[1], &x[2], 1., 1.)),
    ("addbmm", &[&[4], &[1, 2, 3], &[1, 3, 4]], |x| ops::addbmm(&x[0], &x[1], &x[2], 1., 1.)),
    ("baddbmm", &[&[4], &[1, 2, 3], &[1, 3, 4]], |x| ops::baddbmm(&x[0], &x[1], &x[2], 1., 1.)),
    ("conv1d", &[&[1, 2, 3], &[2, 2, 1]], |x| ops::conv1d(&x[0], &x[1], None, &Default::default())),
    ("conv2d", &[&[1, 2, 3, 3], &[2, 2, 1, 1]], |x| ops::conv2d(&x[0], &x[1], None, &Default::default())),
    ("conv_transpose1d", &[&[1, 2, 3], &[2, 2, 1], &[2]], |x| {
        ops::conv_transpose1d(&x[0], &x[1], Some(&x[2]), &Default::default())
    }),
    ("conv_transpose2d", &[&[1, 2, 3, 3], &[2, 2, 1, 1]], |x| {
        ops::conv_transpose2d(&x[0], &x[1], None, &Default::default())
    }),
    ("prelu", &[&[2, 3], &[3]], |x| ops::prelu(&x[0], &x[1])),
    ("scaled_dot_product_attention", &[&[2, 3], &[2, 3], &[2, 3]], |x| {
        ops::scaled_dot_product_attention(&x[0], &x[1], &x[2], &AttentionOptions::causal())
    }),
    ("avg_pool1d", &[&[1, 2, 4]], |x| ops::avg_pool1d(&x[0], &PoolOptions::new([2]))),
    ("avg_pool2d", &[&[1, 2, 4, 4]], |x| ops::avg_pool2d(&x[0], &PoolOptions::new([2, 2]))),
    ("max_pool1d", &[&[1, 2, 4]], |x| ops::max_pool1d(&x[0], &PoolOptions::new([2]))),
    ("max_pool2d", &[&[1, 2, 4, 4]], |x| ops::max_pool2d(&x[0], &PoolOptions::new([2, 2]))),
    ("adaptive_avg_pool2d", &[&[1, 2, 4, 4]], |x| ops::adaptive_avg_pool2d(&x[0], [1, 1])),
    ("upsample_nearest1d", &[&[1, 2, 4]], |x| ops::interpolate(&x[0], &[6], InterpolateMode::Nearest)),
    ("upsample_nearest2d", &[&[1, 2, 4, 4]], |x| ops::interpolate(&x[0], &[6, 2], InterpolateMode::Nearest)),
    ("upsample_linear1d", &[&[1, 2, 4]], |x| {
        ops::interpolate(&x[0], &[6], InterpolateMode::Linear { align_corners: false })
    }),
    ("upsample_bilinear2d", &[&[1, 2, 4, 4]], |x| {
        ops::interpolate(&x[0], &[6, 2], InterpolateMode::Linear { align_corners: true })
    }),
    ("embedding", &[&[3, 2]], |x| ops::embedding(&Tensor::new(&[2u32, 0], x[0].device())?, &x[0])),
    ("softmax", &[&[2, 3]], |x| ops::softmax(&x[0], 1)),
    ("log_softmax", &[&[2, 3]], |x| ops::log_softmax(&x[0], 1)),
    ("logsumexp", &[&[2, 3]], |x| ops::logsumexp(&x[0], 1)),
    ("rms_norm", &[&[2, 3]], |x| ops::rms_norm(&x[0], &[3], None, 1e-5)),
    ("layer_norm", &[&[2, 3]], |x| ops::layer_norm(&x[0], &[3], None, None, 1e-5)),
    ("group_norm", &[&[2, 3]], |x| ops::group_norm(&x[0], 3, None, None, 1e-5)),
    ("batch_norm", &[&[2, 3]], |x| Ok(ops::batch_norm_train(&x[0], None, None, 1e-5)?.output)),
    ("elu", &[&[2, 3]], |x| ops::elu(&x[0], 1.)),
    ("leaky_relu", &[&[2, 3]], |x| ops::leaky_relu(&x[0], 0.1)),
    ("hardtanh", &[&[2, 3]], |x| ops::hardtanh(&x[0], 0., 1.)),
    ("clamp", &[&[2, 3]], |x| ops::clamp(&x[0], 0., 1.)),
    ("dropout", &[&[2, 3]], |x| ops::dropout(&x[0], 0.5, 1)),
    ("pow", &[&[2, 3]], |x| ops::powf(&x[0], 2.)),
    ("sum", &[&[2, 3]], |x| ops::sum(&x[0], 1)),
    ("mean", &[&[2, 3]], |x| ops::mean(&x[0], 1)),
    ("var", &[&[2, 3]], |x| ops::var(&x[0], 1, 1)),
    ("std", &[&[2, 3]], |x| ops::std(&x[0], 1, 1)),
    ("linalg_vector_norm", &[&[2, 3]], |x| ops::norm(&x[0], 1)),
    ("prod", &[&[2, 3]], |x| ops::prod(&x[0], 1)),
    ("cumsum", &[&[2, 3]], |x| ops::cumsum(&x[0], 1)),
    ("cumprod", &[&[2, 3]], |x| ops::cumprod(&x[0], 1)),
    ("amax", &[&[2, 3]], |x| ops::amax(&x[0], 1)),
    ("amin", &[&[2, 3]], |x| ops::amin(&x[0], 1)),
    ("add", &[&[2, 3]], |x| ops::add_scalar(&x[0], 1.)),
    ("mul", &[&[2, 3]], |x| ops::mul_scalar(&x[0], 2.)),
    ("div", &[&[2, 3]], |x| ops::div_scalar(&x[0], 2.)),
    ("gelu", &[&[2, 3]], |x| ops::gelu(&x[0])),
    ("relu", &[&[2, 3]], |x| ops::relu(&x[0])),
    ("silu", &[&[2, 3]], |x| ops::silu(&x[0])),
    ("sigmoid", &[&[2, 3]], |x| ops::sigmoid(&x[0])),
    ("tanh", &[&[2, 3]], |x| ops::tanh(&x[0])),
    ("softplus", &[&[2, 3]], |x| ops::softplus(&x[0])),
    ("hardsigmoid", &[&[2, 3]], |x| ops::hardsigmoid(&x[0])),
    ("hardswish", &[&[2, 3]], |x| ops::hardswish(&x[0])),
    ("mish", &[&[2, 3]], |x| ops::mish(&x[0])),
    ("exp", &[&[2, 3]], |x| ops::exp(&x[0])),
    ("expm1", &[&[2, 3]], |x| ops::expm1(&x[0])),
    ("log", &[&[2, 3]], |x| ops::log(&x[0])),
    ("log2", &[&[2, 3]], |x| ops::log2(&x[0])),
    ("log10", &[&[2, 3]], |x| ops::log10(&x[0])),
    ("log1p", &[&[2, 3]], |x| ops::log1p(&x[0])),
    ("sqrt", &[&[2, 3]], |x| ops::sqrt(&x[0])),
    ("rsqrt", &[&[2, 3]], |x| ops::rsqrt(&x[0])),
    ("reciprocal", &[&[2, 3]], |x| ops::reciprocal(&x[0])),
    ("square", &[&[2, 3]], |x| ops::square(&x[0])),
    ("abs", &[&[2, 3]], |x| ops::abs(&x[0])),
    ("neg", &[&[2, 3]], |x| ops::neg(&x[0])),
    ("sin", &[&[2, 3]], |x| ops::sin(&x[0])),
    ("cos", &[&[2, 3]], |x| ops::cos(&x[0])),
    ("tan", &[&[2, 3]], |x| ops::tan(&x[0])),
    ("asin", &[&[2, 3]], |x| ops::asin(&x[0])),
    ("acos", &[&[2, 3]], |x| ops::acos(&x[0])),
    ("atan", &[&[2, 3]], |x| ops::atan(&x[0])),
    ("erfinv", &[&[2, 3]], |x| ops::erfinv(&x[0])),
    ("sinh", &[&[2, 3]], |x| ops::sinh(&x[0])),
    ("cosh", &[&[2, 3]], |x| ops::cosh(&x[0])),
    ("erf", &[&[2, 3]], |x| ops::erf(&x[0])),
    ("add", &[&[2, 3], &[2, 3]], |x| ops::add(&x[0], &x[1])),
    ("sub", &[&[2, 3], &[2, 3]], |x| ops::sub(&x[0], &x[1])),
    ("mul", &[&[2, 3], &[2, 3]], |x| ops::mul(&x[0], &x[1])),
    ("div", &[&[2, 3], &[2, 3]], |x| ops::div(&x[0], &x[1])),
    ("pow", &[&[2, 3], &[2, 3]], |x| ops::pow(&x[0], &x[1])),
    ("maximum", &[&[2, 3], &[2, 3]], |x| ops::maximum(&x[0], &x[1])),
    ("minimum", &[&[2, 3], &[2, 3]], |x| ops::minimum(&x[0], &x[1])),
    ("cat", &[&[2, 3], &[2, 3]], |x| ops::cat(&[&x[0], &x[1]], 0)),
    ("stack", &[&[2, 3], &[2, 3]], |x| ops::stack(&[&x[0], &x[1]], 0)),
    ("where", &[&[2, 3], &[2, 3]], |x| {
        ops::where_cond(&Tensor::ones(3, DType::U8, x[0].device())?, &x[0], &x[1])
    }),
    ("mse_loss", &[&[2, 3], &[2, 3]], |x| ops::mse_loss(&x[0], &x[1], Reduction::Mean)),
    ("l1_loss", &[&[2, 3], &[2, 3]], |x| ops::l1_loss(&x[0], &x[1], Reduction::Mean)),
    ("smooth_l1_loss", &[&[2, 3], &[2, 3]], |x| ops::smooth_l1_loss(&x[0], &x[1], 1., Reduction::Mean)),
    ("huber_loss", &[&[2, 3], &[2, 3]], |x| ops::huber_loss(&x[0], &x[1], 1., Reduction::Mean)),
    ("kl_div", &[&[2, 3], &[2, 3]], |x| ops::kl_div(&x[0], &x[1], KlTarget::Probability, Reduction::Mean)),
    ("binary_cross_entropy_with_logits", &[&[2, 3], &[2, 3]], |x| {
        ops::binary_cross_entropy_with_logits(&x[0], &x[1], &Default::default())
    }),
    ("binary_cross_entropy", &[&[2, 3], &[2, 3]], |x| {
        ops::binary_cross_entropy(&x[0], &x[1], None, Reduction::Mean)
    }),
    ("cross_entropy_loss", &[&[2, 3]], |x| {
        ops::cross_entropy(&x[0], &Tensor::new(&[2u32, 0], x[0].device())?, &Default::default())
    }),
    ("nll_loss", &[&[2, 3]], |x| {
        ops::nll_loss(&x[0], &Tensor::new(&[2u32, 0], x[0].device())?, &Default::default())
    }),
];

/// Every float dtype.
pub const DTYPES: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];

/// Every list of `count` dtypes.
fn mixes(count: usize) -> Vec<Vec<DType>> {
    (0..count).fold(vec![vec![]], |mixes, _| {
        let longer = |mix: &Vec<DType>| DTYPES.map(|dtype| [mix.as_slice(), &[dtype]].concat());
        mixes.iter().flat_map(longer).collect()
    })
}

/// Calls every op in the region on `device` with every mix of input dtypes, and holds what comes out, or is refused, to
/// `table`.
pub fn check_dtypes(autocast: &Autocast, table: &OpTable, fast: DType, device: &Device) -> usize {
    let mut calls = 0;
    for (op, shapes, run) in OPS {
        for mix in mixes(shapes.len()) {
            let ones = |(shape, &dtype): (&&[usize], &DType)| Tensor::ones(*shape, dtype, device).unwrap();
            let inputs: Vec<Tensor> = shapes.iter().zip(&mix).map(ones).collect();
            let want = table.output_dtype(op, fast, &mix);
            let got = autocast.run(|| run(&inputs)).map(|t| t.dtype());
            match (&got, &want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want, "{op} of {mix:?}"),
                (Err(_), Err(_)) => {}
                _ => panic!("{op} of {mix:?}: {got:?}, the table says {want:?}"),
            }
            calls += 1;
        }
    }
    calls
}
