//! Binary cross-entropy, from logits and from probabilities.

use backends::kernels::pointwise::Function;
use candle_core::{Device, Tensor};

use super::elementwise::of_pair;
use super::reduction::Reduction;
use super::rows::weighed;
use crate::dtypes::{check_constant, same_dtype};
use crate::plain::{apply, choose, complement, minus, negated, over, plus, times};
use crate::region::float_inputs;
use crate::{Error, Result};

/// The options of [`binary_cross_entropy_with_logits`].
#[derive(Clone, Debug, Default)]
pub struct BinaryCrossEntropy {
    /// A constant that each element's loss is multiplied by; it broadcasts to the input.
    pub weight: Option<Tensor>,
    /// A constant that the loss of positive targets is multiplied by; it broadcasts to the input.
    pub pos_weight: Option<Tensor>,
    /// What becomes of the losses of single elements.
    pub reduction: Reduction,
}

/// `−(t · log σ(x) + (1 − t) · log σ(−x))` for logits x and targets t, finite for every finite logit.
///
/// # Errors
///
/// Shapes that differ, dtypes that do not promote or are not floats, weights that do not broadcast or are part of a
/// graph.
///
/// # Source
///
/// `torch.nn.functional.binary_cross_entropy_with_logits`. The value is `p·t·softplus(−x) + (1 − t)·softplus(x)`, in which
/// nothing is subtracted; the positive weight p is 1 unless given. A side that weighs 0 does not matter, whatever it is.
pub fn binary_cross_entropy_with_logits(
    logits: &Tensor,
    targets: &Tensor,
    options: &BinaryCrossEntropy,
) -> Result<Tensor> {
    const OP: &str = "binary_cross_entropy_with_logits";
    let weight = constant(OP, "weight", options.weight.as_ref(), logits)?;
    let positive = constant(OP, "pos_weight", options.pos_weight.as_ref(), logits)?;
    let (weight_too, positive_too) = (weight.clone(), positive.clone());
    let value = move |x: &Tensor, t: &Tensor| {
        let (yes, no) = sides(t, positive_too.as_ref())?;
        let losses = plus(
            &weighed(&apply(Function::Softplus, &negated(x)?)?, &yes)?,
            &weighed(&apply(Function::Softplus, x)?, &no)?,
        )?;
        weighted(losses, weight_too.as_ref())
    };
    of_pair(OP, [logits, targets], options.reduction, value, move |x, t| {
        let (yes, no) = sides(t, positive.as_ref())?;
        let dx = minus(
            &weighed(&apply(Function::Sigmoid, x)?, &no)?,
            &weighed(&apply(Function::Sigmoid, &negated(x)?)?, &yes)?,
        )?;
        let dt = match &positive {
            None => negated(x)?,
            Some(p) => minus(
                &weighed(&apply(Function::Softplus, &negated(x)?)?, &p.to_dtype(x.dtype())?)?,
                &apply(Function::Softplus, x)?,
            )?,
        };
        Ok([weighted(dx, weight.as_ref())?, weighted(dt, weight.as_ref())?])
    })
}

/// `−(t · log x + (1 − t) · log(1 − x))` for probabilities x and targets t, each logarithm at least −100. A GPU region
/// bans it: its gradient does not fit 16 bits.
///
/// # Errors
///
/// In a region whose table bans it; shapes or dtypes that differ; dtypes that are not floats; a weight that
/// does not broadcast or is part of a graph; on a CPU, an input outside `0..=1`.
///
/// # Source
///
/// `torch.nn.functional.binary_cross_entropy`.
pub fn binary_cross_entropy(
    probabilities: &Tensor,
    targets: &Tensor,
    weight: Option<&Tensor>,
    reduction: Reduction,
) -> Result<Tensor> {
    const OP: &str = "binary_cross_entropy";
    let [probabilities, targets] =
        &float_inputs(OP, [("probabilities", probabilities), ("targets", targets)])?;
    same_dtype(OP, [("probabilities", probabilities), ("targets", targets)])?;
    let weight = constant(OP, "weight", weight, probabilities)?;
    if let Device::Cpu = probabilities.device() {
        let outside = |&p: &f64| !(0. ..=1.).contains(&p) && !p.is_nan();
        let values = probabilities.detach().flatten_all()?.to_dtype(candle_core::DType::F64)?;
        if let Some(bad) = values.to_vec1::<f64>()?.iter().find(|p| outside(p)) {
            return Err(Error::argument(OP, "probabilities", bad, "0 to 1"));
        }
    }
    let weight_too = weight.clone();
    let value = move |x: &Tensor, t: &Tensor| {
        let [yes, no] = logarithms(x)?;
        let losses = negated(&plus(&times(t, &yes)?, &times(&complement(t)?, &no)?)?)?;
        weighted(losses, weight_too.as_ref())
    };
    of_pair(OP, [probabilities, targets], reduction, value, move |x, t| {
        let spread = times(x, &complement(x)?)?;
        let dx = over(&minus(x, t)?, &at_least(1e-12, &spread)?)?;
        let [yes, no] = logarithms(x)?;
        let dt = minus(&no, &yes)?;
        Ok([weighted(dx, weight.as_ref())?, weighted(dt, weight.as_ref())?])
    })
}

/// `log x` and `log(1 − x)`, each at least −100.
fn logarithms(x: &Tensor) -> Result<[Tensor; 2]> {
    let (yes, no) = (apply(Function::Log, x)?, apply(Function::Log1p, &negated(x)?)?);
    Ok([at_least(-100., &yes)?, at_least(-100., &no)?])
}

/// `x`, or the number where that is more; a NaN stays one.
fn at_least(low: f64, x: &Tensor) -> Result<Tensor> {
    choose(&x.lt(low)?, &Tensor::full(low, (), x.device())?.to_dtype(x.dtype())?, x)
}

/// What the two sides of the loss weigh: `p·t` and `1 − t`.
fn sides(t: &Tensor, positive: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
    let yes = match positive {
        Some(p) => times(&p.to_dtype(t.dtype())?, t)?,
        None => t.clone(),
    };
    Ok((yes, complement(t)?))
}

/// What weighs 0 does not matter, whatever it is.
fn weighted(losses: Tensor, weight: Option<&Tensor>) -> Result<Tensor> {
    match weight {
        Some(weight) => weighed(&losses, &weight.to_dtype(losses.dtype())?),
        None => Ok(losses),
    }
}

/// `weight`, if it is a constant that broadcasts to `input`.
fn constant(
    op: &'static str,
    argument: &str,
    weight: Option<&Tensor>,
    input: &Tensor,
) -> Result<Option<Tensor>> {
    let Some(weight) = weight else { return Ok(None) };
    check_constant(op, argument, weight)?;
    if weight.broadcast_as(input.shape()).is_err() {
        let expected = format!("one that broadcasts to {:?}", input.dims());
        return Err(Error::shape(op, argument, weight.dims(), expected));
    }
    Ok(Some(weight.clone()))
}
