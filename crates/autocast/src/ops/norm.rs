//! layer_norm, rms_norm and group_norm: each row is centred (not for rms_norm), divided by its root mean square, then
//! scaled and shifted. Statistics are f32 (f64 for f64). The backward normalises again from the input rather than
//! keeping a wide copy of it.

use backends::kernels::norm as kernel;
use backends::kernels::sum::Term;
use candle_core::{DType, Tensor};

use super::broadcast::sum_to;
use super::empty::of_no_elements;
use super::total::{centred, quotient_of, total, total_f64};
use crate::graph::{Attribute, Backward, Keep, Op, Value, composed, record, wide};
use crate::prepare::{cast_to, check_float, check_float_dtype, uncast};
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
        return Err(Error::shape("group_norm", "x", x.dims(), "at least two dimensions, (N, C, …)"));
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
            return Err(Error::shape(op, "x", x.dims(), format!("one that ends in {dims:?}")));
        }
        let length: usize = dims.iter().product();
        let rows = x.dims()[..x.rank() - dims.len()].iter().product();
        let (affine, weight) = (vec![rows, length], vec![1, length]);
        Ok(Self { rows: [rows, length], affine, weight, weight_dims: dims.to_vec() })
    }

    fn check(&self, op: &str, name: &str, x: DType, parameter: &Tensor, dtype: DType) -> Result<()> {
        if parameter.dims() != self.weight_dims {
            return Err(Error::shape(op, name, parameter.dims(), format!("{:?}", self.weight_dims)));
        }
        let widened = dtype == DType::F32 && x.size_in_bytes() == 2;
        if dtype != x && !widened {
            return Err(Error::dtypes_differ(op, (name, dtype), ("x", x)));
        }
        Ok(())
    }

    /// Whether each row has the whole weight.
    fn is_of_rows(&self) -> bool {
        self.affine == self.rows && self.weight == [1, self.rows[1]]
    }
}

/// The norm behind all norms. Its value has `x`'s shape, and the dtype that the region wants `x` in.
pub(crate) fn normalize(
    op: &'static str,
    x: &Tensor,
    view: &View,
    centre: Centre,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let given: Vec<&Tensor> = std::iter::once(x).chain(weight).chain(bias).collect();
    let names = ["x"].into_iter().chain(weight.map(|_| "weight")).chain(bias.map(|_| "bias"));
    let inputs = uncast(op, &given)?;
    let dtype = inputs[0].1;
    for (name, (input, its)) in names.clone().zip(&inputs) {
        check_float_dtype(op, name, *its)?;
        check_float(op, name, input)?;
    }
    for (name, (parameter, its)) in names.zip(&inputs).skip(1) {
        view.check(op, name, dtype, parameter, *its)?;
    }
    let as_they_are: Vec<&Tensor> = inputs.iter().map(|(input, _)| input).collect();
    if let Some(empty) = of_no_elements(op, &as_they_are, x.dims(), dtype)? {
        return Ok(empty);
    }
    let norm = Norm { view: view.clone(), centre, eps };
    if view.is_of_rows() {
        let parts = Parts { weight: weight.is_some(), bias: bias.is_some() };
        if let Some(value) = of_rows(op, &norm, &as_they_are, parts, dtype)? {
            return Ok(value);
        }
    }
    let cast = inputs.iter().map(|(input, dtype)| cast_to(input, *dtype)).collect::<Result<Vec<_>>>()?;
    match (weight, bias, cast.as_slice()) {
        (None, None, [x]) => {
            let value = norm.forward(x, None, None)?;
            composed(op, [x], value, Keep::Inputs, move |grad, _, [x]| {
                Ok([norm.backward(grad, x, None, [true, false])?.0])
            })
        }
        (Some(_), None, [x, weight]) => {
            let value = norm.forward(x, Some(weight), None)?;
            let wanted = [x, weight].map(Tensor::track_op);
            composed(op, [x, weight], value, Keep::Inputs, move |grad, _, [x, weight]| {
                let (dx, dw) = norm.backward(grad, x, Some(weight), wanted)?;
                Ok([dx, dw])
            })
        }
        (None, Some(_), [x, bias]) => {
            let value = norm.forward(x, None, Some(bias))?;
            let wanted = [x.track_op(), false];
            composed(op, [x, bias], value, Keep::Inputs, move |grad, _, [x, _]| {
                Ok([norm.backward(grad, x, None, wanted)?.0, norm.sum_to_weight(grad)?])
            })
        }
        (Some(_), Some(_), [x, weight, bias]) => {
            let value = norm.forward(x, Some(weight), Some(bias))?;
            let wanted = [x, weight].map(Tensor::track_op);
            composed(op, [x, weight, bias], value, Keep::Inputs, move |grad, _, [x, weight, _]| {
                let (dx, dw) = norm.backward(grad, x, Some(weight), wanted)?;
                Ok([dx, dw, norm.sum_to_weight(grad)?])
            })
        }
        _ => unreachable!("as many inputs are cast as came"),
    }
}

