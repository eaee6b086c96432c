//! An image classifier on images that it generates: discs, squares and crosses in noise. A loader with worker threads, a metric
//! beside the loss, validation, and a stop when it gets no better.
//!
//! `cargo run --release --example 04_image_classifier` (`--short` uses fewer images)

mod shapes;

use shapes::{Classifier, Shapes};
use trainer::callbacks::{EarlyStopping, EarlyStoppingConfig};
use trainer::data::{Dataset, Loader, LoaderConfig, Order};
use trainer::{Best, ProgressBar, Trainer};

const CLASSES: &[&str] = &["disc", "square", "cross"];

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
    let fit = trainer.fit_validated(&Classifier { classes: CLASSES.len(), lr: 3e-3 }, &train, &validation)?;
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
