//! Which launches of a recording draw: their kernels have a key among their arguments.

#![expect(unsafe_code, reason = "arguments of a graph's kernel")]

use candle_core::cuda_backend::cudarc::driver::sys;
use std::cell::RefCell;

/// A launch of a kernel whose one parameter is a struct of words.
pub(super) struct Drawn {
    function: sys::CUfunction,
    pub(super) words: Vec<u64>,
    /// The word that is the key.
    pub(super) at: usize,
}

impl Drawn {
    /// Whether a node of the recorded graph is this launch.
    pub(super) fn is(&self, params: &sys::CUDA_KERNEL_NODE_PARAMS) -> bool {
        if params.func != self.function || params.kernelParams.is_null() {
            return false;
        }
        // SAFETY: the graph keeps a copy of a node's parameters, to which the list points. This kernel has one, a struct of as many
        // words as it was launched with.
        let words =
            unsafe { std::slice::from_raw_parts((*params.kernelParams).cast::<u64>(), self.words.len()) };
        words == self.words
    }
}

thread_local! {
    /// The launches since somebody listens on this thread.
    static DRAWN: RefCell<Option<Vec<Drawn>>> = const { RefCell::new(None) };
}

/// Hears of launches on this thread, until it is dropped.
pub(super) struct Listening(());

pub(super) fn listen() -> Listening {
    DRAWN.set(Some(Vec::new()));
    Listening(())
}

impl Listening {
    pub(super) fn end(self) -> Vec<Drawn> {
        DRAWN.take().unwrap_or_default()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        DRAWN.set(None);
    }
}

/// Remembers a launch, where somebody listens.
pub(in crate::cuda) fn note(function: sys::CUfunction, words: &[u64], at: usize) {
    DRAWN.with_borrow_mut(|drawn| {
        if let Some(drawn) = drawn {
            drawn.push(Drawn { function, words: words.to_vec(), at });
        }
    });
}
