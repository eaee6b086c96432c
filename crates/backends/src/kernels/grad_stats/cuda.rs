//! The CUDA side: the compiled kernel, and the layout of its argument.

use crate::cuda::Module;

pub(crate) const MODULE: Module = Module {
    name: "mixed_precision_grad_stats",
    ptx: include_str!(concat!(env!("OUT_DIR"), "/grad_stats.ptx")),
};

/// Words of one block's partial sum.
pub(crate) const PARTIAL_WORDS: usize = 2;

/// `StatsArgs` in `grad_stats.cu`, word for word.
pub(crate) struct StatsArgs {
    pub(crate) grads: u64,
    pub(crate) chunks: u64,
    pub(crate) partials: u64,
    pub(crate) steps: u64,
    pub(crate) overflowed: u64,
    pub(crate) counts: u64,
    pub(crate) state: u64,
    pub(crate) scale: u64,
    pub(crate) scaler: u64,
    pub(crate) outcomes: u64,
    pub(crate) max_norm: f64,
    pub(crate) n_chunks: u32,
    pub(crate) n_grads: u32,
    pub(crate) ring: u32,
}

impl StatsArgs {
    pub(crate) fn words(&self) -> [u64; 13] {
        [
            self.grads,
            self.chunks,
            self.partials,
            self.steps,
            self.overflowed,
            self.counts,
            self.state,
            self.scale,
            self.scaler,
            self.outcomes,
            self.max_norm.to_bits(),
            u64::from(self.n_chunks) | u64::from(self.n_grads) << 32,
            u64::from(self.ring),
        ]
    }
}
