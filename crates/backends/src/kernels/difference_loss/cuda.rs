//! The launches.

#![expect(unsafe_code, reason = "launching a kernel")]

use super::{DifferenceLoss, OP, RUN};
use crate::Result;
use crate::buffer::{In, Out, PlaceMut, Ran, ScalarType, Why};
use crate::cuda::rows::on_device;
use crate::cuda::{BLOCK, Kernel, Module, float_code, module};

const MODULE: Module = module!("difference_loss");

/// Elements of a thread, and blocks of a launch; more elements are walked by these.
const PACK: u64 = 4;
const GRID: u64 = 1 << 16;

impl DifferenceLoss {
    /// `Loss` in `difference_loss.cu`, and where the loss turns.
    fn words(self) -> (u64, u64) {
        match self {
            Self::Square => (0, 0),
            Self::Absolute => (1, 0),
            Self::SmoothL1 { beta } => (2, beta.to_bits()),
            Self::Huber { delta } => (3, delta.to_bits()),
        }
    }
}

/// The code of what was checked to be a float.
fn code(of: ScalarType) -> u64 {
    float_code(of).unwrap_or_default()
}

pub(super) fn losses(loss: DifferenceLoss, x: &In<'_>, t: &In<'_>, out: &mut Out<'_>) -> Result<Ran> {
    launch("losses", loss, (x, t), None, out)
}

pub(super) fn sums(loss: DifferenceLoss, x: &In<'_>, t: &In<'_>, out: &mut Out<'_>) -> Result<Ran> {
    launch("sums", loss, (x, t), None, out)
}

pub(super) fn gradient(
    loss: DifferenceLoss,
    x: &In<'_>,
    t: &In<'_>,
    grad: &In<'_>,
    divisor: f64,
    out: &mut Out<'_>,
) -> Result<Ran> {
    launch("gradient", loss, (x, t), Some((grad, divisor)), out)
}

fn launch(
    kernel: &'static str,
    loss: DifferenceLoss,
    (x, t): (&In<'_>, &In<'_>),
    grad: Option<(&In<'_>, f64)>,
    out: &mut Out<'_>,
) -> Result<Ran> {
    let (len, of) = (x.count() as u64, out.scalar_type());
    if len == 0 {
        return Ok(Ran::Kernel(OP));
    }
    let of_grad = match grad {
        None => Some((0, 0, 0, 1.)),
        Some((grad, divisor)) => on_device(grad)
            .map(|slice| (slice.address(), code(grad.scalar_type()), u64::from(grad.count() > 1), divisor)),
    };
    let (Some(first), Some(second), Some((grads, grad_code, each, divisor)), PlaceMut::Device(to)) =
        (on_device(x), on_device(t), of_grad, out.place())
    else {
        return Ok(Ran::Composed(Why::Device));
    };
    let (loss, turn) = loss.words();
    let dtypes = code(x.scalar_type()) | code(t.scalar_type()) << 8 | grad_code << 16 | code(of) << 24;
    let args = [
        first.address(),
        second.address(),
        grads,
        to.address(),
        len,
        turn,
        divisor.to_bits(),
        dtypes | each << 32 | loss << 40,
    ];
    let blocks = match kernel {
        "sums" => len.div_ceil(RUN as u64),
        _ => len.div_ceil(PACK * u64::from(BLOCK)).min(GRID),
    };
    // SAFETY: `args` is `DifferenceArgs`. The buffers are contiguous on one device: `x` and `t` with `len` floats of the dtypes
    // given, the gradient with one or `len`, the result with `len`, or with a sum for each block, as checked; all are freed in the order of the
    // stream.
    unsafe { Kernel::load(to.gpu(), MODULE, kernel)?.launch(blocks, &args) }?;
    Ok(Ran::Kernel(OP))
}
