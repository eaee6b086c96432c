//! What is behind a scaler that is not disabled: the scale, and how far each optimizer has come since the last update.

use crate::config::check_config;
use crate::diagnostics::Diagnostics;
use crate::{Error, Result, ScaleState, ScalerConfig, StepOutcome};
use backends::kernels::copy_if_applied::CopyIfApplied;
use backends::kernels::loss_scale::LossScale;
use backends::kernels::step::{Pending, SUPPORTED_DEVICES, Scaling, Seen, Tally, is_supported};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};
use optim::{OptimizerId, Parameter, ScaledOptimizer, gradients};
use std::collections::HashMap;

/// Whether losses are scaled, or steps are only skipped where a gradient is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Scaling,
    Skipping,
}

#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) mode: Mode,
    /// Where nothing is scaled, a static scale of 1.
    pub(crate) config: ScalerConfig,
    pub(crate) scale: LossScale,
    pub(crate) stages: HashMap<OptimizerId, Stage>,
    /// Of all optimizers.
    pub(crate) tally: Tally,
    /// The last step, for what is written only if it is applied.
    pub(crate) last: Option<Pending>,
    pub(crate) copies: CopyIfApplied,
    pub(crate) diagnostics: Option<Diagnostics>,
}

/// How far an optimizer has come since the last update.
#[derive(Debug)]
pub(crate) enum Stage {
    Unscaled(Seen),
    Stepped,
}

impl Active {
    pub(crate) fn new(mode: Mode, config: ScalerConfig, device: &Device) -> Result<Self> {
        check_config(&config)?;
        if !is_supported(device) {
            return Err(unsupported("GradScaler::new", "the scale", device, SUPPORTED_DEVICES));
        }
        let scale = LossScale::new(config, ScaleState::new(&config), device)?;
        Ok(Self {
            mode,
            config,
            scale,
            stages: HashMap::new(),
            tally: Tally::default(),
            last: None,
            copies: CopyIfApplied::default(),
            diagnostics: None,
        })
    }

    pub(crate) fn unscale<O>(&mut self, optimizer: &O, grads: &mut GradStore) -> Result<()>
    where
        O: ScaledOptimizer + ?Sized,
    {
        match self.stages.get(&optimizer.id()) {
            None => {}
            Some(Stage::Unscaled(_)) => return Err(Error::AlreadyUnscaled),
            Some(Stage::Stepped) => return Err(Error::UnscaleAfterStep),
        }
        self.check("unscale_", optimizer, grads)?;
        let parameters = optimizer.parameters();
        let present = gradients(parameters, grads)?;
        let by_slot: Vec<(usize, &Tensor)> = present.iter().map(|(slot, grad)| (*slot, grad)).collect();
        let seen = self.scale.look(&by_slot)?;
        let inv_scale = self.scale.wait_for_state()?.inv_scale();
        for (slot, grad) in &present {
            grads.insert(&parameters[*slot].var, unscaled(grad, inv_scale)?);
        }
        if let Some(diagnostics) = &mut self.diagnostics {
            diagnostics.record(overflowed(parameters, &seen), &seen);
        }
        self.stages.insert(optimizer.id(), Stage::Unscaled(seen));
        Ok(())
    }

    pub(crate) fn step<O>(&mut self, optimizer: &mut O, grads: &GradStore) -> Result<StepOutcome>
    where
        O: ScaledOptimizer + ?Sized,
    {
        let (pending, seen) = match self.stages.get(&optimizer.id()) {
            Some(Stage::Stepped) => return Err(Error::AlreadyStepped),
            Some(Stage::Unscaled(seen)) => {
                (optimizer.scaled_step(grads, Scaling::TakenOut(seen))?, Some(seen.clone()))
            }
            None => {
                self.check("step", optimizer, grads)?;
                let pending = optimizer.scaled_step(grads, Scaling::Carried(&mut self.scale))?;
                let waits = pending.is_decided() || self.diagnostics.is_some();
                let seen = if waits { pending.wait_for_seen()? } else { None };
                if let (Some(diagnostics), Some(seen)) = (&mut self.diagnostics, &seen) {
                    diagnostics.record(overflowed(optimizer.parameters(), seen), seen);
                }
                (pending, seen)
            }
        };
        self.stages.insert(optimizer.id(), Stage::Stepped);
        self.tally.push(pending.clone())?;
        self.last = Some(pending);
        Ok(match seen {
            None => StepOutcome::Pending,
            Some(seen) if seen.found_inf() => {
                StepOutcome::Skipped { overflowed: overflowed(optimizer.parameters(), &seen) }
            }
            Some(_) => StepOutcome::Applied,
        })
    }

    /// Refuses gradients that this scaler has no use for. Whether each fits its parameter is the optimizer's to check.
    fn check<O>(&self, op: &'static str, optimizer: &O, grads: &GradStore) -> Result<()>
    where
        O: ScaledOptimizer + ?Sized,
    {
        let parameters = optimizer.parameters();
        if optimizer.without_gradient(grads).len() == parameters.len() {
            return Err(Error::NoGradients { op, parameters: parameters.len() });
        }
        for Parameter { name, var } in parameters {
            let Some(grad) = grads.get(var) else { continue };
            if self.mode == Mode::Scaling && grad.dtype() == DType::BF16 {
                return Err(Error::Bf16 { op, what: format!("the gradient of '{name}'") });
            }
            if !grad.device().same_device(self.scale.device()) {
                return Err(unsupported(op, name, grad.device(), "the scaler's own device"));
            }
        }
        Ok(())
    }
}

/// One gradient, widened and unscaled.
pub(crate) fn unscaled(grad: &Tensor, inv_scale: f32) -> candle_core::Result<Tensor> {
    let wide = if grad.dtype() == DType::F64 { grad.clone() } else { grad.to_dtype(DType::F32)? };
    wide.affine(f64::from(inv_scale), 0.0)
}

/// The parameters whose gradients were not finite.
fn overflowed(parameters: &[Parameter], seen: &Seen) -> Vec<String> {
    seen.non_finite.iter().map(|&slot| parameters[slot].name.clone()).collect()
}

fn unsupported(op: &'static str, what: &str, device: &Device, supported: &'static str) -> Error {
    let (what, got) = (what.to_string(), format!("{:?}", device.location()));
    Error::UnsupportedDevice { op, what, got, supported }
}
