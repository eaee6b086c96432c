//! `Fused`: every optimizer of this crate, given its rule.

use crate::clip::clip_coef;
use crate::error::check_non_negative;
use crate::gradients::{address, gradients};
use crate::rule::Rule;
use crate::state::Slot;
use crate::{Clip, Error, Group, Optimizer, Result, WriteBack, cpu};
#[cfg(feature = "cuda")]
use backends::cuda::{DeviceScaler, PendingStep};
use backends::kernels::fused_step::GradTransform;
use candle_core::Tensor;
use candle_core::backprop::GradStore;
use grad_scaler::{OptimizerId, Parameter, ScaledOptimizer, StepOutcome, Unscaling};
use std::collections::{HashMap, HashSet};

/// An optimizer: parameters, groups and state around a [`Rule`]. Used by its names, [`AdamW`](crate::AdamW) and so on.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use candle_core::{DType, Device, Var};
/// use optim::{AdamW, AdamWConfig, Clip, Optimizer};
///
/// let weight = Var::ones((2, 3), DType::BF16, &Device::Cpu)?;
/// let bias = Var::zeros(2, DType::BF16, &Device::Cpu)?;
/// let parameters = [("weight", weight.clone()), ("bias", bias.clone())];
/// let mut optimizer = AdamW::new(parameters, AdamWConfig { lr: 1e-3, ..Default::default() })?
///     .no_decay(|name| name.ends_with("bias"))
///     .with_clip(Clip::norm(1.0)?);
///
/// let loss = weight.sqr()?.sum_all()?;
/// let grads = loss.backward()?;
/// assert_eq!(optimizer.without_gradient(&grads), ["bias"]);
/// optimizer.step(&grads)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Fused<R> {
    id: OptimizerId,
    pub(crate) rule: R,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) slots: Vec<Slot>,
    groups: Vec<Group>,
    clip: Option<Clip>,
    /// On a CUDA device, those before the optimizer was made or loaded.
    applied_steps: u64,
    grad_norm: Option<f64>,
    #[cfg(feature = "cuda")]
    on_device: Option<Box<crate::cuda::OnDevice>>,
}

impl<R: Rule> Fused<R> {
    /// An optimizer over `parameters`, which keeps f32 masters behind 16-bit ones.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`] for a setting outside its range; [`Error::BadParameter`] where two parameters share a
    /// name or their memory, or one is no float; [`Error::UnsupportedDevice`].
    pub fn new<P>(parameters: impl IntoIterator<Item = P>, rule: R) -> Result<Self>
    where
        P: Into<Parameter>,
    {
        rule.validate()?;
        let parameters: Vec<Parameter> = parameters.into_iter().map(Into::into).collect();
        check_parameters(&parameters)?;
        let slots = slots(&parameters, &rule, WriteBack::default())?;
        let id = OptimizerId::new();
        let groups = vec![Group::default()];
        #[cfg(feature = "cuda")]
        let on_device = crate::cuda::OnDevice::new(&parameters, &slots, &rule)?.map(Box::new);
        Ok(Self {
            id,
            rule,
            parameters,
            slots,
            groups,
            clip: None,
            applied_steps: 0,
            grad_norm: None,
            #[cfg(feature = "cuda")]
            on_device,
        })
    }

    /// Keeps what 16-bit parameters cannot hold in another way than masters.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyStepped`] once a step was taken.
    pub fn with_write_back(mut self, write_back: WriteBack) -> Result<Self> {
        let steps = self.applied_steps();
        if steps > 0 {
            return Err(Error::AlreadyStepped { setting: "write_back", steps });
        }
        let groups: Vec<usize> = self.slots.iter().map(|slot| slot.group).collect();
        self.slots = slots(&self.parameters, &self.rule, write_back)?;
        self.slots.iter_mut().zip(groups).for_each(|(slot, group)| slot.group = group);
        Ok(self)
    }

    /// Clips the unscaled gradients inside the step.
    #[must_use]
    pub fn with_clip(self, clip: Clip) -> Self {
        Self { clip: Some(clip), ..self }
    }

    /// Moves the parameters whose name `belongs` into a group of their own. The last group that takes one has it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`] where the group's settings are negative or not finite.
    pub fn with_group(self, group: Group, belongs: impl Fn(&str) -> bool) -> Result<Self> {
        group.validate()?;
        Ok(self.regroup(group, belongs))
    }

    /// Leaves the parameters whose name `belongs` without weight decay: for biases, norms and embeddings.
    #[must_use]
    pub fn no_decay(self, belongs: impl Fn(&str) -> bool) -> Self {
        self.regroup(Group::no_decay(), belongs)
    }

    fn regroup(mut self, group: Group, belongs: impl Fn(&str) -> bool) -> Self {
        self.groups.push(group);
        for (slot, parameter) in self.slots.iter_mut().zip(&self.parameters) {
            if belongs(&parameter.name) {
                slot.group = self.groups.len() - 1;
            }
        }
        self
    }

    /// The settings.
    pub fn config(&self) -> &R {
        &self.rule
    }

