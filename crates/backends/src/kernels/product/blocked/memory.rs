//! Memory for panels and tiles, which a thread keeps: fresh pages would cost as much as the packing.

use super::Packed;
use std::ops::{Deref, DerefMut};

/// Bytes of a line of the cache, at which vectors begin.
const LINE: usize = 64;
/// Buffers that a thread keeps: panels of both operands and tiles, and those of a product within another's wait.
const KEPT: usize = 6;

/// Numbers of any value, from the start of a line on.
pub(super) struct Memory<T: Packed> {
    all: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Packed> Memory<T> {
    pub(super) fn of(len: usize) -> Self {
        let most = len + LINE / size_of::<T>();
        let kept = T::with_kept(|kept| {
            let enough = kept.iter().enumerate().filter(|(_, x)| x.len() >= most);
            let at = enough.min_by_key(|(_, x)| x.len()).map(|(at, _)| at);
            at.or(kept.len().checked_sub(1)).map(|at| kept.swap_remove(at))
        });
        let mut all = kept.unwrap_or_default();
        if all.len() < most {
            // What it held is not copied.
            all.clear();
            all.resize(most, T::ZERO);
        }
        let start = all.as_ptr().align_offset(LINE).min(most - len);
        Self { all, start, len }
    }
}

impl<T: Packed> Deref for Memory<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.all[self.start..self.start + self.len]
    }
}

impl<T: Packed> DerefMut for Memory<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.all[self.start..self.start + self.len]
    }
}

impl<T: Packed> Drop for Memory<T> {
    fn drop(&mut self) {
        let all = std::mem::take(&mut self.all);
        T::with_kept(|kept| {
            if kept.len() < KEPT {
                kept.push(all);
            }
        });
    }
}
