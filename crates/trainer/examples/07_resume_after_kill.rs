//! A run that is killed, and goes on as if nothing had happened: the resumed run ends with the same weights, to the last bit, as
//! one that nobody killed.
//!
//! The program starts itself a second time, kills that process with SIGKILL while it trains, and takes its run up.
//!
//! `cargo run --example 07_resume_after_kill` (`--short` takes fewer steps)

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use trainer::autocast::{nn, ops};
use trainer::candle_core::{Device, Module, Tensor};
use trainer::candle_nn::VarBuilder;
use trainer::data::{Loader, LoaderConfig, Order};
use trainer::optim::{AdamW, AdamWConfig};
use trainer::{
    CsvLogger, Fit, ModelCheckpoint, Optimization, Parameters, StepContext, StepOutput, Trainer,
    TrainingModule,
};

type Error = Box<dyn std::error::Error>;

struct Net {
    up: nn::Linear,
    dropout: nn::Dropout,
    down: nn::Linear,
}

struct Regression {
    /// What a step takes longer, so that there is time to kill it.
    pause: Duration,
}

impl TrainingModule for Regression {
    type Model = Net;
    type Batch = (Tensor, Tensor);

    fn build(&self, vb: VarBuilder) -> trainer::Result<Net> {
        let (up, down) = (nn::linear(8, 32, vb.pp("up"))?, nn::linear(32, 1, vb.pp("down"))?);
        Ok(Net { up, dropout: nn::Dropout::new(0.1), down })
    }

    fn training_step(&self, net: &Net, (x, y): &Self::Batch, _: &StepContext) -> trainer::Result<StepOutput> {
        std::thread::sleep(self.pause);
        let hidden = net.dropout.forward_by_mode(&ops::gelu(&net.up.forward(x)?)?)?;
        Ok(ops::mse_loss(&net.down.forward(&hidden)?, y, ops::Reduction::Mean)?.into())
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        let config = AdamWConfig { lr: 1e-2, ..Default::default() };
        Ok(Optimization::new(AdamW::new(parameters.to_named(), config)?))
    }
}

/// Trains until `steps` in all, from the last checkpoint in `folder` if there is one.
fn train(folder: &Path, steps: usize, pause: Duration) -> Result<Fit<Net>, Error> {
    // 100 samples of which no two batches of an epoch are alike: the order matters, and where in it the run was.
    let sample = |i: u32| -> trainer::Result<(Tensor, Tensor)> {
        let x: Vec<f32> = (0..8).map(|j| ((i * 8 + j) as f32).sin()).collect();
        let sum = x.iter().sum::<f32>();
        Ok((Tensor::new(x, &Device::Cpu)?, Tensor::new(&[sum], &Device::Cpu)?))
    };
    let samples = (0..100).map(sample).collect::<trainer::Result<Vec<_>>>()?;
    let config = LoaderConfig { batch_size: 8, order: Order::Shuffled { seed: 7 }, ..Default::default() };
    let trainer = Trainer::builder()
        .precision("bf16-mixed")
        .accelerator("cpu")
        .seed(3)
        .max_steps(steps)
        .log_every_n_steps(1)
        .logger(CsvLogger::new(folder.join("metrics.csv")))
        .checkpoint(ModelCheckpoint::new(folder).every_n_steps(5))
        .resume_latest(folder)?
        .build()?;
    Ok(trainer.fit(&Regression { pause }, Loader::new(samples, config)?)?)
}

/// Lets another process train in `folder`, and kills it when it has written its first checkpoint.
fn train_and_kill(folder: &Path, steps: usize) -> Result<(), Error> {
    let mut process =
        Command::new(std::env::current_exe()?).arg("--train").arg(folder).arg(steps.to_string()).spawn()?;
    while !folder.join("last.safetensors").exists() {
        if let Some(status) = process.try_wait()? {
            return Err(format!("it ended by itself: {status}").into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    process.kill()?;
    process.wait()?;
    Ok(())
}

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [train_only, folder, steps] = &arguments[..]
        && train_only == "--train"
    {
        train(Path::new(folder), steps.parse()?, Duration::from_millis(5))?;
        return Ok(());
    }
    let steps = if arguments.iter().any(|argument| argument == "--short") { 60 } else { 400 };
    let folder = std::env::temp_dir().join(format!("resume-after-kill-{}", std::process::id()));
    let (killed, straight): (PathBuf, PathBuf) = (folder.join("killed"), folder.join("straight"));

    train_and_kill(&killed, steps)?;
    let logged = std::fs::read_to_string(killed.join("metrics.csv"))?.lines().count() - 1;
    println!("killed after {logged} logged steps of {steps}");
    let resumed = train(&killed, steps, Duration::ZERO)?;
    println!("resumed: {} more steps", resumed.losses.len());
    let straight = train(&straight, steps, Duration::ZERO)?;

    for (name, var) in straight.parameters.iter() {
        let other = resumed.parameters.get(name).ok_or("a parameter is missing")?;
        let bits = |tensor: &Tensor| -> Result<Vec<u32>, Error> {
            Ok(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
        };
        if bits(var)? != bits(other)? {
            return Err(format!("{name} differs").into());
        }
    }
    let rows = std::fs::read_to_string(killed.join("metrics.csv"))?.lines().count() - 1;
    println!(
        "the weights are those of an uninterrupted run, to the bit; the log has {rows} rows for {steps} steps"
    );
    std::fs::remove_dir_all(folder)?;
    Ok(())
}
