//! Passes that are recorded as CUDA graphs: what goes in and out of them.
//!
//! A recording belongs to a [`Form`]; when there is one is in [`forms`](super::forms). Its inputs are tensors of its own, into which each batch is copied; so are the writes to
//! buffers that are held back within a step. What it gives lies where it has always lain, and is overwritten by the next
//! replay: what has to outlive that is copied.

use autocast::{BufferUpdate, RecordedStep, Recording, record_step, rehearse_step};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use tracing::debug_span;

use super::Run;
use super::forms::{Form, Next, Recordings, Stage};
use super::pass::Pass;
use crate::{Batch, Error, Notice, Result, Trainer, TrainingModule};

/// A batch, and its tensors in their order where passes are recorded.
pub(crate) struct Batched<B> {
    pub(crate) batch: B,
    pub(crate) tensors: Vec<Tensor>,
}

impl<B: Batch> Batched<B> {
    pub(crate) fn new(batch: B, records: Records) -> Result<Self> {
        let mut tensors = Vec::new();
        let batch = match records {
            Records::Nothing => batch,
            Records::Passes => batch.map_tensors(&mut |tensor| {
                tensors.push(tensor.clone());
                Ok(tensor)
            })?,
        };
        Ok(Self { batch, tensors })
    }

    /// The same in memory of a recording.
    pub(crate) fn in_place(self) -> Result<(Self, Vec<Var>)> {
        let mut inputs = Vec::new();
        let batch = self.batch.map_tensors(&mut |tensor| {
            let input = Var::from_tensor(&tensor)?;
            let tensor = input.as_detached_tensor();
            inputs.push(input);
            Ok(tensor)
        })?;
        Ok((Self { batch, ..self }, inputs))
    }
}

/// Whether passes are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Records {
    Nothing,
    Passes,
}

/// A recorded pass. Its tensors go before the graph whose memory they have.
pub(crate) struct Recorded {
    pass: Pass,
    batch: Vec<Var>,
    held: Vec<Var>,
    step: RecordedStep,
}

