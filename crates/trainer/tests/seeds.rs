//! 16-bit training survives: from 200 random seeds, a small GPT ends with finite, smaller losses at every 16-bit precision
//! of a CPU.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "../examples/compare/gpt.rs"]
mod gpt;

use autocast::ops::{CrossEntropy, cross_entropy};
use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use optim::{AdamW, AdamWConfig};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use trainer::{Optimization, Parameters, Trainer, TrainingModule};

use gpt::{Gpt, GptConfig};

const SEEDS: u64 = 200;
const STEPS: usize = 15;
const CONFIG: GptConfig = GptConfig { vocabulary: 12, context: 8, width: 16, heads: 2, layers: 1 };
const ROWS: usize = 4;

#[derive(Default)]
struct SmallGpt(Option<Gpt>);

impl TrainingModule for SmallGpt {
    type Batch = (Tensor, Tensor);

    fn configure_model(&mut self, vb: VarBuilder) -> trainer::Result<()> {
        self.0 = Some(Gpt::new(CONFIG, vb)?);
        Ok(())
    }

    fn training_step(&self, (inputs, targets): &Self::Batch) -> trainer::Result<Tensor> {
        let logits = self.0.as_ref().unwrap().forward(inputs)?;
        Ok(cross_entropy(&logits.flatten_to(1)?, &targets.flatten_all()?, &CrossEntropy::default())?)
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        let config = AdamWConfig { lr: 1e-2, ..Default::default() };
        Ok(Optimization::new(AdamW::new(parameters.to_named(), config)?))
    }
}

/// One batch of random tokens, to be learnt by heart.
fn batch(seed: u64) -> (Tensor, Tensor) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut tokens = || {
        let tokens = (0..ROWS * CONFIG.context).map(|_| rng.random_range(0..CONFIG.vocabulary as i64));
        Tensor::from_vec(tokens.collect::<Vec<_>>(), (ROWS, CONFIG.context), &Device::Cpu).unwrap()
    };
    (tokens(), tokens())
}

#[track_caller]
fn check_every_seed(precision: &str) {
    for seed in 0..SEEDS {
        let builder = Trainer::builder().precision(precision).accelerator("cpu").max_steps(STEPS).seed(seed);
        let fit =
            builder.build().unwrap().fit(&mut SmallGpt::default(), std::iter::repeat(batch(seed))).unwrap();
        let learnt = fit.losses[STEPS - 1] < fit.losses[0];
        let finite = fit.losses.iter().all(|loss| loss.is_finite());
        assert!(finite && learnt, "{precision}, seed {seed}: {:?}", fit.losses);
    }
}

#[test]
fn f16_true_survives() {
    check_every_seed("16-true");
}

#[test]
fn bf16_true_survives() {
    check_every_seed("bf16-true");
}

#[test]
fn bf16_mixed_survives() {
    check_every_seed("bf16-mixed");
}
