//! From the gradient of a view to that of the elements that it shows.

use backends::buffer::Ran;
use backends::kernels::add::{Among, add_into};
use backends::kernels::convolution::Channels;
use backends::kernels::relayout::relaid;
use candle_core::{Layout, Shape, Tensor};

use crate::total::total_in_dtype;
use crate::{Error, Result};

/// The gradient of contiguous elements in `shape` from that of a view that shows all of them: each once, or broadcast.
pub(super) fn whole(grad: &Tensor, view: &Layout, shape: &Shape) -> Result<Option<Tensor>> {
    let (grad, strides) = summed(grad, view)?;
    if grad.elem_count() != shape.elem_count() {
        return Ok(None);
    }
    // The widest apart first; where an element is alone in its dimension, the stride means nothing.
    let mut order: Vec<usize> = (0..grad.rank()).collect();
    order.sort_by_key(|&i| (grad.dims()[i] > 1, std::cmp::Reverse(strides[i])));
    // An image's gradient that lies as it is counted, of a value whose channels lie last.
    let grad = match order == [0, 2, 3, 1] && grad.is_contiguous() {
        true => relaid(&grad, Channels::Last)?,
        false => grad,
    };
    let grad = if order.is_empty() { grad } else { grad.permute(order)? };
    Ok(Some(grad.reshape(shape)?))
}

/// Adds the gradient of a view to that of the elements among which it shows some.
pub(super) fn add_behind(sum: &Tensor, grad: &Tensor, view: &Layout) -> Result<()> {
    let (grad, strides) = summed(grad, view)?;
    // In the order in which the gradient lies, it need not be copied.
    let mut order: Vec<usize> = (0..grad.rank()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(grad.stride()[i]));
    let strides: Vec<usize> = order.iter().map(|&i| strides[i]).collect();
    let grad = if order.is_empty() { grad } else { grad.permute(order)? };
    let among = Among { strides: strides.clone(), offset: view.start_offset() };
    if let Ran::Kernel(_) = add_into(sum, &grad, &among)? {
        return Ok(());
    }
    // Index by index.
    let indices = (0..grad.rank()).try_fold(
        Tensor::full(view.start_offset() as i64, grad.shape(), grad.device())?,
        |at, dim| {
            let mut along = vec![1; grad.rank()];
            along[dim] = grad.dims()[dim];
            let steps = Tensor::arange(0, grad.dims()[dim] as i64, grad.device())?.reshape(along)?;
            at.broadcast_add(&steps.affine(strides[dim] as f64, 0.)?)
        },
    )?;
    let flat = sum.flatten_all()?;
    match flat.scatter_add_set(&indices.flatten_all()?, &grad.flatten_all()?, 0) {
        Ok(()) => Ok(()),
        Err(error) => Err(Error::Candle(error)),
    }
}

/// The gradient summed over what was broadcast, and the strides of the view.
fn summed(grad: &Tensor, view: &Layout) -> Result<(Tensor, Vec<usize>)> {
    let spread: Vec<usize> =
        (0..view.dims().len()).filter(|&i| view.stride()[i] == 0 && view.dims()[i] > 1).collect();
    let grad = if spread.is_empty() { grad.clone() } else { total_in_dtype(grad, &spread)? };
    Ok((grad, view.stride().to_vec()))
}
