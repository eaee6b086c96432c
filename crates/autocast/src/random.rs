//! What randomness follows: inside [`with_seed`] every draw on this thread is a function of a run's seed, of the step, and
//! of how many draws came before it in the step. The generator is `backends`'; dropout is the ops' and layers'.

use std::cell::{Cell, RefCell};

pub use backends::random::{Stream, key};

use crate::ops::DropoutSeed;

#[derive(Clone, Copy)]
struct Place {
    seed: u64,
    step: u64,
    draws: u64,
}

thread_local! {
    static PLACE: Cell<Option<Place>> = const { Cell::new(None) };
    /// What was drawn since somebody listens on this thread.
    static HEARD: RefCell<Option<Heard>> = const { RefCell::new(None) };
}

/// A draw of dropout in a step. Its key is another one in another step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Draw {
    seed: u64,
    /// How many came before it in the step.
    number: u64,
    /// The seed that the layer has beside the step's.
    layer: DropoutSeed,
    /// The key in the step in which it was heard.
    pub(crate) key: u64,
}

/// The draws of a stretch of code.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    /// Those that the step gave seeds for, whether or not anything was dropped.
    seeded: Vec<Draw>,
    /// Those of them by which something was dropped.
    pub(crate) used: Vec<Draw>,
    /// Whether something was dropped by any other.
    pub(crate) others: bool,
}

impl Draw {
    /// Its key in another step.
    pub(crate) fn key_in(&self, step: u64) -> u64 {
        self.layer.beside(key(&[self.seed, step, self.number])).key()
    }
}

/// Runs `f`; gives its result and what was drawn on this thread.
pub(crate) fn hearing_draws<R>(f: impl FnOnce() -> R) -> (R, Heard) {
    /// Puts back what was heard outside, also where `f` panics.
    struct Restore(Option<Heard>);
    impl Drop for Restore {
        fn drop(&mut self) {
            HEARD.set(self.0.take());
        }
    }
    let _restore = Restore(HEARD.replace(Some(Heard::default())));
    let result = f();
    (result, HEARD.take().unwrap_or_default())
}

/// Something is dropped by the draws of `key`.
pub(crate) fn used(key: u64) {
    HEARD.with_borrow_mut(|heard| {
        let Some(heard) = heard else { return };
        match heard.seeded.iter().find(|draw| draw.key == key) {
            None => heard.others = true,
            Some(draw) if heard.used.contains(draw) => {}
            Some(&draw) => heard.used.push(draw),
        }
    });
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

/// The seed of the step's next draw for a layer that has one of its own beside it, or `None` outside of [`with_seed`].
pub(crate) fn next_seed(layer: DropoutSeed) -> Option<DropoutSeed> {
    let Place { seed, step, draws: number } = PLACE.get()?;
    PLACE.set(Some(Place { seed, step, draws: number + 1 }));
    let next = layer.beside(key(&[seed, step, number]));
    HEARD.with_borrow_mut(|heard| {
        if let Some(heard) = heard {
            heard.seeded.push(Draw { seed, number, layer, key: next.key() });
        }
    });
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next_key() -> Option<u64> {
        next_seed(DropoutSeed::default()).map(DropoutSeed::key)
    }

    fn keys(seed: u64, step: u64) -> Vec<Option<u64>> {
        with_seed(seed, step, || (0..3).map(|_| next_key()).collect()).0
    }

    #[test]
    fn a_draw_that_was_heard_has_the_key_that_another_step_gives_it() {
        let layers = [DropoutSeed::default(), DropoutSeed { seed: 7, step: 3 }];
        let drawn = |step| {
            let draw = || layers.map(|layer| next_seed(layer).map(|seed| seed.draw(0.5).key));
            hearing_draws(|| with_seed(5, step, draw).0)
        };
        let (keys, heard) = drawn(2);
        assert_eq!(keys.to_vec(), heard.used.iter().map(|draw| Some(draw.key)).collect::<Vec<_>>());
        let later: Vec<_> = heard.used.iter().map(|draw| Some(draw.key_in(9))).collect();
        assert_eq!(later, drawn(9).0);
        assert!(later[0] != keys[0] && later[1] != keys[1] && later[0] != later[1]);
        assert!(!heard.others);
    }

    #[test]
    fn what_drops_nothing_is_not_heard_and_what_has_its_own_seed_is() {
        let x = candle_core::Tensor::ones(8, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
        let drop =
            |p, seed| hearing_draws(|| with_seed(5, 1, || crate::ops::dropout(&x, p, seed).unwrap())).1;
        let (nothing, own) = (drop(0., DropoutSeed::default()), drop(0.5, DropoutSeed::from(3)));
        assert!(nothing.used.is_empty() && !nothing.others);
        assert!(own.used.is_empty() && own.others);
        let layer = crate::nn::Dropout::new(0.5);
        let heard = hearing_draws(|| with_seed(5, 1, || layer.forward(&x, true).unwrap())).1;
        assert!(heard.used.len() == 1 && !heard.others);
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
