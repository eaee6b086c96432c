//! `linear_add`: a linear map added to what goes around it.

use candle_core::{DType, Tensor};

use super::linear::{Factors, linear};
use super::product::product_plus;
use crate::Result;
use crate::dtypes::same_dtype;
use crate::graph::{Backward, Op, Value, record};
use crate::ops::add;
use crate::region::{cast_inputs, cast_to, uncast};

const OP: &str = "linear_add";

/// `residual + input · weightᵀ + bias`: the end of a residual branch.
///
/// One product does it, reads the residual and writes the sum, rounded once; where the residual is of another shape or dtype than the
/// product could have, or no kernel multiplies, it is [`add`](crate::ops::add) of [`linear`](crate::ops::linear). The product's inputs
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
    if !fits {
        return Ok(None);
    }
    let [x, w] = cast_inputs("linear", [input, weight])?;
    let dtype = same_dtype("linear", [("input", &x), ("weight", &w)])?;
    let (residual, wanted) = as_it_is("add", residual)?;
    let to = residual.dtype();
    let narrow = matches!(dtype, DType::F16 | DType::BF16);
    if wanted != to || to != dtype && !(to == DType::F32 && narrow) {
        return Ok(None);
    }
    let bias = match bias.map(|bias| in_sum(bias, dtype, to)) {
        None => None,
        Some(bias) => match bias? {
            None => return Ok(None),
            bias => bias,
        },
    };
    let rows = (leading.iter().product::<usize>(), *inner);
    let flat = x.detach().reshape(rows)?.contiguous()?;
    let plain = w.detach();
    let around = residual.detach().reshape((rows.0, *outer))?;
    let row = bias.as_ref().map(Tensor::detach);
    let Some(value) = product_plus(&flat, &plain.t()?, row.as_ref(), Some(&around))? else { return Ok(None) };
    let op = LinearAdd(Factors::of(&x, &plain, &w, &flat));
    let value = Value::fresh(value.reshape(residual.shape())?);
    Ok(Some(match &bias {
        None => record(op, &[&residual, &x, &w], value)?,
        Some(bias) => record(op, &[&residual, &x, &w, bias], value)?,
    }))
}

/// A bias in the dtype of the sum, which it has where parameters are f32; `None` where [`linear`] does not take it beside factors of
/// `dtype`.
fn in_sum(bias: &Tensor, dtype: DType, to: DType) -> Result<Option<Tensor>> {
    let (given, wanted) = as_it_is("linear", bias)?;
    Ok(if wanted != dtype {
        None
    } else if given.dtype() == to {
        Some(given)
    } else if wanted == to {
        let [cast] = cast_inputs("linear", [bias])?;
        Some(cast)
    } else {
        Some(cast_to(&given, to)?)
    })
}

/// An input without a cast, and the dtype that the active region wants it in for `op`.
fn as_it_is(op: &str, x: &Tensor) -> Result<(Tensor, DType)> {
    Ok(uncast(op, &[x])?.swap_remove(0))
}

struct LinearAdd(Factors);

impl Op for LinearAdd {
    fn name(&self) -> &'static str {
        OP
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let whole = cx.grad().clone();
        let grad = cast_to(&whole.detach(), self.0.dtype().unwrap_or(whole.dtype()))?;
        let product = self.0.gradients(cx, 1, &grad)?;
        Ok([vec![cx.wanted(0).then_some(whole)], product].concat())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use precision_types::Accelerator;

    use super::*;
    use crate::{Autocast, backward, ops};

    /// 1 + 2⁻⁹ added to 256: rounded to bf16 before the addition, the small part is lost, and 257 goes to the even 256.
    fn case(dtype: DType, around: DType) -> Result<[Var; 3]> {
        let var = |x: &[f32], dims: (usize, usize), dtype| -> Result<Var> {
            Ok(Var::from_tensor(&Tensor::from_slice(x, dims, &Device::Cpu)?.to_dtype(dtype)?)?)
        };
        Ok([
            var(&[1., 1. / 512.], (1, 2), dtype)?,
            var(&[1., 1., 2., 0.], (2, 2), dtype)?,
            var(&[256., 0.5], (1, 2), around)?,
        ])
    }

    fn numbers(x: &Tensor) -> Result<Vec<f32>> {
        Ok(x.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }

    #[test]
    fn a_sum_of_16_bits_is_rounded_once() -> Result<()> {
        let [x, w, around] = case(DType::BF16, DType::BF16)?;
        let sum = linear_add(&x, &w, None, &around)?;
        assert_eq!(numbers(&sum)?, [258., 2.5]);
        let grads = backward(ops::sum_all(&sum)?)?;
        let of = |var: &Var| grads.get(var).map(numbers).transpose();
        assert_eq!(of(&around)?, Some(vec![1., 1.]));
        assert_eq!(of(&x)?, Some(vec![3., 1.]));
        assert_eq!(of(&w)?, Some(vec![1., 1. / 512., 1., 1. / 512.]));
        Ok(())
    }

    #[test]
    fn a_residual_of_f32_stays_f32_in_a_region() -> Result<()> {
        let [x, w, around] = case(DType::F32, DType::F32)?;
        let region = Autocast::new(Accelerator::Cpu, DType::BF16)?;
        let sum = region.run(|| linear_add(&x, &w, None, &around))?;
        assert_eq!((sum.dtype(), numbers(&sum)?), (DType::F32, vec![257. + 1. / 512., 2.5]));
        Ok(())
    }
}
