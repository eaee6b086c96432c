//! The region: which table and fast dtype hold on this thread, whether gradients are recorded, and whether layers train.
//! Casting by it is for [`crate::prepare`], keeping casts for [`crate::cache`].

use std::{cell::RefCell, marker::PhantomData, sync::Arc};

use candle_core::{DType, Device};
use precision_types::{Accelerator, Precision};

use crate::{
    Error, OpTable, Result,
    cache::{CachePolicy, CacheStats, CastCache},
    table::check_fast_dtype,
};

/// Autocast for one kind of device: inside its region, ops run in the dtype that its [`OpTable`] gives.
///
/// A region belongs to its thread. Regions nest, and the innermost holds; [`disabled`](Autocast::disabled) makes one in
/// which ops keep their inputs' dtypes.
///
/// ```
/// use autocast::Autocast;
/// use candle_core::DType;
/// use precision_types::Accelerator;
///
/// let autocast = Autocast::new(Accelerator::Cpu, DType::BF16)?;
/// {
///     let _guard = autocast.enter();
///     // ops run here in bf16 or f32, as the table says
/// }
/// autocast.run(|| { /* and here */ });
/// # Ok::<(), autocast::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Autocast {
    settings: Arc<Settings>,
}

#[derive(Debug, Clone)]
struct Settings {
    accelerator: Accelerator,
    fast_dtype: DType,
    table: OpTable,
    state: State,
    cache: CachePolicy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Enabled,
    Disabled,
}

impl Autocast {
    /// Autocast to `fast_dtype` with PyTorch's table for `accelerator`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] unless `fast_dtype` is f16 or bf16, or for an accelerator that candle has no device for;
    /// [`Error::UnsupportedPrecision`] if the accelerator does not run it.
    pub fn new(accelerator: Accelerator, fast_dtype: impl Into<DType>) -> Result<Self> {
        let fast_dtype = fast_dtype.into();
        check_fast_dtype(fast_dtype)?;
        let precision = if fast_dtype == DType::F16 { Precision::F16Mixed } else { Precision::Bf16Mixed };
        precision.supported_on(accelerator)?;
        let table = match accelerator {
            Accelerator::Cpu => OpTable::cpu(),
            Accelerator::Gpu => OpTable::gpu(),
            Accelerator::Tpu => return Err(Error::argument("autocast", "accelerator", "tpu", "cpu or gpu")),
        };
        let (state, cache) = (State::Enabled, CachePolicy::default());
        Ok(Self { settings: Arc::new(Settings { accelerator, fast_dtype, table, state, cache }) })
    }

    /// The region that `precision` trains in: autocast for a mixed one, none for the others.
    ///
    /// # Errors
    ///
    /// As [`Autocast::new`].
    pub fn for_precision(precision: Precision, accelerator: Accelerator) -> Result<Option<Self>> {
        precision.supported_on(accelerator)?;
        precision.is_mixed().then(|| Self::new(accelerator, precision.compute_dtype())).transpose()
    }

    /// The same with another table.
    pub fn with_table(self, table: OpTable) -> Self {
        self.with(|settings| settings.table = table)
    }

    /// The same with another bound on the cast cache.
    pub fn with_cache(self, cache: CachePolicy) -> Self {
        self.with(|settings| settings.cache = cache)
    }

    /// A region in which nothing is cast, to put inside another.
    pub fn disabled(self) -> Self {
        self.with(|settings| settings.state = State::Disabled)
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }

    /// Enters the region on this thread, until the guard is dropped.
    #[must_use = "the region ends when the guard is dropped"]
    pub fn enter(&self) -> RegionGuard {
        let id = THREAD.with_borrow_mut(|thread| {
            if thread.regions.is_empty() {
                thread.cache.start();
                thread.fast_ops = 0;
            }
            thread.last_id += 1;
            thread.regions.push((thread.last_id, self.settings.clone()));
            thread.last_id
        });
        RegionGuard { id, not_send: PhantomData }
    }

    /// Runs `f` in the region. The region ends with `f`, also where `f` panics.
    pub fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        let _guard = self.enter();
        f()
    }
}

/// Ends its region when dropped. Guards may be dropped in any order; each ends its own region.
#[derive(Debug)]
pub struct RegionGuard {
    id: u64,
    /// The region is this thread's, so the guard must stay on it.
    not_send: PhantomData<*const ()>,
}

impl Drop for RegionGuard {
    fn drop(&mut self) {
        // A thread that is being torn down has no regions left to end.
        let _ = THREAD.try_with(|thread| {
            let mut thread = thread.borrow_mut();
            thread.regions.retain(|(id, _)| *id != self.id);
            if thread.regions.is_empty() {
                thread.cache.clear();
            }
        });
    }
}

/// Runs `f` without recording a graph: [`cast_inputs`](crate::cast_inputs) detaches what it hands to the ops.
///
/// Casts of parameters that are made here are kept apart from those that carry gradients.
pub fn no_grad<R>(f: impl FnOnce() -> R) -> R {
    let _restore = Restore::new(|thread| &mut thread.grad_mode, GradMode::Off);
    f()
}

/// Whether layers train or are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// Dropout drops, and BatchNorm normalises with its batch's statistics and moves the running ones.
    #[default]
    Train,
    /// Dropout drops nothing, BatchNorm normalises with the running statistics, and nothing is written to a model.
    Evaluate,
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
pub(crate) fn count_fast_op() {
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

/// Whether a graph is being recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum GradMode {
    #[default]
    Record,
    Off,
}

/// The innermost region, if it is enabled.
pub(crate) struct Active(Arc<Settings>);

impl Active {
    pub(crate) fn table(&self) -> &OpTable {
        &self.0.table
    }

    pub(crate) fn fast_dtype(&self) -> DType {
        self.0.fast_dtype
    }

    pub(crate) fn cache_policy(&self) -> CachePolicy {
        self.0.cache
    }

    /// Whether the region casts tensors on `device`.
    pub(crate) fn covers(&self, device: &Device) -> bool {
        match self.0.accelerator {
            Accelerator::Cpu => device.is_cpu(),
            Accelerator::Gpu => !device.is_cpu(),
            Accelerator::Tpu => false,
        }
    }
}

/// The region that holds on this thread, and whether gradients are recorded.
pub(crate) fn current() -> (Option<Active>, GradMode) {
    THREAD.with_borrow(|thread| {
        let innermost = thread.regions.last().filter(|(_, settings)| settings.state == State::Enabled);
        (innermost.map(|(_, settings)| Active(settings.clone())), thread.grad_mode)
    })
}

/// Runs `f` on this thread's cast cache.
pub(crate) fn with_cache<R>(f: impl FnOnce(&mut CastCache) -> R) -> R {
    THREAD.with_borrow_mut(|thread| f(&mut thread.cache))
}
