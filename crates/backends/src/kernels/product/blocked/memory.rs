//! Memory for panels and tiles, which a thread keeps: fresh pages would cost as much as the packing.

use crate::heap::with_room;
use crate::simd::lanes::LINE;
use std::ops::{Deref, DerefMut};

/// Buffers that a thread keeps: panels of both operands and tiles, and those of a product within another's wait.
const KEPT: usize = 6;

/// What buffers are kept of.
pub(crate) trait Keep: Copy + Default + Send + Sync + 'static {
    /// Does `what` with the buffers of this thread that are free.
    fn with_kept<R>(what: impl FnOnce(&mut Vec<Vec<Self>>) -> R) -> R;
}

/// [`Keep`] for a type.
macro_rules! keep {
    ($t:ident) => {
        impl crate::kernels::product::blocked::memory::Keep for $t {
            fn with_kept<R>(what: impl FnOnce(&mut Vec<Vec<Self>>) -> R) -> R {
                thread_local! {
                    static KEPT: std::cell::RefCell<Vec<Vec<$t>>> = const { std::cell::RefCell::new(Vec::new()) };
                }
                KEPT.with_borrow_mut(what)
            }
        }
    };
}
pub(super) use keep;

/// Elements of any value, from the start of a line on.
pub(in crate::kernels::product) struct Memory<E: Keep> {
    all: Vec<E>,
    start: usize,
    len: usize,
}

impl<E: Keep> Memory<E> {
    pub(in crate::kernels::product) fn of(len: usize) -> Self {
        let most = len + LINE / size_of::<E>();
        let kept = E::with_kept(|kept| {
            let enough = kept.iter().enumerate().filter(|(_, x)| x.len() >= most);
            let at = enough.min_by_key(|(_, x)| x.len()).map(|(at, _)| at);
            at.or(kept.len().checked_sub(1)).map(|at| kept.swap_remove(at))
        });
        let mut all = kept.unwrap_or_default();
        if all.len() < most {
            // What it held is not copied.
            all = with_room(most);
            all.resize(most, E::default());
        }
        let start = all.as_ptr().align_offset(LINE).min(most - len);
        Self { all, start, len }
    }
}

impl<E: Keep> Deref for Memory<E> {
    type Target = [E];

    fn deref(&self) -> &[E] {
        &self.all[self.start..self.start + self.len]
    }
}

impl<E: Keep> DerefMut for Memory<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        &mut self.all[self.start..self.start + self.len]
    }
}

impl<E: Keep> Drop for Memory<E> {
    fn drop(&mut self) {
        let all = std::mem::take(&mut self.all);
        E::with_kept(|kept| {
            if kept.len() < KEPT {
                kept.push(all);
            }
        });
    }
}
