//! What a thread's ops have to follow: its regions, whether gradients are recorded, and whether layers train.

use std::cell::RefCell;
use std::sync::Arc;

use super::cache::{CacheStats, CastCache};
use super::mode::{GradMode, Mode};
use super::settings::{Settings, State};

/// Begins a region on this thread, and gives the number that ends it.
pub(super) fn enter(settings: Arc<Settings>) -> u64 {
    THREAD.with_borrow_mut(|thread| {
        if thread.regions.is_empty() {
            thread.cache.start();
            thread.fast_ops = 0;
        }
        thread.last_id += 1;
        thread.regions.push((thread.last_id, settings));
        thread.last_id
    })
}

/// Ends the region of this number.
pub(super) fn leave(region: u64) {
    // A thread that is being torn down has no regions left to end.
    let _ = THREAD.try_with(|thread| {
        let mut thread = thread.borrow_mut();
        thread.regions.retain(|(id, _)| *id != region);
        if thread.regions.is_empty() {
            thread.cache.clear();
        }
    });
}

/// Runs `f` without recording a graph: [`cast_inputs`](crate::cast_inputs) detaches what it hands to the ops.
///
/// Casts of parameters that are made here are kept apart from those that carry gradients.
pub fn no_grad<R>(f: impl FnOnce() -> R) -> R {
    let _restore = Restore::new(|thread| &mut thread.grad_mode, GradMode::Off);
    f()
}

/// Runs `f` in `mode`, which holds on this thread until `f` ends.
///
/// `forward_by_mode` of [`nn::Dropout`](crate::nn::Dropout) and [`nn::BatchNorm`](crate::nn::BatchNorm) follows it. Where
/// a layer is told itself whether it trains, by `forward_train` or a `train` argument, that wins; but running statistics
/// move in [`Mode::Train`] alone.
///
/// ```
/// use autocast::{Mode, mode, with_mode};
///
/// assert_eq!(mode(), Mode::Train);
/// assert_eq!(with_mode(Mode::Evaluate, mode), Mode::Evaluate);
/// ```
pub fn with_mode<R>(mode: Mode, f: impl FnOnce() -> R) -> R {
    let _restore = Restore::new(|thread| &mut thread.mode, mode);
    f()
}

/// The mode that holds on this thread; [`Mode::Train`] where none was set.
pub fn mode() -> Mode {
    THREAD.with_borrow(|thread| thread.mode)
}

/// Sets a part of the thread's state, and puts back what it was when dropped, also where `f` panics.
struct Restore<T: Copy> {
    place: fn(&mut Thread) -> &mut T,
    before: T,
}

impl<T: Copy> Restore<T> {
    fn new(place: fn(&mut Thread) -> &mut T, value: T) -> Self {
        let before = THREAD.with_borrow_mut(|thread| std::mem::replace(place(thread), value));
        Self { place, before }
    }
}

impl<T: Copy> Drop for Restore<T> {
    fn drop(&mut self) {
        THREAD.with_borrow_mut(|thread| *(self.place)(thread) = self.before);
    }
}

/// What the cast cache has done on this thread since the outermost region was entered.
pub fn cache_stats() -> CacheStats {
    THREAD.with_borrow(|thread| thread.cache.stats())
}

/// How many ops took their inputs in the fast dtype since the outermost region was entered on this thread. Zero after a
/// step means that no op of the step followed the region.
pub fn fast_ops() -> usize {
    THREAD.with_borrow(|thread| thread.fast_ops)
}

/// Notes an op that takes its inputs in the fast dtype.
pub(super) fn count_fast_op() {
    THREAD.with_borrow_mut(|thread| thread.fast_ops += 1);
}

/// What this thread's ops have to follow.
#[derive(Default)]
struct Thread {
    /// Innermost last, each with its guard's id.
    regions: Vec<(u64, Arc<Settings>)>,
    last_id: u64,
    grad_mode: GradMode,
    mode: Mode,
    fast_ops: usize,
    cache: CastCache,
}

thread_local! {
    static THREAD: RefCell<Thread> = RefCell::default();
}

/// Forgets the casts that this thread keeps. To be called by whoever writes to a parameter inside a region; an optimizer
/// calls it after a step.
pub fn parameters_changed() {
    with_cache(CastCache::clear);
}

/// The region that holds on this thread, and whether gradients are recorded.
pub(super) fn current() -> (Option<Arc<Settings>>, GradMode) {
    THREAD.with_borrow(|thread| {
        let innermost = thread.regions.last().filter(|(_, settings)| settings.state == State::Enabled);
        (innermost.map(|(_, settings)| settings.clone()), thread.grad_mode)
    })
}

/// Runs `f` on this thread's cast cache.
pub(super) fn with_cache<R>(f: impl FnOnce(&mut CastCache) -> R) -> R {
    THREAD.with_borrow_mut(|thread| f(&mut thread.cache))
}

/// Whether gradients are recorded on this thread.
pub(crate) fn grad_mode() -> GradMode {
    THREAD.with_borrow(|thread| thread.grad_mode)
}
