//! Cross-correlations of images with kernels, and their two adjoints, over two dimensions: `values[n, o, p, q] = Σ image[n, c,
//! p · stride − padding + r · dilation, …] · kernel[o, c, r, s]`, over the channels `c` of `o`'s group and the taps `r, s`
//! that stand on a pixel.
//!
//! On a GPU with the feature `cudnn`, where the library can be opened: one engine of cuDNN's for each shape, layout and alignment. All
//! operands are of one type. Sums are f32 (f64 for f64), always in one order, and rounded once; f32 is rounded to TF32 only
//! where candle's `set_gemm_reduced_precision_f32` says so. A bias is added before that, where there is an engine which does so.
//! Scratch memory is at most 256 MiB.
//!
//! On a CPU, with their channels second: matrix products, whose sums are f32 (f64 for f64) and rounded once. Those of bf16 are by the
//! machine's [`Engine`], which may take subnormal numbers for zero. Results do not depend on the number of threads. Otherwise there is no
//! kernel, and the op composes.
//!
//! Contract: with `u` the roundoff of the sums and `k` their terms, off by at most `2u · k · Σ|a·b|` and a rounding to the
//! type. Where a NaN or an infinity meets a tap that stands on no pixel, nothing is said of the result.

#[cfg(feature = "cudnn")]
mod cuda;
mod host;
mod operands;
mod sizes;
#[cfg(feature = "candle")]
mod tensors;
#[cfg(test)]
mod tests;

#[cfg(feature = "candle")]
pub use tensors::{
    by_library, image_gradient_of, kernel_gradient_of, laid_for_speed, values_of, values_plus_of,
};

use crate::buffer::{In, Out, Ran, Why};
use crate::kernels::product::Engine;
use crate::{Error, Result};

const OP: &str = "convolution";

/// How a kernel moves over an image: rows, then columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Moves {
    /// Pixels of zeros before the first and behind the last.
    pub padding: [usize; 2],
    /// From one position to the next.
    pub stride: [usize; 2],
    /// From one tap to the next.
    pub dilation: [usize; 2],
}

/// How the four dimensions of an operand lie in memory, without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channels {
    /// As they are counted: `(n, channels, rows, columns)`.
    Second,
    /// `(n, rows, columns, channels)`.
    Last,
}

impl Channels {
    /// Dimensions that are counted with the channels second, as they lie.
    pub fn laid(self, [n, channels, rows, columns]: [usize; 4]) -> [usize; 4] {
        match self {
            Self::Second => [n, channels, rows, columns],
            Self::Last => [n, rows, columns, channels],
        }
    }
}

/// What is read and what is written: two of them are [`Part::In`], and one is `Part::Out`.
#[derive(Debug)]
pub enum Part<'a, 'b> {
    /// Read, of dimensions that are counted with the channels second.
    In(&'a In<'b>),
    /// Written, of dimensions as they lie.
    Out(&'a mut Out<'b>, Channels),
}

impl Part<'_, '_> {
    /// Whether this is read on a device.
    #[cfg(feature = "cudnn")]
    fn is_on_device(&self) -> bool {
        matches!(self, Self::In(x) if matches!(x.place(), crate::buffer::Place::Device(_)))
    }

    /// Dimensions and strides, counted with the channels second.
    fn seen(&self) -> Option<([usize; 4], [usize; 4])> {
        match self {
            Self::In(x) => Some((x.dims().try_into().ok()?, x.strides().try_into().ok()?)),
            Self::Out(x, channels) => {
                let [a, b, c, d]: [usize; 4] = x.dims().try_into().ok()?;
                let [i, j, k, l] = [b * c * d, c * d, d, 1];
                Some(match channels {
                    Channels::Second => ([a, b, c, d], [i, j, k, l]),
                    Channels::Last => ([a, d, b, c], [i, l, j, k]),
                })
            }
        }
    }
}

