//! Clipping: inside the fused step, or on its own before it.

use crate::error::check;
use crate::gradients::{by_slot, gradients};
use crate::{Error, Parameter, Result};
use backends::kernels::step::{OnNonFinite, clip_coef, look};
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor};

/// A bound on the unscaled gradients. Made by [`norm`](Self::norm) or [`value`](Self::value), which check it.
///
/// Gradients that are not finite are not bounded, as in PyTorch: where the norm is NaN every gradient becomes NaN, where it
/// is infinite the finite gradients become 0 and the infinite ones NaN, and a bound on values leaves a NaN alone. To be told
/// instead there is [`error_if_nonfinite`](Self::error_if_nonfinite); to skip such a step, a
/// `grad_scaler::GradScaler`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip {
    kind: Kind,
    on_non_finite: OnNonFinite,
}

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
        check_limit("Clip::norm", "max_norm", max_norm)?;
        Ok(Self { kind: Kind::Norm(max_norm), on_non_finite: OnNonFinite::Propagate })
    }

    /// Moves each element into `[-limit, limit]`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`] unless it is positive and finite.
    pub fn value(limit: f64) -> Result<Self> {
        check_limit("Clip::value", "clip value", limit)?;
        Ok(Self { kind: Kind::Value(limit), on_non_finite: OnNonFinite::Propagate })
    }

    /// Gradients whose norm is infinite or NaN become an [`Error::NonFiniteGradients`], which names their parameters, before
    /// anything is changed (`error_if_nonfinite` of PyTorch's `clip_grad_norm_`).
    ///
    /// Finding out reads the gradients once more, and waits for a CUDA device at every step. Under a scaler nothing more is
    /// read and nothing waits: it skips such a step before there is anything to report.
    #[must_use]
    pub fn error_if_nonfinite(self) -> Self {
        Self { on_non_finite: OnNonFinite::Refuse, ..self }
    }

    /// Clips the gradients of `parameters` in the store, and gives their global norm as it was. Where none of them has a
    /// gradient the norm is 0. Waits for a CUDA device, which an optimizer that clips inside its step does not.
    ///
    /// # Units
    ///
    /// Unscaled gradients: under a loss scale, call the scaler's `unscale_` first, or let the
    /// optimizer clip inside its step.
    ///
    /// # Errors
    ///
    /// [`Error::BadGradient`] for integer gradients; [`Error::NonFiniteGradients`] where
    /// [`error_if_nonfinite`](Self::error_if_nonfinite) asks for it, and then no gradient has changed.
    pub fn apply(self, parameters: &[Parameter], grads: &mut GradStore) -> Result<f64> {
        let seen = look(&by_slot(&gradients(parameters, grads)?))?;
        let norm = seen.norm();
        if self.on_non_finite == OnNonFinite::Refuse && !norm.is_finite() {
            return Err(Error::non_finite(norm, &seen.non_finite, parameters));
        }
        match self.kind {
            Kind::Norm(max_norm) => scale_down(parameters, grads, clip_coef(max_norm, norm))?,
            Kind::Value(limit) => clamp(parameters, grads, limit)?,
        }
        Ok(norm)
    }

    pub(crate) fn on_non_finite(self) -> OnNonFinite {
        self.on_non_finite
    }

    pub(crate) fn max_norm(self) -> Option<f64> {
        match self.kind {
            Kind::Norm(max_norm) => Some(max_norm),
            Kind::Value(_) => None,
        }
    }

    pub(crate) fn limit(self) -> Option<f64> {
        match self.kind {
            Kind::Norm(_) => None,
            Kind::Value(limit) => Some(limit),
        }
    }
}

fn check_limit(op: &'static str, argument: &'static str, limit: f64) -> Result<()> {
    check(op, argument, "a finite number above 0", limit, limit.is_finite() && limit > 0.0)
}

/// Clips the gradients of `parameters` in the store by their global norm, which it returns as it was:
/// [`Clip::norm`] and [`Clip::apply`].
///
/// # Units
///
/// Unscaled gradients, as for [`Clip::apply`].
///
/// # Errors
///
/// [`Error::InvalidSetting`] unless `max_norm` is positive and finite; [`Error::BadGradient`] for integer gradients.
pub fn clip_grad_norm(parameters: &[Parameter], grads: &mut GradStore, max_norm: f64) -> Result<f64> {
    Clip::norm(max_norm)?.apply(parameters, grads)
}

/// Moves every element of the gradients of `parameters` into `[-limit, limit]`. Does not wait for a CUDA device.
///
/// # Units
///
/// Unscaled gradients, as for [`Clip::apply`].
///
/// # Errors
///
/// [`Error::InvalidSetting`] unless `limit` is positive and finite; [`Error::BadGradient`] for integer gradients.
pub fn clip_grad_value(parameters: &[Parameter], grads: &mut GradStore, limit: f64) -> Result<()> {
    check_limit("clip_grad_value", "clip value", limit)?;
    gradients(parameters, grads)?;
    clamp(parameters, grads, limit)
}

fn scale_down(parameters: &[Parameter], grads: &mut GradStore, coef: f64) -> Result<()> {
    // A NaN compares false, and is multiplied by.
    if coef >= 1.0 {
        return Ok(());
    }
    for_each(parameters, grads, |grad| grad.affine(coef, 0.0))
}

/// Comparisons, which a NaN fails, in place of candle's clamp, which on a GPU makes a limit of it.
fn clamp(parameters: &[Parameter], grads: &mut GradStore, limit: f64) -> Result<()> {
    for_each(parameters, grads, |grad| {
        let bound = |limit: f64| {
            Tensor::new(limit, grad.device())?.to_dtype(grad.dtype())?.broadcast_as(grad.shape())
        };
        let (low, high) = (bound(-limit)?, bound(limit)?);
        let raised = grad.lt(&low)?.where_cond(&low, grad)?;
        raised.gt(&high)?.where_cond(&high, &raised)
    })
}

fn for_each(
    parameters: &[Parameter],
    grads: &mut GradStore,
    f: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> Result<()> {
    for Parameter { var, .. } in parameters {
        let Some(grad) = grads.get(var).filter(|grad| grad.elem_count() > 0) else { continue };
        // Computed in f32 and handed on in f32: the optimizer takes any dtype.
        let wide = if grad.dtype() == DType::F64 { grad.clone() } else { grad.to_dtype(DType::F32)? };
        let clipped = f(&wide).map_err(Error::from)?;
        grads.insert(var, clipped);
    }
    Ok(())
}
