//! A batch and, where it completes one, a step: forward, backward, and the optimizers whose turn it is.

use candle_core::Tensor;
use grad_scaler::StepOutcome;
use tracing::debug_span;

use super::pass::Pass;
use super::recorded::Batched;
use super::{Member, Members, Run, Taken};
use crate::followers::Followers;
use crate::trainer::counted;
use crate::{Error, Gradients, Result, TrainingModule};

/// Losses after which it is an error that none of them is a number.
const EARLY: usize = 20;

/// Whether a batch is the last of its step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Continues,
    Completes,
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
        let mut batch = Batched::new(self.trainer.prepare(batch)?, self.records())?;
        let mut steps = Stepped::default();
        for index in 0..self.progress.update.optimizers.len() {
            if !self.progress.update.has_turn(index, self.progress.position.step) {
                continue;
            }
            let (pass, same) = self.pass(index, (module, model), batch)?;
            batch = same;
            match pass {
                Err(Error::NoLoss) => {}
                pass => self.learn(index, pass?, counted, &mut steps)?,
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

    /// Takes the gradients of a pass, and its numbers.
    fn learn(&mut self, index: usize, pass: Pass, counted: usize, steps: &mut Stepped) -> Result<()> {
        let Pass { loss, metrics, samples, buffers, grads } = pass;
        self.progress.update.add(index, grads)?;
        self.progress.group.buffers = buffers;
        let member = Member { loss, metrics, samples: samples.unwrap_or(counted) };
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
