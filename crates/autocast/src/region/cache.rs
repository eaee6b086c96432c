//! The cast cache: a parameter that several ops use in one region is cast once, and its gradients meet in that one cast.
//!
//! An entry is good while the parameter has the content that was cast. candle counts no versions, and `Var::set` writes
//! in place under the same tensor id, so there are two guards. [`parameters_changed`](crate::parameters_changed) drops
//! the thread's entries.
//! On the CPU a hit also compares a fingerprint of the parameter's bits, which reads a third of the bytes that the cast
//! would move. On a GPU that would wait for the device, so there whoever writes to a parameter inside a region must call
//! [`parameters_changed`](crate::parameters_changed); between outermost regions nothing is kept anyway.
//!
//! The gradients of several uses add up in the cast's dtype before they reach the parameter, as in PyTorch. Where hundreds
//! of 16-bit terms would meet (a long recurrence), [`CachePolicy::Off`] adds them in f32.

use std::collections::{HashMap, VecDeque};

use candle_core::{CpuStorage, DType, Storage, Tensor, TensorId};

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

#[derive(Debug)]
struct Entry {
    cast: Tensor,
    /// Of the parameter when it was cast; `None` where it cannot be read without waiting.
    fingerprint: Option<u64>,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.cast.elem_count() * self.cast.dtype().size_in_bytes()
    }
}

/// One thread's kept casts.
#[derive(Debug, Default)]
pub(crate) struct CastCache {
    entries: HashMap<Key, Entry>,
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
        let fingerprint = fingerprint(parameter);
        if let Some(entry) = self.entries.get(&key) {
            if entry.fingerprint == fingerprint {
                self.stats.hits += 1;
                return Ok(entry.cast.clone());
            }
            self.remove(key);
        }
        let entry = Entry { cast: cast()?, fingerprint };
        let cast = entry.cast.clone();
        self.stats.casts += 1;
        self.insert(key, entry, bound);
        Ok(cast)
    }

    fn insert(&mut self, key: Key, entry: Entry, bound: usize) {
        let bytes = entry.bytes();
        if bytes > bound {
            return;
        }
        while self.stats.bytes > bound - bytes {
            let Some(&oldest) = self.order.front() else { break };
            self.remove(oldest);
        }
        self.entries.insert(key, entry);
        self.order.push_back(key);
        self.stats.entries += 1;
        self.stats.bytes += bytes;
    }

    fn remove(&mut self, key: Key) {
        if let Some(entry) = self.entries.remove(&key) {
            self.order.retain(|other| *other != key);
            self.stats.dropped += 1;
            self.stats.entries -= 1;
            self.stats.bytes -= entry.bytes();
        }
    }
}

/// 64 bits that depend on every bit of an f32 tensor on the CPU; `None` elsewhere.
///
/// Each step is a bijection of its lane, so that a change of one element always changes the result; the rotation carries
/// the high bits (the signs) down to where the next product spreads them.
fn fingerprint(parameter: &Tensor) -> Option<u64> {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |lane: u64, word: u64| (lane ^ word).wrapping_mul(ODD).rotate_left(29);

    let (storage, layout) = parameter.storage_and_layout();
    let Storage::Cpu(CpuStorage::F32(values)) = &*storage else { return None };
    let (start, end) = layout.contiguous_offsets()?;
    let pairs = values[start..end].chunks_exact(8);
    let rest = pairs.remainder();
    let mut lanes = [1u64, 2, 3, 4];
    for eight in pairs {
        for (lane, pair) in lanes.iter_mut().zip(eight.chunks_exact(2)) {
            *lane = mix(*lane, u64::from(pair[0].to_bits()) | u64::from(pair[1].to_bits()) << 32);
        }
    }
    let words = rest.iter().map(|value| u64::from(value.to_bits()));
    Some(words.chain(lanes).fold(0, mix))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn of(values: &[f32]) -> u64 {
        fingerprint(&Tensor::new(values, &Device::Cpu).unwrap()).unwrap()
    }

    #[test]
    fn a_fingerprint_sees_every_single_bit_and_changes_that_cancel_in_a_sum() {
        let values: Vec<f32> = (0..37).map(|i| i as f32 * 0.37 - 3.0).collect();
        let before = of(&values);
        assert_eq!(before, of(&values));
        for i in 0..values.len() {
            for bit in 0..32 {
                let mut changed = values.clone();
                changed[i] = f32::from_bits(changed[i].to_bits() ^ (1 << bit));
                assert_ne!(before, of(&changed), "element {i}, bit {bit}");
            }
        }
        let negated: Vec<f32> = values.iter().map(|v| -v).collect();
        assert_ne!(before, of(&negated));
        let mut swapped = values.clone();
        swapped.swap(0, 8);
        assert_ne!(before, of(&swapped));
    }
}
