//! `matmul_precision` and `benchmark`: whether a GPU may round the operands of f32 products, and whether a product's algorithm is chosen by
//! the clock, for as long as a fit or an evaluation lasts.
//!
//! These are switches of the whole process: one is held while something runs that asked for it, and is then what it was.

use std::sync::{Mutex, MutexGuard, PoisonError};

use autocast::{AlgorithmChoice, algorithm_choice, set_algorithm_choice};
use candle_core::cuda::{gemm_reduced_precision_f32, set_gemm_reduced_precision_f32};

use crate::{Error, Result};

/// In what a GPU computes products of f32, under PyTorch's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MatmulPrecision {
    /// In f32.
    Highest,
    /// In TF32: operands are rounded to 10 bits of mantissa, and sums are of f32.
    Reduced,
}

impl MatmulPrecision {
    /// # Errors
    /// [`Error::Setting`] for a name that is none.
    pub(crate) fn parse(name: &str) -> Result<Self> {
        match name {
            "highest" => Ok(Self::Highest),
            "high" | "medium" => Ok(Self::Reduced),
            other => Err(Error::Setting {
                setting: "matmul_precision",
                got: format!("{other:?}"),
                expected: "\"highest\", \"high\" or \"medium\"",
            }),
        }
    }
}

/// How products are asked for; where nothing is, they are as they are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Products {
    pub(crate) precision: Option<MatmulPrecision>,
    pub(crate) choice: Option<AlgorithmChoice>,
}

/// Runs `f` with products as `asked`.
pub(crate) fn multiplying<T>(asked: Products, f: impl FnOnce() -> T) -> T {
    let _rounds = asked.precision.map(|precision| ROUNDS.hold(precision == MatmulPrecision::Reduced));
    let _times = asked.choice.map(|choice| TIMES.hold(choice == AlgorithmChoice::Timed));
    f()
}

static ROUNDS: Switch = Switch::new(gemm_reduced_precision_f32, set_gemm_reduced_precision_f32);
static TIMES: Switch = Switch::new(
    || algorithm_choice() == AlgorithmChoice::Timed,
    |on| set_algorithm_choice(if on { AlgorithmChoice::Timed } else { AlgorithmChoice::Heuristic }),
);

/// A switch of the process, and who holds it.
struct Switch {
    get: fn() -> bool,
    set: fn(bool),
    holders: Mutex<Holders>,
}

/// How many hold a switch, and where it stood before the first of them.
struct Holders {
    count: usize,
    before: bool,
}

impl Switch {
    const fn new(get: fn() -> bool, set: fn(bool)) -> Self {
        Self { get, set, holders: Mutex::new(Holders { count: 0, before: false }) }
    }

    fn holders(&self) -> MutexGuard<'_, Holders> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, on: bool) -> Held<'_> {
        let mut holders = self.holders();
        if holders.count == 0 {
            holders.before = (self.get)();
        }
        holders.count += 1;
        let back_to = (self.get)();
        (self.set)(on);
        Held { switch: self, back_to }
    }
}

/// A switch that goes back when this is dropped.
struct Held<'a> {
    switch: &'a Switch,
    back_to: bool,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut holders = self.switch.holders();
        holders.count -= 1;
        // Holders on several threads need not leave in the order that they came in: the last leaves all as it was.
        let to = if holders.count == 0 { holders.before } else { self.back_to };
        (self.switch.set)(to);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    macro_rules! switch {
        () => {{
            static ON: AtomicBool = AtomicBool::new(false);
            static SWITCH: Switch =
                Switch::new(|| ON.load(Ordering::SeqCst), |on| ON.store(on, Ordering::SeqCst));
            &SWITCH
        }};
    }

    #[test]
    fn a_switch_goes_back_to_what_it_was() {
        let switch = switch!();
        for before in [true, false] {
            (switch.set)(before);
            let outer = switch.hold(true);
            assert!((switch.get)());
            let inner = switch.hold(false);
            assert!(!(switch.get)());
            drop(inner);
            assert!((switch.get)(), "what is around it goes on");
            drop(outer);
            assert_eq!((switch.get)(), before);
        }
    }

    #[test]
    fn holders_that_leave_in_another_order_leave_it_as_it_was() {
        let switch = switch!();
        let first = switch.hold(true);
        let second = switch.hold(true);
        drop(first);
        drop(second);
        assert!(!(switch.get)());
    }

    #[test]
    fn a_panic_gives_it_back() {
        let switch = switch!();
        let panicked = std::panic::catch_unwind(|| {
            let _held = switch.hold(true);
            panic!("as a step might");
        });
        assert!(panicked.is_err() && !(switch.get)());
    }

    #[test]
    fn names_are_pytorchs() {
        assert_eq!(MatmulPrecision::parse("highest").unwrap(), MatmulPrecision::Highest);
        assert_eq!(MatmulPrecision::parse("medium").unwrap(), MatmulPrecision::parse("high").unwrap());
        for bad in ["", "tf32", "High"] {
            let error = MatmulPrecision::parse(bad).unwrap_err().to_string();
            let said = ["matmul_precision", bad, "\"highest\", \"high\" or \"medium\""];
            assert!(said.iter().all(|part| error.contains(part)), "{error}");
        }
    }
}
