//! Rotary position embeddings, differentiable (candle-nn's have no gradient) and computed in f32.

use backends::bridge::Call;
use backends::kernels::rope::{Pairs, Turn, rotated};
use candle_core::{D, Tensor};

use crate::dtypes::{accumulation_dtype, check_constant, check_float};
use crate::graph::{Backward, Keep, Op, Value, composed, record, wide};
use crate::ops::shape::empty::of_no_elements;
use crate::region::{cast_inputs, retyped};
use crate::{Error, Result};

/// Which two entries of the last dimension are rotated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopePairs {
    /// The i-th of the first half with the i-th of the second, as GPT-NeoX and Llama in Hugging Face's layout.
    Halves,
    /// Each even entry with the next, as GPT-J and Llama's original layout.
    Interleaved,
}

/// `input` with its pairs of entries rotated by the angles whose cosines and sines are given. `cos` and `sin` are
/// constants: they get no gradient.
///
/// # Shapes
///
/// `input` is `(.., T, width)`, `cos` and `sin` are `(T, width / 2)`, or have leading dimensions that broadcast to the
/// input's.
///
/// # Errors
///
/// [`Error::InvalidArgument`] where these do not fit, also if the width is odd, for a `cos` or `sin` that a variable leads
/// to, and for integers.
///
/// # Source
///
/// RoFormer, arXiv:2104.09864.
pub fn rope(input: &Tensor, cos: &Tensor, sin: &Tensor, pairs: RopePairs) -> Result<Tensor> {
    const OP: &str = "rope";
    let [input] = cast_inputs(OP, [input])?;
    check_float(OP, "input", &input)?;
    for (name, angles) in [("cos", cos), ("sin", sin)] {
        check_float(OP, name, angles)?;
        check_constant(OP, name, angles)?;
    }
    let &[.., steps, width] = input.dims() else {
        return Err(Error::shape(OP, "input", input.dims(), "(.., T, width)"));
    };
    if width % 2 != 0 {
        return Err(Error::shape(OP, "input", input.dims(), "an even width"));
    }
    let mut half = input.dims().to_vec();
    half[input.rank() - 1] = width / 2;
    let wide_dtype = accumulation_dtype(input.dtype());
    let angles = |name: &str, t: &Tensor| -> Result<Tensor> {
        let fits = t.rank() >= 2 && t.dims().ends_with(&[steps, width / 2]);
        match retyped(t, wide_dtype)?.broadcast_as(half.as_slice()) {
            Ok(spread) if fits => Ok(spread),
            _ => Err(Error::shape(OP, name, t.dims(), format!("[{steps}, {}]", width / 2))),
        }
    };
    let (cos, sin) = (angles("cos", cos)?, angles("sin", sin)?);
    if let Some(empty) = of_no_elements(OP, &[&input], input.dims(), input.dtype())? {
        return Ok(empty);
    }
    if let Call::Ran(value) = pairs.by_kernel(&input, [&cos, &sin], Turn::Forth)? {
        return record(Rope { pairs, cos, sin }, &[&input], Value::fresh(value));
    }
    let [x] = wide([&input])?;
    let value = pairs.rotate(&x, &cos, &sin)?.to_dtype(input.dtype())?;
    // The inverse of a rotation is its transpose.
    composed(OP, [&input], value, Keep::Nothing, move |grad, _, _| {
        Ok([pairs.rotate(grad, &cos, &sin.neg()?)?])
    })
}

/// Pairs that are turned, by angles that are kept.
struct Rope {
    pairs: RopePairs,
    cos: Tensor,
    sin: Tensor,
}

impl Op for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let grad = self.pairs.by_kernel(cx.grad(), [&self.cos, &self.sin], Turn::Back)?;
        Ok(vec![Some(grad.ran().ok_or_else(|| Error::refused("rope"))?)])
    }
}

impl RopePairs {
    fn by_kernel(self, x: &Tensor, angles: [&Tensor; 2], turn: Turn) -> Result<Call<Tensor>> {
        let pairs = match self {
            Self::Halves => Pairs::Halves,
            Self::Interleaved => Pairs::Interleaved,
        };
        Ok(rotated(x, angles, pairs, turn)?)
    }

    fn rotate(self, x: &Tensor, cos: &Tensor, sin: &Tensor) -> candle_core::Result<Tensor> {
        let half = x.dim(D::Minus1)? / 2;
        let mut dims = x.dims().to_vec();
        let (a, b) = match self {
            Self::Halves => (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?),
            Self::Interleaved => {
                dims.pop();
                dims.extend([half, 2]);
                let pairs = x.reshape(dims.as_slice())?;
                let last = dims.len() - 1;
                (pairs.narrow(last, 0, 1)?.squeeze(last)?, pairs.narrow(last, 1, 1)?.squeeze(last)?)
            }
        };
        let first = ((&a * cos)? - (&b * sin)?)?;
        let second = ((&a * sin)? + (&b * cos)?)?;
        match self {
            Self::Halves => Tensor::cat(&[first, second], D::Minus1),
            Self::Interleaved => Tensor::stack(&[first, second], dims.len() - 1)?.reshape(x.dims()),
        }
    }
}
