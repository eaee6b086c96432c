//! An image classifier on images that it generates: discs, squares and crosses in noise. A loader with worker threads, a metric
//! beside the loss, validation, and a stop when it gets no better.
//!
//! `cargo run --release --example 04_image_classifier` (`--short` uses fewer images)

mod shapes;

use shapes::{Net, Shapes};
use trainer::autocast::ops::{self, CrossEntropy};
use trainer::autocast::{Mode, mode};
use trainer::callbacks::{EarlyStopping, EarlyStoppingConfig};
use trainer::candle_core::{DType, Tensor};
use trainer::candle_nn::VarBuilder;
use trainer::data::{Dataset, Loader, LoaderConfig, Order};
use trainer::optim::{AdamW, AdamWConfig};
use trainer::{
    Best, Optimization, Parameters, ProgressBar, StepContext, StepOutput, Trainer, TrainingModule,
};

const CLASSES: &[&str] = &["disc", "square", "cross"];

struct Classifier;

impl TrainingModule for Classifier {
    type Model = Net;
    type Batch = (Tensor, Tensor);

    fn build(&self, vb: VarBuilder) -> trainer::Result<Net> {
        Ok(Net::new(CLASSES.len(), vb)?)
    }

    fn training_step(
        &self,
        net: &Net,
        (images, classes): &Self::Batch,
        _: &StepContext,
    ) -> trainer::Result<StepOutput> {
        let logits = net.forward(images)?;
        let output = StepOutput::from(ops::cross_entropy(&logits, classes, &CrossEntropy::default())?);
        if mode() == Mode::Train {
            return Ok(output);
        }
        let right = logits.argmax(1)?.eq(classes)?.to_dtype(DType::F32)?.mean_all()?;
        Ok(output.with_metric("accuracy", right))
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        let config = AdamWConfig { lr: 3e-3, ..Default::default() };
        Ok(Optimization::new(AdamW::new(parameters.to_named(), config)?))
    }
}

fn main() -> trainer::Result<()> {
    let short = std::env::args().any(|argument| argument == "--short");
    let (count, epochs) = if short { (96, 2) } else { (1500, 20) };
    let config = LoaderConfig { batch_size: 32, workers: 2, ..Default::default() };
    let shuffled = LoaderConfig { order: Order::Shuffled { seed: 7 }, ..config.clone() };
    let images = |seed, count| Shapes { seed, count, classes: CLASSES };
    let train = Loader::new(images(0, count), shuffled)?;
    let validation = Loader::new(images(1 << 32, count / 3), config)?;

    let stopping = EarlyStopping::new(EarlyStoppingConfig {
        monitor: "val_accuracy".to_string(),
        best: Best::Highest,
        patience: 4,
        ..Default::default()
    })?;
    let trainer = Trainer::builder()
        .precision("bf16-mixed")
        .max_epochs(epochs)
        .callback(ProgressBar::new())
        .callback(stopping)
        .build()?;
    let fit = trainer.fit_validated(&Classifier, &train, &validation)?;
    println!("{:?} after {} epochs", fit.reason, fit.position.epoch);
    for (name, value) in fit.metrics.iter() {
        println!("{name} {value:.3}");
    }

    let (image, class) = images(2 << 32, 1).get(0)?;
    let image = trainer.prepare(image.unsqueeze(0)?)?;
    let said = trainer.infer(|| Ok(fit.model.forward(&image)?))?.argmax(1)?.get(0)?.to_scalar::<u32>()?;
    println!("a {} is taken for a {}", CLASSES[class as usize], CLASSES[said as usize]);
    Ok(())
}
