//! Fine-tuning from weights of PyTorch: a network that PyTorch taught discs, squares and crosses learns rings as well.
//!
//! `data/shapes.py` trained it and saved its `state_dict` as `.safetensors`. Layers of `autocast::nn` have PyTorch's names and
//! shapes, so that the file is loaded as it is, at any precision; the head is a new one, of four classes.
//!
//! `cargo run --release --example 08_fine_tune_pytorch` (`--short` takes fewer steps)

mod shapes;

use shapes::{Classifier, Shapes};
use trainer::data::{Loader, LoaderConfig};
use trainer::{Strictness, Trainer, load_weights};

const CLASSES: &[&str] = &["disc", "square", "cross", "ring"];
const WEIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/shapes.safetensors");

fn main() -> trainer::Result<()> {
    let short = std::env::args().any(|argument| argument == "--short");
    let steps = if short { 10 } else { 150 };
    let images = |seed, count| {
        let config = LoaderConfig { batch_size: 32, ..Default::default() };
        Loader::new(Shapes { seed, count, classes: CLASSES }, config)
    };
    let (train, validation) = (images(0, 32 * steps)?, images(1 << 32, 320)?);

    // The file has a head of three classes, and a count of batches that PyTorch's BatchNorm keeps. Loaded leniently, what is
    // left out and what is missing is told, and no more than that.
    let mut weights = load_weights(WEIGHTS)?;
    weights.retain(|name, _| !name.starts_with("head."));
    for from in ["nothing", "PyTorch"] {
        let mut builder = Trainer::builder().precision("bf16-mixed").max_steps(steps);
        if from == "PyTorch" {
            builder = builder.initial_values_with(weights.clone(), Strictness::Lenient);
        }
        let fit = builder.build()?.fit_validated(
            &Classifier { classes: CLASSES.len(), lr: 1e-3 },
            &train,
            &validation,
        )?;
        println!(
            "from {from}: loss {:.3} -> {:.3}, accuracy {:.3}",
            fit.losses[0],
            fit.losses[steps - 1],
            fit.metrics.get("val_accuracy").unwrap_or(f64::NAN)
        );
        if from == "PyTorch" {
            // Another program loads what was trained: candle, or PyTorch.
            let file = std::env::temp_dir().join("shapes-and-rings.safetensors");
            fit.parameters.save(&file)?;
            println!("saved {}", file.display());
        }
    }
    Ok(())
}
