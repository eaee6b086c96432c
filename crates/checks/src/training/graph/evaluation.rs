//! Forward passes that are recorded: what `predict` and `validate` give is what they give without, to the bit.

use std::cell::Cell;
use std::sync::{Arc, Mutex};

use autocast::{nn, ops};
use candle_core::{DType, Device, Module, Tensor};
use candle_nn::VarBuilder;
use trainer::{
    CudaGraph, Notice, Optimization, Parameters, Precision, StepContext, StepOutput, Trainer, TrainingModule,
};

use super::{CALLS, batches};
use crate::models::closures::Pair;
use crate::report::{Outcome, Report, wrong};

pub(super) fn run(report: &mut Report) {
    for precision in Precision::ALL {
        let mut check = |what: &str, f: &dyn Fn() -> Outcome<String>| {
            report.check(&format!("recorded: {what}, at {precision}"), f);
        };
        // A write has casts of parameters made anew, where there are casts, and what reads them is recorded again.
        let forms = if precision.is_mixed() { 3 } else { 1 };
        check("predictions", &|| predictions(precision, nothing, 1));
        check("predictions between writes to parameters", &|| predictions(precision, doubled, forms));
        check("a validation", &|| validation(precision));
    }
    report.check("not recorded: a prediction that reads a number", refused);
}

/// Two layers around a function, and how often a pass was asked for.
#[derive(Default)]
struct Layers {
    passes: Cell<usize>,
    reads: bool,
}

impl TrainingModule for Layers {
    type Model = (nn::Linear, nn::Linear);
    type Batch = Pair;

    fn build(&self, vb: VarBuilder) -> trainer::Result<Self::Model> {
        Ok((nn::linear(2, 64, vb.pp("a"))?, nn::linear(64, 3, vb.pp("b"))?))
    }

    fn training_step(
        &self,
        model: &Self::Model,
        (x, y): &Pair,
        _: &StepContext,
    ) -> trainer::Result<StepOutput> {
        let given = self.predict_step(model, &(x.clone(), y.clone()))?;
        let loss = ops::mse_loss(&given.narrow(1, 0, 1)?, y, ops::Reduction::Mean)?;
        Ok(StepOutput::new(loss).with_metric("largest", given.flatten_all()?.max(0)?))
    }

    fn predict_step(&self, (first, last): &Self::Model, (x, _): &Pair) -> trainer::Result<Tensor> {
        self.passes.set(self.passes.get() + 1);
        let given = last.forward(&ops::gelu(&first.forward(x)?)?)?;
        if self.reads {
            given.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        }
        Ok(given)
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        super::net().configure_optimizers(parameters)
    }
}

/// What is done before a batch.
type Between = fn(usize, &Parameters) -> trainer::Result<()>;

fn nothing(_: usize, _: &Parameters) -> trainer::Result<()> {
    Ok(())
}

/// Doubles every parameter before the seventh and the thirteenth batch.
fn doubled(nth: usize, parameters: &Parameters) -> trainer::Result<()> {
    if nth == 6 || nth == 12 {
        for (_, var) in parameters.iter() {
            var.set(&(var.as_tensor() * 2.)?)?;
        }
        autocast::parameters_changed();
    }
    Ok(())
}

/// A trainer, and what it tells of recordings.
fn trainer(precision: Precision, graph: CudaGraph) -> Outcome<(Trainer, Arc<Mutex<Vec<String>>>)> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hears = told.clone();
    let tell = move |notice: &Notice| {
        if let (Notice::NotRecorded { why }, Ok(mut told)) = (notice, hears.lock()) {
            told.push(why.clone());
        }
    };
    let builder = Trainer::builder().precision(precision).accelerator("gpu").seed(3);
    Ok((builder.cuda_graph(graph).on_notice(tell).build()?, told))
}

/// What a model of `layers` says to 18 batches of one shape and three of another, and what was told.
fn said(
    layers: &Layers,
    precision: Precision,
    graph: CudaGraph,
    between: Between,
) -> Outcome<(Vec<Vec<u64>>, Vec<String>)> {
    let (trainer, told) = trainer(precision, graph)?;
    let (model, parameters) = trainer.init_module(|vb| layers.build(vb))?;
    let data = batches(18, 5)?.into_iter().chain(batches(3, 2)?).enumerate();
    let data = data.map(|(nth, batch)| between(nth, &parameters).map(|()| batch));
    let given = trainer.predict(layers, &model, data)?;
    let given = given.iter().map(bits).collect::<Outcome<_>>()?;
    let told = told.lock().map(|told| told.clone()).unwrap_or_default();
    Ok((given, told))
}

fn bits(tensor: &Tensor) -> Outcome<Vec<u64>> {
    let numbers = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    Ok(numbers.into_iter().map(f64::to_bits).collect())
}

/// Predictions with recordings beside those without, `forms` of which are recorded.
fn predictions(precision: Precision, between: Between, forms: usize) -> Outcome<String> {
    let (plain, recorded) = (Layers::default(), Layers::default());
    let (expected, _) = said(&plain, precision, CudaGraph::Off, between)?;
    let (given, told) = said(&recorded, precision, CudaGraph::Passes, between)?;
    if let Some(nth) = (0..expected.len()).find(|&nth| expected[nth] != given[nth]) {
        return wrong(format!("prediction {nth} is not what it is without"));
    }
    if let Some(why) = told.first() {
        return wrong(format!("it was not recorded: {why}"));
    }
    // Three batches of the other shape are too few.
    let passes = recorded.passes.get();
    if passes != CALLS * forms + 3 {
        return wrong(format!("{passes} passes"));
    }
    Ok(format!("{} predictions, {passes} passes", given.len()))
}

fn validation(precision: Precision) -> Outcome<String> {
    let numbers = |graph| -> Outcome<_> {
        let layers = Layers::default();
        let (trainer, told) = trainer(precision, graph)?;
        let (model, _) = trainer.init_module(|vb| layers.build(vb))?;
        let metrics = trainer.validate(&layers, &model, &batches(12, 5)?)?;
        let names = ["val_loss", "val_largest"];
        let numbers = names.map(|name| metrics.get(name).unwrap_or(f64::NAN).to_bits());
        let told = told.lock().map(|told| told.clone()).unwrap_or_default();
        Ok((numbers, layers.passes.get(), told))
    };
    let (plain, recorded) = (numbers(CudaGraph::Off)?, numbers(CudaGraph::Passes)?);
    if recorded.0 != plain.0 || plain.0.contains(&f64::NAN.to_bits()) {
        return wrong(format!("{:?}, and without {:?}", recorded.0, plain.0));
    }
    if (plain.1, recorded.1, recorded.2.len()) != (12, CALLS, 0) {
        return wrong(format!("{} and {} passes, {:?}", plain.1, recorded.1, recorded.2));
    }
    Ok(format!("a loss of {:.4}", f64::from_bits(plain.0[0])))
}

fn refused() -> Outcome<String> {
    let layers = || Layers { reads: true, ..Layers::default() };
    let (expected, _) = said(&layers(), Precision::F32True, CudaGraph::Off, nothing)?;
    let (given, told) = said(&layers(), Precision::F32True, CudaGraph::Passes, nothing)?;
    match (given == expected, &told[..]) {
        (true, [why]) if why.contains("capture") => Ok(why.clone()),
        (equal, told) => wrong(format!("equal: {equal}; told: {told:?}")),
    }
}
