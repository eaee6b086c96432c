//! Clipping: inside the fused step, or on its own before it.

use crate::error::check;
use crate::gradients::gradients;
use crate::{Error, Parameter, Result, cpu};
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor};

/// A bound on the unscaled gradients. Made by [`norm`](Self::norm) or [`value`](Self::value), which check it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip(Kind);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Norm(f64),
    Value(f64),
}

impl Clip {
    /// Scales all gradients down together when their global norm is above `max_norm`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`] unless it is positive and finite.
    pub fn norm(max_norm: f64) -> Result<Self> {
        check_limit("max_norm", max_norm)?;
        Ok(Self(Kind::Norm(max_norm)))
    }

    /// Moves each element into `[-limit, limit]`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`] unless it is positive and finite.
    pub fn value(limit: f64) -> Result<Self> {
        check_limit("clip value", limit)?;
        Ok(Self(Kind::Value(limit)))
    }

    pub(crate) fn max_norm(self) -> Option<f64> {
        match self.0 {
            Kind::Norm(max_norm) => Some(max_norm),
            Kind::Value(_) => None,
        }
    }

    pub(crate) fn limit(self) -> Option<f64> {
        match self.0 {
            Kind::Norm(_) => None,
            Kind::Value(limit) => Some(limit),
        }
    }
}

fn check_limit(setting: &'static str, limit: f64) -> Result<()> {
    check(setting, "a finite number above 0", limit, limit.is_finite() && limit > 0.0)
}

/// What to multiply gradients of this norm by: PyTorch's `clip_grad_norm_` formula.
pub(crate) fn clip_coef(max_norm: f64, norm: f64) -> f64 {
    (max_norm / (norm + 1e-6)).min(1.0)
}

/// Clips the gradients of `parameters` in the store by their global norm, which it returns as it was. On a CUDA device it
/// waits for that norm, which a [`Clip`] inside the step does not.
///
/// # Units
///
/// Unscaled gradients: under a loss scale, call [`unscale_`](grad_scaler::GradScaler::unscale_) first, or let the
/// optimizer clip inside its step.
///
/// # Errors
///
/// [`Error::InvalidSetting`] unless `max_norm` is positive and finite; [`Error::BadGradient`] for integer gradients.
pub fn clip_grad_norm(parameters: &[Parameter], grads: &mut GradStore, max_norm: f64) -> Result<f64> {
    check_limit("max_norm", max_norm)?;
    let norm = norm(&gradients(parameters, grads)?)?;
    let coef = clip_coef(max_norm, norm);
    // A NaN norm compares false: the gradients become NaN all over, as in PyTorch.
    if coef >= 1.0 {
        return Ok(norm);
    }
    for_each(parameters, grads, |grad| grad.affine(coef, 0.0))?;
    Ok(norm)
}

fn norm(grads: &[Option<Tensor>]) -> Result<f64> {
    #[cfg(feature = "cuda")]
    if let Some(norm) = crate::cuda::norm(grads)? {
        return Ok(norm);
    }
    Ok(cpu::sum_squares(grads, 1.0).sqrt())
}

/// Moves every element of the gradients of `parameters` into `[-limit, limit]`.
///
/// # Units
///
/// Unscaled gradients, as for [`clip_grad_norm`].
///
/// # Errors
///
/// [`Error::InvalidSetting`] unless `limit` is positive and finite.
pub fn clip_grad_value(parameters: &[Parameter], grads: &mut GradStore, limit: f64) -> Result<()> {
    check_limit("clip value", limit)?;
    for_each(parameters, grads, |grad| grad.clamp(-limit, limit))
}

fn for_each(
    parameters: &[Parameter],
    grads: &mut GradStore,
    f: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> Result<()> {
    for Parameter { var, .. } in parameters {
        let Some(grad) = grads.get(var) else { continue };
        // Computed in f32 and handed on in f32: the optimizer takes any dtype.
        let wide = if grad.dtype() == DType::F64 { grad.clone() } else { grad.to_dtype(DType::F32)? };
        let clipped = f(&wide).map_err(Error::from)?;
        grads.insert(var, clipped);
    }
    Ok(())
}
