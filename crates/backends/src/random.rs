//! The one source of randomness: a counter-based generator. A draw is a function of a key and an index and of nothing
//! else, so that it is the same on every device, on any number of threads, and in a run that is taken up again.

use rand_core::RngCore;

pub use crate::kernels::step::random_bits;

/// A key of its own for each sequence of `words`: of a seed, a step, the number of a draw in the step.
pub fn key(words: &[u64]) -> u64 {
    // Not from 0, of which the first draw is 0 again.
    words.iter().fold(!0, |key, &word| {
        let first = u64::from(random_bits(key, word));
        let second = u64::from(random_bits(key ^ (first << 32), word));
        (first << 32) | second
    })
}

/// The draws of one key in their order, for distributions that take a generator.
#[derive(Clone, Debug)]
pub struct Stream {
    key: u64,
    index: u64,
}

impl Stream {
    /// The draws of `key` from its first.
    pub fn new(key: u64) -> Self {
        Self { key, index: 0 }
    }
}

impl RngCore for Stream {
    fn next_u32(&mut self) -> u32 {
        let bits = random_bits(self.key, self.index);
        self.index += 1;
        bits
    }

    fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) | u64::from(self.next_u32()) << 32
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_mut(4) {
            word.copy_from_slice(&self.next_u32().to_le_bytes()[..word.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn neighbouring_seeds_steps_and_draws_have_keys_of_their_own() {
        let mut keys = HashSet::new();
        for seed in 0..20 {
            for step in 0..20 {
                for draw in 0..20 {
                    assert!(keys.insert(key(&[seed, step, draw])), "{seed}, {step}, {draw}");
                }
            }
        }
        assert!(!keys.contains(&key(&[1, 2])));
    }

    #[test]
    fn a_stream_is_its_keys_draws_in_order() {
        let mut stream = Stream::new(7);
        let drawn: Vec<u32> = (0..4).map(|_| stream.next_u32()).collect();
        assert_eq!(drawn, (0..4).map(|i| random_bits(7, i)).collect::<Vec<_>>());
        let mut bytes = [0; 6];
        Stream::new(7).fill_bytes(&mut bytes);
        assert_eq!(bytes[..4], drawn[0].to_le_bytes());
        assert_eq!(bytes[4..], drawn[1].to_le_bytes()[..2]);
    }

    /// Uniform on [0, 2³²): each of the 64 bits' positions is set half the time, within six standard deviations.
    #[test]
    fn every_bit_is_fair() {
        const DRAWS: u64 = 100_000;
        let mut set = [0u32; 32];
        for i in 0..DRAWS {
            let bits = random_bits(key(&[3, 4]), i);
            set.iter_mut().enumerate().for_each(|(at, count)| *count += bits >> at & 1);
        }
        let deviation = (DRAWS as f64).sqrt() / 2.;
        for (bit, &count) in set.iter().enumerate() {
            let off = (f64::from(count) - DRAWS as f64 / 2.).abs();
            assert!(off < 6. * deviation, "bit {bit} was set {count} times");
        }
    }
}
