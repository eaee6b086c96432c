//! The beginning of a fit: the model, its parameters, its optimizers, and the state that it goes on from.

use grad_scaler::Strictness;
use serde_json::{Map, Value};

use super::forms::Recordings;
use super::{Members, Progress, Run};
use crate::losses::{Averages, Losses};
use crate::parameters::ParameterStore;
use crate::settings::Anomalies;
use crate::update::Update;
use crate::weights::Initial;
use crate::{CudaGraph, Error, Notice, Parameters, Position, Result, Trainer, TrainingModule};

impl<'a> Run<'a> {
    /// The run, and the model that it trains.
    pub(crate) fn start<M: TrainingModule>(trainer: &'a Trainer, module: &M) -> Result<(Self, M::Model)> {
        let mut notices = trainer.settings.no_effect(trainer.precision, trainer.accelerator);
        let store = trainer.parameter_store()?;
        let (model, parameters, weights) = trainer.create(&store, |vb| module.configure_model(vb))?;
        notices.extend(weights);
        let trained = parameters.filter(|name| module.is_trained(name));
        let optimization = module.configure_optimizers(&trained)?;
        notices.extend(not_optimized(&trained, &optimization));
        let progress = Progress {
            parameters,
            update: Update::new(trainer, optimization, &trained)?,
            position: Position::default(),
            batches: 0,
            precision: trainer.precision,
            seed: trainer.seed(),
            group: Members::default(),
        };
        let mut run = Self {
            trainer,
            progress,
            losses: Losses::new(&trainer.device)?,
            sizes: Vec::new(),
            logged: 0,
            averages: Averages::default(),
            collects: false,
            batches_before: 0,
            steps: 0,
            notices,
            drew_values: !store.drawn().is_empty(),
            is_new: true,
            has_number: false,
            recordings: trainer.records_passes().then(Recordings::default),
        };
        if let Some(state) = &trainer.settings.resume {
            run.resume(state)?;
            run.batches_before = state.batches;
        }
        Ok((run, model))
    }

    /// What the callbacks of the resumed state remembered.
    pub(crate) fn callbacks(&self) -> Map<String, Value> {
        self.trainer.settings.resume.as_ref().map_or_else(Map::new, |state| state.callbacks.clone())
    }
}

/// The trained parameters that no optimizer has, if there are any.
fn not_optimized(trained: &Parameters, optimization: &crate::Optimization) -> Option<Notice> {
    let optimized = optimization.entries.iter().flat_map(|entry| entry.optimizer.parameters());
    let optimized: Vec<_> = optimized.map(|parameter| parameter.var.id()).collect();
    let left = trained.iter().filter(|(_, var)| !optimized.contains(&var.id()));
    let names: Vec<String> = left.map(|(name, _)| name.to_string()).collect();
    (!names.is_empty()).then_some(Notice::NotOptimized { names })
}

impl Trainer {
    /// Whether there is something to record: what an effect of `cuda_graph` needs.
    pub(crate) fn records_passes(&self) -> bool {
        let steps = &self.settings.steps;
        steps.graph == CudaGraph::Passes && self.device.is_cuda() && steps.anomalies == Anomalies::LetPass
    }

    pub(crate) fn parameter_store(&self) -> Result<ParameterStore> {
        let values = match &self.settings.resume {
            Some(state) => state.values_in(self.param_dtype())?,
            None => self.settings.initial_values.clone(),
        };
        Ok(ParameterStore::new(self.seed(), Initial::Given(values)))
    }

    /// Has `create` make a model from `store`; gives it, its parameters, and how leniently loaded weights fit.
    pub(crate) fn create<T>(
        &self,
        store: &ParameterStore,
        create: impl FnOnce(candle_nn::VarBuilder) -> Result<T>,
    ) -> Result<(T, Parameters, Option<Notice>)> {
        let module = self.run(|| create(store.builder(self.param_dtype(), &self.device)))?;
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
