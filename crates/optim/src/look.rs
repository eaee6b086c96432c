//! A look at all gradients before they are used: their norm, and which of them are not finite.

use crate::{Error, Parameter, Result};
use backends::bridge::with_list_of_floats;
use backends::kernels::grad_stats::{GradStats, grad_stats};
use candle_core::Tensor;

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Look {
    /// The norm of all gradients together; infinite or NaN where one of them is.
    pub(crate) norm: f64,
    /// The indices of the parameters whose gradients hold an infinity or NaN.
    pub(crate) non_finite: Vec<usize>,
}

impl Look {
    /// An error that names the parameters, unless the norm is finite.
    pub(crate) fn check(&self, parameters: &[Parameter]) -> Result<()> {
        if self.norm.is_finite() {
            return Ok(());
        }
        let name = |&index: &usize| parameters.get(index).map(|parameter| parameter.name.clone());
        let parameters = self.non_finite.iter().filter_map(name).collect();
        Err(Error::NonFiniteGradients { norm: self.norm, parameters })
    }
}

/// Looks at the gradient of each parameter, multiplied by `inv_scale`. Waits for a CUDA device.
pub(crate) fn look(grads: &[Option<Tensor>], inv_scale: f32) -> Result<Look> {
    #[cfg(feature = "cuda")]
    if let Some(look) = crate::cuda::look(grads, inv_scale)? {
        return Ok(look);
    }
    let present: Vec<(usize, &Tensor)> =
        grads.iter().enumerate().filter_map(|(index, grad)| Some((index, grad.as_ref()?))).collect();
    let tensors: Vec<&Tensor> = present.iter().map(|(_, grad)| *grad).collect();
    let stats = with_list_of_floats("the gradients' norm", &tensors, |slices| grad_stats(slices, inv_scale))?;
    let bad = present.iter().zip(&stats).filter(|(_, stats)| stats.found_inf());
    let non_finite = bad.map(|((index, _), _)| *index).collect();
    let all = stats.iter().copied().fold(GradStats::default(), GradStats::merge);
    Ok(Look { norm: all.sum_squares.sqrt(), non_finite })
}