    fn apply(&mut self, grads: &GradStore, unscaling: &Unscaling) -> Result<()> {
        let grads = gradients(&self.parameters, grads)?;
        #[cfg(feature = "cuda")]
        if let Some(on_device) = &mut self.on_device {
            let grads = crate::cuda::unscaled(grads, unscaling.inv_scale())?;
            let model = (&self.parameters[..], &self.slots[..], &self.groups[..]);
            return on_device.step(model, &grads, &self.rule, self.clip, None).map(drop);
        }
        let inv_scale = unscaling.inv_scale();
        let mut transform = GradTransform { inv_scale, ..GradTransform::default() };
        transform.clip_value = self.clip.and_then(Clip::limit);
        let max_norm = self.clip.and_then(Clip::max_norm);
        self.grad_norm = match (unscaling.sum_squares(), max_norm) {
            (Some(sum), _) => Some(sum.sqrt()),
            (None, Some(_)) => Some(cpu::sum_squares(&grads, inv_scale).sqrt()),
            (None, None) => None,
        };
        if let (Some(norm), Some(max_norm)) = (self.grad_norm, max_norm) {
            transform.clip_coef = clip_coef(max_norm, norm);
        }
        cpu::step(&self.parameters, &mut self.slots, &grads, &self.rule, &self.groups, &transform)?;
        self.applied_steps += 1;
        Ok(())
    }

    /// The steps that changed a parameter, and for each parameter those that changed it. Waits for a CUDA device.
    pub(crate) fn wait_for_steps(&self) -> Result<(u64, Vec<u64>)> {
        #[cfg(feature = "cuda")]
        if let Some(on_device) = &self.on_device {
            let (applied, steps) = on_device.wait_for_steps()?;
            return Ok((self.applied_steps + applied, steps));
        }
        Ok((self.applied_steps, self.slots.iter().map(|slot| slot.step).collect()))
    }

    /// Takes a loaded state.
    pub(crate) fn restore(&mut self, slots: Vec<Slot>, applied_steps: u64) -> Result<()> {
        #[cfg(feature = "cuda")]
        {
            self.on_device = crate::cuda::OnDevice::new(&self.parameters, &slots, &self.rule)?.map(Box::new);
        }
        (self.slots, self.applied_steps) = (slots, applied_steps);
        Ok(())
    }
}

fn slots<R: Rule>(parameters: &[Parameter], rule: &R, write_back: WriteBack) -> Result<Vec<Slot>> {
    parameters.iter().map(|parameter| Slot::new(parameter, rule, write_back)).collect()
}

fn check_parameters(parameters: &[Parameter]) -> Result<()> {
    let (mut names, mut places) = (HashSet::new(), HashSet::new());
    for Parameter { name, var } in parameters {
        let bad = |problem| Error::BadParameter { name: name.clone(), problem };
        if !(var.device().is_cpu() || cfg!(feature = "cuda") && var.device().is_cuda()) {
            let got = format!("{:?}", var.device().location());
            let supported = if cfg!(feature = "cuda") { "the CPU and CUDA devices" } else { "the CPU" };
            return Err(Error::UnsupportedDevice { name: name.clone(), got, supported });
        }
        if !var.device().same_device(parameters[0].var.device()) {
            return Err(bad(
                "it is on another device than the first parameter; give each device an optimizer",
            ));
        }
        if !names.insert(name) {
            return Err(bad("another parameter has this name; names must be unique"));
        }
        if !places.insert(address(var)) {
            return Err(bad("it is the same variable as an earlier parameter; give a tied one once"));
        }
        if !var.is_contiguous() {
            return Err(bad("it is not contiguous; make the variable from a contiguous tensor"));
        }
    }
    Ok(())
}

impl<R: Rule> ScaledOptimizer for Fused<R> {
    fn id(&self) -> OptimizerId {
        self.id
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn step_unscaling(&mut self, grads: &GradStore, unscaling: &Unscaling) -> grad_scaler::Result<()> {
        self.apply(grads, unscaling).map_err(|error| grad_scaler::Error::Optimizer(Box::new(error)))
    }

    #[cfg(feature = "cuda")]
    fn step_on_device(
        &mut self,
        grads: &GradStore,
        scaler: &mut DeviceScaler,
    ) -> grad_scaler::Result<Option<PendingStep>> {
        let Some(on_device) = &mut self.on_device else { return Ok(None) };
        let model = (&self.parameters[..], &self.slots[..], &self.groups[..]);
        let step = gradients(&self.parameters, grads)
            .and_then(|grads| on_device.step(model, &grads, &self.rule, self.clip, Some(scaler)));
        step.map(Some).map_err(|error| grad_scaler::Error::Optimizer(Box::new(error)))
    }
}

impl<R: Rule> Optimizer for Fused<R> {
    fn step(&mut self, grads: &GradStore) -> Result<StepOutcome> {
        self.apply(grads, &Unscaling::none())?;
        Ok(StepOutcome::Applied)
    }

    fn learning_rate(&self) -> f64 {
        self.rule.lr()
    }

    fn set_learning_rate(&mut self, lr: f64) -> Result<()> {
        check_non_negative("lr", lr)?;
        self.rule.set_lr(lr);
        Ok(())
    }

    fn applied_steps(&self) -> u64 {
        #[cfg(feature = "cuda")]
        if let Some(on_device) = &self.on_device {
            return self.applied_steps + on_device.applied_or_pending();
        }
        self.applied_steps
    }

    fn grad_norm(&self) -> Option<f64> {
        #[cfg(feature = "cuda")]
        if let Some(on_device) = &self.on_device {
            return on_device.grad_norm();
        }
        self.grad_norm
    }

    fn state_dict(&self) -> Result<HashMap<String, Tensor>> {
        crate::saved::save(self)
    }

    fn load_state_dict(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        crate::saved::load(self, state)
    }
}
