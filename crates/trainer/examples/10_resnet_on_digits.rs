//! A small ResNet on 1,797 handwritten digits, at every precision that this machine supports, with the accuracy on digits that it
//! has not seen. One string differs from row to row.
//!
//! `cargo run --release --example 10_resnet_on_digits` (`--short` trains for less long, at two precisions)

use trainer::autocast::nn::{self, BatchNorm, Conv2d};
use trainer::autocast::ops::{self, CrossEntropy};
use trainer::autocast::{Mode, mode};
use trainer::candle_core::{self, DType, Device, Module, Tensor};
use trainer::candle_nn::{Conv2dConfig, VarBuilder};
use trainer::data::{Dataset, Loader, LoaderConfig, Order};
use trainer::optim::{AdamW, AdamWConfig};
use trainer::{Optimization, Parameters, Precision, StepContext, StepOutput, Trainer, TrainingModule};

/// 64 pixels from 0 to 16, then the digit: `data/digits.py` says where they are from.
const DIGITS: &[u8] = include_bytes!("data/digits.u8");
const SIDE: usize = 8;
const IMAGE: usize = SIDE * SIDE + 1;
/// The last ones are not trained on.
const HELD_OUT: usize = 397;

/// Digits from `first` on.
struct Digits {
    first: usize,
    count: usize,
}

impl Dataset for Digits {
    type Item = (Tensor, u32);

    fn len(&self) -> usize {
        self.count
    }

    fn get(&self, index: usize) -> trainer::Result<Self::Item> {
        let at = (self.first + index) * IMAGE;
        let (pixels, class) = (&DIGITS[at..at + IMAGE - 1], DIGITS[at + IMAGE - 1]);
        let pixels: Vec<f32> = pixels.iter().map(|&pixel| f32::from(pixel) / 8. - 1.).collect();
        Ok((Tensor::from_vec(pixels, (1, SIDE, SIDE), &Device::Cpu)?, u32::from(class)))
    }
}

/// A convolution and its norm.
struct Layer(Conv2d, BatchNorm);

impl Layer {
    fn new(from: usize, to: usize, taps: usize, stride: usize, vb: VarBuilder) -> candle_core::Result<Self> {
        let config = Conv2dConfig { padding: taps / 2, stride, ..Default::default() };
        let conv = nn::conv2d_no_bias(from, to, taps, config, vb.pp("conv"))?;
        Ok(Self(conv, nn::batch_norm(to, 1e-5, vb.pp("norm"))?))
    }

    /// With a relu at its end, and before that a sum with what goes around.
    fn forward(&self, x: &Tensor, around: Option<&Tensor>) -> candle_core::Result<Tensor> {
        self.1.forward_relu(&self.0.forward(x)?, around)
    }
}

/// Two layers, and a smaller one around them.
struct Block {
    layers: [Layer; 2],
    around: Layer,
}

struct Net {
    stem: Layer,
    blocks: Vec<Block>,
    head: nn::Linear,
}

impl Net {
    fn new(vb: VarBuilder) -> candle_core::Result<Self> {
        let block = |from: usize, to: usize, vb: VarBuilder| {
            candle_core::Result::Ok(Block {
                layers: [Layer::new(from, to, 3, 2, vb.pp("0"))?, Layer::new(to, to, 3, 1, vb.pp("1"))?],
                around: Layer::new(from, to, 1, 2, vb.pp("around"))?,
            })
        };
        Ok(Self {
            stem: Layer::new(1, 16, 3, 1, vb.pp("stem"))?,
            blocks: vec![block(16, 32, vb.pp("first"))?, block(32, 64, vb.pp("second"))?],
            head: nn::linear(64, 10, vb.pp("head"))?,
        })
    }

    fn forward(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        let mut x = self.stem.forward(images, None)?;
        for Block { layers, around } in &self.blocks {
            let y = layers[0].forward(&x, None)?;
            let around = around.1.forward_by_mode(&around.0.forward(&x)?)?;
            x = layers[1].forward(&y, Some(&around))?;
        }
        self.head.forward(&ops::adaptive_avg_pool2d(&x, [1, 1])?.flatten_from(1)?)
    }
}

struct Classifier;

impl TrainingModule for Classifier {
    type Model = Net;
    type Batch = (Tensor, Tensor);

    fn build(&self, vb: VarBuilder) -> trainer::Result<Net> {
        Ok(Net::new(vb)?)
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
        let config = AdamWConfig { lr: 2e-3, ..Default::default() };
        Ok(Optimization::new(AdamW::new(parameters.to_named(), config)?))
    }
}

fn main() -> trainer::Result<()> {
    let short = std::env::args().any(|argument| argument == "--short");
    let count = DIGITS.len() / IMAGE - HELD_OUT;
    let (trained, epochs) = if short { (480, 2) } else { (count, 12) };
    let config = LoaderConfig { batch_size: 48, ..Default::default() };
    let shuffled = LoaderConfig { order: Order::Shuffled { seed: 3 }, ..config.clone() };
    let train = Loader::new(Digits { first: 0, count: trained }, shuffled)?;
    let held_out = Loader::new(Digits { first: count, count: HELD_OUT }, config)?;

    let all = if short { &[Precision::F32True, Precision::Bf16Mixed][..] } else { &Precision::ALL[..] };
    for &precision in all {
        let Ok(trainer) = Trainer::builder().precision(precision).max_epochs(epochs).seed(1).build() else {
            println!("{precision:12} not on this machine");
            continue;
        };
        let fit = trainer.fit_validated(&Classifier, &train, &held_out)?;
        let accuracy = fit.metrics.iter().find(|(name, _)| *name == "val_accuracy").map(|(_, value)| value);
        let last = fit.losses.last().copied().unwrap_or(f64::NAN);
        println!("{precision:12} loss {last:.4}, {:.1} % of {HELD_OUT} right", 100. * accuracy.unwrap_or(0.));
    }
    Ok(())
}
