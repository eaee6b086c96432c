//! How an algorithm is chosen for a GPU's product or convolution where a library has several.

use std::sync::atomic::{AtomicBool, Ordering};

/// Who chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AlgorithmChoice {
    /// The library's heuristic: the same for one shape in every process.
    #[default]
    Heuristic,
    /// The clock, once for each shape: what is fastest may differ from process to process, and with it the order of sums.
    Timed,
}

static IS_TIMED: AtomicBool = AtomicBool::new(false);

/// How this process chooses.
pub fn algorithm_choice() -> AlgorithmChoice {
    if IS_TIMED.load(Ordering::Relaxed) { AlgorithmChoice::Timed } else { AlgorithmChoice::Heuristic }
}

/// Has this process choose so from now on. What was chosen otherwise is kept for when that is asked for again.
pub fn set_algorithm_choice(choice: AlgorithmChoice) {
    IS_TIMED.store(choice == AlgorithmChoice::Timed, Ordering::Relaxed);
}
