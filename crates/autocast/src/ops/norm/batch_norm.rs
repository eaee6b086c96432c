//! batch_norm: each channel normalised over the batch and all positions while training, with running statistics in
//! evaluation. It leaves the running statistics to the layer.

use backends::kernels::sum::Term;
use candle_core::Tensor;

use super::normalize::normalize;
use super::view::{Centre, View};
use crate::dtypes::check_constant;
use crate::graph::{Keep, composed, wide};
use crate::ops::shape::broadcast::sum_to;
use crate::ops::shape::empty::of_no_elements;
use crate::region::float_inputs;
use crate::total::{centred, quotient_of, total_f64};
use crate::{Error, Result};

/// What [`batch_norm_train`] computed.
#[derive(Clone, Debug)]
pub struct BatchNormOutput {
    /// The normalised input.
    pub output: Tensor,
    /// The mean of each channel, in f32 (f64 for f64), outside the graph.
    pub mean: Tensor,
    /// The unbiased variance of each channel, likewise.
    pub var: Tensor,
}

/// Batch norm with the statistics of this batch.
///
/// # Shapes
///
/// `x` is `(N, C)` or `(N, C, …)`, `weight` and `bias` are `(C)`.
///
/// # Errors
///
/// No channel dimension, fewer than two values per channel, weight and bias of another shape, dtypes that do not go
/// together.
///
/// # Source
///
/// Ioffe and Szegedy, 2015; `torch.nn.functional.batch_norm(training=True)`.
pub fn batch_norm_train(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<BatchNormOutput> {
    train(x, Centre::Mean, weight, bias, eps)
}

/// [`batch_norm_train`], centring or not; without it the variance is the mean square.
pub(crate) fn train(
    x: &Tensor,
    centre: Centre,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<BatchNormOutput> {
    let channels = channels(x)?;
    let count = x.elem_count() / channels.max(1);
    if count < 2 {
        let expected = "more than one value per channel, to have a variance";
        return Err(Error::shape(OP, "x", x.dims(), expected));
    }
    let by_channel = x.transpose(0, 1)?.contiguous()?;
    let view = View {
        rows: [channels, count],
        affine: vec![channels, count],
        weight: vec![channels, 1],
        weight_dims: vec![channels],
    };
    let output = normalize(OP, &by_channel, &view, centre, weight, bias, eps)?;

    let [rows] = wide([&by_channel.detach().reshape((channels, count))?])?;
    let mean = quotient_of(&total_f64(&rows, &[1], Term::Value)?, count as f64)?.to_dtype(rows.dtype())?;
    let rows = match centre {
        Centre::Mean => centred(&rows, &[1], count)?,
        Centre::Zero => rows,
    };
    let var =
        quotient_of(&total_f64(&rows, &[1], Term::Square)?, (count - 1) as f64)?.to_dtype(rows.dtype())?;
    Ok(BatchNormOutput { output: output.transpose(0, 1)?, mean: mean.squeeze(1)?, var: var.squeeze(1)? })
}

/// Batch norm with given statistics, which are constants.
///
/// # Shapes
///
/// `x` is `(N, C)` or `(N, C, …)`, all others are `(C)`.
///
/// # Errors
///
/// Shapes that do not fit, statistics that are part of a graph, a dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// `torch.nn.functional.batch_norm(training=False)`.
pub fn batch_norm_eval(
    x: &Tensor,
    mean: &Tensor,
    var: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    check_constant(OP, "mean", mean)?;
    check_constant(OP, "var", var)?;
    let channels = channels(x)?;
    check_constant(OP, "mean", mean)?;
    check_constant(OP, "var", var)?;
    let like = |value| Tensor::full(value, channels, x.device()).and_then(|t| t.to_dtype(mean.dtype()));
    let weight = weight.map_or_else(|| like(1f64), |w| Ok(w.clone()))?;
    let bias = bias.map_or_else(|| like(0f64), |b| Ok(b.clone()))?;
    let [x, weight, bias] = float_inputs(OP, [("x", x), ("weight", &weight), ("bias", &bias)])?;
    for (name, of_channels) in [("mean", mean), ("var", var), ("weight", &weight), ("bias", &bias)] {
        if of_channels.dims() != [channels] {
            let expected = format!("[{channels}], one per channel");
            return Err(Error::shape(OP, name, of_channels.dims(), expected));
        }
    }
    if let Some(empty) = of_no_elements(OP, &[&x, &weight, &bias], x.dims(), x.dtype())? {
        return Ok(empty);
    }
    let mut along = vec![1; x.rank()];
    along[1] = channels;
    let [w] = wide([&x])?;
    let to = |t: &Tensor| t.detach().to_dtype(w.dtype())?.reshape(&*along);
    let (mean, inv_std) = (to(mean)?, (to(var)? + eps)?.sqrt()?.recip()?);
    let normalized = w.broadcast_sub(&mean)?.broadcast_mul(&inv_std)?;
    let value = normalized.broadcast_mul(&to(&weight)?)?.broadcast_add(&to(&bias)?)?;
    composed(
        OP,
        [&x, &weight, &bias],
        value.to_dtype(x.dtype())?,
        Keep::Inputs,
        move |grad, _, [x, weight, _]| {
            let [x, weight] = wide([x, weight])?;
            let normalized = x.broadcast_sub(&mean)?.broadcast_mul(&inv_std)?;
            let scale = weight.to_dtype(grad.dtype())?.reshape(&*along)?.mul(&inv_std)?;
            let sum = |t: &Tensor| -> Result<Tensor> { Ok(sum_to(t, &along)?.reshape(channels)?) };
            Ok([grad.broadcast_mul(&scale)?, sum(&(grad * normalized)?)?, sum(grad)?])
        },
    )
}

const OP: &str = "batch_norm";

fn channels(x: &Tensor) -> Result<usize> {
    match x.dims() {
        [_, channels, ..] => Ok(*channels),
        dims => Err(Error::shape(OP, "x", dims, "at least two dimensions, (N, C, …)")),
    }
}
