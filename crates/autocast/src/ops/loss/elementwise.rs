//! Losses of pairs of elements that are composed: kl_div, and what those of `binary` are made with. Both arguments are
//! differentiated.

use backends::kernels::pointwise::Function;
use candle_core::Tensor;

use super::reduction::Reduction;
use super::rows::over_nothing;
use crate::dtypes::{accumulation_dtype, promote_types};
use crate::graph::{Keep, composed, wide};
use crate::plain::{apply, minus, negated, times, zero_where};
use crate::region::float_inputs;
use crate::{Error, Result};

/// A loss of two tensors of one shape; `slopes` are its derivatives with respect to both.
pub(super) fn of_pair(
    op: &'static str,
    inputs: [&Tensor; 2],
    reduction: Reduction,
    value: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor>,
    slopes: impl Fn(&Tensor, &Tensor) -> Result<[Tensor; 2]> + Send + Sync + 'static,
) -> Result<Tensor> {
    let [input, target] = float_inputs(op, [("input", inputs[0]), ("target", inputs[1])])?;
    if input.dims() != target.dims() {
        return Err(Error::shape(op, "target", target.dims(), format!("{:?}", input.dims())));
    }
    let dtype = promote_types(op, input.dtype(), target.dtype())?;
    if input.elem_count() == 0 {
        return over_nothing(op, &[&input, &target], dtype, reduction, input.dims());
    }
    let both = move |inputs: [&Tensor; 2]| -> Result<[Tensor; 2]> {
        let [x, t] = wide(inputs)?;
        let dtype = accumulation_dtype(dtype);
        Ok([x.to_dtype(dtype)?, t.to_dtype(dtype)?])
    };
    let [x, t] = both([&input, &target])?;
    let value = reduction.apply(&value(&x, &t)?)?.to_dtype(dtype)?;
    composed(op, [&input, &target], value, Keep::Inputs, move |grad, _, inputs| {
        let [x, t] = both(inputs)?;
        let grad = reduction.spread(grad, x.dims())?;
        let [dx, dt] = slopes(&x, &t)?;
        Ok([times(&dx, &grad)?, times(&dt, &grad)?])
    })
}

/// Whether [`kl_div`]'s target holds probabilities or their logarithms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KlTarget {
    /// Probabilities.
    #[default]
    Probability,
    /// Log-probabilities.
    LogProbability,
}

const ONE_MORE: Function = Function::Add { term: 1. };

/// `target · (log target − input)`, the input being log-probabilities; 0 where the target is 0.
///
/// # Errors
///
/// As [`mse_loss`](crate::ops::mse_loss).
///
/// # Source
///
/// Kullback and Leibler, 1951; `torch.nn.functional.kl_div`.
pub fn kl_div(input: &Tensor, target: &Tensor, kind: KlTarget, reduction: Reduction) -> Result<Tensor> {
    let value = move |x: &Tensor, t: &Tensor| match kind {
        KlTarget::LogProbability => times(&apply(Function::Exp, t)?, &minus(t, x)?),
        KlTarget::Probability => zero_where(&t.eq(0.)?, &times(t, &minus(&apply(Function::Log, t)?, x)?)?),
    };
    of_pair("kl_div", [input, target], reduction, value, move |x, t| match kind {
        KlTarget::LogProbability => {
            let p = apply(Function::Exp, t)?;
            Ok([negated(&p)?, times(&p, &apply(ONE_MORE, &minus(t, x)?)?)?])
        }
        // Where the target is 0 the term is 0 whatever the input, and so is its gradient, as in PyTorch.
        KlTarget::Probability => {
            let dt = apply(ONE_MORE, &minus(&apply(Function::Log, t)?, x)?)?;
            Ok([negated(t)?, zero_where(&t.eq(0.)?, &dt)?])
        }
    })
}
