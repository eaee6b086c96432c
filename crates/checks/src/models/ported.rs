//! Two of candle's training examples in spirit, as a port to `autocast` writes them: an MNIST-style convolutional net, and a
//! small GPT with residuals. Both learn one batch by heart.

use autocast::{nn, ops};
use candle_core::{DType, Device, Module, Tensor};
use candle_nn::VarBuilder;
use optim::{AdamW, AdamWConfig, Clip};
use trainer::{Accelerator, Optimization, Parameters, StepContext, StepOutput, Trainer, TrainingModule};

const STEPS: usize = 60;

/// The images' classes, and the tokens that the GPT knows.
const CLASSES: usize = 10;

/// candle's `mnist-training` net at a smaller size: two convolutions, pools, dropout, two linear layers.
struct ConvNet;

struct ConvLayers {
    conv1: nn::Conv2d,
    norm: nn::BatchNorm,
    conv2: nn::Conv2d,
    fc1: nn::Linear,
    fc2: nn::Linear,
    dropout: nn::Dropout,
}

impl ConvLayers {
    fn forward(&self, images: &Tensor) -> autocast::Result<Tensor> {
        let halves = ops::PoolOptions::new([2, 2]);
        let x = self.norm.forward_by_mode(&self.conv1.forward(images)?)?;
        let x = ops::max_pool2d(&ops::relu(&x)?, &halves)?;
        let x = ops::max_pool2d(&ops::relu(&self.conv2.forward(&x)?)?, &halves)?;
        let x = ops::relu(&self.fc1.forward(&x.flatten_from(1)?)?)?;
        Ok(self.fc2.forward(&self.dropout.forward_by_mode(&x)?)?)
    }
}

impl TrainingModule for ConvNet {
    type Model = ConvLayers;
    type Batch = (Tensor, Tensor);

    fn build(&self, vb: VarBuilder) -> trainer::Result<ConvLayers> {
        Ok(ConvLayers {
            conv1: nn::conv2d(1, 4, 3, Default::default(), vb.pp("c1"))?,
            norm: nn::batch_norm(4, 1e-5, vb.pp("bn"))?,
            conv2: nn::conv2d(4, 8, 3, Default::default(), vb.pp("c2"))?,
            fc1: nn::linear(8 * 2 * 2, 16, vb.pp("fc1"))?,
            fc2: nn::linear(16, CLASSES, vb.pp("fc2"))?,
            dropout: nn::Dropout::new(0.1),
        })
    }

    fn training_step(
        &self,
        net: &ConvLayers,
        (images, labels): &Self::Batch,
        _: &StepContext,
    ) -> trainer::Result<StepOutput> {
        Ok(ops::cross_entropy(&net.forward(images)?, labels, &Default::default())?.into())
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        adamw(parameters)
    }
}

/// A GPT of one block, with a table of positions and a mask that it makes itself.
struct SmallGpt;

struct GptLayers {
    tokens: nn::Embedding,
    /// A constant f32 table, at every precision.
    positions: Tensor,
    norm1: nn::LayerNorm,
    query_key_value: nn::Linear,
    project: nn::Linear,
    norm2: nn::LayerNorm,
    up: nn::Linear,
    down: nn::Linear,
    head: nn::Linear,
}

const LENGTH: usize = 8;
const WIDTH: usize = 16;

impl GptLayers {
    fn new(vb: VarBuilder) -> autocast::Result<Self> {
        let angle = |at: usize| (at / WIDTH) as f32 / 10f32.powi((at % WIDTH) as i32 / 2);
        let table = (0..LENGTH * WIDTH).map(|at| angle(at).sin()).collect();
        Ok(Self {
            tokens: nn::embedding(CLASSES, WIDTH, vb.pp("wte"))?,
            positions: Tensor::from_vec(table, (LENGTH, WIDTH), vb.device())?,
            norm1: nn::layer_norm(WIDTH, 1e-5, vb.pp("ln_1"))?,
            query_key_value: nn::linear(WIDTH, 3 * WIDTH, vb.pp("c_attn"))?,
            project: nn::linear(WIDTH, WIDTH, vb.pp("c_proj"))?,
            norm2: nn::layer_norm(WIDTH, 1e-5, vb.pp("ln_2"))?,
            up: nn::linear(WIDTH, 4 * WIDTH, vb.pp("c_fc"))?,
            down: nn::linear(4 * WIDTH, WIDTH, vb.pp("mlp_proj"))?,
            head: nn::linear_no_bias(WIDTH, CLASSES, vb.pp("head"))?,
        })
    }

