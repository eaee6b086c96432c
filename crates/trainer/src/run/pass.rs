//! A pass over a batch, forward and backward, and what is told of the first.

use autocast::random::{key, with_seed};
use autocast::{BufferUpdate, defer_buffers_after, detect_anomaly};
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor};
use tracing::debug_span;

use super::Run;
use crate::settings::{Anomalies, Determinism};
use crate::{Error, Notice, Result, StepContext, StepOutput, Trainer, TrainingModule};

/// Where the random draws for the second optimizer and those after it begin.
const OTHERS: u64 = 3;

/// A forward pass: what it gave, the buffers that it wants to write, and how often it drew from the seed.
pub(super) struct Forward {
    output: StepOutput,
    buffers: Vec<BufferUpdate>,
    draws: u64,
}

/// What a batch gave for an optimizer. Nothing of it is in a graph.
pub(super) struct Pass {
    pub(super) loss: Tensor,
    pub(super) metrics: Vec<(String, Tensor)>,
    /// What its numbers are means over, where the module said it.
    pub(super) samples: Option<usize>,
    pub(super) buffers: Vec<BufferUpdate>,
    /// Under the loss scale.
    pub(super) grads: GradStore,
}

impl Run<'_> {
    /// The pass as the module writes it.
    pub(super) fn queued<M: TrainingModule>(
        &mut self,
        index: usize,
        model: (&M, &M::Model),
        batch: &M::Batch,
    ) -> Result<Pass> {
        let forward = self.forward(index, model, batch, &self.progress.group.buffers);
        let forward = forward.map_err(Error::explained)?;
        if std::mem::take(&mut self.is_new) {
            self.tell_of_the_first(&forward);
        }
        self.backward(index, forward)
    }

    /// The forward pass after writes to buffers that are held back.
    pub(super) fn forward<M: TrainingModule>(
        &self,
        index: usize,
        (module, model): (&M, &M::Model),
        batch: &M::Batch,
        held: &[BufferUpdate],
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
            let ((output, draws), buffers) = defer_buffers_after(held.to_vec(), seeded);
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

    pub(super) fn backward(&self, index: usize, forward: Forward) -> Result<Pass> {
        let Forward { output: StepOutput { loss, metrics, samples }, buffers, .. } = forward;
        let value = loss.detach();
        let update = &self.progress.update;
        let _span = debug_span!("backward", optimizer = update.optimizers[index].name).entered();
        let grads = self.looked(|| update.gradients(loss))?;
        Ok(Pass { loss: value, metrics, samples, buffers, grads })
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

/// A gradient's bits; f64 holds those of every float dtype.
fn bits(grads: &GradStore, var: &candle_core::Var) -> Result<Option<Vec<u64>>> {
    let Some(grad) = grads.get(var) else { return Ok(None) };
    let numbers = grad.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    Ok(Some(numbers.into_iter().map(f64::to_bits).collect()))
}
