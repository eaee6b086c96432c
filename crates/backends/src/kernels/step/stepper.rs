//! `Stepper`: what an optimizer's steps are taken with, and what outlives a step beside weights and states.

#[cfg(feature = "cuda")]
use super::cuda::OnDevice;
use super::operands::{OP, Parameter, SUPPORTED_DEVICES, check, is_supported, operand};
use super::update::GradTransform;
use super::{GradStats, Outcome, Pending, RuleSettings, Seen, StepCounts, Tally, clip_coef, grad_stats};
use crate::bridge::with_list_of_floats;
use crate::kernels::loss_scale::LossScale;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

/// What a step does apart from its rule.
#[derive(Clone, Copy, Default)]
pub struct Settings<'a> {
    /// Clips the unscaled gradients to this global norm.
    pub max_norm: Option<f64>,
    /// Clamps each unscaled gradient to this magnitude, after that.
    pub clip_value: Option<f64>,
    /// What becomes of a norm that is infinite or NaN where no loss scale skips the step.
    pub on_non_finite: OnNonFinite,
    /// What the learning rate of every group is multiplied by, where this many steps were applied before. A device looks
    /// it up by its own count. [`Stepper::rates_changed`] must be told where it becomes another function.
    pub rate: Option<&'a dyn Fn(u64) -> f64>,
}

/// What becomes of gradients whose norm is infinite or NaN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnNonFinite {
    /// They are used as they are.
    #[default]
    Propagate,
    /// [`Error::NonFinite`], before anything is changed. Waits for a device, unless a loss scale decides there.
    Refuse,
}

