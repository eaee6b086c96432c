//! layer_norm, rms_norm and group_norm: each row is centred (not for rms_norm), divided by its root mean square, then
//! scaled and shifted. Statistics are f32 (f64 for f64). The backward normalises again from the input rather than
//! keeping a wide copy of it.

use backends::kernels::sum::Term;
use candle_core::Tensor;

use super::broadcast::sum_to;
use super::empty::of_no_elements;
use super::total::{centred, quotient_of, total, total_f64};
use crate::graph::{Keep, composed, wide};
use crate::prepare::float_inputs;
use crate::{Error, Result};

/// Normalises over the trailing dimensions `normalized_shape`, each row to mean 0 and variance 1.
///
/// # Shapes
///
/// `weight` and `bias` have the shape `normalized_shape`. They are of `x`'s dtype, or f32 beside a 16-bit `x`.
///
/// # Errors
///
/// `x` does not end in `normalized_shape`, a weight or bias does not have it, or dtypes that do not go together.
///
/// # Source
///
/// Ba, Kiros and Hinton, 2016; `torch.nn.functional.layer_norm`.
pub fn layer_norm(
    x: &Tensor,
    normalized_shape: &[usize],
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let view = View::trailing("layer_norm", x, normalized_shape)?;
    normalize("layer_norm", x, &view, Centre::Mean, weight, bias, eps)
}

/// Divides by the root mean square over the trailing dimensions `normalized_shape`.
///
/// # Shapes
///
/// As [`layer_norm`].
///
/// # Errors
///
/// As [`layer_norm`].
///
/// # Source
///
/// Zhang and Sennrich, 2019; `torch.nn.functional.rms_norm`.
pub fn rms_norm(x: &Tensor, normalized_shape: &[usize], weight: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    let view = View::trailing("rms_norm", x, normalized_shape)?;
    normalize("rms_norm", x, &view, Centre::Zero, weight, None, eps)
}

/// Normalises each of `groups` equal runs of channels of each sample.
///
/// # Shapes
///
/// `x` is `(N, C, …)`, `weight` and `bias` are `(C)`.
///
/// # Errors
///
/// `x` has no channels, `groups` does not divide them, or dtypes that do not go together.
///
/// # Source
///
/// Wu and He, 2018; `torch.nn.functional.group_norm`.
pub fn group_norm(
    x: &Tensor,
    groups: usize,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let &[samples, channels, ref rest @ ..] = x.dims() else {
        return Err(Error::shape("group_norm", "at least two dimensions (N, C, …)", x.dims()));
    };
    if groups == 0 || groups > channels.max(1) || !channels.is_multiple_of(groups) {
        let expected = format!("a divisor of the {channels} channels");
        return Err(Error::argument("group_norm", "groups", groups, expected));
    }
    let positions: usize = rest.iter().product();
    let view = View {
        rows: [samples * groups, channels / groups * positions],
        affine: vec![samples, channels, positions],
        weight: vec![1, channels, 1],
        weight_dims: vec![channels],
    };
    normalize("group_norm", x, &view, Centre::Mean, weight, bias, eps)
}

/// What is subtracted from a row before it is scaled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Centre {
    Mean,
    Zero,
}

/// How a norm looks at its (contiguous) input.
#[derive(Clone)]
pub(crate) struct View {
    /// `[rows, length]`: statistics are one per row.
    pub(super) rows: [usize; 2],
    /// The shape in which weight and bias are applied, and theirs in it.
    pub(super) affine: Vec<usize>,
    pub(super) weight: Vec<usize>,
    /// The shape that weight and bias come in.
    pub(super) weight_dims: Vec<usize>,
}

impl View {
    /// Rows are the trailing dimensions `dims`.
    pub(crate) fn trailing(op: &str, x: &Tensor, dims: &[usize]) -> Result<Self> {
        if dims.is_empty() || !x.dims().ends_with(dims) {
            return Err(Error::shape(op, format!("an input that ends in {dims:?}"), x.dims()));
        }
        let length: usize = dims.iter().product();
        let rows = x.dims()[..x.rank() - dims.len()].iter().product();
        let (affine, weight) = (vec![rows, length], vec![1, length]);
        Ok(Self { rows: [rows, length], affine, weight, weight_dims: dims.to_vec() })
    }

    fn check(&self, op: &str, x: &Tensor, parameter: &Tensor) -> Result<()> {
        if parameter.dims() != self.weight_dims {
            let expected = format!("weight and bias of shape {:?}", self.weight_dims);
            return Err(Error::shape(op, expected, parameter.dims()));
        }
        let widened = candle_core::DType::F32 == parameter.dtype() && x.dtype().size_in_bytes() == 2;
        if parameter.dtype() != x.dtype() && !widened {
            let (expected, got) = (x.dtype(), parameter.dtype());
            return Err(Error::DTypeMismatch { op: op.into(), expected, got });
        }
        Ok(())
    }
}

