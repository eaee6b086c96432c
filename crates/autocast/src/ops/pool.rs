//! Pooling. candle's pools have a gradient only where kernel and stride are equal, and share it among ties.

use candle_core::Tensor;

use super::resample::{Resample, resample};
use crate::prepare::{cast_inputs, check_float, widen};
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
/// [`Error::ShapeMismatch`] for another rank or an input smaller than the window, [`Error::InvalidArgument`] for a kernel
/// or stride of 0 or a padding of more than half the kernel, [`Error::UnsupportedDType`] for integers.
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
    let maps = [0, 1].map(|i| {
        let (from, to) = (input.dims()[i + 2], size[i]);
        Resample::new(to, from, move |at| {
            let (start, end) = (at * from / to, ((at + 1) * from).div_ceil(to));
            (start..end).map(move |input| (input, 1. / (end - start) as f64))
        })
    });
    resample(&input, &maps)
}

fn average<const N: usize>(op: &str, input: &Tensor, options: &PoolOptions<N>) -> Result<Tensor> {
    let input = checked_input::<N>(op, input)?;
    let windows = options.windows(op, &input)?;
    let maps = (0..N).map(|i| {
        let (kernel, size) = (options.kernel[i], input.dims()[i + 2]);
        let (stride, padding) = (options.stride[i], options.padding[i]);
        Resample::new(windows[i], size, move |at| {
            (at * stride..at * stride + kernel)
                .filter_map(move |tap| tap.checked_sub(padding).filter(|&tap| tap < size))
                .map(move |input| (input, 1. / kernel as f64))
        })
    });
    resample(&input, &maps.collect::<Vec<_>>())
}

fn maximum<const N: usize>(op: &str, input: &Tensor, options: &PoolOptions<N>) -> Result<Tensor> {
    let input = checked_input::<N>(op, input)?;
    let windows = options.windows(op, &input)?;
    let dims = input.dims();
    let (planes, pixels) = (dims[0] * dims[1], dims[2..].iter().product::<usize>());
    let mut out_dims = dims[..2].to_vec();
    out_dims.extend(windows);
    let flat = widen(&input)?.reshape((planes, pixels))?;
    let (count, taps) = (windows.iter().product::<usize>(), options.kernel.iter().product::<usize>());
    if planes == 0 {
        // Nothing to choose from; the (empty) gradient stays in the graph.
        return Ok(flat
            .narrow(1, 0, 1)?
            .reshape((0, 1))?
            .broadcast_as((0, count))?
            .reshape(out_dims)?
            .to_dtype(input.dtype())?);
    }
    let table = Tensor::from_vec(options.taps(windows, &dims[2..]), count * taps, input.device())?;
    let ranked = flat.detach();
    let ranked = ranked.ne(&ranked)?.where_cond(&ranked.ones_like()?.affine(0., f64::INFINITY)?, &ranked)?;
    let choices = ranked.index_select(&table, 1)?.reshape((planes, count, taps))?.argmax(2)?;
    // From the tap that was chosen in a window to the pixel under it.
    let table = table.reshape((1, count, taps))?.broadcast_as((planes, count, taps))?.contiguous()?;
    let pixels = table.gather(&choices.unsqueeze(2)?, 2)?.squeeze(2)?;
    Ok(flat.gather(&pixels, 1)?.reshape(out_dims)?.to_dtype(input.dtype())?)
}

fn checked_input<const N: usize>(op: &str, input: &Tensor) -> Result<Tensor> {
    let [input] = cast_inputs(op, [input])?;
    check_float(op, &input)?;
    if input.rank() != N + 2 || input.dims()[2..].contains(&0) {
        let expected = format!("an input (batch, channels, ..) with {N} more dimensions, none of them empty");
        return Err(Error::shape(op, expected, input.dims()));
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
            let padded = input.dims()[i + 2] + 2 * padding;
            if padded < kernel {
                let expected =
                    format!("an input, with its padding, no smaller than the kernel {:?}", self.kernel);
                return Err(Error::shape(op, expected, input.dims()));
            }
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
