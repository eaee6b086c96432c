//! What randomness follows: inside [`with_seed`] every draw on this thread is a function of a run's seed, of the step, and
//! of how many draws came before it in the step. The generator is `backends`'; dropout is the ops' and layers'.

use std::cell::Cell;

pub use backends::random::{Stream, key};

#[derive(Clone, Copy)]
struct Place {
    seed: u64,
    step: u64,
    draws: u64,
}

thread_local! {
    static PLACE: Cell<Option<Place>> = const { Cell::new(None) };
}

/// Runs `f` with every draw on this thread following `seed` and `step`; gives the result and how often it drew.
///
/// Layers that draw (dropout) then do not depend on what else the process has drawn: the same seed, step and calls give the
/// same draws, on every device. What `f` runs on other threads is out of reach: layers draw there as they do outside.
///
/// ```
/// use autocast::{nn, random::with_seed};
/// # use candle_core::{Device, Tensor};
///
/// let (x, dropout) = (Tensor::ones(8, candle_core::DType::F32, &Device::Cpu)?, nn::Dropout::new(0.5));
/// let drop = || with_seed(7, 3, || dropout.forward(&x, true)).0;
/// assert_eq!(drop()?.to_vec1::<f32>()?, drop()?.to_vec1::<f32>()?);
/// # Ok::<(), autocast::Error>(())
/// ```
pub fn with_seed<R>(seed: u64, step: u64, f: impl FnOnce() -> R) -> (R, u64) {
    /// Puts the place back that held before, also where `f` panics.
    struct Restore(Option<Place>);
    impl Drop for Restore {
        fn drop(&mut self) {
            PLACE.set(self.0);
        }
    }
    let _restore = Restore(PLACE.replace(Some(Place { seed, step, draws: 0 })));
    let result = f();
    (result, PLACE.get().map_or(0, |place| place.draws))
}

/// Whether draws on this thread follow a seed.
pub(crate) fn is_seeded() -> bool {
    PLACE.get().is_some()
}

/// A key for the next draw of the step, or `None` outside of [`with_seed`].
pub(crate) fn next_key() -> Option<u64> {
    let place = PLACE.get()?;
    PLACE.set(Some(Place { draws: place.draws + 1, ..place }));
    Some(key(&[place.seed, place.step, place.draws]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(seed: u64, step: u64) -> Vec<Option<u64>> {
        with_seed(seed, step, || (0..3).map(|_| next_key()).collect()).0
    }

    #[test]
    fn draws_follow_seed_step_and_order_and_nothing_else() {
        assert_eq!(next_key(), None);
        let first = keys(1, 2);
        assert_eq!(first, keys(1, 2));
        assert_ne!(first, keys(1, 3));
        assert_ne!(first, keys(2, 2));
        assert!(first[0] != first[1] && first[1] != first[2]);
    }

    #[test]
    fn an_inner_seed_leaves_the_outer_one_where_it_was() {
        let (outer, draws) = with_seed(1, 2, || {
            let before = next_key();
            with_seed(9, 9, next_key);
            [before, next_key()]
        });
        assert_eq!((outer.to_vec(), draws), (keys(1, 2)[..2].to_vec(), 2));
    }

    #[test]
    fn a_panic_ends_the_seed() {
        let panicked = std::panic::catch_unwind(|| with_seed(1, 1, || panic!("on purpose")));
        assert!(panicked.is_err());
        assert_eq!(next_key(), None);
    }
}