/// The norm behind all norms. Its value has `x`'s shape and dtype.
pub(crate) fn normalize(
    op: &'static str,
    x: &Tensor,
    view: &View,
    centre: Centre,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    match (weight, bias) {
        (None, None) => {
            let [x] = float_inputs(op, [x])?;
            if let Some(empty) = of_no_elements(op, &[&x], x.dims(), x.dtype())? {
                return Ok(empty);
            }
            let norm = Norm { view: view.clone(), centre, eps };
            let value = norm.forward(&x, None, None)?;
            composed(op, [&x], value, Keep::Inputs, move |grad, _, [x]| {
                Ok([norm.backward(grad, x, None, [true, false])?.0])
            })
        }
        (Some(weight), None) => {
            let [x, weight] = float_inputs(op, [x, weight])?;
            view.check(op, &x, &weight)?;
            if let Some(empty) = of_no_elements(op, &[&x, &weight], x.dims(), x.dtype())? {
                return Ok(empty);
            }
            let norm = Norm { view: view.clone(), centre, eps };
            let value = norm.forward(&x, Some(&weight), None)?;
            let wanted = [&x, &weight].map(Tensor::track_op);
            composed(op, [&x, &weight], value, Keep::Inputs, move |grad, _, [x, weight]| {
                let (dx, dw) = norm.backward(grad, x, Some(weight), wanted)?;
                Ok([dx, dw])
            })
        }
        (weight, Some(bias)) => {
            let ones = weight.map_or_else(|| bias.ones_like(), |w| Ok(w.clone()))?;
            let [x, weight, bias] = float_inputs(op, [x, &ones, bias])?;
            view.check(op, &x, &weight)?;
            view.check(op, &x, &bias)?;
            if let Some(empty) = of_no_elements(op, &[&x, &weight, &bias], x.dims(), x.dtype())? {
                return Ok(empty);
            }
            let norm = Norm { view: view.clone(), centre, eps };
            let value = norm.forward(&x, Some(&weight), Some(&bias))?;
            let wanted = [&x, &weight].map(Tensor::track_op);
            composed(op, [&x, &weight, &bias], value, Keep::Inputs, move |grad, _, [x, weight, _]| {
                let (dx, dw) = norm.backward(grad, x, Some(weight), wanted)?;
                let db = norm.sum_to_weight(grad)?;
                Ok([dx, dw, db])
            })
        }
    }
}

struct Norm {
    view: View,
    centre: Centre,
    eps: f64,
}

impl Norm {
    fn forward(&self, x: &Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>) -> Result<Tensor> {
        let (mut y, _) = self.normalized(x)?;
        if let Some(weight) = weight {
            y = y.reshape(&*self.view.affine)?.broadcast_mul(&self.parameter(weight)?)?;
        }
        if let Some(bias) = bias {
            y = y.broadcast_add(&self.parameter(bias)?)?;
        }
        Ok(y.reshape(x.dims())?.to_dtype(x.dtype())?)
    }

    /// The gradients of input and weight; one that is not wanted means nothing.
    fn backward(
        &self,
        grad: &Tensor,
        x: &Tensor,
        weight: Option<&Tensor>,
        wanted: [bool; 2],
    ) -> Result<(Tensor, Tensor)> {
        let (normalized, rms) = self.normalized(x)?;
        let length = self.view.rows[1];
        let mut dy = grad.reshape(&self.view.rows)?;
        let mut dw = dy.clone();
        if let Some(weight) = weight {
            if wanted[1] {
                dw = self.sum_to_weight(&(&dy * &normalized)?)?;
            }
            dy = dy.reshape(&*self.view.affine)?.broadcast_mul(&self.parameter(weight)?)?;
            dy = dy.reshape(&self.view.rows)?;
        }
        if !wanted[0] {
            return Ok((dy, dw));
        }
        let along = quotient_of(&total(&(&dy * &normalized)?, &[1])?, length as f64)?;
        if self.centre == Centre::Mean {
            dy = centred(&dy, &[1], length)?;
        }
        let dx = (dy - normalized.broadcast_mul(&along)?)?.broadcast_div(&rms)?;
        Ok((dx.reshape(x.dims())?, dw))
    }

    /// The rows of `x`, normalised, and what each was divided by.
    fn normalized(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let [x] = wide([x])?;
        let rows = x.reshape(&self.view.rows)?;
        let length = self.view.rows[1];
        let rows = match self.centre {
            Centre::Mean => centred(&rows, &[1], length)?,
            Centre::Zero => rows,
        };
        // In f64, whose squares of f32 neither overflow nor vanish.
        let mean_square = quotient_of(&total_f64(&rows, &[1], Term::Square)?, length as f64)?;
        let rms = (mean_square + self.eps)?.sqrt()?.to_dtype(rows.dtype())?;
        Ok((rows.broadcast_div(&rms)?, rms))
    }

    fn parameter(&self, parameter: &Tensor) -> Result<Tensor> {
        let [parameter] = wide([parameter])?;
        Ok(parameter.reshape(&*self.view.weight)?)
    }

    fn sum_to_weight(&self, grad: &Tensor) -> Result<Tensor> {
        let summed = sum_to(&grad.reshape(&*self.view.affine)?, &self.view.weight)?;
        Ok(summed.reshape(&*self.view.weight_dims)?)
    }
}
