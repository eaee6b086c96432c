//! The step on a CUDA device: candle's tensors, handed to the kernels as they are. The host launches and does not wait.

use crate::look::Look;
use crate::rule::{At, Rule};
use crate::saved::{Kept, Loaded};
use crate::state::{Slot, State};
use crate::{Clip, Error, Group, Parameter, Result, Schedule, WriteBack};
use backends::cuda::{
    DeviceParameter, DeviceScaler, DeviceStep, DeviceWriteBack, Outcome, Outcomes, PendingStep, StepSettings,
    Tally,
};
use candle_core::{DType, Tensor};

/// The moments and write-back buffers of one parameter, on its device.
#[derive(Clone, Debug)]
pub(crate) struct Buffers {
    moments: [Option<Tensor>; 2],
    extra: Extra,
}

#[derive(Clone, Debug)]
enum Extra {
    Nothing,
    Master(Tensor),
    Kahan(Tensor),
    Seed(u64),
}

impl Buffers {
    /// Zero moments, and masters equal to the parameter.
    pub(crate) fn new(var: &Tensor, moments: usize, write_back: WriteBack) -> Result<Self> {
        let arithmetic = if var.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let moment = |nth: usize| {
            (nth < moments).then(|| Tensor::zeros(var.shape(), arithmetic, var.device())).transpose()
        };
        let extra = match write_back {
            _ if var.dtype() == arithmetic => Extra::Nothing,
            WriteBack::MasterWeights => Extra::Master(var.detach().to_dtype(arithmetic)?),
            WriteBack::Kahan => Extra::Kahan(Tensor::zeros(var.shape(), var.dtype(), var.device())?),
            WriteBack::StochasticRounding { seed } => Extra::Seed(seed),
        };
        Ok(Self { moments: [moment(0)?, moment(1)?], extra })
    }

    /// What a saved state holds of it, by name.
    pub(crate) fn named<'a>(&'a self, names: &[&'a str]) -> Vec<(&'a str, &'a Tensor)> {
        let moments = names.iter().copied().zip(self.moments.iter().flatten());
        let extra = match &self.extra {
            Extra::Nothing | Extra::Seed(_) => None,
            Extra::Master(master) => Some(("master", master)),
            Extra::Kahan(lost) => Some(("compensation", lost)),
        };
        moments.chain(extra).collect()
    }

    /// Where what the parameter cannot hold is kept.
    pub(crate) fn kept(&self) -> Kept {
        match self.extra {
            Extra::Nothing | Extra::Seed(_) => Kept::Nowhere,
            Extra::Master(_) => Kept::Master,
            Extra::Kahan(_) => Kept::Compensation,
        }
    }

    /// The same with what was loaded, in copies on the device, which steps may write to.
    pub(crate) fn with(&self, loaded: Loaded, var: &Tensor) -> Result<Self> {
        let own = |tensor: Tensor| -> Result<Tensor> { Ok(tensor.to_device(var.device())?.copy()?) };
        let mut moments = [None, None];
        for (to, moment) in moments.iter_mut().zip(loaded.moments) {
            *to = Some(own(moment)?);
        }
        let extra = match (&self.extra, loaded.kept) {
            (Extra::Master(_), Some(master)) => Extra::Master(own(master)?),
            (Extra::Kahan(_), Some(lost)) => Extra::Kahan(own(lost)?),
            (other, _) => other.clone(),
        };
        Ok(Self { moments, extra })
    }

    /// Starts stochastic rounding from another seed.
    pub(crate) fn set_seed(&mut self, seed: u64) {
        if let Extra::Seed(now) = &mut self.extra {
            *now = seed;
        }
    }

    fn write_back(&self) -> DeviceWriteBack<'_> {
        match &self.extra {
            Extra::Nothing => DeviceWriteBack::Nearest,
            Extra::Master(master) => DeviceWriteBack::Master(master),
            Extra::Kahan(lost) => DeviceWriteBack::Kahan(lost),
            Extra::Seed(seed) => DeviceWriteBack::Stochastic { seed: *seed },
        }
    }
}

