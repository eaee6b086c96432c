//! The scale on a CUDA device, where steps are decided without the host.

use crate::active::Mode;
use crate::{
    Error, OptimizerId, Parameter, Refill, Result, ScaleState, ScaledOptimizer, ScalerConfig, StepCounts,
    gradients,
};
use backends::cuda::{
    CopyIfApplied, DeviceScaler, DeviceScalerSettings, DeviceScalerState, DeviceStep, PendingStep, Tally,
};
use backends::kernels::grad_stats::GradStats;
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use std::collections::HashMap;

#[derive(Debug)]
pub(crate) struct OnDevice {
    device: Device,
    scaler: DeviceScaler,
    /// The steps that the device decides about.
    tally: Tally,
    /// For each optimizer whose gradients the host asked about, what the kernel needs to look at them.
    looks: HashMap<OptimizerId, DeviceStep>,
    /// The last step that the device decides about, for what is written only if it is applied.
    last: Option<PendingStep>,
    copies: Option<CopyIfApplied>,
}

impl OnDevice {
    pub(crate) fn new(config: &ScalerConfig, state: ScaleState, device: &Device) -> Result<Self> {
        let settings = DeviceScalerSettings {
            growth_factor: config.growth_factor(),
            backoff_factor: config.backoff_factor(),
            growth_interval: config.growth_interval(),
            min_scale: config.min_scale(),
            max_scale: config.max_scale(),
            hysteresis: config.hysteresis(),
            refill_on_clean_step: config.refill() == Refill::OnCleanStep,
            fixed: config.is_static(),
        };
        let ScaleState { scale, growth_tracker, hysteresis_left } = state;
        let state = DeviceScalerState { scale, growth_tracker, hysteresis_left };
        let scaler = DeviceScaler::new(device, settings, state)?;
        let (device, tally, looks) = (device.clone(), Tally::default(), HashMap::new());
        Ok(Self { device, scaler, tally, looks, last: None, copies: None })
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    pub(crate) fn wait_for_state(&self) -> Result<ScaleState> {
        let DeviceScalerState { scale, growth_tracker, hysteresis_left } = self.scaler.wait_for_state()?;
        Ok(ScaleState { scale, growth_tracker, hysteresis_left })
    }

    pub(crate) fn times(&self, loss: &Tensor) -> Result<Tensor> {
        Ok(loss.broadcast_mul(&self.scaler.scale().to_dtype(loss.dtype())?)?)
    }

    pub(crate) fn update(&mut self) -> Result<()> {
        Ok(self.scaler.update()?)
    }

    /// The steps whose outcome the host has heard of. A driver that has failed tells none; the next launch reports it.
    pub(crate) fn steps(&self) -> StepCounts {
        let counts = self.tally.counts().unwrap_or_default();
        StepCounts { applied: counts.applied, skipped: counts.skipped }
    }

    /// Has `optimizer` launch its step; `false` where it cannot.
    pub(crate) fn launch<O>(&mut self, mode: Mode, optimizer: &mut O, grads: &GradStore) -> Result<bool>
    where
        O: ScaledOptimizer + ?Sized,
    {
        gradients::present("step", mode, optimizer.parameters(), grads, &self.device)?;
        let Some(step) = optimizer.step_on_device(grads, &mut self.scaler)? else { return Ok(false) };
        self.last = Some(step.clone());
        self.tally.push(step)?;
        Ok(true)
    }

    /// Has the device write the values over the variables if the last step is applied.
    pub(crate) fn commit(&mut self, updates: &[(Var, Tensor)]) -> Result<()> {
        let Some(step) = &self.last else { return Err(Error::NothingPending) };
        let copies = match &mut self.copies {
            Some(copies) => copies,
            none => none.insert(CopyIfApplied::new(&self.device)?),
        };
        let pairs: Vec<(&Tensor, &Tensor)> =
            updates.iter().map(|(var, value)| (var.as_tensor(), value)).collect();
        Ok(copies.copy(step, &pairs)?)
    }

    /// Looks at the gradients, tells the scale what they hold, and waits for the device. The sum of squares of all of
    /// them is the first one's.
    pub(crate) fn stats(
        &mut self,
        (op, mode): (&'static str, Mode),
        id: OptimizerId,
        parameters: &[Parameter],
        grads: &GradStore,
    ) -> Result<Vec<(usize, GradStats)>> {
        let present = gradients::present(op, mode, parameters, grads, &self.device)?;
        let look = match self.looks.entry(id) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(DeviceStep::new(&self.device, &vec![0; parameters.len()])?)
            }
        };
        look.start_counting()?;
        let slots: Vec<(usize, &Tensor)> = present.iter().map(|(index, grad)| (*index, grad)).collect();
        let serial = look.look(&slots, Some(&mut self.scaler))?;
        let outcome = look.pending(serial).wait()?;
        let counts = look.wait_for_counts()?;
        let mut sum_squares = outcome.map_or(0.0, |outcome| f64::from(outcome.grad_norm).powi(2));
        let one = |(index, grad): &(usize, Tensor)| {
            let [non_finite, zeros, subnormal] = counts[*index];
            let len = grad.elem_count() as u64;
            let sum_squares = std::mem::take(&mut sum_squares);
            (*index, GradStats { len, non_finite, zeros, subnormal, sum_squares })
        };
        Ok(present.iter().map(one).collect())
    }
}
