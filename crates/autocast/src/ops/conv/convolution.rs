//! `conv1d` and `conv2d`. candle's own have a wrong weight gradient (1-D) and no bf16 on a CPU; these are written on
//! [`correlation`](super::correlation), in which a 1-D image is one of height 1.

use candle_core::{DType, Tensor};

use super::correlation::{Steps, correlate, kernel_gradient, spread};
use super::engine::{Engine, Map};
use crate::dtypes::same_dtype;
use crate::graph::{Keep, composed};
use crate::ops::pointwise::bias::add_bias;
use crate::ops::shape::size::check_size;
use crate::region::cast_inputs;
use crate::{Error, Result};

/// How a kernel moves over its input, the same in all directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvOptions {
    /// Zeros added on every side.
    pub padding: usize,
    /// The distance between two positions of the kernel.
    pub stride: usize,
    /// The distance between two taps of the kernel.
    pub dilation: usize,
    /// The number of groups that the channels are split into, which do not mix.
    pub groups: usize,
}

impl Default for ConvOptions {
    fn default() -> Self {
        Self { padding: 0, stride: 1, dilation: 1, groups: 1 }
    }
}

/// A convolution along one dimension.
///
/// # Shapes
///
/// `input` is `(batch, in, length)`, `weight` is `(out, in / groups, taps)`, `bias` is `(out)`; the result is
/// `(batch, out, positions)`.
///
/// # Errors
///
/// [`Error::InvalidArgument`] where these do not fit, also if the kernel is longer than the padded input, for options of
/// 0, groups that do not divide the channels, or a padding that does not fit into memory, and where the dtypes differ
/// after the region's rule was applied.
///
/// # Source
///
/// `torch.nn.functional.conv1d`.
pub fn conv1d(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    options: &ConvOptions,
) -> Result<Tensor> {
    convolution("conv1d", 1, input, weight, bias, options)
}

/// A convolution along two dimensions.
///
/// # Shapes
///
/// `input` is `(batch, in, height, width)`, `weight` is `(out, in / groups, kh, kw)`, `bias` is `(out)`; the result is
/// `(batch, out, rows, columns)`.
///
/// # Errors
///
/// As [`conv1d`].
///
/// # Source
///
/// `torch.nn.functional.conv2d`.
pub fn conv2d(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    options: &ConvOptions,
) -> Result<Tensor> {
    convolution("conv2d", 2, input, weight, bias, options)
}

fn convolution(
    op: &'static str,
    spatial: usize,
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    options: &ConvOptions,
) -> Result<Tensor> {
    let (input, weight, bias) = prepared(op, input, weight, bias)?;
    let steps = options.steps(op)?;
    let (input, weight) = as_images(op, spatial, &input, &weight)?;
    let (out, group_channels, kh, kw) = weight.dims4()?;
    let channels = input.dim(1)?;
    check_groups(op, "the output channels", out, steps.groups)?;
    if group_channels.checked_mul(steps.groups) != Some(channels) {
        let expected = format!("{} · {group_channels} channels, as groups and weight say", steps.groups);
        return Err(Error::shape(op, "input", input.dims(), expected));
    }
    check_bias(op, bias.as_ref(), out)?;
    let padding = Padding::new(spatial, options.padding);
    let padded = padding.size(op, &input)?;
    check_fits(op, padded, (kh, kw), steps)?;
    let positions = [steps.positions(padded.0, kh), steps.positions(padded.1, kw)];
    check_size(op, &[input.dim(0)?, out, positions[0], positions[1]], DType::F64)?;
    let engine = Engine { op, map: Map::Correlation, steps, padding };
    let dims = [input.dim(0)?, out, positions[0], positions[1]];
    if let Some(value) = engine.value(&input, &weight, bias.as_ref(), dims)? {
        return finish(spatial, value, None);
    }
    let padded = padding.padded(&input)?;
    let value = correlate(&padded, &weight, steps)?;
    let wanted = [&input, &weight].map(Tensor::track_op);
    let value = composed(op, [&input, &weight], value, Keep::Inputs, move |grad, _, [input, weight]| {
        let grad = grad.to_dtype(input.dtype())?;
        let padded = padding.padded(input)?;
        let size = (padded.dim(2)?, padded.dim(3)?);
        let input_grad = match wanted[0] {
            true => padding.cropped(&spread(&grad, weight, size, steps)?)?,
            false => input.clone(),
        };
        let weight_grad = match wanted[1] {
            true => kernel_gradient(&padded, &grad, (kh, kw), steps)?,
            false => weight.clone(),
        };
        Ok([input_grad, weight_grad])
    })?;
    finish(spatial, value, bias.as_ref())
}

