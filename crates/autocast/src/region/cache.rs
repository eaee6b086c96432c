//! The cast cache: a parameter that several ops use in one region is cast once, and its gradients meet in that one cast.
//!
//! An entry is good while it is what the parameter rounds to. candle counts no versions, and `Var::set` writes
//! in place under the same tensor id, so there are two guards. [`parameters_changed`](crate::parameters_changed) drops
//! the thread's entries.
//! On the CPU a hit also compares the cast with what the parameter rounds to, which reads both and writes
//! nothing. On a GPU that would wait for the device, so there whoever writes to a parameter inside a region must call
//! [`parameters_changed`](crate::parameters_changed); between outermost regions nothing is kept anyway.
//!
//! The gradients of several uses add up in the cast's dtype before they reach the parameter, as in PyTorch. Where hundreds
//! of 16-bit terms would meet (a long recurrence), [`CachePolicy::Off`] adds them in f32.

use std::collections::{HashMap, VecDeque};

use backends::bridge;
use candle_core::{DType, Tensor, TensorId};

use super::mode::GradMode;
use crate::Result;

/// How much the cast cache may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CachePolicy {
    /// Every cast of a parameter, until the outermost region ends.
    #[default]
    Unbounded,
    /// Casts of at most `bytes` together; the oldest go first.
    Bounded {
        /// The bound, in bytes of cast copies.
        bytes: usize,
    },
    /// Nothing: each use of a parameter casts it.
    Off,
}

/// What the cast cache has done since the outermost region was entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CacheStats {
    /// Casts of parameters that were made.
    pub casts: usize,
    /// Casts of parameters that were saved.
    pub hits: usize,
    /// Casts that are held now.
    pub entries: usize,
    /// Bytes that they hold.
    pub bytes: usize,
    /// Casts that were held and are no more: their memory may be something else's.
    pub dropped: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    parameter: TensorId,
    dtype: DType,
    grad_mode: GradMode,
}

/// One thread's kept casts.
#[derive(Debug, Default)]
pub(crate) struct CastCache {
    entries: HashMap<Key, Tensor>,
    /// Oldest first.
    order: VecDeque<Key>,
    stats: CacheStats,
}

impl CastCache {
    /// Whether casts of `tensor` are kept: an f32 parameter, as in PyTorch.
    pub(crate) fn takes(tensor: &Tensor) -> bool {
        tensor.is_variable() && tensor.dtype() == DType::F32
    }

    /// Begins an outermost region.
    pub(crate) fn start(&mut self) {
        self.clear();
        self.stats = CacheStats::default();
    }

    pub(crate) fn clear(&mut self) {
        self.stats.dropped += self.entries.len();
        self.entries.clear();
        self.order.clear();
        (self.stats.entries, self.stats.bytes) = (0, 0);
    }

    pub(crate) fn stats(&self) -> CacheStats {
        self.stats
    }

    /// `parameter` in `dtype`, made by `cast` or by an earlier call.
    pub(crate) fn get_or_cast(
        &mut self,
        parameter: &Tensor,
        dtype: DType,
        grad_mode: GradMode,
        policy: CachePolicy,
        cast: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Tensor> {
        let bound = match policy {
            CachePolicy::Unbounded => usize::MAX,
            CachePolicy::Bounded { bytes } => bytes,
            CachePolicy::Off => {
                self.stats.casts += 1;
                return cast();
            }
        };
        let key = Key { parameter: parameter.id(), dtype, grad_mode };
        if let Some(cast) = self.entries.get(&key) {
            if !parameter.device().is_cpu() || bridge::is_cast(parameter, cast)? {
                self.stats.hits += 1;
                return Ok(cast.clone());
            }
            self.remove(key);
        }
        let cast = cast()?;
        self.stats.casts += 1;
        self.insert(key, cast.clone(), bound);
        Ok(cast)
    }

    fn insert(&mut self, key: Key, cast: Tensor, bound: usize) {
        let bytes = bytes(&cast);
        if bytes > bound {
            return;
        }
        while self.stats.bytes > bound - bytes {
            let Some(&oldest) = self.order.front() else { break };
            self.remove(oldest);
        }
        self.entries.insert(key, cast);
        self.order.push_back(key);
        self.stats.entries += 1;
        self.stats.bytes += bytes;
    }

    fn remove(&mut self, key: Key) {
        if let Some(cast) = self.entries.remove(&key) {
            self.order.retain(|other| *other != key);
            self.stats.dropped += 1;
            self.stats.entries -= 1;
            self.stats.bytes -= bytes(&cast);
        }
    }
}

fn bytes(cast: &Tensor) -> usize {
    cast.elem_count() * cast.dtype().size_in_bytes()
}