impl Run<'_> {
    pub(super) fn records(&self) -> Records {
        if self.recordings.is_some() { Records::Passes } else { Records::Nothing }
    }

    /// A pass over a batch: replayed, recorded, or as the module writes it. And the batch, for the next optimizer.
    pub(super) fn pass<M: TrainingModule>(
        &mut self,
        index: usize,
        model: (&M, &M::Model),
        batch: Batched<M::Batch>,
    ) -> Result<(Result<Pass>, Batched<M::Batch>)> {
        Ok(match self.next(index, &batch.tensors) {
            Next::Queue => (self.queued(index, model, &batch.batch), batch),
            Next::Rehearse => {
                let device = self.trainer.device.clone();
                (rehearse_step(&device, || self.queued(index, model, &batch.batch)), batch)
            }
            Next::Record(at) => {
                let (batch, inputs) = batch.in_place()?;
                (self.record(at, index, model, &batch.batch, inputs), batch)
            }
            Next::Replay(at) => (self.replay(at, index, &batch.tensors), batch),
        })
    }

    fn next(&mut self, index: usize, tensors: &[Tensor]) -> Next {
        let Some(recordings) = &mut self.recordings else { return Next::Queue };
        let held = self.progress.group.buffers.iter().map(|(buffer, _)| buffer.id()).collect();
        let form = Form::of(tensors).map(|form| Form { optimizer: index, held, ..form });
        let (next, told) = recordings.next(form);
        told.into_iter().for_each(|why| self.tell_of_recordings(why));
        next
    }

    fn tell_of_recordings(&mut self, why: String) {
        let Some(recordings) = &mut self.recordings else { return };
        self.notices.extend(recordings.tell(self.trainer, why));
    }

    fn record<M: TrainingModule>(
        &mut self,
        at: usize,
        index: usize,
        model: (&M, &M::Model),
        batch: &M::Batch,
        inputs: Vec<Var>,
    ) -> Result<Pass> {
        let _span = debug_span!("record", optimizer = index).entered();
        let held = self.progress.group.buffers.iter();
        let held = held.map(|(buffer, value)| Ok((buffer.clone(), Var::from_tensor(value)?)));
        let held: Vec<(Var, Var)> = held.collect::<Result<_>>()?;
        let values: Vec<BufferUpdate> =
            held.iter().map(|(buffer, value)| (buffer.clone(), value.as_detached_tensor())).collect();
        let device = &self.trainer.device;
        let recording = record_step(device, self.progress.batches as u64, || {
            let forward = self.forward(index, model, batch, &values)?;
            self.backward(index, forward)?.on(device)
        })?;
        let stage = match recording {
            Recording::Ready(step, pass) => {
                let held = held.into_iter().map(|(_, value)| value).collect();
                Stage::Ready(Box::new(Recorded { pass, batch: inputs, held, step }))
            }
            Recording::Refused(why) => {
                self.tell_of_recordings(why);
                Stage::Refused
            }
        };
        let pass = match &stage {
            Stage::Ready(recorded) => self.given(index, &recorded.pass),
            _ => self.queued(index, model, batch),
        };
        if let Some(recordings) = &mut self.recordings {
            recordings.forms[at].1 = stage;
        }
        pass
    }

    fn replay(&self, at: usize, index: usize, tensors: &[Tensor]) -> Result<Pass> {
        let _span = debug_span!("replay", optimizer = index).entered();
        let stage = self.recordings.as_ref().map(|recordings| &recordings.forms[at].1);
        let Some(Stage::Ready(recorded)) = stage else { unreachable!("only what was recorded is replayed") };
        let held = self.progress.group.buffers.iter().map(|(_, value)| value);
        let inputs = recorded.batch.iter().zip(tensors).chain(recorded.held.iter().zip(held));
        for (input, value) in inputs {
            input.set(value)?;
        }
        recorded.step.replay(self.progress.batches as u64)?;
        self.given(index, &recorded.pass)
    }

    /// What a recorded pass gave. The steps of several batches keep what the next replay overwrites.
    fn given(&self, index: usize, pass: &Pass) -> Result<Pass> {
        let update = &self.progress.update;
        let keeps = update.accumulate > 1;
        let own = |tensor: &Tensor, copies: bool| match copies {
            true => tensor.copy(),
            false => Ok(tensor.clone()),
        };
        let metrics = pass.metrics.iter().map(|(name, value)| Ok((name.clone(), own(value, keeps)?)));
        // Later ones are added to the first in memory of the sum's own.
        let is_first = update.optimizers[index].grads.is_none();
        let mut grads = GradStore::default();
        for &id in pass.grads.get_ids() {
            if let Some(grad) = pass.grads.get_id(id) {
                grads.insert_id(id, own(grad, keeps && is_first)?);
            }
        }
        Ok(Pass {
            loss: own(&pass.loss, keeps)?,
            metrics: metrics.collect::<Result<_>>()?,
            samples: pass.samples,
            buffers: pass.buffers.clone(),
            grads,
        })
    }
}

impl<R> Recordings<R> {
    /// Tells, once, why something is not recorded.
    pub(crate) fn tell(&mut self, trainer: &Trainer, why: String) -> Option<Notice> {
        let is_new = !std::mem::replace(&mut self.is_told, true);
        is_new.then(|| {
            let notice = Notice::NotRecorded { why: why.lines().next().unwrap_or_default().to_string() };
            (trainer.settings.listener.0)(&notice);
            notice
        })
    }
}

impl Pass {
    fn on(self, device: &Device) -> Result<Self> {
        let numbers = self.metrics.iter().map(|(name, value)| (name.as_str(), value));
        numbers.chain([("loss", &self.loss)]).try_for_each(|(name, value)| made_on(device, name, value))?;
        Ok(self)
    }
}

/// # Errors
/// Where a number was made on another device: a recording would not make it again.
pub(crate) fn made_on(device: &Device, name: &str, value: &Tensor) -> Result<()> {
    match value.device().same_device(device) {
        true => Ok(()),
        false => Err(Error::Other(format!("{name} is computed on the host").into())),
    }
}