/// Writes the one of `image`, `kernel` and `values` that is [`Part::Out`].
///
/// # Shapes
///
/// `image` is `(n, channels, height, width)`, `kernel` `(out, channels / groups, taps, taps)`, `values` `(n, out, rows,
/// columns)`, with as many positions as fit on the padded image. Pixels behind the last position belong to no sum.
///
/// # Errors
///
/// [`Error::Operand`] for shapes that do not fit together, and [`Error::Device`].
pub fn convolution(
    moves: Moves,
    image: Part<'_, '_>,
    kernel: Part<'_, '_>,
    values: Part<'_, '_>,
) -> Result<Ran> {
    convolution_plus(moves, image, kernel, None, values)
}

/// The values as [`convolution`] writes them, with a number of each channel added before they are rounded. A CPU adds none.
///
/// # Errors
///
/// As [`convolution`], and [`Error::Operand`] for a bias of another length than there are channels of values.
pub fn convolution_plus(
    moves: Moves,
    image: Part<'_, '_>,
    kernel: Part<'_, '_>,
    bias: Option<&In<'_>>,
    values: Part<'_, '_>,
) -> Result<Ran> {
    let seen = [image.seen(), kernel.seen(), values.seen()];
    let [Some(image_seen), Some(kernel_seen), Some(values_seen)] = seen else {
        return Ok(Ran::Composed(Why::Shape("an operand")));
    };
    check(moves, image_seen.0, kernel_seen.0, values_seen.0)?;
    if let Some(bias) = bias
        && bias.count() != values_seen.0[1]
    {
        let expected = format!("{} elements", values_seen.0[1]);
        return Err(Error::Operand {
            op: OP,
            argument: "the bias",
            expected,
            got: format!("{:?}", bias.dims()),
        });
    }
    if [image_seen, kernel_seen, values_seen].iter().any(|(dims, _)| dims.contains(&0)) {
        return Ok(Ran::Composed(Why::Shape("an operand")));
    }
    #[cfg(feature = "cudnn")]
    if image.is_on_device() || kernel.is_on_device() || values.is_on_device() {
        return cuda::convolution(
            moves,
            [
                cuda::Opened::new(image, image_seen),
                cuda::Opened::new(kernel, kernel_seen),
                cuda::Opened::new(values, values_seen),
            ],
            bias,
        );
    }
    if bias.is_some() {
        return Ok(Ran::Composed(Why::Device));
    }
    let ([images, channels, height, width], kernel_dims) = (image_seen.0, kernel_seen.0);
    let groups = channels / kernel_dims[1];
    let sizes = sizes::Sizes {
        moves,
        images,
        groups,
        channels: kernel_dims[1],
        out: kernel_dims[0] / groups,
        size: [height, width],
        taps: [kernel_dims[2], kernel_dims[3]],
        positions: [values_seen.0[2], values_seen.0[3]],
    };
    let engine = Engine::best().worth(sizes.multiplications());
    Ok(host::convolution(engine, sizes, image, kernel, values))
}

fn check(moves: Moves, image: [usize; 4], kernel: [usize; 4], values: [usize; 4]) -> Result<()> {
    let refuse = |argument, expected: String, got: [usize; 4]| {
        Err(Error::Operand { op: OP, argument, expected, got: format!("{got:?}") })
    };
    let groups = image[1].checked_div(kernel[1]).filter(|&g| g * kernel[1] == image[1] && g > 0);
    if groups.is_none_or(|groups| !kernel[0].is_multiple_of(groups)) {
        return refuse("the kernel", format!("of groups of {} channels", image[1]), kernel);
    }
    let positions = |i: usize| {
        let span = moves.dilation[i].checked_mul(kernel[i + 2].checked_sub(1)?)?.checked_add(1)?;
        let padded = moves.padding[i].checked_mul(2)?.checked_add(image[i + 2])?;
        padded.checked_sub(span)?.checked_div(moves.stride[i])?.checked_add(1)
    };
    let expected = (image[0], kernel[0], positions(0), positions(1));
    if (values[0], values[1], Some(values[2]), Some(values[3])) != expected {
        return refuse("the values", format!("{expected:?}"), values);
    }
    Ok(())
}
