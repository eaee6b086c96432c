//! Shapes in noise, generated image by image, a small network that tells them apart, and how it is trained: what the examples on
//! images share.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use trainer::autocast::nn;
use trainer::autocast::ops::{self, CrossEntropy, PoolOptions};
use trainer::autocast::{Mode, mode};
use trainer::candle_core::{self, DType, Device, Module, Tensor};
use trainer::candle_nn::{Conv2dConfig, VarBuilder};
use trainer::data::Dataset;
use trainer::optim::{AdamW, AdamWConfig};
use trainer::{Optimization, Parameters, StepContext, StepOutput, TrainingModule};

/// The side of an image in pixels.
pub(crate) const SIDE: usize = 16;

/// Images that are drawn when they are asked for: the same for the same seed and index.
pub(crate) struct Shapes {
    pub(crate) seed: u64,
    pub(crate) count: usize,
    /// Which shapes there are: discs, squares, crosses and rings.
    pub(crate) classes: &'static [&'static str],
}

impl Dataset for Shapes {
    type Item = (Tensor, u32);

    fn len(&self) -> usize {
        self.count
    }

    fn get(&self, index: usize) -> trainer::Result<Self::Item> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed + index as u64);
        let class = random.random_range(0..self.classes.len());
        let (x, y) = (random.random_range(5. ..11f32), random.random_range(5. ..11f32));
        let radius = random.random_range(2.5..5f32);
        let inside = |column: usize, row: usize| {
            let (dx, dy) = ((column as f32 - x).abs(), (row as f32 - y).abs());
            match self.classes[class] {
                "disc" => dx.hypot(dy) <= radius,
                "square" => dx.max(dy) <= radius * 0.85,
                "cross" => dx.min(dy) < 1. && dx.max(dy) <= radius,
                _ => (dx.hypot(dy) - radius).abs() < 0.8,
            }
        };
        let mut pixels = Vec::with_capacity(SIDE * SIDE);
        for (row, column) in (0..SIDE).flat_map(|row| (0..SIDE).map(move |column| (row, column))) {
            let shape = if inside(column, row) { 1. } else { 0. };
            pixels.push(shape + random.random_range(-0.4..0.4f32));
        }
        Ok((Tensor::from_vec(pixels, (1, SIDE, SIDE), &Device::Cpu)?, class as u32))
    }
}

/// Two convolutions and a linear head, with the parameter names that `data/shapes.py` gives them.
pub(crate) struct Net {
    first: nn::Conv2d,
    norm: nn::BatchNorm,
    second: nn::Conv2d,
    head: nn::Linear,
}

impl Net {
    pub(crate) fn new(classes: usize, vb: VarBuilder) -> candle_core::Result<Self> {
        let same = Conv2dConfig { padding: 1, ..Default::default() };
        Ok(Self {
            first: nn::conv2d(1, 8, 3, same, vb.pp("first"))?,
            norm: nn::batch_norm(8, 1e-5, vb.pp("norm"))?,
            second: nn::conv2d(8, 16, 3, same, vb.pp("second"))?,
            head: nn::linear(16 * (SIDE / 4) * (SIDE / 4), classes, vb.pp("head"))?,
        })
    }

    /// Images `(batch, 1, side, side)` to logits `(batch, classes)`.
    pub(crate) fn forward(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        let x = self.norm.forward_by_mode(&self.first.forward(images)?)?;
        let x = ops::max_pool2d(&ops::relu(&x)?, &PoolOptions::new([2, 2]))?;
        let x = ops::max_pool2d(&ops::relu(&self.second.forward(&x)?)?, &PoolOptions::new([2, 2]))?;
        self.head.forward(&x.flatten_from(1)?)
    }
}

/// Learns which of the classes an image shows; outside of training it says how often it is right.
pub(crate) struct Classifier {
    pub(crate) classes: usize,
    pub(crate) lr: f64,
}

impl TrainingModule for Classifier {
    type Model = Net;
    type Batch = (Tensor, Tensor);

    fn build(&self, vb: VarBuilder) -> trainer::Result<Net> {
        Ok(Net::new(self.classes, vb)?)
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
        let config = AdamWConfig { lr: self.lr, ..Default::default() };
        Ok(Optimization::new(AdamW::new(parameters.to_named(), config)?))
    }
}
