//! What the examples of the documentation train: a module, its batches, and a place for its files.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use autocast::{nn, ops};
use candle_core::{Device, Module, Tensor};
use candle_nn::VarBuilder;
use optim::{AdamW, AdamWConfig};

use crate::{Optimization, Parameters, Result, StepContext, StepOutput, TrainingModule};

/// A linear layer from two numbers to one.
#[derive(Clone, Copy, Debug)]
pub struct Line;

impl TrainingModule for Line {
    type Model = nn::Linear;
    type Batch = (Tensor, Tensor);

    fn build(&self, vb: VarBuilder) -> Result<nn::Linear> {
        Ok(nn::linear(2, 1, vb)?)
    }

    fn training_step(&self, line: &nn::Linear, (x, y): &Self::Batch, _: &StepContext) -> Result<StepOutput> {
        Ok(ops::mse_loss(&line.forward(x)?, y, ops::Reduction::Mean)?.into())
    }

    fn predict_step(&self, line: &nn::Linear, (x, _): &Self::Batch) -> Result<Tensor> {
        Ok(line.forward(x)?)
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> Result<Optimization> {
        let config = AdamWConfig { lr: 0.05, ..Default::default() };
        Ok(Optimization::new(AdamW::new(parameters.to_named(), config)?))
    }
}

/// So many batches of four samples.
///
/// # Errors
/// When candle fails.
pub fn batches(count: usize) -> Result<Vec<(Tensor, Tensor)>> {
    let number = |at: usize| ((at * 7919 + 13) % 2001) as f32 / 1e3 - 1.;
    let batch = |nth: usize| {
        let x = Tensor::from_iter((0..8).map(|at| number(8 * nth + at)), &Device::Cpu)?.reshape((4, 2))?;
        let y = x.sum_keepdim(1)?;
        Ok((x, y))
    };
    (0..count).map(batch).collect()
}

/// A folder among the temporary files, which goes with this.
#[derive(Debug)]
pub struct Folder(PathBuf);

/// An empty folder for what is called so in this process.
#[must_use]
pub fn folder(name: &str) -> Folder {
    let folder = std::env::temp_dir().join(format!("trainer-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    Folder(folder)
}

impl Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for Folder {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
