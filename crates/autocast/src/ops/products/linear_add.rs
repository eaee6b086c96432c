//! `linear_add`: a linear map added to what goes around it.

use candle_core::{DType, Tensor};

use super::linear::linear;
use super::product::{product, product_plus};
use crate::Result;
use crate::dtypes::same_dtype;
use crate::graph::{Backward, Op, Value, record};
use crate::ops::add;
use crate::ops::shape::broadcast::sum_to_vector;
use crate::region::{cast_inputs, cast_to};

const OP: &str = "linear_add";

/// `residual + input · weightᵀ + bias`: the end of a residual branch.
///
/// On a GPU one product does it, reads the residual and writes the sum, rounded once; elsewhere, and where the residual is of another
/// shape or dtype than the product could have, it is [`add`](crate::ops::add) of [`linear`](crate::ops::linear). The product's inputs
/// are cast as those of `linear`, the residual is not: in a 16-bit region a residual of f32 gives f32.
///
/// # Shapes
///
/// `input` is `(.., in)`, `weight` is `(out, in)`, `bias` is `(out)`, `residual` and the result are `(.., out)`.
///
/// # Errors
///
/// As [`linear`](crate::ops::linear) and [`add`](crate::ops::add).
///
/// # Source
///
/// cuBLASLt's `D = A · B + C` with a bias, as in `torch.addmm`.
pub fn linear_add(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    residual: &Tensor,
) -> Result<Tensor> {
    if let Some(sum) = by_one_product(input, weight, bias, residual)? {
        return Ok(sum);
    }
    add(residual, &linear(input, weight, bias)?)
}

fn by_one_product(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    residual: &Tensor,
) -> Result<Option<Tensor>> {
    let ([leading @ .., inner], [outer, columns]) = (input.dims(), weight.dims()) else { return Ok(None) };
    let fits = inner == columns
        && residual.dims() == [leading, &[*outer]].concat()
        && bias.is_none_or(|bias| bias.dims() == [*outer])
        && residual.elem_count() > 0
        && *inner > 0;
    if input.device().is_cpu() || !fits {
        return Ok(None);
    }
    let [x, w] = cast_inputs("linear", [input, weight])?;
    same_dtype("linear", [("input", &x), ("weight", &w)])?;
    let to = residual.dtype();
    let narrow = matches!(x.dtype(), DType::F16 | DType::BF16);
    if to != x.dtype() && !(to == DType::F32 && narrow) {
        return Ok(None);
    }
    // In the dtype of the sum, which it has where parameters are f32.
    let bias = match bias {
        Some(bias) if bias.dtype() == to => Some(bias.clone()),
        Some(bias) => Some(cast_to(bias, to)?),
        None => None,
    };
    let rows = (leading.iter().product::<usize>(), *inner);
    let flat = x.detach().reshape(rows)?.contiguous()?;
    let plain = w.detach();
    let around = residual.detach().reshape((rows.0, *outer))?;
    let row = bias.as_ref().map(Tensor::detach);
    let Some(value) = product_plus(&flat, &plain.t()?, row.as_ref(), Some(&around))? else { return Ok(None) };
    let op = LinearAdd { weight: x.track_op().then_some(plain), input: w.track_op().then_some(flat) };
    let value = Value::fresh(value.reshape(residual.shape())?);
    Ok(Some(match &bias {
        None => record(op, &[residual, &x, &w], value)?,
        Some(bias) => record(op, &[residual, &x, &w, bias], value)?,
    }))
}

/// What the gradients of the product's factors are products with.
struct LinearAdd {
    /// For the input's gradient.
    weight: Option<Tensor>,
    /// For the weight's gradient, `(rows, in)`.
    input: Option<Tensor>,
}

impl Op for LinearAdd {
    fn name(&self) -> &'static str {
        OP
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let whole = cx.grad().clone();
        let (leading, width) = whole.dims().split_at(whole.rank() - 1);
        let factor = self.weight.as_ref().or(self.input.as_ref());
        let dtype = factor.map_or(whole.dtype(), Tensor::dtype);
        let grad = cast_to(&whole.detach(), dtype)?.reshape(((), width[0]))?;
        let input = |weight: &Tensor| -> Result<Tensor> {
            let dims = [leading, &weight.dims()[1..]].concat();
            Ok(product(&grad, weight)?.reshape(dims)?)
        };
        let input = self.weight.as_ref().map(input).transpose()?;
        let weight = self.input.as_ref().map(|x| product(&grad.t()?, x)).transpose()?;
        let bias = cx.wanted(3).then(|| sum_to_vector(&grad, 1)).transpose()?;
        let residual = cx.wanted(0).then_some(whole);
        let mut grads = vec![residual, input, weight, bias];
        grads.truncate(cx.inputs());
        Ok(grads)
    }
}