    fn forward(&self, ids: &Tensor) -> autocast::Result<Tensor> {
        let tokens = self.tokens.forward(ids)?;
        let x = ops::add(&tokens, &self.positions.to_dtype(tokens.dtype())?)?;
        let x = ops::add(&x, &self.attend(&self.norm1.forward(&x)?)?)?;
        let hidden = ops::gelu(&self.up.forward(&self.norm2.forward(&x)?)?)?;
        let x = ops::add(&x, &self.down.forward(&hidden)?)?;
        Ok(self.head.forward(&x)?)
    }

    fn attend(&self, x: &Tensor) -> autocast::Result<Tensor> {
        let all = self.query_key_value.forward(x)?;
        let part = |at: usize| -> autocast::Result<Tensor> {
            let (batch, length, _) = all.dims3()?;
            Ok(all.narrow(2, at * WIDTH, WIDTH)?.reshape((batch, length, 2, WIDTH / 2))?.transpose(1, 2)?)
        };
        let options = ops::AttentionOptions::causal();
        let heads = ops::scaled_dot_product_attention(&part(0)?, &part(1)?, &part(2)?, &options)?;
        Ok(self.project.forward(&heads.transpose(1, 2)?.flatten_from(2)?)?)
    }
}

impl TrainingModule for SmallGpt {
    type Model = GptLayers;
    type Batch = (Tensor, Tensor);

    fn build(&self, vb: VarBuilder) -> trainer::Result<GptLayers> {
        Ok(GptLayers::new(vb)?)
    }

    fn training_step(
        &self,
        gpt: &GptLayers,
        (ids, next): &Self::Batch,
        _: &StepContext,
    ) -> trainer::Result<StepOutput> {
        let logits = gpt.forward(ids)?.flatten_to(1)?;
        Ok(ops::cross_entropy(&logits, &next.flatten_all()?, &Default::default())?.into())
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        adamw(parameters)
    }
}

fn adamw(parameters: &Parameters) -> trainer::Result<Optimization> {
    let adamw = AdamW::new(parameters.to_named(), AdamWConfig { lr: 1e-2, ..Default::default() })?;
    Ok(Optimization::new(adamw.no_decay(|name| name.ends_with("bias")).with_clip(Clip::norm(1.)?)))
}

/// Whatever a batch is made of, the same in every run.
fn pattern(len: usize, below: usize) -> Vec<i64> {
    (0..len).map(|at| (at * at + 3 * at + at / 7) as i64 % below as i64).collect()
}

/// Trains both models at `precision`; their names, first losses and last losses.
///
/// # Errors
/// Those of a fit.
pub fn train_both(
    precision: &str,
    accelerator: Accelerator,
) -> trainer::Result<[(&'static str, f64, f64); 2]> {
    let builder = || Trainer::builder().precision(precision).accelerator(accelerator).max_steps(STEPS);
    let cpu = &Device::Cpu;
    let pixels = Tensor::from_vec(pattern(12 * 14 * 14, 17), (12, 1, 14, 14), cpu)?.to_dtype(DType::F32)?;
    let images = ((pixels / 17.)?, Tensor::from_vec(pattern(12, CLASSES), 12, cpu)?);
    let conv = builder().build()?.fit(&ConvNet, std::iter::repeat(images))?;
    let ids = Tensor::from_vec(pattern(4 * LENGTH, CLASSES), (4, LENGTH), cpu)?;
    let next = Tensor::from_vec(pattern(5 * LENGTH, CLASSES)[LENGTH..].to_vec(), (4, LENGTH), cpu)?;
    let gpt = builder().build()?.fit(&SmallGpt, std::iter::repeat((ids, next)))?;
    let ends = |losses: &[f64]| (losses[0], losses[losses.len() - 1]);
    let ((conv_first, conv_last), (gpt_first, gpt_last)) = (ends(&conv.losses), ends(&gpt.losses));
    Ok([("convolutional net", conv_first, conv_last), ("GPT", gpt_first, gpt_last)])
}