/// What an optimizer keeps on its device beside the buffers: step counts, and news of the steps that were launched.
#[derive(Debug)]
pub(crate) struct OnDevice {
    step: DeviceStep,
    tally: Tally,
    /// The last step, and the first one since which every step took the norm, or had its rate from the present schedule.
    last: u32,
    norms_since: Option<u32>,
    scheduled_since: Option<u32>,
    /// The schedule of which the device has a part, and the count of applied steps where that part begins.
    rates: Option<(Schedule, u64)>,
}

/// Rates that are uploaded together: more than there are pending steps, so that few steps need an upload.
const RATES: u64 = 1024;

impl OnDevice {
    /// `None` for parameters that are not on a CUDA device.
    pub(crate) fn new<R: Rule>(parameters: &[Parameter], slots: &[Slot], rule: &R) -> Result<Option<Self>> {
        let Some(first) = parameters.first().filter(|first| first.var.device().is_cuda()) else {
            return Ok(None);
        };
        if rule.device_kernel(&at(rule, 0.0, &Group::default())).is_none() {
            let got = format!("{:?}", first.var.device().location());
            return Err(Error::UnsupportedDevice {
                name: first.name.clone(),
                got,
                supported: "this rule on the CPU",
            });
        }
        let count = |(slot, parameter): (&Slot, &Parameter)| {
            u32::try_from(slot.step).map_err(|_| Error::StateMismatch {
                key: format!("{}.step", parameter.name),
                expected: "a count below 2^32".into(),
                got: slot.step.to_string(),
            })
        };
        let steps = slots.iter().zip(parameters).map(count).collect::<Result<Vec<u32>>>()?;
        let step = DeviceStep::new(first.var.device(), &steps)?;
        Ok(Some(Self {
            step,
            tally: Tally::default(),
            last: 0,
            norms_since: None,
            scheduled_since: None,
            rates: None,
        }))
    }

    /// Launches a step, which `scaler` may have the device skip. A schedule comes with the steps that were applied before
    /// those that the device counts.
    pub(crate) fn step<R: Rule>(
        &mut self,
        (parameters, slots, groups): (&[Parameter], &[Slot], &[Group]),
        grads: &[Option<Tensor>],
        (rule, schedule): (&R, Option<(Schedule, u64)>),
        clip: Option<Clip>,
        scaler: Option<&mut DeviceScaler>,
    ) -> Result<PendingStep> {
        let settings =
            StepSettings { max_norm: clip.and_then(Clip::max_norm), clip_value: clip.and_then(Clip::limit) };
        let looks = scaler.is_some() || settings.max_norm.is_some();
        let mut present = Vec::with_capacity(parameters.len());
        for (index, ((parameter, slot), grad)) in parameters.iter().zip(slots).zip(grads).enumerate() {
            let (Some(grad), State::Cuda(buffers)) = (grad, &slot.state) else { continue };
            present.push(DeviceParameter {
                slot: index,
                group: slot.group,
                weights: &parameter.var,
                grad,
                write_back: buffers.write_back(),
                moments: [buffers.moments[0].as_ref(), buffers.moments[1].as_ref()],
            });
        }
        self.send_rates(schedule)?;
        // Under a schedule the device multiplies the group's part of the rate by the step's.
        let lr = if schedule.is_some() { 1.0 } else { rule.lr() };
        let settings_of: Vec<At> = groups.iter().map(|group| at(rule, lr, group)).collect();
        let kernels: Vec<_> = settings_of.iter().filter_map(|at| rule.device_kernel(at)).collect();
        let serial = self.step.step(&present, &kernels, settings, scaler)?;
        self.last = serial;
        self.norms_since = looks.then(|| self.norms_since.unwrap_or(serial));
        self.scheduled_since = self.scheduled_since.or(schedule.map(|_| serial));
        let pending = self.step.pending(serial);
        self.tally.push(pending.clone())?;
        Ok(pending)
    }

    /// Gives the device the rates of every step that the next one may turn out to be: the host may not know yet how many
    /// of the steps before it were skipped.
    fn send_rates(&mut self, schedule: Option<(Schedule, u64)>) -> Result<()> {
        let Some((schedule, base)) = schedule else {
            return match self.rates.take() {
                Some(_) => Ok(self.step.set_rates(0, &[])?),
                None => Ok(()),
            };
        };
        let counts = self.tally.counts()?;
        let covers = |&(sent, first): &(Schedule, u64)| {
            sent == schedule && counts.applied + counts.pending < first + RATES
        };
        if !self.rates.as_ref().is_some_and(covers) {
            let first = counts.applied;
            let rates: Vec<f64> =
                (first..first + RATES).map(|applied| schedule.lr(base.saturating_add(applied))).collect();
            // The device's count wraps, and only differences matter.
            self.step.set_rates(first as u32, &rates)?;
            self.rates = Some((schedule, first));
        }
        Ok(())
    }

