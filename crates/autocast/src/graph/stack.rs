//! A stack for what candle does to deep graphs: its walk over its own ops and their release recurse once per op, so that some
//! ten thousand of them (a recurrence over a long sequence, a solver's steps) overflow a thread's stack.

/// Address space for the recursion, the most that is asked for. Pages are committed only as it reaches them.
const STACK_BYTES: usize = 1 << 30;

/// Where less than this is to be had, the thread's own stack is as good.
const LEAST_STACK_BYTES: usize = 4 << 20;

/// Runs `f` on this thread with a stack for deep graphs: to release one, or to call what recurses over one.
///
/// The stack is the largest that is to be had of 1 GiB, half of it and so on; where there is none, `f` runs on the
/// thread's own.
///
/// ```
/// # let graph = candle_core::Tensor::new(1f32, &candle_core::Device::Cpu)?;
/// autocast::deep_stack(move || drop(graph));
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn deep_stack<R>(f: impl FnOnce() -> R) -> R {
    let halves = std::iter::successors(Some(STACK_BYTES), |bytes| Some(bytes / 2));
    match halves.take_while(|&bytes| bytes >= LEAST_STACK_BYTES).find(|&bytes| is_to_be_had(bytes)) {
        Some(bytes) => stacker::grow(bytes, f),
        None => f(),
    }
}

/// Whether a mapping of `bytes`, and of what the stack's guard pages and bookkeeping may take, succeeds: `stacker` panics
/// where its own does not. The pages are never touched, so they cost no memory.
fn is_to_be_had(bytes: usize) -> bool {
    memmap2::MmapMut::map_anon(bytes + LEAST_STACK_BYTES).is_ok()
}
