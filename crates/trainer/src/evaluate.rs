//! Validation, test and prediction: a model is used and nothing changes in it.

use autocast::random::key;
use candle_core::Tensor;
use tracing::{Span, info_span};

use crate::forward::Forward;
use crate::losses::Averages;
use crate::losses::{Losses, weighted};
use crate::source::Data;
use crate::trainer::counted;
use crate::{
    Error, IntoData, Limit, Metrics, Position, Result, StepContext, StepOutput, Trainer, TrainingModule,
};

/// Where the random draws of validations and tests begin.
const EVALUATE: u64 = 1;

/// What a model is evaluated for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evaluation {
    Validation,
    Test,
}

impl Evaluation {
    fn prefix(self) -> &'static str {
        match self {
            Self::Validation => "val",
            Self::Test => "test",
        }
    }

    fn span(self) -> Span {
        match self {
            Self::Validation => info_span!("validation"),
            Self::Test => info_span!("test"),
        }
    }

    /// The trainer's method.
    fn call(self) -> &'static str {
        match self {
            Self::Validation => "validate",
            Self::Test => "test",
        }
    }

    fn step<M: TrainingModule>(
        self,
        (module, model): (&M, &M::Model),
        batch: &M::Batch,
        context: &StepContext,
    ) -> Result<StepOutput> {
        match self {
            Self::Validation => module.validation_step(model, batch, context),
            Self::Test => module.test_step(model, batch, context),
        }
    }
}

impl Trainer {
    /// The means of `validation_step`'s loss and metrics over the samples of `data`, in
    /// [`Mode::Evaluate`](autocast::Mode::Evaluate), without training or changing anything: `"val_loss"`, and each metric under
    /// `"val_<name>"`. Where the step does not say how many samples a batch has, it is the length of the first dimension of its
    /// first tensor.
    ///
    /// # Errors
    /// Those of `validation_step`, except [`Error::NoLoss`], which leaves a batch out; [`Error::NoData`] where none is left.
    pub fn validate<M: TrainingModule, Kind>(
        &self,
        module: &M,
        model: &M::Model,
        data: impl IntoData<M::Batch, Kind>,
    ) -> Result<Metrics> {
        let limit = self.settings.run.limit(self.settings.run.limit_val);
        self.evaluate(
            Evaluation::Validation,
            (module, model),
            &mut *data.into_data(),
            limit,
            Forward::new(self),
        )
    }

    /// [`validate`](Self::validate) with `test_step`: `"test_loss"`, and each metric under `"test_<name>"`.
    ///
    /// # Errors
    /// As [`validate`](Self::validate), of `test_step`.
    pub fn test<M: TrainingModule, Kind>(
        &self,
        module: &M,
        model: &M::Model,
        data: impl IntoData<M::Batch, Kind>,
    ) -> Result<Metrics> {
        let limit = self.settings.run.limit(self.settings.run.limit_test);
        self.evaluate(Evaluation::Test, (module, model), &mut *data.into_data(), limit, Forward::new(self))
    }

    /// What `predict_step` says to each batch, as [`infer`](Self::infer) runs it. At a mixed precision parameters are cast once and
    /// not for every batch, as long as nobody writes to them; on a GPU whoever does so in between calls
    /// [`parameters_changed`](autocast::parameters_changed).
    ///
    /// # Errors
    /// Those of `predict_step` and the data.
    pub fn predict<M: TrainingModule, Kind>(
        &self,
        module: &M,
        model: &M::Model,
        data: impl IntoData<M::Batch, Kind>,
    ) -> Result<Vec<Tensor>> {
        let mut data = data.into_data();
        let limit = self.settings.run.limit(self.settings.run.limit_predict);
        let limit = limit.of(data.batches(), "limit_predict_batches")?;
        let Some(batches) = data.open(0, 0)? else { return Ok(Vec::new()) };
        let _kept = self.keep_casts();
        let mut forward = Forward::new(self);
        let predict = |(nth, batch): (usize, Result<M::Batch>)| {
            let nth = nth as u64;
            let pass = |batch: &M::Batch| self.inferred(nth, || module.predict_step(model, batch));
            forward.of(nth, self.prepare(batch?)?, pass).map_err(Error::explained)
        };
        batches.take(limit.unwrap_or(usize::MAX)).enumerate().map(predict).collect()
    }

    pub(crate) fn evaluate<M: TrainingModule>(
        &self,
        kind: Evaluation,
        (module, model): (&M, &M::Model),
        data: &mut dyn Data<M::Batch>,
        limit: Limit,
        mut forward: Forward<'_, StepOutput>,
    ) -> Result<Metrics> {
        let _span = kind.span().entered();
        let seed = key(&[self.seed(), EVALUATE]);
        let limit = limit.of(
            data.batches(),
            if kind == Evaluation::Test { "limit_test_batches" } else { "limit_val_batches" },
        )?;
        let (mut losses, mut samples) = (Losses::new(&self.device)?, Vec::new());
        let mut averages = Averages::default();
        let _kept = self.keep_casts();
        let batches = data.open(0, 0)?.into_iter().flatten();
        for (index, batch) in batches.take(limit.unwrap_or(usize::MAX)).enumerate() {
            let (batch, count) = counted(batch?)?;
            let batch = self.prepare(batch)?;
            let position = Position { batch: index, ..Position::default() };
            let context = StepContext { optimizer: "", position, precision: self.precision };
            let nth = index as u64;
            let step = |batch: &M::Batch| {
                let step = || kind.step((module, model), batch, &context)?.checked();
                self.outside_of_training(seed, nth, step)
            };
            let output = match forward.of(nth, batch, step) {
                Err(Error::NoLoss) => continue,
                output => output.map_err(Error::explained)?,
            };
            let count = output.samples.unwrap_or(count);
            losses.push(&output.loss)?;
            samples.push(count as f64);
            for (name, value) in &output.metrics {
                averages.push(&format!("{}_{name}", kind.prefix()), value, count)?;
            }
        }
        if samples.iter().sum::<f64>() == 0. {
            return Err(Error::NoData { what: kind.call() });
        }
        let loss = (format!("{}_loss", kind.prefix()), weighted(&losses.into_read()?, &samples));
        Ok(std::iter::once(loss).chain(averages.take()?).collect())
    }
}
