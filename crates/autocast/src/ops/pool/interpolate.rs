//! `interpolate`: images of another size.

use backends::kernels::resample::Taps;
use candle_core::{DType, Tensor};

use super::resample::resample;
use crate::dtypes::check_float;
use crate::ops::shape::size::check_size;
use crate::region::cast_inputs;
use crate::{Error, Result};

/// How values between pixels are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterpolateMode {
    /// The nearest pixel towards the origin.
    Nearest,
    /// The line between two pixels, or in two dimensions the bilinear surface between four.
    Linear {
        /// Whether the outermost pixels keep their place (else the outer edges of the image do).
        align_corners: bool,
    },
}

/// `input` resized to `size`.
///
/// # Shapes
///
/// `input` is `(batch, channels, length)` with one size, or `(batch, channels, height, width)` with two.
///
/// # Errors
///
/// [`Error::InvalidArgument`] where these do not fit or the input has no pixels, for a size of 0 or one that does not fit
/// into memory, and for integers.
///
/// # Source
///
/// `torch.nn.functional.interpolate`; nearest as in `UpSample.h`, with its f32 arithmetic.
pub fn interpolate(input: &Tensor, size: &[usize], mode: InterpolateMode) -> Result<Tensor> {
    let op = match (mode, size.len()) {
        (InterpolateMode::Nearest, 1) => "upsample_nearest1d",
        (InterpolateMode::Nearest, _) => "upsample_nearest2d",
        (InterpolateMode::Linear { .. }, 1) => "upsample_linear1d",
        (InterpolateMode::Linear { .. }, _) => "upsample_bilinear2d",
    };
    let [input] = cast_inputs(op, [input])?;
    check_float(op, "input", &input)?;
    if !(1..=2).contains(&size.len()) || input.rank() != size.len() + 2 {
        let expected = format!("{} dimensions for the sizes {size:?}", size.len() + 2);
        return Err(Error::shape(op, "input", input.dims(), expected));
    }
    if size.contains(&0) {
        return Err(Error::argument(op, "size", format!("{size:?}"), "at least 1 in each dimension"));
    }
    if input.dims()[2..].contains(&0) {
        return Err(Error::shape(op, "input", input.dims(), "at least one pixel"));
    }
    // The taps' tables, two entries for each place in one dimension, before the result is looked at.
    for &to in size {
        check_size(op, &[to, 4], DType::F64)?;
    }
    check_size(op, &[&input.dims()[..2], size].concat(), DType::F64)?;
    let maps = input.dims()[2..].iter().zip(size).map(|(&from, &to)| mode.taps(from, to));
    resample(op, &input, maps.collect())
}

impl InterpolateMode {
    fn taps(self, from: usize, to: usize) -> Taps {
        match self {
            Self::Nearest => Taps::new(to, from, |at| {
                let scale = from as f32 / to as f32;
                [(((at as f32 * scale) as usize).min(from - 1), 1.)]
            }),
            Self::Linear { align_corners } => Taps::new(to, from, |at| {
                let place = match (align_corners, to) {
                    (true, 1) => 0.,
                    (true, _) => at as f64 * (from - 1) as f64 / (to - 1) as f64,
                    (false, _) => ((at as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.),
                };
                let low = (place as usize).min(from - 1);
                // Behind the last pixel there is only that one; a tap of weight 0 is none.
                let part = if low + 1 < from { place - low as f64 } else { 0. };
                [(low, 1. - part), (low + 1, part)]
            }),
        }
    }
}
