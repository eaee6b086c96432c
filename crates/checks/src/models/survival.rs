//! 16-bit training from many seeds: a small GPT learns one random batch by heart.

use candle_core::{Device, Tensor};
use optim::AdamWConfig;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use trainer::{Accelerator, Trainer};

use super::next_token::NextToken;
use super::{GptConfig, Head, Initial};

/// Seeds that are tried.
pub const SEEDS: u64 = 200;
const STEPS: usize = 15;
const CONFIG: GptConfig = GptConfig {
    vocabulary: 12,
    context: 8,
    width: 16,
    heads: 2,
    layers: 1,
    head: Head::Own,
    initial: Initial::Candle,
};
const ROWS: usize = 4;

/// One batch of random tokens, to be learnt by heart.
fn batch(seed: u64) -> candle_core::Result<(Tensor, Tensor)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut tokens = || {
        let tokens = (0..ROWS * CONFIG.context).map(|_| rng.random_range(0..CONFIG.vocabulary as i64));
        Tensor::from_vec(tokens.collect::<Vec<_>>(), (ROWS, CONFIG.context), &Device::Cpu)
    };
    Ok((tokens()?, tokens()?))
}

/// The first seed whose losses are not all finite or did not get smaller, with those losses.
///
/// # Errors
/// Those of a fit.
pub fn first_failure(precision: &str, accelerator: Accelerator) -> trainer::Result<Option<(u64, Vec<f64>)>> {
    let gpt = NextToken { size: CONFIG, adamw: AdamWConfig { lr: 1e-2, ..Default::default() } };
    for seed in 0..SEEDS {
        let builder =
            Trainer::builder().precision(precision).accelerator(accelerator).max_steps(STEPS).seed(seed);
        let fit = builder.build()?.fit(&gpt, std::iter::repeat(batch(seed)?))?;
        let finite = fit.losses.iter().all(|loss| loss.is_finite());
        if !finite || fit.losses[STEPS - 1] >= fit.losses[0] {
            return Ok(Some((seed, fit.losses)));
        }
    }
    Ok(None)
}
