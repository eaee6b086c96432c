//! On a GPU: operands as cuDNN reads them.

#![expect(unsafe_code, reason = "addresses of operands")]

use super::{Moves, Part};
use crate::Result;
use crate::algorithms::algorithm_choice;
use crate::buffer::{In, Ran, ScalarType, Why};
use crate::cuda::DeviceSlice;
use crate::cuda::cudnn::{Convolution, Operand, Way, convolve};
use crate::cuda::rows::{on_device, on_device_mut};
use candle_core::cuda_backend::gemm_reduced_precision_f32;

/// What addresses are known to be multiples of, at most.
const ALIGNED: u32 = 16;

/// An operand that was opened on a device.
#[derive(Clone, Copy)]
pub(super) struct Opened<'a> {
    of: ScalarType,
    slice: Option<DeviceSlice<'a>>,
    dims: [usize; 4],
    strides: [usize; 4],
    written: bool,
}

impl<'a> Opened<'a> {
    /// With dimensions and strides that are counted with the channels second.
    pub(super) fn new(part: Part<'_, 'a>, (dims, strides): ([usize; 4], [usize; 4])) -> Self {
        let (of, slice, written) = match part {
            Part::In(x) => (x.scalar_type(), on_device(x), false),
            Part::Out(x, _) => (x.scalar_type(), on_device_mut(x), true),
        };
        Self { of, slice, dims, strides, written }
    }

    /// As the library sees it.
    fn operand(&self) -> Option<(Operand, DeviceSlice<'a>)> {
        let slice = self.slice?;
        let aligned = aligned(slice.address());
        Some((Operand { dims: words(self.dims)?, strides: words(self.strides)?, aligned }, slice))
    }
}

pub(super) fn convolution(moves: Moves, parts: [Opened<'_>; 3], bias: Option<&In<'_>>) -> Result<Ran> {
    let ways = [Way::Image, Way::Kernel, Way::Values];
    let way = parts.iter().zip(ways).find(|(part, _)| part.written).map(|(_, way)| way);
    let [Some(image), Some(kernel), Some(values)] = parts.each_ref().map(Opened::operand) else {
        return Ok(Ran::Composed(Why::Device));
    };
    let Some(way) = way else { return Ok(Ran::Composed(Why::Shape("what is written"))) };
    let of = parts[0].of;
    if parts.iter().any(|part| part.of != of) || bias.is_some_and(|bias| bias.scalar_type() != of) {
        return Ok(Ran::Composed(Why::Dtype("an operand")));
    }
    let (Some(padding), Some(stride), Some(dilation)) =
        (words(moves.padding), words(moves.stride), words(moves.dilation))
    else {
        return Ok(Ran::Composed(Why::Shape("the moves")));
    };
    let tf32 = of == ScalarType::F32 && gemm_reduced_precision_f32();
    let bias_at = match bias.map(|bias| (bias.is_contiguous(), on_device(bias))) {
        None => 0,
        Some((true, Some(bias))) => bias.address(),
        Some(_) => return Ok(Ran::Composed(Why::Layout("the bias"))),
    };
    let bias = bias.map(|_| aligned(bias_at));
    let at = [image.1.address(), kernel.1.address(), values.1.address(), bias_at];
    let gpu = image.1.gpu();
    let (image, kernel, values) = (image.0, kernel.0, values.0);
    let choice = algorithm_choice();
    let convolution =
        Convolution { way, of, image, kernel, values, padding, stride, dilation, tf32, bias, choice };
    // SAFETY: `In` and `Out` were checked to have the elements that their dimensions and strides lead to, which fit together as the
    // caller compared. All are freed in the order of the stream.
    match unsafe { convolve(gpu, &convolution, at) }? {
        true => Ok(Ran::Kernel("convolution, cuDNN")),
        false => Ok(Ran::Composed(Why::Shape("an operand"))),
    }
}

fn aligned(address: u64) -> i64 {
    1 << address.trailing_zeros().min(ALIGNED.trailing_zeros())
}

fn words<const N: usize>(sizes: [usize; N]) -> Option<[i64; N]> {
    let words: Vec<i64> =
        sizes.iter().map(|&size| i64::try_from(size)).collect::<std::result::Result<_, _>>().ok()?;
    words.try_into().ok()
}