/// Which parameters a norm has, after its input.
#[derive(Clone, Copy)]
struct Parts {
    weight: bool,
    bias: bool,
}

/// The norm as one kernel, where one takes it. It reads the inputs as they are.
fn of_rows(
    op: &'static str,
    norm: &Norm,
    inputs: &[&Tensor],
    parts: Parts,
    dtype: DType,
) -> Result<Option<Tensor>> {
    let plain: Vec<Tensor> = inputs.iter().map(|input| input.detach()).collect();
    let weight = parts.weight.then(|| plain[1].clone());
    let bias = parts.bias.then(|| plain[1 + usize::from(parts.weight)].clone());
    let kernel = kernel::Norm {
        centre: match norm.centre {
            Centre::Mean => kernel::Centre::Mean,
            Centre::Zero => kernel::Centre::Zero,
        },
        width: norm.view.rows[1],
        eps: norm.eps,
    };
    let value = kernel::value_of(kernel, &plain[0], weight.as_ref(), bias.as_ref(), dtype)?;
    let Some(kernel::Normalized { y, statistics }) = value else { return Ok(None) };
    let dtypes = inputs.iter().map(|input| input.dtype()).collect();
    let weight_dims = norm.view.weight_dims.clone();
    let saved =
        Rows { op, kernel, x: plain[0].clone(), weight, bias: parts.bias, statistics, dtypes, weight_dims };
    record(saved, inputs, Value::fresh(y)).map(Some)
}

/// A norm of rows, with what its backward takes from its forward.
struct Rows {
    op: &'static str,
    kernel: kernel::Norm,
    x: Tensor,
    weight: Option<Tensor>,
    bias: bool,
    statistics: Tensor,
    /// Of the inputs.
    dtypes: Vec<DType>,
    weight_dims: Vec<usize>,
}

impl Op for Rows {
    fn name(&self) -> &'static str {
        self.op
    }

    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        vec![("eps", Attribute::Number(self.kernel.eps)), ("width", Attribute::from(self.kernel.width))]
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let has_weight = self.weight.is_some();
        let wanted = kernel::Wanted {
            x: cx.wanted(0).then_some(self.dtypes[0]),
            weight: has_weight && cx.wanted(1),
            bias: self.bias && cx.wanted(1 + usize::from(has_weight)),
        };
        let weight = self.weight.as_ref();
        let grads = kernel::gradients_of(self.kernel, cx.grad(), &self.x, weight, &self.statistics, wanted)?;
        let Some(kernel::Gradients { x, weight, bias }) = grads else {
            return Err(Error::refused(self.op));
        };
        let mut grads = vec![x];
        grads.extend(has_weight.then_some(weight));
        grads.extend(self.bias.then_some(bias));
        let shaped = grads.into_iter().zip(&self.dtypes).enumerate().map(|(input, (grad, &dtype))| {
            let shaped = |grad: Tensor| match input {
                0 => Ok(grad.reshape(self.x.shape())?),
                _ => cast_to(&grad.reshape(&*self.weight_dims)?, dtype),
            };
            grad.map(shaped).transpose()
        });
        shaped.collect()
    }
}

struct Norm {
    view: View,
    centre: Centre,
    eps: f64,
}

impl Norm {
    fn forward(&self, x: &Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>) -> Result<Tensor> {
        let (y, _) = self.normalized(x)?;
        let mut y = y.reshape(&*self.view.affine)?;
        if let Some(weight) = weight {
            y = y.broadcast_mul(&self.parameter(weight)?)?;
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
