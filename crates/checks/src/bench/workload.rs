//! What is trained: models, batches and losses of fixed sizes.

use autocast::ops::{self, Reduction};
use candle_core::{D, DType, Device, Tensor};
use candle_nn::VarBuilder;
use clap::ValueEnum;
use optim::{AdamW, AdamWConfig, WriteBack};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_distr::StandardNormal;
use trainer::{Accelerator, Optimization, Parameters, StepContext, StepOutput, TrainingModule};

use crate::models::{Gpt, GptConfig, Mlp, MlpConfig, ResNet, ResNetConfig};
use crate::report::Outcome;

/// A model with its batches and its loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Workload {
    /// GPT-2 of 124 million parameters on rows of 1,024 tokens, on a GPU
    #[value(name = "gpt2")]
    Gpt2,
    /// 4 layers of 8192 x 8192, on a GPU
    Mlp,
    /// torchvision's ResNet-18 on images of 112 x 112, on a GPU; on a CPU of 8 of them
    #[value(name = "resnet18")]
    ResNet18,
    /// A GPT of 4 layers of width 256 on rows of 128 tokens, on a CPU
    GptMini,
    /// 4 layers of 1024 x 1024, on a CPU
    MlpMini,
}

/// Inputs and targets.
pub(crate) type Pair = (Tensor, Tensor);

/// Different batches, which a run goes through again and again.
const BATCHES: usize = 8;

/// The tokens of GPT-2, without those that pad its vocabulary.
const WORDS: usize = 50_257;

impl Workload {
    /// Its name on the command line and in what is printed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Mlp => "mlp",
            Self::ResNet18 => "resnet18",
            Self::GptMini => "gpt_mini",
            Self::MlpMini => "mlp_mini",
        }
    }

    /// Where it runs unless told otherwise.
    #[must_use]
    pub fn accelerator(self) -> Accelerator {
        match self {
            Self::Gpt2 | Self::Mlp | Self::ResNet18 => Accelerator::Gpu,
            Self::GptMini | Self::MlpMini => Accelerator::Cpu,
        }
    }

    /// Samples of a batch unless told otherwise.
    #[must_use]
    pub fn batch_size(self, accelerator: Accelerator) -> usize {
        match self {
            Self::Gpt2 | Self::GptMini => 16,
            Self::Mlp => 8_192,
            Self::ResNet18 if accelerator == Accelerator::Cpu => 8,
            Self::ResNet18 => 256,
            Self::MlpMini => 512,
        }
    }

    /// Steps unless told otherwise.
    #[must_use]
    pub fn steps(accelerator: Accelerator) -> usize {
        if accelerator == Accelerator::Cpu { 25 } else { 30 }
    }

    /// Steps at the start that are not timed.
    #[must_use]
    pub fn warm_up(accelerator: Accelerator) -> usize {
        if accelerator == Accelerator::Cpu { 5 } else { 10 }
    }

    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Gpt2 => Kind::Gpt(GptConfig::GPT2),
            Self::GptMini => Kind::Gpt(GptConfig::MINI),
            Self::ResNet18 => Kind::ResNet(ResNetConfig::RESNET18),
            Self::Mlp => Kind::Mlp(MlpConfig { width: 8_192, layers: 4 }),
            Self::MlpMini => Kind::Mlp(MlpConfig { width: 1_024, layers: 4 }),
        }
    }
}

/// A model's kind and size.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Gpt(GptConfig),
    Mlp(MlpConfig),
    ResNet(ResNetConfig),
}

impl Kind {
    /// The same on images of another size, of which the net halves each side five times.
    pub(crate) fn of_side(self, side: usize) -> Outcome<Self> {
        match self {
            Self::ResNet(config) if side >= 32 => Ok(Self::ResNet(ResNetConfig { side, ..config })),
            Self::ResNet(_) => Err(format!("a side of {side} pixels: take at least 32").into()),
            _ => Err("this workload has no images, and no side: leave out --side".into()),
        }
    }

    /// What a sample counts for in a rate: its tokens, or one.
    pub(crate) fn units(self) -> usize {
        match self {
            Self::Gpt(config) => config.context,
            Self::Mlp(_) | Self::ResNet(_) => 1,
        }
    }

