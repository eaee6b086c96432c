//! A batch and, where it completes one, a step: forward, backward, and the optimizers whose turn it is.

use autocast::random::{key, with_seed};
use autocast::{BufferUpdate, defer_buffers_after, detect_anomaly};
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor};
use grad_scaler::StepOutcome;
use tracing::debug_span;

use super::{Member, Members, Run, Taken};
use crate::followers::Followers;
use crate::settings::{Anomalies, Determinism};
use crate::trainer::counted;
use crate::{Error, Gradients, Notice, Result, StepContext, StepOutput, Trainer, TrainingModule};

/// Where the random draws for the second optimizer and those after it begin.
const OTHERS: u64 = 3;

/// Losses after which it is an error that none of them is a number.
const EARLY: usize = 20;

/// Whether a batch is the last of its step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Continues,
    Completes,
}

/// A forward pass: what it gave, the buffers that it wants to write, and how often it drew from the seed.
struct Forward {
    output: StepOutput,
    buffers: Vec<BufferUpdate>,
    draws: u64,
}

impl Run<'_> {
    /// Whether one more batch completes a step.
    pub(crate) fn is_almost_full(&self) -> bool {
        self.progress.group.batches + 1 >= self.progress.update.accumulate
    }

    /// Trains on one batch. `None` where no step was taken.
    pub(crate) fn batch<M: TrainingModule>(
        &mut self,
        (module, model): (&M, &M::Model),
        batch: M::Batch,
        group: Group,
        followers: &mut Followers,
    ) -> Result<Option<Taken>> {
        let (batch, counted) = counted(batch)?;
        let batch = self.trainer.prepare(batch)?;
        let mut steps = Stepped::default();
        for index in 0..self.progress.update.optimizers.len() {
            if !self.progress.update.has_turn(index, self.progress.position.step) {
                continue;
            }
            match self.forward(index, (module, model), &batch) {
                Err(Error::NoLoss) => {}
                forward => self.learn(index, forward.map_err(Error::explained)?, counted, &mut steps)?,
            }
            if group == Group::Completes {
                self.step(index, followers, &mut steps)?;
            }
        }
        self.advance(group, steps)
    }

    /// Takes a step with what has come, where data end in the middle of one.
    pub(crate) fn complete(&mut self, followers: &mut Followers) -> Result<Option<Taken>> {
        let mut steps = Stepped::default();
        for index in 0..self.progress.update.optimizers.len() {
            self.step(index, followers, &mut steps)?;
        }
        self.end_of_step(steps)
    }

    fn forward<M: TrainingModule>(
        &self,
        index: usize,
        (module, model): (&M, &M::Model),
        batch: &M::Batch,
    ) -> Result<Forward> {
        let seed = match index {
            0 => self.trainer.seed(),
            index => key(&[self.trainer.seed(), OTHERS, index as u64]),
        };
        let context = StepContext {
            optimizer: &self.progress.update.optimizers[index].name,
            position: self.progress.position,
            precision: self.trainer.precision,
        };
        let pass = || {
            let _span = debug_span!("training_step", optimizer = context.optimizer).entered();
            let step = || self.trainer.run(|| module.training_step(model, batch, &context));
            let seeded = || with_seed(seed, self.progress.batches as u64, step);
            let ((output, draws), buffers) = defer_buffers_after(self.progress.group.buffers.clone(), seeded);
            Ok(Forward { output: output?.checked()?, buffers, draws })
        };
        let forward = self.looked(pass)?;
        if self.is_new && self.trainer.settings.steps.determinism == Determinism::Checked {
            let again = self.looked(pass)?;
            self.compare(forward, again)?;
            return self.looked(pass);
        }
        Ok(forward)
    }

    /// The gradients of a forward pass, and its numbers.
    fn learn(&mut self, index: usize, forward: Forward, counted: usize, steps: &mut Stepped) -> Result<()> {
        if std::mem::take(&mut self.is_new) {
            self.tell_of_the_first(&forward);
        }
        let Forward { output: StepOutput { loss, metrics, samples }, buffers, .. } = forward;
        let value = loss.detach();
        let update = &mut self.progress.update;
        let span = debug_span!("backward", optimizer = update.optimizers[index].name).entered();
        match self.trainer.settings.steps.anomalies {
            Anomalies::LetPass => update.backward(index, loss)?,
            Anomalies::Detected => {
                let (result, found) = detect_anomaly(|| update.backward(index, loss));
                result.map_err(|error| self.named(error, found))?;
            }
        }
        drop(span);
        self.progress.group.buffers = buffers;
        let member = Member { loss: value, metrics, samples: samples.unwrap_or(counted) };
        if steps.first.is_none_or(|first| first == index) {
            steps.first = Some(index);
            steps.new.push(member);
        } else {
            let name = format!("train_loss_{}", self.progress.update.optimizers[index].name);
            self.count(&name, &member.loss, member.samples)?;
            self.count_metrics(&member)?;
        }
        Ok(())
    }

    fn count_metrics(&mut self, member: &Member) -> Result<()> {
        let mut metrics = member.metrics.iter();
        metrics.try_for_each(|(name, value)| self.count(&format!("train_{name}"), value, member.samples))
    }

    /// Averages that nobody takes would grow with every step.
    fn count(&mut self, name: &str, value: &Tensor, samples: usize) -> Result<()> {
        if self.collects { self.averages.push(name, value, samples) } else { Ok(()) }
    }

    fn step(&mut self, index: usize, followers: &mut Followers, steps: &mut Stepped) -> Result<()> {
        let progress = &mut self.progress;
        let number = progress.position.step + 1;
        let stepping = &progress.update.optimizers[index];
        let Some(grads) = &stepping.grads else { return Ok(()) };
        if followers.want_gradients(number) {
            let scaler = &progress.update.plugin.scaler;
            followers.gradients(&Gradients {
                step: number,
                optimizer: &stepping.name,
                parameters: &progress.parameters,
                optimized: stepping.optimizer.parameters(),
                grads,
                unscale: &|grad| Ok(scaler.unscaled(grad)?),
            })?;
        }
        if steps.before.is_none() {
            steps.before = Some(progress.update.watch()?);
        }
        let buffers = std::mem::take(&mut progress.group.buffers);
        let _span =
            debug_span!("optimizer_step", optimizer = progress.update.optimizers[index].name).entered();
        steps.outcomes.extend(progress.update.step(index, buffers)?);
        Ok(())
    }

    /// Counts a batch that was trained on.
    fn advance(&mut self, group: Group, mut steps: Stepped) -> Result<Option<Taken>> {
        let new = std::mem::take(&mut steps.new);
        let mut taken = None;
        if group == Group::Completes {
            steps.new = new;
            taken = self.end_of_step(steps)?;
        } else {
            self.remember(new)?;
            self.progress.group.batches += 1;
        }
        self.progress.position.batch += 1;
        self.progress.batches += 1;
        Ok(taken)
    }

    fn remember(&mut self, members: Vec<Member>) -> Result<()> {
        for member in members {
            self.losses.push(&member.loss)?;
            self.count_metrics(&member)?;
            self.progress.group.losses.push(member);
        }
        Ok(())
    }

    /// The scale's update, and the books.
    fn end_of_step(&mut self, steps: Stepped) -> Result<Option<Taken>> {
        if let Some(before) = steps.before {
            let earlier = self.progress.group.losses.iter().chain(&steps.new);
            let losses: Vec<_> = earlier.map(|member| member.loss.clone()).collect();
            let finished = self.progress.update.finish(before, &steps.outcomes, &losses);
            if finished.is_err() {
                // Its gradients are gone.
                self.progress.group = Members::default();
            }
            finished?;
        }
        self.remember(steps.new)?;
        let group = std::mem::take(&mut self.progress.group);
        self.progress.position.step += 1;
        let Some(outcome) = steps.outcomes.into_iter().next() else { return Ok(None) };
        if self.progress.update.accumulate > 1 {
            self.sizes.push(group.losses.len());
        }
        self.steps += 1;
        Ok(Some(Taken { members: group.losses, outcome }))
    }

    /// # Errors
    /// Where enough losses are known and none of them is a number.
    pub(crate) fn check_numbers(&mut self) -> Result<()> {
        if self.has_number {
            return Ok(());
        }
        let known = self.losses.known();
        self.has_number = known.iter().any(|loss| loss.is_finite());
        match known.len() >= EARLY && !self.has_number {
            true => Err(Error::NeverFinite { steps: self.steps }),
            false => Ok(()),
        }
    }

    /// Whether losses are known and none is a number.
    pub(crate) fn is_hopeless(&self) -> bool {
        let known = self.losses.known();
        !known.is_empty() && known.iter().all(|loss| !loss.is_finite())
    }

    /// Tells what came up until the first step's forward pass.
    fn tell_of_the_first(&mut self, forward: &Forward) {
        let Trainer { precision, ref settings, ref device, .. } = *self.trainer;
        let computed: DType = precision.compute_dtype().into();
        if computed.size_in_bytes() == 2 && !autocast::has_fast_product(computed, device) {
            self.notices.push(Notice::NoFastProduct { precision });
        }
        if precision.is_mixed() {
            // candle's layers compute in 16 bits where their parameters have them.
            if autocast::fast_ops() == 0 && self.trainer.param_dtype() != computed {
                self.notices.push(Notice::NothingInFastDtype { precision });
            }
            let dtype = forward.output.loss.dtype();
            if matches!(dtype, DType::F16 | DType::BF16) {
                self.notices.push(Notice::NarrowLoss { dtype });
            }
        }
        let draws = self.drew_values || forward.draws > 0 || self.progress.update.draws();
        if settings.seed.is_some() && !draws {
            let why = "every parameter has an initial value, and the first step drew nothing".to_string();
            self.notices.push(Notice::NoEffect { setting: "seed", why });
        }
        self.notices.iter().for_each(|notice| (settings.listener.0)(notice));
    }

    /// Runs `f`, looking for the first NaN where that is asked for.
    fn looked<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<T> {
        match self.trainer.settings.steps.anomalies {
            Anomalies::LetPass => f(),
            Anomalies::Detected => {
                let (result, found) = detect_anomaly(f);
                result.map_err(|error| self.named(error, found))
            }
        }
    }

    /// The error, or the anomaly behind it with its parameters' names.
    fn named(&self, error: Error, found: Option<autocast::Anomaly>) -> Error {
        let Some(anomaly) = found else { return error };
        let near = |(name, var): (&str, &candle_core::Var)| {
            anomaly.parameters.contains(&var.id()).then(|| name.to_string())
        };
        let parameters = self.progress.parameters.iter().filter_map(near).collect();
        Error::Anomaly { anomaly, parameters }
    }

    /// # Errors
    /// Where two passes over one batch give other gradients.
    fn compare(&self, one: Forward, other: Forward) -> Result<()> {
        let [one, other] = [one, other].map(|forward| autocast::constant_gradients(forward.output.loss));
        let (one, other) = (one?, other?);
        let mut names = Vec::new();
        for (name, var) in self.progress.parameters.iter() {
            if bits(&one, var)? != bits(&other, var)? {
                names.push(name.to_string());
            }
        }
        if names.is_empty() { Ok(()) } else { Err(Error::NotDeterministic { names }) }
    }
}

/// What has come of a batch.
#[derive(Default)]
struct Stepped {
    /// The first optimizer that had its turn, whose loss is the step's.
    first: Option<usize>,
    new: Vec<Member>,
    before: Option<Option<(u64, f32)>>,
    outcomes: Vec<StepOutcome>,
}

/// A gradient's bits; f64 holds those of every float dtype.
fn bits(grads: &GradStore, var: &candle_core::Var) -> Result<Option<Vec<u64>>> {
    let Some(grad) = grads.get(var) else { return Ok(None) };
    let numbers = grad.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    Ok(Some(numbers.into_iter().map(f64::to_bits).collect()))
}
