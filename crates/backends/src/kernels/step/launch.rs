//! A launched step, of which the device tells by itself, and what a rule hands to its kernel.

use super::{GradStats, Outcome, Seen};
use crate::Result;
use crate::cuda::{Module, Outcomes, device};
use candle_core::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use std::sync::Arc;

/// A rule's kernels, and the settings of one group as their struct lays them out.
#[derive(Clone, Copy, Debug)]
pub struct DeviceRule {
    pub(crate) module: Module,
    /// Of the kernels' names: `_f32` and so on follow.
    pub(crate) prefix: &'static str,
    pub(crate) words: [u64; 6],
}

/// A step that was launched, and where its outcome will be.
#[derive(Clone, Debug)]
pub(crate) struct Launched {
    pub(super) outcomes: Arc<Outcomes>,
    /// Counted from 1.
    pub(super) serial: u32,
    /// `StepState` in `multi_tensor.cuh`.
    pub(super) state: Arc<CudaSlice<u64>>,
    /// Steps applied before those that the device counts.
    pub(super) base: u64,
    /// Whether the gradients were looked at.
    pub(super) looked: bool,
    pub(super) counted: Option<Counted>,
}

/// Counts of elements that the device fills in.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    pub(super) candle: CudaDevice,
    /// Three for each slot: not finite, zero, subnormal.
    pub(super) counts: Arc<CudaSlice<u64>>,
    /// The slots that have a gradient, and its length.
    pub(super) lens: Vec<(usize, u64)>,
}

impl Launched {
    /// Where the device's decision is, and under which serial number.
    pub(crate) fn decision(&self) -> (&CudaSlice<u64>, u32) {
        (&self.state, self.serial)
    }

    pub(super) fn wait(&self) -> Result<()> {
        self.outcomes.wait()
    }

    /// As `decide` in `grad_stats.cu` writes it.
    pub(super) fn poll(&self) -> Result<Option<Outcome>> {
        let word = self.outcomes.payload(self.serial)?;
        Ok(word.map(|word| Outcome {
            found_inf: word & 1 == 1,
            grad_norm: self.looked.then(|| f64::from(f32::from_bits((word >> 32) as u32))),
            applied_before: self.base + u64::from(word as u32 >> 1),
        }))
    }

    pub(super) fn wait_for_seen(&self) -> Result<Option<Seen>> {
        let Some(Counted { candle, counts, lens }) = &self.counted else { return Ok(None) };
        self.wait()?;
        let Some(norm) = self.poll()?.and_then(|outcome| outcome.grad_norm) else { return Ok(None) };
        let counts = candle.clone_dtoh(&**counts).map_err(device("step"))?;
        let of = |slot: usize| [counts[3 * slot], counts[3 * slot + 1], counts[3 * slot + 2]];
        let one = |&(slot, len): &(usize, u64)| {
            let [non_finite, zeros, subnormal] = of(slot);
            GradStats { len, non_finite, zeros, subnormal, sum_squares: 0.0 }
        };
        let total = lens.iter().map(one).fold(GradStats::default(), GradStats::merge);
        let non_finite = lens.iter().map(|(slot, _)| *slot).filter(|&slot| of(slot)[0] > 0).collect();
        // The device takes the squares of all together.
        Ok(Some(Seen { non_finite, total: GradStats { sum_squares: norm * norm, ..total } }))
    }
}
