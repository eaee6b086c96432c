//! Maxima and minima along dimensions. They round nothing; what differs between them is who gets the gradient of a tie.

use candle_core::shape::{Dim, Dims};
use candle_core::{DType, Tensor};

use crate::graph::{Keep, composed};
use crate::ops::shape::empty::without_gradient;
use crate::region::{float_inputs, widen};
use crate::total::total;
use crate::{Error, Result};

/// The largest elements along `dim`, which is removed, and their indices (u32). NaN is larger than anything. Of equal
/// elements the one whose index is returned gets the gradient.
///
/// # Errors
///
/// A dimension that `x` does not have or that is empty, a dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// `torch.max(input, dim)`.
pub fn max(x: &Tensor, dim: impl Dim) -> Result<(Tensor, Tensor)> {
    along("max", x, dim, Side::Max)
}

/// The smallest elements along `dim`, as [`max`].
///
/// # Errors
///
/// As [`max`].
pub fn min(x: &Tensor, dim: impl Dim) -> Result<(Tensor, Tensor)> {
    along("min", x, dim, Side::Min)
}

/// The largest elements over `dims`, which are removed. NaN is larger than anything. Equal elements, or all that are
/// NaN, share the gradient evenly.
///
/// # Errors
///
/// A dimension that `x` does not have or that is empty, a dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// `torch.amax`.
pub fn amax<D: Dims>(x: &Tensor, dims: D) -> Result<Tensor> {
    over("amax", x, dims.to_indexes(x.shape(), "amax")?, Side::Max)
}

/// The smallest elements over `dims`, as [`amax`].
///
/// # Errors
///
/// As [`amax`].
pub fn amin<D: Dims>(x: &Tensor, dims: D) -> Result<Tensor> {
    over("amin", x, dims.to_indexes(x.shape(), "amin")?, Side::Min)
}

#[derive(Clone, Copy)]
enum Side {
    Max,
    Min,
}

impl Side {
    /// The extremum along one dimension, which is kept.
    fn keepdim(self, x: &Tensor, dim: usize) -> candle_core::Result<Tensor> {
        match self {
            Self::Max => x.max_keepdim(dim),
            Self::Min => x.min_keepdim(dim),
        }
    }

    fn index_keepdim(self, x: &Tensor, dim: usize) -> candle_core::Result<Tensor> {
        match self {
            Self::Max => x.argmax_keepdim(dim),
            Self::Min => x.argmin_keepdim(dim),
        }
    }
}

fn check_dim(op: &str, x: &Tensor, dim: usize) -> Result<()> {
    match x.dims()[dim] {
        0 => Err(Error::shape(op, "x", x.dims(), format!("elements along dimension {dim}"))),
        _ => Ok(()),
    }
}

fn along(op: &'static str, x: &Tensor, dim: impl Dim, side: Side) -> Result<(Tensor, Tensor)> {
    let dim = dim.to_index(x.shape(), op)?;
    let [x] = float_inputs(op, [("x", x)])?;
    check_dim(op, &x, dim)?;
    let plain = x.detach().contiguous()?;
    let mut kept = x.dims().to_vec();
    kept[dim] = 1;
    if x.elem_count() == 0 {
        let zeros = |dtype| Tensor::zeros(&*kept, dtype, x.device())?.squeeze(dim);
        let value = without_gradient(op, &[&x], zeros(x.dtype())?)?;
        return Ok((value, zeros(DType::U32)?));
    }
    // candle's comparisons pass over NaN.
    let nan = plain.ne(&plain)?.to_dtype(DType::F32)?;
    let first_nan = nan.argmax_keepdim(dim)?;
    let index = nan.max_keepdim(dim)?.gt(0.)?.where_cond(&first_nan, &side.index_keepdim(&plain, dim)?)?;
    let value = plain.gather(&index, dim)?.squeeze(dim)?;
    let saved = index.clone();
    let value = composed(op, [&x], value, Keep::Nothing, move |grad, _, [x]| {
        let dx = Tensor::zeros(x.shape(), grad.dtype(), grad.device())?;
        dx.scatter_add_set(&saved, &grad.unsqueeze(dim)?, dim)?;
        Ok([dx])
    })?;
    Ok((value, index.squeeze(dim)?))
}

fn over(op: &'static str, x: &Tensor, dims: Vec<usize>, side: Side) -> Result<Tensor> {
    let [x] = float_inputs(op, [("x", x)])?;
    for &dim in &dims {
        check_dim(op, &x, dim)?;
    }
    let squeezed: Vec<usize> = (0..x.rank()).filter(|i| !dims.contains(i)).map(|i| x.dims()[i]).collect();
    if x.elem_count() == 0 {
        return without_gradient(op, &[&x], Tensor::zeros(squeezed, x.dtype(), x.device())?);
    }
    let plain = x.detach().contiguous()?;
    let mut extremum = plain.clone();
    for &dim in &dims {
        extremum = side.keepdim(&extremum, dim)?;
    }
    if !dims.is_empty() {
        let nan = plain.ne(&plain)?.to_dtype(DType::F32)?.sum_keepdim(&*dims)?.gt(0.)?;
        let poison = Tensor::full(f64::NAN, extremum.shape(), x.device())?.to_dtype(x.dtype())?;
        extremum = nan.where_cond(&poison, &extremum)?;
    }
    let kept_dims = extremum.dims().to_vec();
    composed(op, [&x], extremum.reshape(squeezed)?, Keep::Both, move |grad, value, [x]| {
        let kept = value.reshape(&*kept_dims)?;
        let both_nan = kept.ne(&kept)?.broadcast_as(x.shape())?.mul(&x.ne(x)?)?;
        let hit = (x.broadcast_eq(&kept)? + both_nan)?;
        let ties = total(&hit.to_dtype(grad.dtype())?, &dims)?;
        let share = (widen(grad)?.reshape(kept.shape())? / ties)?.broadcast_as(x.shape())?.contiguous()?;
        // A choice and not a product: elsewhere the gradient is 0 whatever the share is.
        Ok([hit.where_cond(&share, &share.zeros_like()?)?])
    })
}
