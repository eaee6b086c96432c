//! Maximum pools as one kernel each way, over images as they lie, where one takes the windows.

use backends::kernels::max_pool::{Windows, gradient_of, largest_of};
use candle_core::Tensor;

use super::window::PoolOptions;
use crate::graph::{Attribute, Backward, Op, Value, record};
use crate::ops::shape::layout::{as_it_lies, channels_second};
use crate::{Error, Result};

/// The largest of each window, where a kernel takes the call.
pub(super) fn by_kernel<const N: usize>(
    op: &'static str,
    input: &Tensor,
    options: &PoolOptions<N>,
    windows: [usize; N],
) -> Result<Option<Tensor>> {
    // Along one dimension, an image is one pixel high.
    let both = |along: [usize; N], beside: usize| {
        if N == 1 { [beside, along[0]] } else { [along[0], along[N - 1]] }
    };
    let laid = as_it_lies(&input.detach())?;
    let dims = input.dims();
    let (batch, channels) = (dims[0], dims[1]);
    let [height, width] = both(std::array::from_fn(|i| dims[i + 2]), 1);
    let dims = match laid {
        Some(_) => [batch, height, width, channels],
        None => [batch * channels, height, width, 1],
    };
    let windows = Windows {
        dims,
        count: both(windows, 1),
        kernel: both(options.kernel, 1),
        stride: both(options.stride, 1),
        padding: both(options.padding, 0),
    };
    let last = laid.is_some();
    let Some([value, taps]) = largest_of(&windows, &laid.unwrap_or_else(|| input.detach()))?.ran() else {
        return Ok(None);
    };
    // In as many dimensions as the input has, as it lies.
    let shaped = |of: [usize; 4]| -> Vec<usize> {
        let [_, rows, columns, _] = of;
        let pixels = if N == 1 { vec![columns] } else { vec![rows, columns] };
        match last {
            true => [&[batch], &pixels[..], &[channels]].concat(),
            false => [&[batch, channels], &pixels[..]].concat(),
        }
    };
    let value = value.reshape(shaped(windows.out()))?;
    let of = Largest { op, windows, taps, input: shaped(windows.dims), last };
    let made = record(of, &[input], Value::fresh(value))?;
    Ok(Some(if last { channels_second(&made)? } else { made }))
}

/// A maximum pool, with the taps that were the largest.
struct Largest {
    op: &'static str,
    windows: Windows,
    taps: Tensor,
    /// The input's dimensions as it lies.
    input: Vec<usize>,
    /// Whether its channels lie last.
    last: bool,
}

impl Op for Largest {
    fn name(&self) -> &'static str {
        self.op
    }

    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        let Windows { kernel, stride, padding, .. } = &self.windows;
        vec![("kernel", kernel[..].into()), ("stride", stride[..].into()), ("padding", padding[..].into())]
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let made = gradient_of(&self.windows, cx.grad(), &self.taps)?.ran();
        let made = made.ok_or_else(|| Error::refused(self.op))?.reshape(&*self.input)?;
        Ok(vec![Some(if self.last { channels_second(&made)? } else { made })])
    }
}
