//! Pooling. candle's pools have a gradient only where kernel and stride are equal, and share it among ties.

use backends::kernels::max_pool::argmax_in_windows;
use backends::kernels::resample::Taps;
use backends::{Floats, bridge};
use candle_core::{DType, Device, Tensor};

use super::resample::resample;
use crate::dtypes::check_float;
use crate::ops::shape::empty::without_gradient;
use crate::ops::shape::size::check_size;
use crate::region::{cast_inputs, widen};
use crate::{Error, Result};

/// A window that moves along `N` dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolOptions<const N: usize> {
    /// The size of the window.
    pub kernel: [usize; N],
    /// The distance between two windows.
    pub stride: [usize; N],
    /// How far a window may reach over each edge; at most half the kernel.
    pub padding: [usize; N],
}

impl<const N: usize> PoolOptions<N> {
    /// Windows side by side, without padding.
    pub fn new(kernel: [usize; N]) -> Self {
        Self { kernel, stride: kernel, padding: [0; N] }
    }
}

/// The mean of each window along one dimension; padding counts as zeros.
///
/// # Shapes
///
/// `(batch, channels, length)` to `(batch, channels, windows)`.
///
/// # Errors
///
/// [`Error::InvalidArgument`] for another rank or an input smaller than the window, a kernel or stride of 0, a padding of
/// more than half the kernel, windows that do not fit into memory, and integers.
///
/// # Source
///
/// `torch.nn.functional.avg_pool1d`.
pub fn avg_pool1d(input: &Tensor, options: &PoolOptions<1>) -> Result<Tensor> {
    average("avg_pool1d", input, options)
}

/// The mean of each window along two dimensions; padding counts as zeros.
///
/// # Errors
///
/// As [`avg_pool1d`].
///
/// # Source
///
/// `torch.nn.functional.avg_pool2d`.
pub fn avg_pool2d(input: &Tensor, options: &PoolOptions<2>) -> Result<Tensor> {
    average("avg_pool2d", input, options)
}

/// The largest value of each window along one dimension. The gradient goes to the first of equal values, and NaN is
/// larger than any number.
///
/// # Errors
///
/// As [`avg_pool1d`].
///
/// # Source
///
/// `torch.nn.functional.max_pool1d`.
pub fn max_pool1d(input: &Tensor, options: &PoolOptions<1>) -> Result<Tensor> {
    maximum("max_pool1d", input, options)
}

/// The largest value of each window along two dimensions, with the gradient as in [`max_pool1d`].
///
/// # Errors
///
/// As [`avg_pool1d`].
///
/// # Source
///
/// `torch.nn.functional.max_pool2d`.
pub fn max_pool2d(input: &Tensor, options: &PoolOptions<2>) -> Result<Tensor> {
    maximum("max_pool2d", input, options)
}

/// The means of as many windows as `size` asks for, of nearly equal sizes.
///
/// # Shapes
///
/// `(batch, channels, height, width)` to `(batch, channels, size[0], size[1])`.
///
/// # Errors
///
/// As [`avg_pool1d`]; [`Error::InvalidArgument`] for a size of 0.
///
/// # Source
///
/// `torch.nn.functional.adaptive_avg_pool2d`.
pub fn adaptive_avg_pool2d(input: &Tensor, size: [usize; 2]) -> Result<Tensor> {
    const OP: &str = "adaptive_avg_pool2d";
    let input = checked_input::<2>(OP, input)?;
    if size.contains(&0) {
        return Err(Error::argument(OP, "size", format!("{size:?}"), "at least 1 in each dimension"));
    }
    // The taps' tables, before the result is looked at: windows overlap by one pixel at most.
    for (i, to) in size.into_iter().enumerate() {
        check_size(OP, &[to.max(input.dims()[i + 2]), 4], DType::F64)?;
    }
    check_size(OP, &[&input.dims()[..2], &size].concat(), DType::F64)?;
    let maps = [0, 1].map(|i| {
        let (from, to) = (input.dims()[i + 2], size[i]);
        Taps::new(to, from, |at| {
            let (start, end) = adaptive_window(at, from, to);
            (start..end).map(move |input| (input, 1. / (end - start) as f64))
        })
    });
    resample(OP, &input, maps.into())
}

/// The `at`-th of `to` windows over `from` pixels; in 128 bits, because the product of two sizes may not fit 64.
fn adaptive_window(at: usize, from: usize, to: usize) -> (usize, usize) {
    let [at, from, to] = [at, from, to].map(|size| size as u128);
    ((at * from / to) as usize, ((at + 1) * from).div_ceil(to) as usize)
}

fn average<const N: usize>(op: &'static str, input: &Tensor, options: &PoolOptions<N>) -> Result<Tensor> {
    let input = checked_input::<N>(op, input)?;
    let windows = options.windows(op, &input)?;
    for (windows, kernel) in windows.iter().zip(options.kernel) {
        check_size(op, &[*windows, kernel, 4], DType::F64)?;
    }
    let maps = (0..N).map(|i| {
        let (kernel, size) = (options.kernel[i], input.dims()[i + 2]);
        let (stride, padding) = (options.stride[i], options.padding[i]);
        Taps::new(windows[i], size, |at| {
            (at * stride..at * stride + kernel)
                .filter_map(move |tap| tap.checked_sub(padding))
                .map(move |input| (input, 1. / kernel as f64))
        })
    });
    resample(op, &input, maps.collect())
}

