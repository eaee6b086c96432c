//! Products and quotients of floats, with PyTorch's broadcasting and type promotion.

use backends::kernels::binary::Binary;
use candle_core::{DType, Tensor};

use super::arithmetic::of_nothing;
use super::whole::{Whole, wrapping};
use crate::Result;
use crate::dtypes::{accumulation_dtype, result_type};
use crate::graph::{Backward, Op, Value, record};
use crate::ops::shape::broadcast::{broadcast_dims, sum_to};
use crate::ops::shape::empty::of_no_elements;
use crate::plain::{combined, negated};
use crate::region::{cast_inputs, cast_to};

/// `a · b`, element by element.
///
/// # Errors
///
/// As [`add`](super::add).
pub fn mul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let [a, b] = cast_inputs("mul", [a, b])?;
    let dtype = result_type("mul", &a, &b)?;
    if dtype.is_int() {
        return wrapping("mul", Whole::Mul, &a, &b);
    }
    if let Some(empty) = of_nothing("mul", &a, &b)? {
        return Ok(empty);
    }
    let value = combined(Binary::Times, &a, &b, dtype)?;
    let op = Product { a: Side::of(&a, b.track_op()), b: Side::of(&b, a.track_op()) };
    record(op, &[&a, &b], Value::fresh(value))
}

/// `a / b`; integers divide to f32.
///
/// # Errors
///
/// As [`add`](super::add).
pub fn div(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let [a, b] = cast_inputs("div", [a, b])?;
    let dtype = match result_type("div", &a, &b)? {
        float if float.is_float() => float,
        _ => DType::F32,
    };
    let dims = broadcast_dims("div", a.dims(), b.dims())?;
    if let Some(empty) = of_no_elements("div", &[&a, &b], &dims, dtype)? {
        return Ok(empty);
    }
    let value = combined(Binary::Over, &a, &b, dtype)?;
    let op = Quotient { a: Side::of(&a, b.track_op()), b: Side::of(&b, true) };
    record(op, &[&a, &b], Value::fresh(value))
}

/// An operand, of which nothing but shape and dtype is kept where no gradient asks for its numbers.
struct Side {
    dims: Vec<usize>,
    dtype: DType,
    x: Option<Tensor>,
}

impl Side {
    fn of(x: &Tensor, needed: bool) -> Self {
        Self { dims: x.dims().to_vec(), dtype: x.dtype(), x: needed.then(|| x.detach()) }
    }

    /// What of the whole is this operand's, in its shape and dtype.
    fn share(&self, whole: &Tensor) -> Result<Tensor> {
        cast_to(&sum_to(whole, &self.dims)?, self.dtype)
    }

    /// `grad ∘ x` as the gradient of another operand: rounded to its dtype at once where nothing is summed.
    fn gradient(&self, of: Binary, grad: &Tensor, to: &Self) -> Result<Option<Tensor>> {
        let Some(x) = &self.x else { return Ok(None) };
        let narrow = [grad.dtype(), self.dtype, to.dtype].iter().all(|dtype| *dtype != DType::F64);
        if grad.dims() == to.dims && narrow && grad.device().is_cpu() {
            return combined(of, grad, x, to.dtype).map(Some);
        }
        to.share(&combined(of, grad, x, accumulation_dtype(grad.dtype()))?).map(Some)
    }
}

/// `a · b`.
struct Product {
    a: Side,
    b: Side,
}

impl Op for Product {
    fn name(&self) -> &'static str {
        "mul"
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let of = |wanted: bool, other: &Side, own: &Side| match wanted {
            true => other.gradient(Binary::Times, cx.grad(), own),
            false => Ok(None),
        };
        Ok(vec![of(cx.wanted(0), &self.b, &self.a)?, of(cx.wanted(1), &self.a, &self.b)?])
    }
}

/// `a / b`.
struct Quotient {
    a: Side,
    b: Side,
}

impl Op for Quotient {
    fn name(&self) -> &'static str {
        "div"
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let grad = cx.grad();
        let wide = accumulation_dtype(grad.dtype());
        let of_a = match cx.wanted(0) {
            true => self.b.gradient(Binary::Over, grad, &self.a)?,
            false => None,
        };
        let (Some(a), Some(b), true) = (&self.a.x, &self.b.x, cx.wanted(1)) else {
            return Ok(vec![of_a, None]);
        };
        // Not a/b²: the square overflows long before the quotient does.
        let over = combined(Binary::Over, grad, b, wide)?;
        let of_b = combined(Binary::Times, &over, &combined(Binary::Over, a, b, wide)?, wide)?;
        Ok(vec![of_a, Some(self.b.share(&negated(&of_b)?)?)])
    }
}