    /// The schedule was changed: what the steps so far were taken with is not what it says.
    pub(crate) fn forget_rates(&mut self) {
        self.scheduled_since = None;
    }

    /// How many of the device's steps were applied before the last one that the host has heard of under the present
    /// schedule, or before the next one where there is none.
    pub(crate) fn applied_before_last(&self) -> u64 {
        let applied = self.tally.counts().map_or(0, |counts| counts.applied);
        self.heard(self.scheduled_since).map_or(applied, |outcome| u64::from(outcome.applied_before))
    }

    /// Waits for every step that was launched.
    pub(crate) fn wait(&self) -> Result<()> {
        Ok(self.step.outcomes().wait()?)
    }

    /// The last outcome that the host has heard of, not looking back further than `since`.
    fn heard(&self, since: Option<u32>) -> Option<Outcome> {
        let outcomes = self.step.outcomes();
        let oldest = since?.max(self.last.saturating_sub(Outcomes::LEN));
        (oldest..=self.last).rev().find_map(|serial| outcomes.poll(serial).ok().flatten())
    }

    /// Steps that were not skipped, as far as the host has heard. A driver that has failed tells no more; the next step
    /// reports it.
    pub(crate) fn applied_or_pending(&self) -> u64 {
        self.tally.counts().map_or(0, |counts| counts.applied + counts.pending)
    }

    pub(crate) fn wait_for_steps(&self) -> Result<(u64, Vec<u64>)> {
        let applied = self.tally.wait_for_counts()?.applied;
        Ok((applied, self.step.wait_for_steps()?.into_iter().map(u64::from).collect()))
    }

    /// The norm at the last step that the host has heard of.
    pub(crate) fn grad_norm(&self) -> Option<f64> {
        self.heard(self.norms_since).map(|outcome| f64::from(outcome.grad_norm))
    }
}

/// A group's settings. The device counts the steps.
fn at<R: Rule>(rule: &R, lr: f64, group: &Group) -> At {
    let weight_decay = group.weight_decay.unwrap_or(rule.weight_decay());
    At { lr: lr * group.lr_scale, weight_decay, step: 0 }
}

/// The gradients times `inv_scale`, 16-bit ones widened first.
pub(crate) fn unscaled(grads: Vec<Option<Tensor>>, inv_scale: f32) -> Result<Vec<Option<Tensor>>> {
    if inv_scale == 1.0 {
        return Ok(grads);
    }
    let unscale = |grad: Tensor| {
        let wide = if grad.dtype() == DType::F64 { grad } else { grad.to_dtype(DType::F32)? };
        Ok(wide.affine(f64::from(inv_scale), 0.0)?)
    };
    grads.into_iter().map(|grad| grad.map(unscale).transpose()).collect()
}

/// Looks at the gradient of each parameter, or `None` where they are not on a CUDA device. Waits for it.
pub(crate) fn look(grads: &[Option<Tensor>], inv_scale: f32) -> Result<Option<Look>> {
    if !grads.iter().flatten().any(|grad| grad.device().is_cuda()) {
        return Ok(None);
    }
    let grads = unscaled(grads.to_vec(), inv_scale)?;
    let present: Vec<(usize, &Tensor)> =
        grads.iter().enumerate().filter_map(|(index, grad)| Some((index, grad.as_ref()?))).collect();
    let mut step = DeviceStep::new(present[0].1.device(), &vec![0; grads.len()])?;
    let serial = step.look(&present, None)?;
    let outcome = step.pending(serial).wait()?;
    let overflows = step.wait_for_overflows()?;
    let non_finite = (0..grads.len()).filter(|&index| overflows[index] == serial).collect();
    Ok(outcome.map(|outcome| Look { norm: f64::from(outcome.grad_norm), non_finite }))
}
