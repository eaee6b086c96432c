//! The step on a CUDA device: candle's tensors, handed to the kernels as they are. The host launches and does not wait.

use crate::rule::{At, Rule};
use crate::state::{Slot, State};
use crate::{Clip, Error, Group, Parameter, Result, WriteBack};
use backends::cuda::{
    DeviceParameter, DeviceScaler, DeviceStep, DeviceWriteBack, PendingStep, StepSettings, Tally,
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

    /// The same with other tensors, each made from its name and the present one.
    pub(crate) fn map(
        &self,
        names: &[&str],
        mut f: impl FnMut(&str, &Tensor) -> Result<Tensor>,
    ) -> Result<Self> {
        let mut moments = [None, None];
        for ((to, name), now) in moments.iter_mut().zip(names).zip(self.moments.iter().flatten()) {
            *to = Some(f(name, now)?);
        }
        let extra = match &self.extra {
            Extra::Nothing => Extra::Nothing,
            Extra::Seed(seed) => Extra::Seed(*seed),
            Extra::Master(master) => Extra::Master(f("master", master)?),
            Extra::Kahan(lost) => Extra::Kahan(f("compensation", lost)?),
        };
        Ok(Self { moments, extra })
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
    /// The last step, and the first one since which every step took the norm.
    last: u32,
    norms_since: Option<u32>,
}

impl OnDevice {
    /// `None` for parameters that are not on a CUDA device.
    pub(crate) fn new<R: Rule>(parameters: &[Parameter], slots: &[Slot], rule: &R) -> Result<Option<Self>> {
        let Some(first) = parameters.first().filter(|first| first.var.device().is_cuda()) else {
            return Ok(None);
        };
        if rule.device_kernel(&at(rule, &Group::default())).is_none() {
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
        Ok(Some(Self { step, tally: Tally::default(), last: 0, norms_since: None }))
    }

    /// Launches a step, which `scaler` may have the device skip.
    pub(crate) fn step<R: Rule>(
        &mut self,
        (parameters, slots, groups): (&[Parameter], &[Slot], &[Group]),
        grads: &[Option<Tensor>],
        rule: &R,
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
        let settings_of: Vec<At> = groups.iter().map(|group| at(rule, group)).collect();
        let kernels: Vec<_> = settings_of.iter().filter_map(|at| rule.device_kernel(at)).collect();
        let serial = self.step.step(&present, &kernels, settings, scaler)?;
        self.last = serial;
        self.norms_since = looks.then(|| self.norms_since.unwrap_or(serial));
        let pending = PendingStep::new(self.step.outcomes(), serial);
        self.tally.push(pending.clone())?;
        Ok(pending)
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
        let outcomes = self.step.outcomes();
        let heard = |serial: u32| outcomes.poll(serial).ok().flatten();
        (self.norms_since?..=self.last).rev().find_map(heard).map(|outcome| f64::from(outcome.grad_norm))
    }
}

/// A group's settings. The device counts the steps.
fn at<R: Rule>(rule: &R, group: &Group) -> At {
    let weight_decay = group.weight_decay.unwrap_or(rule.weight_decay());
    At { lr: rule.lr() * group.lr_scale, weight_decay, step: 0 }
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

/// The norm of all gradients together, or `None` where they are not on a CUDA device. Waits for it.
pub(crate) fn norm(grads: &[Option<Tensor>]) -> Result<Option<f64>> {
    let present: Vec<(usize, &Tensor)> = grads.iter().flatten().enumerate().collect();
    let Some((_, first)) = present.first().filter(|(_, first)| first.device().is_cuda()) else {
        return Ok(None);
    };
    let mut step = DeviceStep::new(first.device(), &vec![0; present.len()])?;
    let serial = step.look(&present, None)?;
    let outcome = PendingStep::new(step.outcomes(), serial).wait()?;
    Ok(outcome.map(|outcome| f64::from(outcome.grad_norm)))
}
