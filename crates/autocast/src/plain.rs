//! Arithmetic on tensors that are part of no graph, for ops that are made of several steps: by our kernels on a CPU, whose threads are
//! rayon's, and on a GPU by candle's where there is none. Results of two operands, which broadcast, are of the first one's dtype.

use backends::bridge::Call;
use backends::kernels::binary::{Binary, binary_of};
use backends::kernels::choose::choice_of;
use backends::kernels::pointwise::{Function, value_of};
use candle_core::{DType, Shape, Tensor};

use crate::Result;

/// The operation on operands that broadcast, in `dtype`.
pub(crate) fn combined(of: Binary, a: &Tensor, b: &Tensor, dtype: DType) -> Result<Tensor> {
    let dims = together(a.shape(), b.shape())?.into_dims();
    if let Call::Ran(made) = binary_of(of, a, b, &dims, dtype)? {
        return Ok(made);
    }
    let (a, b) = (a.detach().to_dtype(dtype)?, b.detach().to_dtype(dtype)?);
    Ok(match of {
        Binary::Plus => a.broadcast_add(&b)?,
        Binary::Minus => a.broadcast_sub(&b)?,
        Binary::Times => a.broadcast_mul(&b)?,
        Binary::Over => a.broadcast_div(&b)?,
    })
}

/// The shape that two broadcast to.
fn together(a: &Shape, b: &Shape) -> Result<Shape> {
    Ok(a.broadcast_shape_binary_op(b, "broadcast")?)
}

/// `a + b`.
pub(crate) fn plus(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    combined(Binary::Plus, a, b, a.dtype())
}

/// `a − b`.
pub(crate) fn minus(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    combined(Binary::Minus, a, b, a.dtype())
}

/// `a · b`.
pub(crate) fn times(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    combined(Binary::Times, a, b, a.dtype())
}

/// `a / b`.
pub(crate) fn over(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    combined(Binary::Over, a, b, a.dtype())
}

/// `a` where the condition, of u8, is not 0, else `b`; all three broadcast.
pub(crate) fn choose(condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let dims = together(condition.shape(), &together(a.shape(), b.shape())?)?.into_dims();
    if let Call::Ran(made) = choice_of(condition, [a, b], &dims, a.dtype())? {
        return Ok(made);
    }
    let spread = |x: &Tensor| x.detach().broadcast_as(&*dims)?.contiguous();
    Ok(spread(condition)?.where_cond(&spread(a)?, &spread(&b.to_dtype(a.dtype())?)?)?)
}

/// `x`, and 0 where the condition, of u8, is not 0.
pub(crate) fn zero_where(condition: &Tensor, x: &Tensor) -> Result<Tensor> {
    choose(condition, &Tensor::zeros((), x.dtype(), x.device())?, x)
}

/// `function` of a tensor of f32 or f64.
pub(crate) fn apply(function: Function, x: &Tensor) -> Result<Tensor> {
    Ok(value_of(function, x)?)
}

/// `−x`, of any float dtype.
pub(crate) fn negated(x: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() { apply(Function::Neg, x) } else { Ok(x.neg()?) }
}

/// `1 − x`.
pub(crate) fn complement(x: &Tensor) -> Result<Tensor> {
    minus(&Tensor::ones((), x.dtype(), x.device())?, x)
}
