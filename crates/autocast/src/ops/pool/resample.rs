//! Weighted sums along single dimensions: average pooling and interpolation are one map per dimension, in which each
//! output has a few pixels. Only those are read, so that a NaN or an infinity stays within its window, in the value and,
//! by the maps the other way round, in the gradient.

use backends::kernels::resample::Taps;
use backends::{Floats, bridge, kernels};
use candle_core::{DType, Device, Tensor};

use crate::Result;
use crate::dtypes::accumulation_dtype;
use crate::graph::{Backward, Keep, Op, Value, composed, record};
use crate::ops::shape::empty::without_gradient;
use crate::ops::shape::layout::{as_it_lies, channels_second};
use crate::ops::shape::size::check_size;
use crate::region::widen;

/// `x`, an image with at least one pixel, with its last dimensions mapped by `maps`, the last by the last; computed in
/// f32 (f64 for f64), narrowed once.
pub(crate) fn resample(op: &'static str, x: &Tensor, maps: Vec<Taps>) -> Result<Tensor> {
    let leading = x.rank() - maps.len();
    let dims: Vec<usize> =
        x.dims()[..leading].iter().copied().chain(maps.iter().map(Taps::outputs)).collect();
    check_size(op, &dims, DType::F64)?;
    if x.elem_count() == 0 {
        return without_gradient(op, &[x], Tensor::zeros(dims, x.dtype(), x.device())?);
    }
    if let Some(value) = on_a_gpu(op, x, &maps)? {
        return Ok(value);
    }
    let mut value = widen(&x.detach())?;
    for (at, taps) in maps.iter().enumerate().rev() {
        value = along(op, &value, leading + at, taps)?;
    }
    composed(op, [x], value.to_dtype(x.dtype())?, Keep::Nothing, move |grad, _, _| {
        let adjoints = maps.iter().map(Taps::transposed).enumerate();
        let mut dx = grad.clone();
        for (at, taps) in adjoints {
            dx = along(op, &dx, leading + at, &taps)?;
        }
        Ok([dx])
    })
}

/// The same over an image as it lies, without a widened copy.
fn on_a_gpu(op: &'static str, x: &Tensor, maps: &[Taps]) -> Result<Option<Tensor>> {
    if x.device().is_cpu() {
        return Ok(None);
    }
    let laid = as_it_lies(&x.detach())?;
    let (first, last) = if laid.is_some() { (1, true) } else { (x.rank() - maps.len(), false) };
    let laid = laid.map_or_else(|| x.detach().contiguous(), Ok)?;
    let made = Resampled { op, first, maps: maps.to_vec(), last };
    let Some(value) = made.mapped(&laid, &made.maps, x.dtype())? else { return Ok(None) };
    let value = record(made, &[x], Value::fresh(value))?;
    Ok(Some(if last { channels_second(&value)? } else { value }))
}

/// Maps of the dimensions from `first` on.
struct Resampled {
    op: &'static str,
    first: usize,
    maps: Vec<Taps>,
    /// Whether the channels lie last.
    last: bool,
}

impl Resampled {
    /// `x` with each of its dimensions mapped, the last first, and rounded once to `dtype`.
    fn mapped(&self, x: &Tensor, maps: &[Taps], dtype: DType) -> Result<Option<Tensor>> {
        let mut value = x.clone();
        for (at, taps) in maps.iter().enumerate().rev() {
            let dim = self.first + at;
            let mut dims = value.dims().to_vec();
            let (outer, inner): (usize, usize) =
                (dims[..dim].iter().product(), dims[dim + 1..].iter().product());
            dims[dim] = taps.outputs();
            let to = if at == 0 { dtype } else { accumulation_dtype(dtype) };
            let rows = value.reshape((outer, taps.inputs(), inner))?;
            let Some(made) = kernels::resample::resampled(&rows, taps, to)?.ran() else { return Ok(None) };
            value = made.reshape(dims)?;
        }
        Ok(Some(value))
    }
}

impl Op for Resampled {
    fn name(&self) -> &'static str {
        self.op
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let adjoints: Vec<Taps> = self.maps.iter().map(Taps::transposed).collect();
        let made = match self.mapped(cx.grad(), &adjoints, cx.grad().dtype())? {
            Some(made) => made,
            None => {
                let mut made = widen(cx.grad())?;
                for (at, taps) in adjoints.iter().enumerate() {
                    made = along(self.op, &made, self.first + at, taps)?;
                }
                made.to_dtype(cx.grad().dtype())?
            }
        };
        Ok(vec![Some(if self.last { channels_second(&made)? } else { made })])
    }
}

/// `x` of f32 or f64, which is not empty, with dimension `dim` mapped by `taps`.
fn along(op: &'static str, x: &Tensor, dim: usize, taps: &Taps) -> Result<Tensor> {
    let (outer, inner): (usize, usize) =
        (x.dims()[..dim].iter().product(), x.dims()[dim + 1..].iter().product());
    let mut dims = x.dims().to_vec();
    dims[dim] = taps.outputs();
    if !x.device().is_cpu() {
        return Ok(by_hand(&x.reshape((outer, taps.inputs(), inner))?, taps)?.reshape(dims)?);
    }
    let value = bridge::with_floats(op, [x], |[floats]| match floats {
        Floats::F32(x) => Tensor::from_vec(kernels::resample::resample(x, inner, taps), dims, &Device::Cpu),
        Floats::F64(x) => Tensor::from_vec(kernels::resample::resample(x, inner, taps), dims, &Device::Cpu),
        _ => candle_core::bail!("{op}: only f32 and f64 are summed in"),
    })?;
    Ok(value?)
}

/// The same from tensor ops for more elements than the kernel takes, `(outer, inputs, inner)` on a GPU: all taps are gathered, those that an output lacks are
/// taken out by choice, and the rest is summed.
fn by_hand(x: &Tensor, taps: &Taps) -> candle_core::Result<Tensor> {
    let (outer, _, inner) = x.dims3()?;
    let outputs = taps.outputs();
    let most = (0..outputs).map(|output| taps.of(output).len()).max().unwrap_or(0).max(1);
    let (mut inputs, mut weights) = (vec![0u32; outputs * most], vec![0f64; outputs * most]);
    for output in 0..outputs {
        for (at, &(input, weight)) in taps.of(output).iter().enumerate() {
            inputs[output * most + at] = input as u32;
            weights[output * most + at] = weight;
        }
    }
    let present: Vec<u8> = weights.iter().map(|&weight| u8::from(weight != 0.)).collect();
    let device = x.device();
    let gathered = x.contiguous()?.index_select(&Tensor::from_vec(inputs, outputs * most, device)?, 1)?;
    let gathered = gathered.reshape((outer, outputs, most, inner))?;
    let column = (1, outputs, most, 1);
    let weights = Tensor::from_vec(weights, column, &Device::Cpu)?.to_dtype(x.dtype())?;
    let weighted = gathered.broadcast_mul(&weights.to_device(device)?)?;
    let present = Tensor::from_vec(present, column, device)?.broadcast_as(weighted.shape())?;
    let chosen = present.contiguous()?.where_cond(&weighted, &weighted.zeros_like()?)?;
    chosen.sum(2)
}