    /// Random batches on the device, the same in every run on it.
    pub(crate) fn batches(self, size: usize, device: &Device) -> candle_core::Result<Vec<Pair>> {
        let mut rng = StdRng::seed_from_u64(1);
        let mut batch = || match self {
            Self::Gpt(GptConfig { vocabulary, context, .. }) => {
                let (count, words) = (size * (context + 1), vocabulary.min(WORDS));
                let tokens: Vec<i64> = (0..count).map(|_| rng.random_range(0..words as i64)).collect();
                let tokens = Tensor::from_vec(tokens, (size, context + 1), device)?;
                let part = |from| tokens.narrow(1, from, context)?.contiguous();
                Ok((part(0)?, part(1)?))
            }
            Self::Mlp(MlpConfig { width, .. }) => {
                let mut normal = || normal(&mut rng, &[size, width], device);
                Ok((normal()?, normal()?))
            }
            Self::ResNet(ResNetConfig { side, classes, .. }) => {
                let images = normal(&mut rng, &[size, 3, side, side], device)?;
                let classes: Vec<i64> = (0..size).map(|_| rng.random_range(0..classes as i64)).collect();
                Ok((images, Tensor::from_vec(classes, size, device)?))
            }
        };
        if !device.is_cpu() {
            device.set_seed(1)?;
        }
        (0..BATCHES).map(|_| batch()).collect()
    }
}

/// Normal numbers. A GPU draws a billion at once; one thread would take a minute.
fn normal(rng: &mut StdRng, dims: &[usize], device: &Device) -> candle_core::Result<Tensor> {
    if !device.is_cpu() {
        return Tensor::randn(0f32, 1f32, dims, device);
    }
    let numbers: Vec<f32> = (0..dims.iter().product()).map(|_| rng.sample(StandardNormal)).collect();
    Tensor::from_vec(numbers, dims, device)
}

/// A model that is trained with AdamW.
pub(crate) struct Learner {
    kind: Kind,
    write_back: WriteBack,
}

pub(crate) enum Net {
    Gpt(Gpt),
    Mlp(Mlp),
    Images(Box<ResNet>),
}

impl Net {
    /// The loss of a batch.
    pub(crate) fn loss(&self, (inputs, targets): &Pair) -> autocast::Result<Tensor> {
        match self {
            Self::Gpt(gpt) => gpt.loss(inputs, targets),
            Self::Images(net) => Ok(net.loss(inputs, targets)?),
            Self::Mlp(mlp) => {
                let output = mlp.forward(inputs)?;
                // A loss in 16 bits has three digits.
                let wide = if output.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
                let (output, targets) =
                    (autocast::cast_to(&output, wide)?, autocast::cast_to(targets, wide)?);
                ops::mse_loss(&output, &targets, Reduction::Mean)
            }
        }
    }
}

impl Learner {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, write_back: WriteBack::default() }
    }

    /// The same, where weights of 16 bits keep what they cannot hold in another way.
    pub(crate) fn writing_back(self, write_back: WriteBack) -> Self {
        Self { write_back, ..self }
    }
}

impl TrainingModule for Learner {
    type Model = Net;
    type Batch = Pair;

    fn build(&self, vb: VarBuilder) -> trainer::Result<Net> {
        Ok(match self.kind {
            Kind::Gpt(config) => Net::Gpt(Gpt::new(config, vb)?),
            Kind::Mlp(config) => Net::Mlp(Mlp::new(config, vb)?),
            Kind::ResNet(config) => Net::Images(Box::new(ResNet::new(config, vb)?)),
        })
    }

    fn training_step(&self, net: &Net, batch: &Pair, _: &StepContext) -> trainer::Result<StepOutput> {
        Ok(net.loss(batch)?.into())
    }

    /// Of rows of tokens the last position's likeliest one.
    fn predict_step(&self, net: &Net, (inputs, _): &Pair) -> trainer::Result<Tensor> {
        match net {
            Net::Gpt(gpt) => {
                let logits = gpt.forward(inputs)?;
                Ok(logits.narrow(1, logits.dim(1)? - 1, 1)?.argmax(D::Minus1)?)
            }
            Net::Mlp(mlp) => Ok(mlp.forward(inputs)?),
            Net::Images(net) => Ok(net.forward(inputs)?),
        }
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        Ok(Optimization::new(adamw(parameters)?.with_write_back(self.write_back)?))
    }
}

/// The optimizer that every workload is trained with.
pub(crate) fn adamw(parameters: &Parameters) -> optim::Result<AdamW> {
    let config = AdamWConfig { lr: 3e-4, weight_decay: 0.1, ..Default::default() };
    AdamW::new(parameters.to_named(), config)
}