/// What stands between the gradients of a step and those of the loss.
#[derive(Debug)]
pub enum Scaling<'a> {
    /// Nothing: the step is taken.
    None,
    /// The gradients carry the scale: it is taken out, and the step skipped where one is not finite.
    Carried(&'a mut LossScale),
    /// The scale was taken out by a look that saw this: the step is skipped where it saw a gradient that is not finite.
    TakenOut(&'a Seen),
}

/// An optimizer's steps on one device: the step counts of its parameters, and the outcomes of its steps.
#[derive(Debug)]
pub struct Stepper {
    device: Device,
    /// Steps applied before it was made.
    base: u64,
    tally: Tally,
    /// How many steps the tally had when the rates became others.
    rates_since: u64,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// How many steps changed each parameter.
    Host(Vec<u64>),
    #[cfg(feature = "cuda")]
    Device(Box<OnDevice>),
}

impl Stepper {
    /// For an optimizer of as many parameters as `steps`, which have taken that many steps each, all together `applied`.
    ///
    /// # Errors
    ///
    /// [`Error::Operand`] where this build has no kernels for the device, or for a count that it cannot hold;
    /// [`Error::Device`] where it fails.
    pub fn new(device: &Device, steps: &[u64], applied: u64) -> Result<Self> {
        if !is_supported(device) {
            return Err(operand("the device", SUPPORTED_DEVICES.into(), format!("{:?}", device.location())));
        }
        let place = match device {
            #[cfg(feature = "cuda")]
            Device::Cuda(candle) => Place::Device(Box::new(OnDevice::new(candle, steps)?)),
            _ => Place::Host(steps.to_vec()),
        };
        let (device, tally) = (device.clone(), Tally::default());
        Ok(Self { device, base: applied, tally, rates_since: 0, place })
    }

    /// Takes a step of `parameters`, or skips it as `scaling` says. Does not wait for a device.
    ///
    /// # Errors
    ///
    /// [`Error::Operand`] and [`Error::LengthMismatch`] for what is not as its place asks for, before anything is changed;
    /// [`Error::NonFinite`]; [`Error::Device`] where the driver fails.
    pub fn step<R: RuleSettings>(
        &mut self,
        parameters: &[Parameter<'_>],
        groups: &[R],
        settings: &Settings<'_>,
        scaling: Scaling<'_>,
    ) -> Result<Pending> {
        let scale = match scaling {
            Scaling::TakenOut(seen) if seen.found_inf() => return self.skip(seen),
            Scaling::Carried(scale) => Some(scale),
            Scaling::TakenOut(_) | Scaling::None => None,
        };
        let Some(first) = groups.first() else {
            return Err(operand("the groups", "at least one".into(), "none"));
        };
        check(parameters, &self.device, self.slots(), groups.len(), first.moments())?;
        let pending = match &mut self.place {
            Place::Host(steps) => {
                let applied = self.base + self.tally.counts()?.applied;
                step_on_host(parameters, groups, settings, scale, (steps, applied))?
            }
            #[cfg(feature = "cuda")]
            Place::Device(on_device) => {
                if settings.on_non_finite == OnNonFinite::Refuse && scale.is_none() {
                    refuse_non_finite(&look(&gradients(parameters))?)?;
                }
                on_device.step(parameters, groups, settings, scale, (self.base, &self.tally))?
            }
        };
        self.tally.push(pending.clone())?;
        Ok(pending)
    }

    /// A step that the host has decided to skip.
    fn skip(&mut self, seen: &Seen) -> Result<Pending> {
        let StepCounts { applied, pending, .. } = self.tally.counts()?;
        let grad_norm = Some(seen.norm());
        let outcome = Outcome { found_inf: true, grad_norm, applied_before: self.base + applied + pending };
        let pending = Pending::known(outcome, seen.clone());
        self.tally.push(pending.clone())?;
        Ok(pending)
    }

    /// From the next step on, [`Settings::rate`] is another function.
    pub fn rates_changed(&mut self) {
        self.rates_since = self.tally.len();
        #[cfg(feature = "cuda")]
        if let Place::Device(on_device) = &mut self.place {
            on_device.rates_changed();
        }
    }

    /// How many steps were taken and skipped, those before it was made included, as far as the device has told. Does not
    /// wait.
    ///
    /// # Errors
    ///
    /// Where the driver has failed.
    pub fn counts(&self) -> Result<StepCounts> {
        let counts = self.tally.counts()?;
        Ok(StepCounts { applied: self.base + counts.applied, ..counts })
    }

    /// The last outcome that the host has heard of. Does not wait.
    ///
    /// # Errors
    ///
    /// Where the driver has failed.
    pub fn last(&self) -> Result<Option<Outcome>> {
        self.tally.last_since(0)
    }

    /// The last outcome that the host has heard of since the rates became others. Does not wait.
    ///
    /// # Errors
    ///
    /// Where the driver has failed.
    pub fn last_at_rate(&self) -> Result<Option<Outcome>> {
        self.tally.last_since(self.rates_since)
    }

    /// Waits until the outcome of every step is known. **Waits for the device.**
    ///
    /// # Errors
    ///
    /// Where the driver fails.
    pub fn wait(&self) -> Result<()> {
        self.tally.wait_for_counts().map(drop)
    }

    /// How many steps were applied, and how many of them changed each parameter. **Waits for the device.**
    ///
    /// # Errors
    ///
    /// Where the driver fails.
    pub fn wait_for_steps(&self) -> Result<(u64, Vec<u64>)> {
        let applied = self.base + self.tally.wait_for_counts()?.applied;
        let steps = match &self.place {
            Place::Host(steps) => steps.clone(),
            #[cfg(feature = "cuda")]
            Place::Device(on_device) => on_device.wait_for_steps()?,
        };
        Ok((applied, steps))
    }

    fn slots(&self) -> usize {
        match &self.place {
            Place::Host(steps) => steps.len(),
            #[cfg(feature = "cuda")]
            Place::Device(on_device) => on_device.slots(),
        }
    }
}

fn step_on_host<R: RuleSettings>(
    parameters: &[Parameter<'_>],
    groups: &[R],
    settings: &Settings<'_>,
    scale: Option<&mut LossScale>,
    (steps, applied): (&mut [u64], u64),
) -> Result<Pending> {
    let scale = scale.map(LossScale::on_host).transpose()?;
    let refuses = settings.on_non_finite == OnNonFinite::Refuse;
    let looks = scale.is_some() || settings.max_norm.is_some() || refuses;
    let inv_scale = scale.as_ref().map_or(1.0, |scale| scale.state.inv_scale());
    let seen = if looks { look_on_host(&gradients(parameters), inv_scale)? } else { Seen::default() };
    let grad_norm = looks.then(|| seen.norm());
    let found_inf = match scale {
        Some(scale) if seen.found_inf() => {
            scale.found_inf = true;
            true
        }
        _ => false,
    };
    if !found_inf {
        if refuses {
            refuse_non_finite(&seen)?;
        }
        let clip_coef = settings.max_norm.map_or(1.0, |max_norm| clip_coef(max_norm, seen.norm()));
        let transform = GradTransform { inv_scale, clip_coef, clip_value: settings.clip_value };
        let rate = settings.rate.map_or(1.0, |rate| rate(applied));
        let groups: Vec<R> = groups.iter().map(|group| group.with_rate(rate)).collect();
        R::on_host(&groups, parameters, steps, &transform)?;
        parameters.iter().for_each(|p| steps[p.slot] += 1);
    }
    Ok(Pending::known(Outcome { found_inf, grad_norm, applied_before: applied }, seen))
}

fn refuse_non_finite(seen: &Seen) -> Result<()> {
    let norm = seen.norm();
    if norm.is_finite() {
        return Ok(());
    }
    Err(Error::NonFinite { op: OP, norm, slots: seen.non_finite.clone() })
}

fn gradients<'a>(parameters: &[Parameter<'a>]) -> Vec<(usize, &'a Tensor)> {
    parameters.iter().map(|p| (p.slot, p.grad)).collect()
}

/// Looks at gradients that carry no scale, each with the slot of its parameter. **Waits for a device.**
///
/// # Errors
///
/// [`Error::Operand`] for a tensor that is not contiguous, no float, or on a device without kernels; [`Error::Device`].
pub fn look(grads: &[(usize, &Tensor)]) -> Result<Seen> {
    #[cfg(feature = "cuda")]
    if let Some(Device::Cuda(candle)) = grads.first().map(|(_, grad)| grad.device()) {
        return super::cuda::look(candle, grads, None);
    }
    look_on_host(grads, 1.0)
}

pub(crate) fn look_on_host(grads: &[(usize, &Tensor)], inv_scale: f32) -> Result<Seen> {
    let tensors: Vec<&Tensor> = grads.iter().map(|(_, grad)| *grad).collect();
    let stats = with_list_of_floats("the gradients' statistics", &tensors, |x| grad_stats(x, inv_scale))?;
    let bad = grads.iter().zip(&stats).filter(|(_, stats)| stats.found_inf());
    let non_finite = bad.map(|((slot, _), _)| *slot).collect();
    Ok(Seen { non_finite, total: stats.into_iter().fold(GradStats::default(), GradStats::merge) })
}
