//! The backward of broadcasting: summing a gradient back to the shape that was broadcast.

use candle_core::Tensor;

use crate::Result;

/// `grad`, already widened, summed over the dimensions along which a tensor of shape `dims` was broadcast to it.
pub(super) fn sum_to(grad: &Tensor, dims: &[usize]) -> Result<Tensor> {
    if grad.dims() == dims {
        return Ok(grad.clone());
    }
    let missing = grad.rank() - dims.len();
    let spread: Vec<usize> = (0..grad.rank())
        .filter(|&i| i < missing || (dims[i - missing] == 1 && grad.dims()[i] != 1))
        .collect();
    let leading = spread.iter().enumerate().all(|(at, &dim)| at == dim);
    let summed = if leading { sum_leading(grad, spread.len())? } else { grad.sum_keepdim(spread)? };
    Ok(summed.reshape(dims)?)
}

/// The sum over the first `count` dimensions.
fn sum_leading(x: &Tensor, count: usize) -> Result<Tensor> {
    let rows: usize = x.dims()[..count].iter().product();
    let rest = &x.dims()[count..];
    let columns: usize = rest.iter().product();
    if rows == 0 || columns == 0 {
        return Ok(Tensor::zeros(rest, x.dtype(), x.device())?);
    }
    // candle sums over leading dimensions one element at a time; a product with ones uses every core.
    let ones = Tensor::ones((1, rows), x.dtype(), x.device())?;
    Ok(ones.matmul(&x.contiguous()?.reshape((rows, columns))?)?.reshape(rest)?)
}
