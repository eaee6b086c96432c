//! In which order an epoch goes through a dataset: a function of a seed and the epoch alone.

use autocast::random::key;

/// The purpose of the draws, so that another use of the same seed and epoch draws otherwise.
const SHUFFLE: u64 = 0x5348_5546;

/// The indices below `len` in the order of an epoch. The same on every machine.
///
/// # Source
/// Fisher and Yates' shuffle.
pub(super) fn shuffled(len: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let (order, mut drawn) = (key(&[seed, epoch as u64, SHUFFLE]), 0);
    let mut draw = || {
        drawn += 1;
        key(&[order, drawn])
    };
    let mut indices: Vec<usize> = (0..len).collect();
    for last in (1..len).rev() {
        indices.swap(last, below(last as u64 + 1, &mut draw) as usize);
    }
    indices
}

/// A number below `bound`, all of them equally likely. Written out, since which draws a library takes for a range is its own,
/// and may change.
///
/// # Source
/// Lemire, "Fast random integer generation in an interval" (2019).
fn below(bound: u64, draw: &mut impl FnMut() -> u64) -> u64 {
    let unlikely = bound.wrapping_neg() % bound;
    loop {
        let wide = u128::from(draw()) * u128::from(bound);
        if wide as u64 >= unlikely {
            return (wide >> 64) as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_recorded_and_differs_by_seed_and_epoch() {
        let first = shuffled(10, 7, 0);
        assert_eq!(first, RECORDED);
        assert_ne!(first, shuffled(10, 7, 1));
        assert_ne!(first, shuffled(10, 8, 0));
    }

    /// What `shuffled(10, 7, 0)` gave when it was written: a saved run goes on in the order that it began with.
    const RECORDED: [usize; 10] = [7, 2, 0, 4, 1, 5, 8, 9, 6, 3];

    #[test]
    fn every_place_is_as_likely_for_every_item() {
        const EPOCHS: usize = 20_000;
        let mut counts = [[0usize; 4]; 4];
        for epoch in 0..EPOCHS {
            for (place, item) in shuffled(4, 1, epoch).into_iter().enumerate() {
                counts[place][item] += 1;
            }
        }
        // Six standard deviations of a binomial count.
        let (expected, p) = (EPOCHS as f64 / 4., 0.25);
        let bound = 6. * (EPOCHS as f64 * p * (1. - p)).sqrt();
        for count in counts.as_flattened() {
            assert!((*count as f64 - expected).abs() < bound, "{counts:?}");
        }
    }

    #[test]
    fn draws_that_would_favour_small_numbers_are_left_out() {
        // Of the 2⁶⁴ draws, one is left over where each of three numbers has as many: the draw 0.
        let mut draws = [0, u64::MAX].into_iter();
        assert_eq!(below(3, &mut || draws.next().unwrap()), 2);
        assert_eq!(draws.next(), None);
    }
}
