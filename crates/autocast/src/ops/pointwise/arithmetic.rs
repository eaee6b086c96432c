//! Sums and differences of floats, and of numbers with them, with PyTorch's broadcasting and type promotion. The gradient of a broadcast
//! operand is summed in f32 (f64 for f64).

use backends::kernels::add::{Sign, sum_of};
use backends::kernels::binary::Binary;
use backends::kernels::pointwise::Function;
use candle_core::{DType, Shape, Tensor};

use super::elementwise::unary_of;
use super::whole::{Whole, wrapping};
use crate::Result;
use crate::dtypes::result_type;
use crate::graph::{Backward, Keep, Op, Value, composed, record};
use crate::ops::shape::broadcast::{broadcast_dims, sum_to};
use crate::ops::shape::empty::of_no_elements;
use crate::ops::shape::layout::{as_it_lies, channels_second};
use crate::plain::{combined, negated};
use crate::region::{cast_inputs, cast_to, widen};

/// `a + b`.
///
/// # Errors
///
/// Shapes that do not broadcast, dtypes that do not promote.
///
/// # Source
///
/// `torch.add`, and its tutorial on type promotion: a tensor with dimensions decides before one without.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let [a, b] = cast_inputs("add", [a, b])?;
    if result_type("add", &a, &b)?.is_int() {
        return wrapping("add", Whole::Add, &a, &b);
    }
    if let Some(sum) = sum_by_kernel(&a, &b, Sign::Plus)? {
        return Ok(sum);
    }
    if let Some(empty) = of_nothing("add", &a, &b)? {
        return Ok(empty);
    }
    let value = combined(Binary::Plus, &a, &b, result_type("add", &a, &b)?)?;
    composed("add", [&a, &b], value, Keep::Nothing, |grad, _, [a, b]| {
        Ok([sum_to(grad, a.dims())?, sum_to(grad, b.dims())?])
    })
}

/// `a - b`.
///
/// # Errors
///
/// As [`add`].
pub fn sub(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let [a, b] = cast_inputs("sub", [a, b])?;
    if result_type("sub", &a, &b)?.is_int() {
        return wrapping("sub", Whole::Sub, &a, &b);
    }
    if let Some(sum) = sum_by_kernel(&a, &b, Sign::Minus)? {
        return Ok(sum);
    }
    if let Some(empty) = of_nothing("sub", &a, &b)? {
        return Ok(empty);
    }
    let value = combined(Binary::Minus, &a, &b, result_type("sub", &a, &b)?)?;
    composed("sub", [&a, &b], value, Keep::Nothing, |grad, _, [a, b]| {
        Ok([sum_to(grad, a.dims())?, negated(&sum_to(grad, b.dims())?)?])
    })
}

/// `x + scalar`, the scalar in f32 (f64 for f64) even where `x` is of 16 bits. An integer `x` becomes f32.
///
/// # Errors
///
/// A float dtype without arithmetic.
pub fn add_scalar(x: &Tensor, scalar: f64) -> Result<Tensor> {
    let [x] = cast_inputs("add", [x])?;
    unary_of("add", Function::Add { term: scalar }, &in_floats(x)?)
}

/// `x · scalar`, the scalar in f32 (f64 for f64) even where `x` is of 16 bits: 65536 is not a number of f16, but
/// `x · 65536` may be. An integer `x` becomes f32.
///
/// # Errors
///
/// A float dtype without arithmetic.
pub fn mul_scalar(x: &Tensor, scalar: f64) -> Result<Tensor> {
    let [x] = cast_inputs("mul", [x])?;
    unary_of("mul", Function::Scale { factor: scalar }, &in_floats(x)?)
}

/// `x / scalar`, as [`mul_scalar`].
///
/// # Errors
///
/// A float dtype without arithmetic.
pub fn div_scalar(x: &Tensor, scalar: f64) -> Result<Tensor> {
    let [x] = cast_inputs("div", [x])?;
    unary_of("div", Function::Divide { divisor: scalar }, &in_floats(x)?)
}

/// `a ± b` where a kernel takes it: of one shape, or one repeated along the first dimensions of the other.
fn sum_by_kernel(a: &Tensor, b: &Tensor, sign: Sign) -> Result<Option<Tensor>> {
    if a.elem_count() == 0 || b.elem_count() == 0 {
        return Ok(None);
    }
    if a.dims() == b.dims()
        && let (Some(a), Some(b)) = (as_it_lies(a)?, as_it_lies(b)?)
    {
        return sum_by_kernel(&a, &b, sign)?.map(|sum| Ok(channels_second(&sum)?)).transpose();
    }
    let (first, second) = match sign {
        Sign::Plus if a.elem_count() < b.elem_count() => (b, a),
        _ => (a, b),
    };
    if !is_repeated(second, first) {
        return Ok(None);
    }
    let op = Sum { sign, inputs: [a, b].map(|x| (x.shape().clone(), x.dtype())) };
    let value = sum_of(&first.detach(), &second.detach(), sign, result_type(op.name(), a, b)?)?;
    value.ran().map(|value| record(op, &[a, b], Value::fresh(value))).transpose()
}

/// Whether `part` is of the shape of `whole`, or of its last dimensions, of which at least one has several elements.
fn is_repeated(part: &Tensor, whole: &Tensor) -> bool {
    let last = part.dims().iter().position(|&size| size != 1).unwrap_or(part.rank());
    let several = part.elem_count() > 1 || part.dims() == whole.dims();
    several && part.rank() <= whole.rank() && whole.dims().ends_with(&part.dims()[last..])
}

/// `a ± b`, whose gradients are the value's own, summed where an operand was repeated.
struct Sum {
    sign: Sign,
    inputs: [(Shape, DType); 2],
}

impl Op for Sum {
    fn name(&self) -> &'static str {
        match self.sign {
            Sign::Plus => "add",
            Sign::Minus => "sub",
        }
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let grads = self.inputs.iter().enumerate().map(|(input, (shape, dtype))| {
            let grad = || {
                let whole = cx.grad();
                let own = match shape == whole.shape() {
                    true => cast_to(whole, *dtype)?,
                    false => cast_to(&sum_to(&widen(whole)?, shape.dims())?, *dtype)?,
                };
                Ok(if (self.sign, input) == (Sign::Minus, 1) { negated(&own)? } else { own })
            };
            cx.wanted(input).then(grad).transpose()
        });
        grads.collect()
    }
}

/// The result of two operands that broadcast to no elements.
pub(super) fn of_nothing(op: &'static str, a: &Tensor, b: &Tensor) -> Result<Option<Tensor>> {
    of_no_elements(op, &[a, b], &broadcast_dims(op, a.dims(), b.dims())?, result_type(op, a, b)?)
}

/// `x`, in f32 if it is of integers.
fn in_floats(x: Tensor) -> Result<Tensor> {
    if x.dtype().is_int() { cast_to(&x, DType::F32) } else { Ok(x) }
}
