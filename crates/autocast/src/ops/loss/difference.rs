//! Losses of a difference: mse, l1, smooth_l1 and huber, one kernel each way. Both arguments are differentiated.

use backends::bridge::Call;
use backends::kernels::difference_loss::{self as kernel, DifferenceLoss};
use backends::kernels::sum::Term;
use candle_core::{DType, Tensor};

use super::reduction::Reduction;
use super::rows::over_nothing;
use crate::dtypes::{check_float, promote_types};
use crate::graph::{Attribute, Backward, Op, Value, record};
use crate::region::{cast_to, uncast};
use crate::total::{quotient_of, total_f64};
use crate::{Error, Result};

/// `(input − target)²`.
///
/// # Errors
///
/// Shapes that differ, dtypes that do not promote or are not floats.
///
/// # Source
///
/// `torch.nn.functional.mse_loss`.
pub fn mse_loss(input: &Tensor, target: &Tensor, reduction: Reduction) -> Result<Tensor> {
    of_difference("mse_loss", DifferenceLoss::Square, input, target, reduction)
}

/// `|input − target|`, with gradient 0 where they are equal.
///
/// # Errors
///
/// As [`mse_loss`].
///
/// # Source
///
/// `torch.nn.functional.l1_loss`.
pub fn l1_loss(input: &Tensor, target: &Tensor, reduction: Reduction) -> Result<Tensor> {
    of_difference("l1_loss", DifferenceLoss::Absolute, input, target, reduction)
}

/// `d²/2β` for a difference d below β, `|d| − β/2` beyond; [`l1_loss`] for β = 0.
///
/// # Errors
///
/// As [`mse_loss`], and a β that is negative or not finite.
///
/// # Source
///
/// Girshick, Fast R-CNN, 2015; `torch.nn.functional.smooth_l1_loss`.
pub fn smooth_l1_loss(input: &Tensor, target: &Tensor, beta: f64, reduction: Reduction) -> Result<Tensor> {
    const OP: &str = "smooth_l1_loss";
    if !(beta >= 0. && beta.is_finite()) {
        return Err(Error::argument(OP, "beta", beta, "a finite number that is not negative"));
    }
    let loss = if beta == 0. { DifferenceLoss::Absolute } else { DifferenceLoss::SmoothL1 { beta } };
    of_difference(OP, loss, input, target, reduction)
}

/// `d²/2` for a difference d below δ, `δ(|d| − δ/2)` beyond.
///
/// # Errors
///
/// As [`mse_loss`], and a δ that is not positive and finite.
///
/// # Source
///
/// Huber, 1964; `torch.nn.functional.huber_loss`.
pub fn huber_loss(input: &Tensor, target: &Tensor, delta: f64, reduction: Reduction) -> Result<Tensor> {
    const OP: &str = "huber_loss";
    if !(delta > 0. && delta.is_finite()) {
        return Err(Error::argument(OP, "delta", delta, "a positive finite number"));
    }
    of_difference(OP, DifferenceLoss::Huber { delta }, input, target, reduction)
}

fn of_difference(
    op: &'static str,
    loss: DifferenceLoss,
    input: &Tensor,
    target: &Tensor,
    reduction: Reduction,
) -> Result<Tensor> {
    let (mut inputs, mut dtypes) = (Vec::new(), Vec::new());
    for ((x, dtype), name) in uncast(op, &[input, target])?.into_iter().zip(["input", "target"]) {
        check_float(op, name, &x)?;
        // What the cast only widens is read as it is.
        let widens = dtype == x.dtype() || dtype.size_in_bytes() > x.dtype().size_in_bytes();
        inputs.push(if widens { x } else { cast_to(&x, dtype)? });
        dtypes.push(dtype);
    }
    let [input, target] = [&inputs[0], &inputs[1]];
    if input.dims() != target.dims() {
        return Err(Error::shape(op, "target", target.dims(), format!("{:?}", input.dims())));
    }
    let dtype = promote_types(op, dtypes[0], dtypes[1])?;
    if input.elem_count() == 0 {
        return over_nothing(op, &[input, target], dtype, reduction, input.dims());
    }
    let (x, t) = (input.detach(), target.detach());
    let value = reduced(op, loss, &x, &t, reduction, dtype)?;
    record(Difference { op, loss, reduction, x, t }, &[input, target], Value::fresh(value))
}

fn reduced(
    op: &'static str,
    loss: DifferenceLoss,
    x: &Tensor,
    t: &Tensor,
    reduction: Reduction,
    dtype: DType,
) -> Result<Tensor> {
    let taken = |call: Call<Tensor>| call.ran().ok_or_else(|| refused(op));
    if reduction == Reduction::None {
        return taken(kernel::losses_of(loss, x, t, dtype)?);
    }
    let terms = match kernel::sums_of(loss, x, t)?.ran() {
        Some(sums) => sums,
        None => taken(kernel::losses_of(loss, x, t, DType::F64)?)?.flatten_all()?,
    };
    let sum = total_f64(&terms, &[0], Term::Value)?.reshape(())?;
    cast_to(&quotient_of(&sum, reduction.divisor(x.dims()))?, dtype)
}

/// No kernel of this device.
fn refused(op: &str) -> Error {
    Error::argument(op, "the device", "one without the kernel", "a CPU or a CUDA device")
}

struct Difference {
    op: &'static str,
    loss: DifferenceLoss,
    reduction: Reduction,
    x: Tensor,
    t: Tensor,
}

impl Op for Difference {
    fn name(&self) -> &'static str {
        self.op
    }

    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        match self.loss {
            DifferenceLoss::SmoothL1 { beta } => vec![("beta", Attribute::Number(beta))],
            DifferenceLoss::Huber { delta } => vec![("delta", Attribute::Number(delta))],
            _ => Vec::new(),
        }
    }

    fn reads_narrow(&self) -> bool {
        true
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let Self { op, loss, reduction, x, t } = self;
        let divisor = reduction.divisor(x.dims());
        // The loss is even, so that each side's gradient is the other's with the sides exchanged.
        let side = |at: usize, a: &Tensor, b: &Tensor| -> Result<Option<Tensor>> {
            if !cx.wanted(at) {
                return Ok(None);
            }
            // An f64 is rounded once, from f64.
            let wide = [a, b].iter().any(|x| x.dtype() == DType::F64);
            let dtype = if wide { DType::F64 } else { a.dtype() };
            let grad = kernel::gradient_of(*loss, [a, b], cx.grad(), divisor, dtype)?.ran();
            cast_to(&grad.ok_or_else(|| Error::refused(op))?, a.dtype()).map(Some)
        };
        Ok(vec![side(0, x, t)?, side(1, t, x)?])
    }
}