/// The inputs as the region wants them, of one dtype.
pub(crate) fn prepared(
    op: &str,
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<(Tensor, Tensor, Option<Tensor>)> {
    let Some(bias) = bias else {
        let [input, weight] = cast_inputs(op, [input, weight])?;
        same_dtype(op, [("input", &input), ("weight", &weight)])?;
        return Ok((input, weight, None));
    };
    let [input, weight, bias] = cast_inputs(op, [input, weight, bias])?;
    same_dtype(op, [("input", &input), ("weight", &weight), ("bias", &bias)])?;
    Ok((input, weight, Some(bias)))
}

/// Input and weight with two spatial dimensions; a kernel without taps is refused here.
pub(crate) fn as_images(
    op: &str,
    spatial: usize,
    input: &Tensor,
    weight: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let rank = spatial + 2;
    if input.rank() != rank {
        return Err(Error::shape(op, "input", input.dims(), format!("{rank} dimensions")));
    }
    if weight.rank() != rank || weight.dims()[2..].contains(&0) {
        return Err(Error::shape(op, "weight", weight.dims(), format!("{rank} dimensions with taps")));
    }
    match spatial {
        1 => Ok((input.unsqueeze(2)?, weight.unsqueeze(2)?)),
        _ => Ok((input.clone(), weight.clone())),
    }
}

pub(crate) fn check_bias(op: &str, bias: Option<&Tensor>, out: usize) -> Result<()> {
    match bias {
        Some(bias) if bias.dims() != [out] => Err(Error::shape(op, "bias", bias.dims(), format!("[{out}]"))),
        _ => Ok(()),
    }
}

pub(crate) fn check_groups(op: &str, what: &str, channels: usize, groups: usize) -> Result<()> {
    match channels.is_multiple_of(groups) && groups <= channels.max(1) {
        true => Ok(()),
        false => Err(Error::argument(op, "groups", groups, format!("a divisor of {what}, {channels}"))),
    }
}

fn check_fits(op: &str, (height, width): (usize, usize), kernel: (usize, usize), steps: Steps) -> Result<()> {
    if steps.positions(height, kernel.0) == 0 || steps.positions(width, kernel.1) == 0 {
        let expected = format!("one that with its padding is no smaller than the dilated kernel {kernel:?}");
        return Err(Error::shape(op, "input", &[height, width], expected));
    }
    Ok(())
}

/// The value with its bias and as many spatial dimensions as the input had.
pub(crate) fn finish(spatial: usize, value: Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let value = match bias {
        Some(bias) => add_bias(&value, bias, 1)?,
        None => value,
    };
    Ok(if spatial == 1 { value.squeeze(2)? } else { value })
}

impl ConvOptions {
    fn steps(&self, op: &str) -> Result<Steps> {
        checked_steps(op, self.stride, self.dilation, self.groups)
    }
}

pub(crate) fn checked_steps(op: &str, stride: usize, dilation: usize, groups: usize) -> Result<Steps> {
    for (name, value) in [("stride", stride), ("dilation", dilation), ("groups", groups)] {
        if value == 0 {
            return Err(Error::argument(op, name, value, "at least 1"));
        }
    }
    Ok(Steps { stride, dilation, groups })
}

/// Zeros around an image; none above and below one that stands for a 1-D input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Padding {
    rows: usize,
    columns: usize,
}

impl Padding {
    pub(crate) fn new(spatial: usize, padding: usize) -> Self {
        Self { rows: if spatial == 1 { 0 } else { padding }, columns: padding }
    }

    /// Of rows and of columns.
    pub(super) fn both(self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// The height and width of `image` with its padding.
    fn size(self, op: &str, image: &Tensor) -> Result<(usize, usize)> {
        let (batch, channels, height, width) = image.dims4()?;
        let padded = |size: usize, by: usize| by.checked_mul(2).and_then(|both| size.checked_add(both));
        let sizes = padded(height, self.rows).zip(padded(width, self.columns));
        let (height, width) = sizes.ok_or_else(|| {
            Error::argument(op, "padding", self.columns, "one that can be added on both sides")
        })?;
        check_size(op, &[batch, channels, height, width], DType::F64)?;
        Ok((height, width))
    }

    pub(crate) fn padded(self, image: &Tensor) -> candle_core::Result<Tensor> {
        image.detach().pad_with_zeros(2, self.rows, self.rows)?.pad_with_zeros(3, self.columns, self.columns)
    }

    /// Without the padding that `image` has.
    pub(crate) fn cropped(self, image: &Tensor) -> candle_core::Result<Tensor> {
        let (_, _, height, width) = image.dims4()?;
        image.narrow(2, self.rows, height - 2 * self.rows)?.narrow(3, self.columns, width - 2 * self.columns)
    }
}
