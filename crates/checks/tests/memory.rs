//! Host memory does not depend on the number of steps: nothing is kept of a step but its loss.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use autocast::{nn, ops};
use candle_core::Module;
use checks::models::closures::{CPU_PRECISIONS, builder, module, xy};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// By then everything exists that a step needs.
const EARLY: usize = 500;
const STEPS: usize = 20_000;

/// A loss is eight bytes, in a vector that may have room for as many again and that is copied when it grows.
const LOSSES: usize = 3 * 8 * STEPS;

#[test]
fn twenty_thousand_steps_need_what_five_hundred_do() {
    for precision in CPU_PRECISIONS {
        let module = module(
            |vb| Ok((nn::linear(2, 8, vb.pp("a"))?, nn::Dropout::new(0.1), nn::linear(8, 1, vb.pp("b"))?)),
            |(a, dropout, b), (x, y)| {
                let hidden = dropout.forward_by_mode(&ops::gelu(&a.forward(x)?)?)?;
                Ok(ops::mse_loss(&b.forward(&hidden)?, y, ops::Reduction::Mean)?)
            },
        );
        let trainer = builder(precision).max_steps(STEPS).build().unwrap();
        let mut early = 0;
        trainer
            .fit_with(&module, std::iter::repeat(xy()), |step| {
                if step.number() == EARLY {
                    HEAP.reset_peak_usage();
                    early = HEAP.current_usage();
                }
                Ok(())
            })
            .unwrap();
        // A step's own tensors are in the peak and not in what is in use between steps: a few kilobytes.
        let grown = HEAP.peak_usage().saturating_sub(early);
        assert!(grown <= LOSSES + (256 << 10), "{precision}: {grown} bytes more after {STEPS} steps");
    }
}
