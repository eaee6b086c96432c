//! batch_norm: each channel normalised over the batch and all positions while training, with running statistics in
//! evaluation. It leaves the running statistics to the layer.

use backends::kernels::batch_norm::Then;
use backends::kernels::binary::Binary;
use backends::kernels::sum::Term;
use candle_core::Tensor;

use super::by_channel::{Others, Spec};
use super::normalize::normalize;
use super::view::{Centre, View};
use crate::dtypes::{check_constant, rounded};
use crate::graph::{Keep, composed, wide};
use crate::ops::pointwise::{add, relu};
use crate::ops::shape::broadcast::sum_to;
use crate::ops::shape::empty::of_no_elements;
use crate::plain::combined;
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

/// [`batch_norm_train`] with a [`relu`] behind it: `max(y, 0)`, in the same pass over the elements. The gradient is 0 where
/// the rounded `y` is not above 0.
///
/// # Shapes
///
/// As [`batch_norm_train`].
///
/// # Errors
///
/// As [`batch_norm_train`].
pub fn batch_norm_relu(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<BatchNormOutput> {
    train_then_relu(x, None, Centre::Mean, weight, bias, eps)
}

/// [`batch_norm_train`] with an addition and a [`relu`] behind it: `max(y + residual, 0)`, in the same pass over the
/// elements and rounded once.
///
/// # Shapes
///
/// As [`batch_norm_train`]; `residual` is like `x`, and of its dtype.
///
/// # Errors
///
/// As [`batch_norm_train`].
pub fn batch_norm_add_relu(
    x: &Tensor,
    residual: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<BatchNormOutput> {
    train_then_relu(x, Some(residual), Centre::Mean, weight, bias, eps)
}

/// [`batch_norm_relu`] or [`batch_norm_add_relu`], centring or not.
pub(crate) fn train_then_relu(
    x: &Tensor,
    plus: Option<&Tensor>,
    centre: Centre,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<BatchNormOutput> {
    check_count(x)?;
    let spec = Spec { centre, then: Then::Relu, eps };
    if let Some(made) = spec.train(x, Others { weight, bias, plus })? {
        return Ok(made);
    }
    let made = train(x, centre, weight, bias, eps)?;
    let output = plus.map_or_else(|| Ok(made.output.clone()), |plus| add(&made.output, plus))?;
    Ok(BatchNormOutput { output: relu(&output)?, ..made })
}

/// [`batch_norm_train`], centring or not; without it the variance is the mean square.
pub(crate) fn train(
    x: &Tensor,
    centre: Centre,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<BatchNormOutput> {
    let (channels, count) = check_count(x)?;
    let spec = Spec { centre, then: Then::Nothing, eps };
    if let Some(made) = spec.train(x, Others { weight, bias, plus: None })? {
        return Ok(made);
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
    for (name, of_channels) in [("mean", mean), ("var", var)] {
        check_channels(name, of_channels, channels)?;
    }
    let spec = Spec { centre: Centre::Mean, then: Then::Nothing, eps };
    if let Some(value) = spec.eval(x, [mean, var], Others { weight, bias, plus: None })? {
        return Ok(value);
    }
    let like = |value| Tensor::full(value, channels, x.device()).and_then(|t| t.to_dtype(mean.dtype()));
    let weight = weight.map_or_else(|| like(1f64), |w| Ok(w.clone()))?;
    let bias = bias.map_or_else(|| like(0f64), |b| Ok(b.clone()))?;
    let [x, weight, bias] = float_inputs(OP, [("x", x), ("weight", &weight), ("bias", &bias)])?;
    for (name, of_channels) in [("weight", &weight), ("bias", &bias)] {
        check_channels(name, of_channels, channels)?;
    }
    if let Some(empty) = of_no_elements(OP, &[&x, &weight, &bias], x.dims(), x.dtype())? {
        return Ok(empty);
    }
    let mut along = vec![1; x.rank()];
    along[1] = channels;
    let [w] = wide([&x])?;
    let to = |t: &Tensor| t.detach().to_dtype(w.dtype())?.reshape(&*along);
    let (mean, inv_std) = (to(mean)?, (to(var)? + eps)?.sqrt()?.recip()?);
    let normalized = move |x: &Tensor, mean: &Tensor, inv_std: &Tensor| -> Result<Tensor> {
        let dtype = mean.dtype();
        combined(Binary::Times, &combined(Binary::Minus, x, mean, dtype)?, inv_std, dtype)
    };
    let scaled = combined(Binary::Times, &normalized(&w, &mean, &inv_std)?, &to(&weight)?, w.dtype())?;
    let value = combined(Binary::Plus, &scaled, &to(&bias)?, w.dtype())?;
    composed(
        OP,
        [&x, &weight, &bias],
        rounded(&value, x.dtype())?,
        Keep::Inputs,
        move |grad, _, [x, weight, _]| {
            let [x, weight] = wide([x, weight])?;
            let normalized = normalized(&x, &mean, &inv_std)?;
            let scale = weight.to_dtype(grad.dtype())?.reshape(&*along)?.mul(&inv_std)?;
            let sum = |t: &Tensor| -> Result<Tensor> { Ok(sum_to(t, &along)?.reshape(channels)?) };
            let times = |x: &Tensor| combined(Binary::Times, grad, x, grad.dtype());
            Ok([times(&scale)?, sum(&times(&normalized)?)?, sum(grad)?])
        },
    )
}

pub(super) const OP: &str = "batch_norm";

/// Channels, and the values of each, of which there have to be two.
fn check_count(x: &Tensor) -> Result<(usize, usize)> {
    let channels = channels(x)?;
    let count = x.elem_count() / channels.max(1);
    if count < 2 {
        let expected = "more than one value per channel, to have a variance";
        return Err(Error::shape(OP, "x", x.dims(), expected));
    }
    Ok((channels, count))
}

fn check_channels(name: &str, of_channels: &Tensor, channels: usize) -> Result<()> {
    match of_channels.dims() == [channels] {
        true => Ok(()),
        false => {
            let expected = format!("[{channels}], one per channel");
            Err(Error::shape(OP, name, of_channels.dims(), expected))
        }
    }
}

fn channels(x: &Tensor) -> Result<usize> {
    match x.dims() {
        [_, channels, ..] => Ok(*channels),
        dims => Err(Error::shape(OP, "x", dims, "at least two dimensions, (N, C, …)")),
    }
}
