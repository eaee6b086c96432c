//! A fit in progress: what it has, one step of it, and its end.

use std::sync::Arc;

use autocast::random::with_seed;
use autocast::{BufferUpdate, defer_buffers};
use candle_core::{DType, Tensor};
use grad_scaler::{StepOutcome, Strictness};

use crate::losses::Losses;
use crate::parameters::ParameterStore;
use crate::trainer::one_number;
use crate::update::Update;
use crate::{Error, Fit, Notice, Parameters, Result, Trainer, TrainingModule, TrainingState};

/// What a run has to go on from.
pub(crate) struct Progress {
    pub(crate) parameters: Parameters,
    pub(crate) update: Update,
    /// Batches that were trained on, those before a resume included.
    pub(crate) batches: usize,
}

impl Progress {
    /// A copy on the CPU. Waits for the device.
    pub(crate) fn state(&self) -> Result<TrainingState> {
        Ok(TrainingState {
            step: self.batches,
            parameters: self.parameters.values()?,
            optimizer: self.update.optimizer.state_dict()?,
            scaler: self.update.scaler_state()?,
        })
    }
}

/// A fit between its configuration and its end.
pub(crate) struct Run<'a> {
    trainer: &'a Trainer,
    pub(crate) progress: Progress,
    losses: Losses,
    /// Steps that this fit took or skipped.
    pub(crate) steps: usize,
    notices: Vec<Notice>,
    /// Whether any parameter's value came from the seed.
    drew_values: bool,
}

/// A forward pass: its loss, the buffers that it wants to write, and how often it drew from the seed.
struct Forward {
    loss: Tensor,
    buffers: Vec<BufferUpdate>,
    draws: u64,
}

impl<'a> Run<'a> {
    pub(crate) fn start<M: TrainingModule>(trainer: &'a Trainer, module: &mut M) -> Result<Self> {
        let mut notices = trainer.settings.no_effect(trainer.precision);
        let store = trainer.parameter_store();
        let ((), parameters, weights) = trainer.create(&store, |vb| module.configure_model(vb))?;
        notices.extend(weights);
        let trained = parameters.filter(|name| module.is_trained(name));
        let optimization = module.configure_optimizers(&trained)?;
        notices.extend(not_optimized(&trained, &optimization));
        let mut update = Update::new(trainer, optimization, trained)?;
        if let Some(state) = &trainer.settings.resume {
            notices.extend(update.resume(state)?);
        }
        let batches = trainer.settings.resume.as_ref().map_or(0, |state| state.step);
        Ok(Self {
            trainer,
            progress: Progress { parameters, update, batches },
            losses: Losses::new(&trainer.device)?,
            steps: 0,
            notices,
            drew_values: !store.drawn().is_empty(),
        })
    }

    /// How many batches are left until `max_steps`.
    pub(crate) fn left(&self) -> usize {
        self.trainer.settings.max_steps - self.progress.batches
    }

    /// Trains on one batch. `None` where it has no loss.
    pub(crate) fn step<M: TrainingModule>(
        &mut self,
        module: &M,
        batch: M::Batch,
    ) -> Result<Option<(Tensor, StepOutcome)>> {
        let batch = self.trainer.prepare(batch)?;
        let forward = match self.forward(module, &batch) {
            Err(Error::NoLoss) => {
                self.progress.batches += 1;
                return Ok(None);
            }
            forward => forward.map_err(Error::explained)?,
        };
        if self.steps == 0 {
            self.tell_of_the_first(&forward);
        }
        let value = forward.loss.detach();
        let outcome = self.progress.update.step(forward.loss, forward.buffers)?;
        self.losses.push(&value)?;
        self.progress.batches += 1;
        self.steps += 1;
        Ok(Some((value, outcome)))
    }

    fn forward<M: TrainingModule>(&self, module: &M, batch: &M::Batch) -> Result<Forward> {
        let (seed, step) = (self.trainer.seed(), self.progress.batches as u64);
        let run = || self.trainer.run(|| module.training_step(batch));
        let ((loss, draws), buffers) = defer_buffers(|| with_seed(seed, step, run));
        Ok(Forward { loss: one_number(loss?)?, buffers, draws })
    }

    /// Tells what came up until the first step's forward pass.
    fn tell_of_the_first(&mut self, forward: &Forward) {
        let Trainer { precision, ref settings, .. } = *self.trainer;
        if precision.is_mixed() {
            if autocast::fast_ops() == 0 {
                self.notices.push(Notice::NothingInFastDtype { precision });
            }
            let dtype = forward.loss.dtype();
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

    /// What training gave, or why it ended and what it gave until then.
    pub(crate) fn finish(self, end: Result<()>) -> Result<Fit> {
        let Self { progress, losses, steps, notices, .. } = self;
        if steps == 0 {
            end?;
            return Err(match progress.batches {
                0 => Error::NoData { what: "fit" },
                batches => Error::NothingTrained { batches },
            });
        }
        // Reading the losses waits for the device, so that every skipped step is known after it. A device that has failed
        // ends the fit as any other error does.
        let (losses, end) = match losses.into_read() {
            Ok(losses) => (losses, end),
            Err(error) => (Vec::new(), end.and(Err(error))),
        };
        let fit = Fit {
            losses,
            skipped_steps: progress.update.skipped_steps(),
            parameters: progress.parameters.clone(),
            notices,
            progress: Arc::new(progress),
        };
        match end {
            Ok(()) => Ok(fit),
            Err(source) => Err(Error::Stopped {
                step: fit.progress.batches,
                fit: Box::new(fit),
                source: Box::new(source),
            }),
        }
    }
}

/// The trained parameters that the optimizer does not have, if there are any.
fn not_optimized(trained: &Parameters, optimization: &crate::Optimization) -> Option<Notice> {
    let optimized = optimization.optimizer.parameters();
    let has = |id| optimized.iter().any(|parameter| parameter.var.id() == id);
    let names: Vec<String> =
        trained.iter().filter(|(_, var)| !has(var.id())).map(|(name, _)| name.to_string()).collect();
    (!names.is_empty()).then_some(Notice::NotOptimized { names })
}

impl Trainer {
    pub(crate) fn parameter_store(&self) -> ParameterStore {
        let values = match &self.settings.resume {
            Some(state) => &state.parameters,
            None => &self.settings.initial_values,
        };
        ParameterStore::new(self.seed(), values.clone())
    }

    /// Has `create` make a model from `store`; gives it, its parameters, and how leniently loaded weights fit.
    pub(crate) fn create<T>(
        &self,
        store: &ParameterStore,
        create: impl FnOnce(candle_nn::VarBuilder) -> Result<T>,
    ) -> Result<(T, Parameters, Option<Notice>)> {
        let dtype: DType = self.precision.param_dtype().into();
        let module = create(store.builder(dtype, &self.device))?;
        let parameters = store.parameters();
        if parameters.is_empty() {
            return Err(Error::NoParameters);
        }
        if !store.is_given() {
            return Ok((module, parameters, None));
        }
        let (missing, unused) = (store.drawn(), store.unused_initial_values());
        if missing.is_empty() && unused.is_empty() {
            return Ok((module, parameters, None));
        }
        match self.settings.strictness {
            Strictness::Lenient => Ok((module, parameters, Some(Notice::Weights { missing, unused }))),
            Strictness::Strict if !unused.is_empty() => Err(Error::UnusedInitialValues { names: unused }),
            Strictness::Strict => Err(Error::MissingInitialValues { names: missing }),
        }
    }
}
