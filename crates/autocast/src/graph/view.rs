//! From the gradient of a view to that of the elements that it shows.

use candle_core::{Layout, Shape, Tensor};

use crate::Result;
use crate::ops::total::total_in_dtype;

/// The gradient of contiguous elements in `shape` from that of a view of them, 0 where the view shows none. `None` for a
/// layout that shows an element twice other than by broadcasting.
pub(super) fn behind(grad: &Tensor, view: &Layout, shape: &Shape) -> Result<Option<Tensor>> {
    let spread: Vec<usize> =
        (0..view.dims().len()).filter(|&i| view.stride()[i] == 0 && view.dims()[i] > 1).collect();
    let grad = if spread.is_empty() { grad.clone() } else { total_in_dtype(grad, &spread)? };
    // What is left are runs of elements, the widest apart first.
    let mut runs: Vec<usize> = (0..view.dims().len()).filter(|&i| grad.dims()[i] > 1).collect();
    runs.sort_by_key(|&i| std::cmp::Reverse(view.stride()[i]));
    let sizes: Vec<usize> = runs.iter().map(|&i| view.dims()[i]).collect();
    let strides: Vec<usize> = runs.iter().map(|&i| view.stride()[i]).collect();
    let mut reach = 1;
    for (&size, &stride) in sizes.iter().zip(&strides).rev() {
        if stride < reach {
            return Ok(None);
        }
        reach += (size - 1) * stride;
    }
    let ones = (0..view.dims().len()).filter(|&i| grad.dims()[i] <= 1);
    let order: Vec<usize> = ones.chain(runs.iter().copied()).collect();
    let grad = if order.is_empty() { grad } else { grad.permute(order)? };
    if grad.elem_count() == shape.elem_count() {
        return Ok(Some(grad.reshape(shape)?));
    }
    Ok(Some(placed(&grad, &sizes, &strides, view.start_offset(), shape)?))
}

/// Elements, which lie in runs of `sizes` at `strides`, among zeros.
fn placed(grad: &Tensor, sizes: &[usize], strides: &[usize], offset: usize, shape: &Shape) -> Result<Tensor> {
    let mut slots = grad.reshape(((), 1))?;
    // From the innermost run out: each element, or run of them, is padded to the distance of the next one.
    for (&size, &stride) in sizes.iter().zip(strides).rev() {
        slots = resized(&slots, stride)?.reshape(((), size * stride))?;
    }
    let slots = slots.flatten_all()?.pad_with_zeros(0, offset, 0)?.unsqueeze(0)?;
    Ok(resized(&slots, shape.elem_count())?.reshape(shape)?)
}

/// Rows cut or padded with zeros to `width`.
fn resized(rows: &Tensor, width: usize) -> Result<Tensor> {
    Ok(match rows.dim(1)? {
        has if has == width => rows.clone(),
        has if has > width => rows.narrow(1, 0, width)?.contiguous()?,
        has => rows.pad_with_zeros(1, 0, width - has)?,
    })
}
