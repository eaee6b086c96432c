//! A small GPT written once, with `autocast`'s layers, and how it is trained: nothing in it knows which precision it runs at.

use autocast::nn::{Embedding, LayerNorm, Linear, embedding, layer_norm, linear, linear_no_bias};
use autocast::ops::{self, AttentionOptions, CrossEntropy};
use candle_core::{Module, Tensor};
use candle_nn::VarBuilder;
use optim::{AdamW, AdamWConfig, Schedule};
use trainer::{Optimization, Parameters, StepContext, StepOutput, TrainingModule};

/// The size of a GPT.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GptConfig {
    /// Different tokens.
    pub(crate) vocabulary: usize,
    /// Most tokens in a row.
    pub(crate) context: usize,
    /// Width of the residual stream.
    pub(crate) width: usize,
    /// Attention heads.
    pub(crate) heads: usize,
    /// Blocks.
    pub(crate) layers: usize,
}

/// Token and position embeddings, pre-LayerNorm blocks, a final LayerNorm and an untied head.
pub(crate) struct Gpt {
    wte: Embedding,
    wpe: Embedding,
    blocks: Vec<Block>,
    lnf: LayerNorm,
    head: Linear,
}

impl Gpt {
    /// Creates the parameters in the builder's dtype.
    pub(crate) fn new(config: GptConfig, vb: VarBuilder) -> candle_core::Result<Self> {
        let GptConfig { vocabulary, context, width, layers, .. } = config;
        let blocks = vb.pp("blocks");
        Ok(Self {
            wte: embedding(vocabulary, width, vb.pp("wte"))?,
            wpe: embedding(context, width, vb.pp("wpe"))?,
            blocks: (0..layers).map(|i| Block::new(config, blocks.pp(i))).collect::<Result<_, _>>()?,
            lnf: layer_norm(width, 1e-5, vb.pp("lnf"))?,
            head: linear_no_bias(width, vocabulary, vb.pp("head"))?,
        })
    }

    /// Tokens `(batch, time)` to logits `(batch, time, vocabulary)`.
    pub(crate) fn forward(&self, tokens: &Tensor) -> candle_core::Result<Tensor> {
        let (_, time) = tokens.dims2()?;
        let positions = Tensor::arange(0, time as i64, tokens.device())?;
        let mut x = ops::add(&self.wte.forward(tokens)?, &self.wpe.forward(&positions)?)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        self.head.forward(&self.lnf.forward(&x)?)
    }
}

struct Block {
    heads: usize,
    ln1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    ln2: LayerNorm,
    fc: Linear,
    out: Linear,
}

impl Block {
    fn new(GptConfig { width, heads, .. }: GptConfig, vb: VarBuilder) -> candle_core::Result<Self> {
        Ok(Self {
            heads,
            ln1: layer_norm(width, 1e-5, vb.pp("ln1"))?,
            qkv: linear(width, 3 * width, vb.pp("qkv"))?,
            proj: linear(width, width, vb.pp("proj"))?,
            ln2: layer_norm(width, 1e-5, vb.pp("ln2"))?,
            fc: linear(width, 4 * width, vb.pp("fc"))?,
            out: linear(4 * width, width, vb.pp("out"))?,
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let x = ops::add(x, &self.attention(&self.ln1.forward(x)?)?)?;
        let hidden = ops::gelu_tanh(&self.fc.forward(&self.ln2.forward(&x)?)?)?;
        Ok(ops::add(&x, &self.out.forward(&hidden)?)?)
    }

    fn attention(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (batch, time, width) = x.dims3()?;
        let qkv = self.qkv.forward(x)?.reshape((batch, time, 3, self.heads, width / self.heads))?;
        let part = |index| qkv.narrow(2, index, 1)?.squeeze(2)?.transpose(1, 2);
        let attended =
            ops::scaled_dot_product_attention(&part(0)?, &part(1)?, &part(2)?, &AttentionOptions::causal())?;
        self.proj.forward(&attended.transpose(1, 2)?.reshape((batch, time, width))?)
    }
}

/// A GPT that learns which token follows. A target of -100 asks for none.
pub(crate) struct LanguageModel {
    pub(crate) size: GptConfig,
    pub(crate) adamw: AdamWConfig,
    pub(crate) schedule: Option<Schedule>,
}

impl TrainingModule for LanguageModel {
    type Model = Gpt;
    /// Tokens, and those that follow them.
    type Batch = (Tensor, Tensor);

    fn build(&self, vb: VarBuilder) -> trainer::Result<Gpt> {
        Ok(Gpt::new(self.size, vb)?)
    }

    fn training_step(
        &self,
        gpt: &Gpt,
        (tokens, next): &Self::Batch,
        _: &StepContext,
    ) -> trainer::Result<StepOutput> {
        let logits = gpt.forward(tokens)?.flatten_to(1)?;
        Ok(ops::cross_entropy(&logits, &next.flatten_all()?, &CrossEntropy::default())?.into())
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        let optimization = Optimization::new(AdamW::new(parameters.to_named(), self.adamw)?);
        Ok(self.schedule.into_iter().fold(optimization, Optimization::with_schedule))
    }
}
