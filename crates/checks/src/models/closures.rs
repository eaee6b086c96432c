//! A module made of two closures, and data to train it on.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use optim::{Schedule, Sgd, SgdConfig};
use trainer::{
    Fit, Optimization, Parameters, StepContext, StepOutput, Trainer, TrainerBuilder, TrainingModule,
};

/// Inputs and targets.
pub type Pair = (Tensor, Tensor);
type Build<S> = fn(VarBuilder) -> trainer::Result<S>;
type Step<S> = fn(&S, &Pair) -> trainer::Result<Tensor>;

/// A model that `build` makes and whose loss `step` gives; SGD.
pub struct Closures<S> {
    build: Build<S>,
    step: Step<S>,
    /// The rates, if not a constant one.
    pub schedule: Option<Schedule>,
    /// The constant rate.
    pub lr: f64,
}

/// A module that `build` makes and whose loss `step` gives.
pub fn module<S>(build: Build<S>, step: Step<S>) -> Closures<S> {
    Closures { build, step, schedule: None, lr: 0.01 }
}

impl<S> TrainingModule for Closures<S> {
    type Model = S;
    type Batch = Pair;

    fn build(&self, vb: VarBuilder) -> trainer::Result<S> {
        (self.build)(vb)
    }

    fn training_step(&self, model: &S, batch: &Pair, _: &StepContext) -> trainer::Result<StepOutput> {
        Ok((self.step)(model, batch)?.into())
    }

    fn predict_step(&self, model: &S, batch: &Pair) -> trainer::Result<Tensor> {
        (self.step)(model, batch)
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        let config = SgdConfig { lr: self.lr, ..Default::default() };
        let optimization = Optimization::new(Sgd::new(parameters.to_named(), config)?);
        Ok(self.schedule.into_iter().fold(optimization, Optimization::with_schedule))
    }
}

/// `x` is (4, 2) and `y` is (4, 1).
pub fn xy() -> Pair {
    let x = Tensor::new(&[[1f32, 2.], [3., -1.], [0.5, 0.25], [-2., 1.]], &Device::Cpu).unwrap();
    let y = Tensor::new(&[[1f32], [0.5], [-1.], [2.]], &Device::Cpu).unwrap();
    (x, y)
}

/// What a CPU trains at.
pub const CPU_PRECISIONS: [&str; 5] = ["32-true", "bf16-mixed", "bf16-true", "16-true", "64-true"];

/// A trainer on a CPU that tells nothing.
pub fn builder(precision: &str) -> TrainerBuilder {
    Trainer::builder().precision(precision).accelerator("cpu").on_notice(|_| ())
}

/// Losses and parameters of a fit, to the bit.
pub fn bits<S>(fit: &Fit<S>) -> (Vec<u64>, Vec<u64>) {
    let parameters = fit.parameters.iter().flat_map(|(_, var)| numbers(var));
    (fit.losses.iter().map(|loss| loss.to_bits()).collect(), parameters.map(f64::to_bits).collect())
}

/// The numbers of `tensor` as f64.
pub fn numbers(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.to_dtype(candle_core::DType::F64).unwrap().flatten_all().unwrap();
    flat.to_vec1().unwrap()
}
