//! A GPT as candle-transformers writes its models: `candle_nn`'s layers and candle's operators on what a `VarBuilder` gives, and
//! nothing that knows of a precision.

use trainer::candle_core::{self, D, DType, Device, Module, Tensor};
use trainer::candle_nn::{self, Embedding, LayerNorm, Linear, VarBuilder};

/// Different tokens.
pub(crate) const VOCABULARY: usize = 24;

const WIDTH: usize = 32;
const HEADS: usize = 4;
const LENGTH: usize = 16;

struct Block {
    norm1: LayerNorm,
    query_key_value: Linear,
    project: Linear,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
}

/// Two blocks between an embedding and a head.
pub(crate) struct CandleGpt {
    tokens: Embedding,
    positions: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

/// Without a bias, since candle's kernel for norms with one gives no gradient.
fn norm(vb: VarBuilder) -> candle_core::Result<LayerNorm> {
    candle_nn::layer_norm_no_bias(WIDTH, 1e-5, vb)
}

impl Block {
    fn new(vb: VarBuilder) -> candle_core::Result<Self> {
        Ok(Self {
            norm1: norm(vb.pp("ln_1"))?,
            query_key_value: candle_nn::linear(WIDTH, 3 * WIDTH, vb.pp("c_attn"))?,
            project: candle_nn::linear(WIDTH, WIDTH, vb.pp("c_proj"))?,
            norm2: norm(vb.pp("ln_2"))?,
            up: candle_nn::linear(WIDTH, 4 * WIDTH, vb.pp("c_fc"))?,
            down: candle_nn::linear(4 * WIDTH, WIDTH, vb.pp("mlp_proj"))?,
        })
    }

    fn forward(&self, x: &Tensor, mask: &Tensor) -> candle_core::Result<Tensor> {
        let x = (x + self.attend(&self.norm1.forward(x)?, mask)?)?;
        let hidden = self.up.forward(&self.norm2.forward(&x)?)?.gelu()?;
        x + self.down.forward(&hidden)?
    }

    fn attend(&self, x: &Tensor, mask: &Tensor) -> candle_core::Result<Tensor> {
        let (batch, length, _) = x.dims3()?;
        let all = self.query_key_value.forward(x)?.reshape((batch, length, 3, HEADS, WIDTH / HEADS))?;
        let part = |at: usize| all.narrow(2, at, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
        let scores = (part(0)?.matmul(&part(1)?.t()?)? / ((WIDTH / HEADS) as f64).sqrt())?;
        let weights = candle_nn::ops::softmax(&scores.broadcast_add(mask)?, D::Minus1)?;
        let heads = weights.matmul(&part(2)?)?.transpose(1, 2)?;
        self.project.forward(&heads.reshape((batch, length, WIDTH))?)
    }
}

impl CandleGpt {
    pub(crate) fn new(vb: VarBuilder) -> candle_core::Result<Self> {
        Ok(Self {
            tokens: candle_nn::embedding(VOCABULARY, WIDTH, vb.pp("wte"))?,
            positions: candle_nn::embedding(LENGTH, WIDTH, vb.pp("wpe"))?,
            blocks: (0..2).map(|at| Block::new(vb.pp("h").pp(at))).collect::<candle_core::Result<_>>()?,
            norm: norm(vb.pp("ln_f"))?,
            head: candle_nn::linear_no_bias(WIDTH, VOCABULARY, vb.pp("lm_head"))?,
        })
    }

    /// The mean cross-entropy of the tokens that follow `tokens`, both `(batch, length)`.
    pub(crate) fn loss(&self, tokens: &Tensor, next: &Tensor) -> candle_core::Result<Tensor> {
        let (_, length) = tokens.dims2()?;
        let positions = Tensor::arange(0, length as u32, tokens.device())?;
        let mut x = self.tokens.forward(tokens)?.broadcast_add(&self.positions.forward(&positions)?)?;
        let mask = mask(length, x.device())?.to_dtype(x.dtype())?;
        for block in &self.blocks {
            x = block.forward(&x, &mask)?;
        }
        // In f32, as candle-transformers leaves its models.
        let logits = self.head.forward(&self.norm.forward(&x)?)?.to_dtype(DType::F32)?;
        candle_nn::loss::cross_entropy(&logits.flatten_to(1)?, &next.flatten_all()?)
    }
}

/// Minus infinity where a token would see one that follows it.
fn mask(length: usize, device: &Device) -> candle_core::Result<Tensor> {
    let of = |row: usize, column: usize| if column > row { f32::NEG_INFINITY } else { 0. };
    let mask: Vec<f32> = (0..length).flat_map(|row| (0..length).map(move |column| of(row, column))).collect();
    Tensor::from_vec(mask, (length, length), device)
}

/// Rows that count on, each by a number of its own: tokens, and those that follow them.
pub(crate) fn sequences(rows: usize, first: usize) -> candle_core::Result<(Tensor, Tensor)> {
    let token = |row: usize, at: usize| ((first + 5 * row + at * (1 + row % 3)) % VOCABULARY) as u32;
    let ahead = |by: usize| {
        let tokens = (0..rows).flat_map(|row| (0..LENGTH).map(move |at| token(row, at + by)));
        Tensor::from_iter(tokens, &Device::Cpu)?.reshape((rows, LENGTH))
    };
    Ok((ahead(0)?, ahead(1)?))
}
