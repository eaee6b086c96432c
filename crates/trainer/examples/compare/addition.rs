//! The task that needs no data: two-digit addition written as characters, the sum's last digit first (`47+85=231`),
//! so that each digit follows from what the model has already seen.

use candle_core::{Device, Tensor};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::task::{Example, IGNORE};

const SYMBOLS: &str = "0123456789+=";
const OPERANDS: u32 = 100;
const QUESTION: usize = "47+85=".len();
const ANSWER: usize = 3;

/// Tokens that the model reads: all but the answer's last digit.
pub(crate) const CONTEXT: usize = QUESTION + ANSWER - 1;
pub(crate) const VOCABULARY: usize = SYMBOLS.len();

const HELD_OUT: usize = 1_000;

/// Sums to train on and sums to test on: no sum is in both.
pub(crate) struct Addition {
    train: Vec<(u32, u32)>,
    held_out: Vec<(u32, u32)>,
}

impl Addition {
    pub(crate) fn new(seed: u64) -> Self {
        let mut sums: Vec<_> = (0..OPERANDS).flat_map(|a| (0..OPERANDS).map(move |b| (a, b))).collect();
        sums.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let train = sums.split_off(HELD_OUT);
        Self { train, held_out: sums }
    }

    pub(crate) fn training_batch(&self, rows: usize, rng: &mut ChaCha8Rng) -> candle_core::Result<Example> {
        let sums: Vec<_> = (0..rows).map(|_| self.train[rng.random_range(0..self.train.len())]).collect();
        encode(&sums)
    }

    pub(crate) fn held_out_batches(&self, rows: usize) -> candle_core::Result<Vec<Example>> {
        self.held_out.chunks(rows).map(encode).collect()
    }
}

/// Rows of characters as inputs and targets; only the answer's digits are targets.
fn encode(sums: &[(u32, u32)]) -> candle_core::Result<Example> {
    let mut inputs = Vec::with_capacity(sums.len() * CONTEXT);
    let mut targets = Vec::with_capacity(sums.len() * CONTEXT);
    for &(a, b) in sums {
        let answer: String = format!("{:03}", a + b).chars().rev().collect();
        let tokens: Vec<i64> = format!("{a:02}+{b:02}={answer}").chars().map(token).collect();
        inputs.extend_from_slice(&tokens[..CONTEXT]);
        targets.extend(std::iter::repeat_n(IGNORE, QUESTION - 1));
        targets.extend_from_slice(&tokens[QUESTION..]);
    }
    let shape = (sums.len(), CONTEXT);
    Ok((Tensor::from_vec(inputs, shape, &Device::Cpu)?, Tensor::from_vec(targets, shape, &Device::Cpu)?))
}

fn token(symbol: char) -> i64 {
    SYMBOLS.find(symbol).map_or(IGNORE, |index| index as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_as_the_sum_and_asks_only_for_the_answer() {
        let (inputs, targets) = encode(&[(47, 85)]).unwrap();
        assert_eq!(inputs.to_vec2::<i64>().unwrap(), [[4, 7, 10, 8, 5, 11, 2, 3]]);
        assert_eq!(targets.to_vec2::<i64>().unwrap(), [[IGNORE, IGNORE, IGNORE, IGNORE, IGNORE, 2, 3, 1]]);
    }

    #[test]
    fn held_out_sums_are_never_trained_on() {
        let task = Addition::new(0);
        assert_eq!(task.train.len() + task.held_out.len(), 10_000);
        assert!(task.held_out.iter().all(|sum| !task.train.contains(sum)));
    }
}
