//! [`Autocast`], which a user makes and enters.

use std::marker::PhantomData;
use std::sync::Arc;

use candle_core::DType;
use precision_types::{Accelerator, Precision};

use super::cache::CachePolicy;
use super::settings::{Settings, State};
use super::thread;
use crate::table::{OpTable, check_fast_dtype};
use crate::{Error, Result};

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
        let id = thread::enter(self.settings.clone());
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
        thread::leave(self.id);
    }
}