fn maximum<const N: usize>(op: &'static str, input: &Tensor, options: &PoolOptions<N>) -> Result<Tensor> {
    let input = checked_input::<N>(op, input)?;
    let windows = options.windows(op, &input)?;
    let dims = input.dims();
    let (planes, pixels) = (dims[0] * dims[1], dims[2..].iter().product::<usize>());
    if u32::try_from(pixels).is_err() {
        return Err(Error::shape(op, "input", dims, "fewer than 2^32 pixels"));
    }
    let mut out_dims = dims[..2].to_vec();
    out_dims.extend(windows);
    if planes == 0 {
        return without_gradient(op, &[&input], Tensor::zeros(out_dims, input.dtype(), input.device())?);
    }
    check_size(op, &out_dims, DType::F64)?;
    check_size(op, &[&windows[..], &options.kernel[..], &[4]].concat(), DType::F64)?;
    let (count, taps) = (windows.iter().product::<usize>(), options.kernel.iter().product::<usize>());
    if let Some(value) = super::largest::by_kernel(op, &input, options, windows)? {
        return Ok(value);
    }
    let table = options.taps(windows, &dims[2..]);
    let flat = widen(&input)?.reshape((planes, pixels))?;
    let pixels = match input.device() {
        Device::Cpu => {
            let chosen = bridge::with_floats(op, [&flat], |[x]| match x {
                Floats::F32(x) => Ok(argmax_in_windows(x, pixels, &table, taps)),
                Floats::F64(x) => Ok(argmax_in_windows(x, pixels, &table, taps)),
                _ => candle_core::bail!("{op}: only f32 and f64 are compared in"),
            })?;
            Tensor::from_vec(chosen?, (planes, count), &Device::Cpu)?
        }
        device => {
            chosen_pixels(&flat.detach(), &Tensor::from_vec(table, count * taps, device)?, (count, taps))?
        }
    };
    Ok(flat.gather(&pixels, 1)?.reshape(out_dims)?.to_dtype(input.dtype())?)
}

/// The pixel of the maximum in each window, from tensor ops. `table` has the pixel under each tap of each window.
fn chosen_pixels(
    flat: &Tensor,
    table: &Tensor,
    (count, taps): (usize, usize),
) -> candle_core::Result<Tensor> {
    let planes = flat.dim(0)?;
    let under = flat.contiguous()?.index_select(table, 1)?.reshape((planes, count, taps))?;
    // candle's comparisons pass over NaN.
    let nan = under.ne(&under)?.to_dtype(DType::F32)?;
    let choices = nan.max(2)?.gt(0.)?.where_cond(&nan.argmax(2)?, &under.argmax(2)?)?;
    let table = table.reshape((1, count, taps))?.broadcast_as((planes, count, taps))?.contiguous()?;
    table.gather(&choices.unsqueeze(2)?, 2)?.squeeze(2)
}

fn checked_input<const N: usize>(op: &str, input: &Tensor) -> Result<Tensor> {
    let [input] = cast_inputs(op, [input])?;
    check_float(op, "input", &input)?;
    if input.rank() != N + 2 || input.dims()[2..].contains(&0) {
        let expected = format!("(batch, channels, ..) with {N} more dimensions, none of them empty");
        return Err(Error::shape(op, "input", input.dims(), expected));
    }
    Ok(input)
}

impl<const N: usize> PoolOptions<N> {
    /// The number of windows along each dimension.
    fn windows(&self, op: &str, input: &Tensor) -> Result<[usize; N]> {
        let mut windows = [0; N];
        for (i, windows) in windows.iter_mut().enumerate() {
            let (kernel, stride, padding) = (self.kernel[i], self.stride[i], self.padding[i]);
            if kernel == 0 {
                return Err(Error::argument(op, "kernel", 0, "at least 1"));
            }
            if stride == 0 {
                return Err(Error::argument(op, "stride", 0, "at least 1"));
            }
            if padding > kernel / 2 {
                return Err(Error::argument(
                    op,
                    "padding",
                    padding,
                    format!("at most half the kernel {kernel}"),
                ));
            }
            let padded = padding.checked_mul(2).and_then(|both| input.dims()[i + 2].checked_add(both));
            let Some(padded) = padded.filter(|&padded| padded >= kernel) else {
                let expected =
                    format!("one that with its padding is no smaller than the kernel {:?}", self.kernel);
                return Err(Error::shape(op, "input", input.dims(), expected));
            };
            *windows = (padded - kernel) / stride + 1;
        }
        Ok(windows)
    }

    /// The pixel under each tap of each window. Taps over the edge stand on the pixel next to them, which is in the
    /// window too: a maximum does not change by counting it twice.
    fn taps(&self, windows: [usize; N], size: &[usize]) -> Vec<u32> {
        let along = |i: usize| -> Vec<Vec<usize>> {
            (0..windows[i])
                .map(|window| {
                    (window * self.stride[i]..window * self.stride[i] + self.kernel[i])
                        .map(|tap| tap.saturating_sub(self.padding[i]).min(size[i] - 1))
                        .collect()
                })
                .collect()
        };
        // Windows in row-major order, and within each its taps.
        (0..N)
            .map(along)
            .enumerate()
            .fold(vec![vec![0]], |outer: Vec<Vec<usize>>, (i, inner)| {
                let joined = |a: &Vec<usize>, b: &Vec<usize>| -> Vec<usize> {
                    a.iter().flat_map(|row| b.iter().map(move |column| row * size[i] + column)).collect()
                };
                outer.iter().flat_map(|a| inner.iter().map(move |b| joined(a, b))).collect()
            })
            .into_iter()
            .flatten()
            .map(|pixel| pixel as u32)
            .collect()
    }
}
