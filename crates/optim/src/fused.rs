//! `Fused`: every optimizer of this crate, given its rule.

use crate::rule::Rule;
use crate::state::{Slot, fresh};
use crate::{Clip, Error, Group, Optimizer, OptimizerId, Parameter, Result, Schedule, WriteBack};
use backends::kernels::step::{SUPPORTED_DEVICES, Stepper, is_supported, storage_address};
use std::collections::HashSet;

/// An optimizer: parameters, groups and state around a [`Rule`]. Used by its names, [`AdamW`](crate::AdamW) and so on.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use candle_core::{DType, Device, Var};
/// use optim::{AdamW, AdamWConfig, Clip, Optimizer, ScaledOptimizer};
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
    pub(crate) id: OptimizerId,
    pub(crate) rule: R,
    /// The rate where there is no schedule.
    pub(crate) lr: f64,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) write_back: WriteBack,
    /// The run's, under which stochastic rounding draws.
    pub(crate) seed: u64,
    pub(crate) groups: Vec<Group>,
    pub(crate) clip: Option<Clip>,
    pub(crate) schedule: Option<Schedule>,
    /// The steps, and how many there were.
    pub(crate) stepper: Stepper,
}

impl<R: Rule> Fused<R> {
    /// An optimizer over `parameters`, which keeps f32 masters behind 16-bit ones.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`] for a setting outside its range; [`Error::NoParameters`]; [`Error::BadParameter`] where two
    /// parameters share a name or their memory, or one is no float; [`Error::UnsupportedDevice`].
    pub fn new<P>(parameters: impl IntoIterator<Item = P>, rule: R) -> Result<Self>
    where
        P: Into<Parameter>,
    {
        rule.validate()?;
        let parameters: Vec<Parameter> = parameters.into_iter().map(Into::into).collect();
        check_parameters(&parameters)?;
        let write_back = WriteBack::default();
        let slots = slots(&parameters, &rule, write_back)?;
        let stepper = Stepper::new(parameters[0].var.device(), &vec![0; parameters.len()], 0)?;
        Ok(Self {
            id: OptimizerId::new(),
            lr: rule.lr(),
            rule,
            parameters,
            slots,
            write_back,
            seed: 0,
            groups: vec![Group::default()],
            clip: None,
            schedule: None,
            stepper,
        })
    }

    /// Keeps what 16-bit parameters cannot hold in another way than masters. f32 and f64 parameters hold everything, and
    /// are not concerned.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyStepped`] once a step was taken.
    pub fn with_write_back(mut self, write_back: WriteBack) -> Result<Self> {
        let counts = self.steps()?;
        let steps = counts.applied + counts.pending;
        if steps > 0 {
            return Err(Error::AlreadyStepped { setting: "write_back", steps });
        }
        let groups: Vec<usize> = self.slots.iter().map(|slot| slot.group).collect();
        self.slots = slots(&self.parameters, &self.rule, write_back.under(self.seed))?;
        self.write_back = write_back;
        self.slots.iter_mut().zip(groups).for_each(|(slot, group)| slot.group = group);
        Ok(self)
    }

    /// Clips the unscaled gradients inside the step. The last clip given is the one.
    #[must_use]
    pub fn with_clip(self, clip: Clip) -> Self {
        Self { clip: Some(clip), ..self }
    }

    /// Takes each step with the schedule's rate for the number of steps applied before it: see
    /// [`Optimizer::set_schedule`].
    #[must_use]
    pub fn with_schedule(mut self, schedule: Schedule) -> Self {
        self.set_schedule(Some(schedule));
        self
    }

    /// Moves the parameters whose name `belongs` into a group of their own. The last group that takes one has it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`] where the group's settings are negative or not finite; [`Error::EmptyGroup`] where no
    /// parameter belongs.
    pub fn with_group(self, group: Group, belongs: impl Fn(&str) -> bool) -> Result<Self> {
        group.validate()?;
        if !self.parameters.iter().any(|parameter| belongs(&parameter.name)) {
            let example = self.parameters[0].name.clone();
            return Err(Error::EmptyGroup { call: "with_group", example });
        }
        Ok(self.regroup(group, belongs))
    }

    /// Leaves the parameters whose name `belongs` without weight decay: for biases, norms and embeddings. A model may have
    /// none of these: where no parameter belongs, nothing changes.
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

    /// The settings that it was made with.
    pub fn config(&self) -> &R {
        &self.rule
    }

    /// Takes a loaded state.
    pub(crate) fn restore(&mut self, slots: Vec<Slot>, steps: &[u64], applied: u64) -> Result<()> {
        self.stepper = Stepper::new(self.parameters[0].var.device(), steps, applied)?;
        self.slots = slots;
        Ok(())
    }
}

fn slots<R: Rule>(parameters: &[Parameter], rule: &R, write_back: WriteBack) -> Result<Vec<Slot>> {
    let moments = rule.moment_names().len();
    let slot = |parameter| Ok(Slot { group: 0, state: fresh(parameter, moments, write_back)? });
    parameters.iter().map(slot).collect()
}

fn check_parameters(parameters: &[Parameter]) -> Result<()> {
    if parameters.is_empty() {
        return Err(Error::NoParameters);
    }
    let (mut names, mut places) = (HashSet::new(), HashSet::new());
    for Parameter { name, var } in parameters {
        let bad = |problem| Error::BadParameter { name: name.clone(), problem };
        if !is_supported(var.device()) {
            let got = format!("{:?}", var.device().location());
            return Err(Error::UnsupportedDevice { name: name.clone(), got, supported: SUPPORTED_DEVICES });
        }
        if !var.device().same_device(parameters[0].var.device()) {
            return Err(bad(
                "it is on another device than the first parameter; give each device an optimizer",
            ));
        }
        if !names.insert(name) {
            return Err(bad("another parameter has this name; names must be unique"));
        }
        if !places.insert(storage_address(var)) {
            return Err(bad("it is the same variable as an earlier parameter; give a tied one once"));
        }
        if !var.is_contiguous() {
            return Err(bad("it is not contiguous; make the variable from a contiguous tensor"));
        }
    }
    Ok(())
}
