//! Gradients of several batches for one step.

use crate::gradients::gradients;
use crate::{Parameter, Result};
use backends::bridge::cast;
use backends::kernels::add::{Sign, sum_of};
use backends::kernels::step::arithmetic;
use candle_core::backprop::GradStore;

/// Adds the gradients of `parameters` to those in `sum`, in the dtype of the optimizer's arithmetic: f32, and f64 for f64
/// parameters. A sum of 16-bit gradients in 16 bits would lose the later ones.
///
/// # Units
///
/// Those that the gradients have: all of one loss scale.
///
/// # Errors
///
/// [`Error::BadGradient`](crate::Error::BadGradient) for one that does not fit its parameter.
pub fn accumulate(parameters: &[Parameter], sum: &mut GradStore, grads: &GradStore) -> Result<()> {
    for (slot, grad) in gradients(parameters, grads)? {
        let var = &parameters[slot].var;
        let dtype = arithmetic(var.dtype());
        let next = match sum.get(var) {
            None => cast(&grad, dtype)?,
            Some(before) => match sum_of(before, &grad, Sign::Plus, dtype)?.ran() {
                Some(sum) => sum,
                None => (cast(before, dtype)? + cast(&grad, dtype)?)?,
            },
        };
        sum.insert(var, next);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor, Var};

    #[test]
    fn small_gradients_are_not_lost_beside_a_large_sum() -> Result<()> {
        let var = Var::zeros(1, DType::BF16, &Device::Cpu)?;
        let parameters = [Parameter::from(("w", var.clone()))];
        let mut sum = GradStore::default();
        for value in [256f32, 1., 1., 1.] {
            let mut grads = GradStore::default();
            grads.insert(&var, Tensor::new(&[value], &Device::Cpu)?.to_dtype(DType::BF16)?);
            accumulate(&parameters, &mut sum, &grads)?;
        }
        let sum = sum.get(&var).map(|sum| sum.to_vec1::<f32>()).transpose()?;
        assert_eq!(sum, Some(vec![259.]));
        Ok(())
    }
}
