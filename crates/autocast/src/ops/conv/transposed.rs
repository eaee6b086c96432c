//! `conv_transpose1d` and `conv_transpose2d`: the adjoints of the convolutions with the same weight. candle's have no
//! gradient in one dimension and no groups in two.

use candle_core::{DType, Tensor};

use super::convolution::{Padding, as_images, check_bias, check_groups, checked_steps, finish, prepared};
use super::correlation::{correlate, kernel_gradient, spread};
use super::engine::{Engine, Map};
use crate::graph::{Keep, composed};
use crate::ops::shape::size::check_size;
use crate::{Error, Result};

/// How a kernel moves over the output of a transposed convolution, the same in all directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvTransposeOptions {
    /// How much of the result is cut off on every side.
    pub padding: usize,
    /// How much is added at the end of every dimension; less than the stride or the dilation.
    pub output_padding: usize,
    /// The distance in the output of two neighbours in the input.
    pub stride: usize,
    /// The distance between two taps of the kernel.
    pub dilation: usize,
    /// The number of groups that the channels are split into, which do not mix.
    pub groups: usize,
}

impl Default for ConvTransposeOptions {
    fn default() -> Self {
        Self { padding: 0, output_padding: 0, stride: 1, dilation: 1, groups: 1 }
    }
}

/// A transposed convolution along one dimension.
///
/// # Shapes
///
/// `input` is `(batch, in, length)`, `weight` is `(in, out / groups, taps)`, `bias` is `(out)`; the result is
/// `(batch, out, (length - 1) · stride - 2 · padding + dilation · (taps - 1) + output_padding + 1)`.
///
/// # Errors
///
/// [`Error::InvalidArgument`] where these do not fit or nothing would remain, for options of 0, groups that do not divide
/// the channels, or an output padding that is too large, and where the dtypes differ after the region's rule was applied.
///
/// # Source
///
/// `torch.nn.functional.conv_transpose1d`.
pub fn conv_transpose1d(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    options: &ConvTransposeOptions,
) -> Result<Tensor> {
    transposed("conv_transpose1d", 1, input, weight, bias, options)
}

/// A transposed convolution along two dimensions.
///
/// # Shapes
///
/// As [`conv_transpose1d`], with `(batch, in, height, width)` and `(in, out / groups, kh, kw)`.
///
/// # Errors
///
/// As [`conv_transpose1d`].
///
/// # Source
///
/// `torch.nn.functional.conv_transpose2d`.
pub fn conv_transpose2d(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    options: &ConvTransposeOptions,
) -> Result<Tensor> {
    transposed("conv_transpose2d", 2, input, weight, bias, options)
}

fn transposed(
    op: &'static str,
    spatial: usize,
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    options: &ConvTransposeOptions,
) -> Result<Tensor> {
    let (input, weight, bias) = prepared(op, input, weight, bias)?;
    let steps = checked_steps(op, options.stride, options.dilation, options.groups)?;
    if options.output_padding >= options.stride.max(options.dilation) {
        let expected = "less than the stride or the dilation";
        return Err(Error::argument(op, "output_padding", options.output_padding, expected));
    }
    let (input, weight) = as_images(op, spatial, &input, &weight)?;
    let (channels, group_out, kh, kw) = weight.dims4()?;
    let (_, input_channels, rows, columns) = input.dims4()?;
    check_groups(op, "the input channels", channels, steps.groups)?;
    if input_channels != channels {
        let expected = format!("{channels} channels, as the weight has");
        return Err(Error::shape(op, "input", input.dims(), expected));
    }
    let too_large = || {
        let expected = "options whose result fits into memory";
        Error::argument(op, "options", format!("{options:?}"), expected)
    };
    let out = group_out.checked_mul(steps.groups).ok_or_else(too_large)?;
    check_bias(op, bias.as_ref(), out)?;
    // The size before anything is cut off.
    let full = |positions: usize, kernel: usize, added: usize| match positions {
        0 => Ok(0),
        _ => steps.extent(positions, kernel).and_then(|size| size.checked_add(added)).ok_or_else(too_large),
    };
    let added = options.output_padding;
    let size = (full(rows, kh, if spatial == 1 { 0 } else { added })?, full(columns, kw, added)?);
    check_size(op, &[input.dim(0)?, out, size.0, size.1], DType::F64)?;
    let padding = Padding::new(spatial, options.padding);
    let cut = options.padding.saturating_mul(2);
    if size.1 <= cut || (spatial == 2 && size.0 <= cut) {
        let expected = format!("one whose result is larger than twice the padding {}", options.padding);
        return Err(Error::shape(op, "input", input.dims(), expected));
    }
    check_size(op, &[input.dim(0)?.max(1), out.max(1), size.0, size.1], DType::F32)?;
    // No more pixels behind the last position than a correlation passes over.
    if added < steps.stride {
        let [above, beside] = padding.both();
        let dims = [input.dim(0)?, out, size.0 - 2 * above, size.1 - 2 * beside];
        let engine = Engine { op, map: Map::Spread, steps, padding };
        if let Some(value) = engine.value(&input, &weight, bias.as_ref(), dims)? {
            return finish(spatial, value, None);
        }
    }
    let value = padding.cropped(&spread(&input, &weight, size, steps)?)?;
    let wanted = [&input, &weight].map(Tensor::track_op);
    let value = composed(op, [&input, &weight], value, Keep::Inputs, move |grad, _, [input, weight]| {
        let grad = padding.padded(&grad.to_dtype(input.dtype())?)?;
        let input_grad = match wanted[0] {
            true => correlate(&grad, weight, steps)?.narrow(2, 0, rows)?.narrow(3, 0, columns)?,
            false => input.clone(),
        };
        let weight_grad = match wanted[1] {
            true => kernel_gradient(&grad, input, (kh, kw), steps)?,
            false => weight.clone(),
        };
        Ok([input_grad, weight_grad])
    })?;
    finish(spatial, value, bias.as_ref())
}
