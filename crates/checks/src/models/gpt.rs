//! A GPT in `autocast`'s layers, of any size: the one model that the reference runs, the checks and the benchmarks share.

use autocast::nn::{Embedding, LayerNorm, Linear, layer_norm};
use autocast::ops::{self, AttentionOptions, LinearCrossEntropy};
use candle_core::{Module, Tensor};
use candle_nn::{Init, VarBuilder};

/// The size of a GPT, and how it begins.
#[derive(Clone, Copy, Debug)]
pub struct GptConfig {
    /// Different tokens.
    pub vocabulary: usize,
    /// Most tokens in a row.
    pub context: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Blocks.
    pub layers: usize,
    /// What turns the last hidden state into logits.
    pub head: Head,
    /// How parameters are drawn.
    pub initial: Initial,
}

impl GptConfig {
    /// GPT-2 of 124 million parameters, its vocabulary padded to a multiple of 128.
    pub const GPT2: Self = Self {
        vocabulary: 50_304,
        context: 1_024,
        width: 768,
        heads: 12,
        layers: 12,
        head: Head::Tied,
        initial: Initial::Gpt2,
    };

    /// One that a CPU trains in a second.
    pub const MINI: Self = Self {
        vocabulary: 256,
        context: 128,
        width: 256,
        heads: 4,
        layers: 4,
        head: Head::Own,
        initial: Initial::Torch,
    };
}

/// What turns the last hidden state into logits. It has no bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The table of the tokens' embeddings.
    Tied,
    /// A matrix of its own, `head.weight`.
    Own,
}

/// How parameters are drawn. Those of a LayerNorm are always 1 and 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initial {
    /// As `candle_nn`'s layers do.
    Candle,
    /// As PyTorch's layers do.
    Torch,
    /// As GPT-2: weights normal with a deviation of 0.02, biases 0.
    Gpt2,
}

impl Initial {
    fn embedding(self, rows: usize, width: usize, vb: VarBuilder) -> candle_core::Result<Embedding> {
        let stdev = if self == Self::Gpt2 { 0.02 } else { 1. };
        let table = vb.get_with_hints((rows, width), "weight", Init::Randn { mean: 0., stdev })?;
        Ok(Embedding::new(table, width))
    }

    fn weight(self, from: usize, to: usize, vb: &VarBuilder) -> candle_core::Result<Tensor> {
        let init = match self {
            Self::Candle => candle_nn::init::DEFAULT_KAIMING_NORMAL,
            Self::Torch => within_root(from),
            Self::Gpt2 => Init::Randn { mean: 0., stdev: 0.02 },
        };
        vb.get_with_hints((to, from), "weight", init)
    }

    /// A layer with a bias.
    pub(crate) fn linear(self, from: usize, to: usize, vb: VarBuilder) -> candle_core::Result<Linear> {
        let init = if self == Self::Gpt2 { Init::Const(0.) } else { within_root(from) };
        Ok(Linear::new(self.weight(from, to, &vb)?, Some(vb.get_with_hints(to, "bias", init)?)))
    }
}

/// Uniform within one over the root of the number of inputs.
fn within_root(inputs: usize) -> Init {
    let bound = 1. / (inputs as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}

/// Token and position embeddings, pre-LayerNorm blocks, a final LayerNorm and a head.
pub struct Gpt {
    wte: Embedding,
    wpe: Embedding,
    /// 0, 1, and so on to the end of the context.
    positions: Tensor,
    blocks: Vec<Block>,
    lnf: LayerNorm,
    head: Linear,
}

impl Gpt {
    /// Creates the parameters in the builder's dtype.
    ///
    /// # Errors
    /// What `vb` reports.
    pub fn new(config: GptConfig, vb: VarBuilder) -> candle_core::Result<Self> {
        let GptConfig { vocabulary, context, width, layers, head, initial, .. } = config;
        let blocks = vb.pp("blocks");
        let wte = initial.embedding(vocabulary, width, vb.pp("wte"))?;
        let head = match head {
            Head::Tied => wte.embeddings().clone(),
            Head::Own => initial.weight(width, vocabulary, &vb.pp("head"))?,
        };
        Ok(Self {
            wte,
            wpe: initial.embedding(context, width, vb.pp("wpe"))?,
            positions: Tensor::arange(0, context as i64, vb.device())?,
            blocks: (0..layers).map(|i| Block::new(config, blocks.pp(i))).collect::<Result<_, _>>()?,
            lnf: layer_norm(width, 1e-5, vb.pp("lnf"))?,
            head: Linear::new(head, None),
        })
    }

    /// Tokens `(batch, time)` to logits `(batch, time, vocabulary)`.
    ///
    /// # Errors
    /// Tokens of another shape, or more in a row than the context holds.
    pub fn forward(&self, tokens: &Tensor) -> candle_core::Result<Tensor> {
        self.head.forward(&self.hidden(tokens)?)
    }

    /// The mean cross-entropy of the tokens' logits and `targets`, both `(batch, time)`, of which the head and the loss are one op.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and targets that are no tokens.
    pub fn loss(&self, tokens: &Tensor, targets: &Tensor) -> autocast::Result<Tensor> {
        let options = LinearCrossEntropy::default();
        ops::linear_cross_entropy(&self.hidden(tokens)?, self.head.weight(), targets, &options)
    }

    fn hidden(&self, tokens: &Tensor) -> candle_core::Result<Tensor> {
        let (_, time) = tokens.dims2()?;
        let positions = self.wpe.forward(&self.positions.narrow(0, 0, time)?)?;
        let mut x = ops::add(&self.wte.forward(tokens)?, &positions)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        self.lnf.forward(&x)
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
    fn new(config: GptConfig, vb: VarBuilder) -> candle_core::Result<Self> {
        let GptConfig { width, heads, initial, .. } = config;
        Ok(Self {
            heads,
            ln1: layer_norm(width, 1e-5, vb.pp("ln1"))?,
            qkv: initial.linear(width, 3 * width, vb.pp("qkv"))?,
            proj: initial.linear(width, width, vb.pp("proj"))?,
            ln2: layer_norm(width, 1e-5, vb.pp("ln2"))?,
            fc: initial.linear(width, 4 * width, vb.pp("fc"))?,
            out: initial.linear(4 * width, width, vb.pp("out"))?,
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let x = self.proj.forward_add(&self.attention(&self.ln1.forward(x)?)?, x)?;
        let hidden = ops::gelu_tanh(&self.fc.forward(&self.ln2.forward(&x)?)?)?;
        self.out.forward_add(&hidden, &x)
    }

    /// The heads' results side by side.
    fn attention(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (batch, time, width) = x.dims3()?;
        let qkv = self.qkv.forward(x)?.reshape((batch, time, 3, self.heads, width / self.heads))?;
        let part = |index| qkv.narrow(2, index, 1)?.squeeze(2)?.transpose(1, 2);
        let attended =
            ops::scaled_dot_product_attention(&part(0)?, &part(1)?, &part(2)?, &AttentionOptions::causal())?;
        attended.transpose(1, 2)?.reshape((batch, time, width))
    }
}
