//! The same for candle's tensors. What is returned is part of no graph; its dimensions are counted with the channels second,
//! however they lie.

use std::sync::Once;

use candle_core::{DType, Device, Shape, Tensor};

use super::{Channels, Moves, OP, Part, convolution, convolution_plus};
use crate::Result;
use crate::bridge::{Call, candle, in_rows, run_one};
use crate::buffer::{In, Ran, Why};
use crate::kernels::relayout::{lies_last, relaid};

/// The values.
///
/// # Errors
///
/// As [`convolution`].
pub fn values_of(moves: Moves, image: &Tensor, kernel: &Tensor, dims: [usize; 4]) -> Result<Call<Tensor>> {
    written([image, kernel], None, dims, |[image, kernel], _, out| convolution(moves, image, kernel, out))
}

/// The values with a number of each channel added, where a kernel does both.
///
/// # Errors
///
/// As [`convolution_plus`].
pub fn values_plus_of(
    moves: Moves,
    image: &Tensor,
    kernel: &Tensor,
    bias: &Tensor,
    dims: [usize; 4],
) -> Result<Call<Tensor>> {
    let bias = in_rows(OP, bias, bias.elem_count())?;
    written([image, kernel], Some(&bias), dims, |[image, kernel], bias, out| {
        convolution_plus(moves, image, kernel, bias, out)
    })
}

/// What the values' gradient spreads over the image.
///
/// # Errors
///
/// As [`convolution`].
pub fn image_gradient_of(
    moves: Moves,
    values: &Tensor,
    kernel: &Tensor,
    dims: [usize; 4],
) -> Result<Call<Tensor>> {
    written([values, kernel], None, dims, |[values, kernel], _, out| convolution(moves, out, kernel, values))
}

/// What it comes to at each tap.
///
/// # Errors
///
/// As [`convolution`].
pub fn kernel_gradient_of(
    moves: Moves,
    image: &Tensor,
    values: &Tensor,
    dims: [usize; 4],
) -> Result<Call<Tensor>> {
    written([image, values], None, dims, |[image, values], _, out| convolution(moves, image, out, values))
}

/// Runs `f` on both tensors, in the layout that is fastest for them, on a bias, and on what becomes the result.
fn written(
    [a, b]: [&Tensor; 2],
    bias: Option<&Tensor>,
    dims: [usize; 4],
    f: impl FnOnce([Part<'_, '_>; 2], Option<&In<'_>>, Part<'_, '_>) -> Result<Ran>,
) -> Result<Call<Tensor>> {
    let host = a.device().is_cpu();
    if !host && !by_library(a) {
        return Ok(Call::Composed(Why::Device));
    }
    let channels = if host { Channels::Second } else { fastest(a) };
    let (a, b) = (relaid(a, channels)?, relaid(b, channels)?);
    let output = (Shape::from(channels.laid(dims).to_vec()), a.dtype());
    let given: Vec<&Tensor> = [&a, &b].into_iter().chain(bias).collect();
    let call = run_one(OP, &given, output, |ins, out| match ins {
        [a, b, bias @ ..] => f([Part::In(a), Part::In(b)], bias.first(), Part::Out(out, channels)),
        _ => Ok(Ran::Composed(Why::Shape("an operand"))),
    })?;
    Ok(match (call, channels) {
        (Call::Ran(made), Channels::Last) => Call::Ran(made.permute((0, 3, 1, 2)).map_err(candle(OP))?),
        (call, _) => call,
    })
}

/// An operand off the graph as the kernel reads it fastest: itself, or a copy where it does not lie so.
///
/// # Errors
///
/// [`Error::Device`](crate::Error::Device).
pub fn laid_for_speed(x: &Tensor) -> Result<Tensor> {
    if by_library(x) { relaid(x, fastest(x)) } else { Ok(x.detach()) }
}

/// Whether this program was built to convolve on the tensor's device; where it was not and that is a GPU, it says so once.
pub fn by_library(x: &Tensor) -> bool {
    static SAID: Once = Once::new();
    let on_a_gpu = x.device().is_cuda();
    if on_a_gpu && !cfg!(feature = "cudnn") {
        SAID.call_once(|| {
            eprintln!(
                "warning: convolutions are composed of other ops, which is slower: build with `--features cudnn`, and have \
                 libcudnn.so.9 where the program runs"
            );
        });
    }
    on_a_gpu && cfg!(feature = "cudnn")
}

/// Tensor cores read the channels last.
fn fastest(x: &Tensor) -> Channels {
    match x.dtype() {
        DType::F16 | DType::BF16 => Channels::Last,
        DType::F32 if tf32(x.device()) || lies_last(x) => Channels::Last,
        _ => Channels::Second,
    }
}

fn tf32(device: &Device) -> bool {
    #[cfg(feature = "cuda")]
    return device.is_cuda() && candle_core::cuda_backend::gemm_reduced_precision_f32();
    #[cfg(not(feature = "cuda"))]
    {
        let _ = device;
        false
    }
}
