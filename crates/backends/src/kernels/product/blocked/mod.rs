//! Products on a CPU: operands are packed into panels, which are multiplied in blocks that fit the caches, and every sum stays in
//! a register for a run of [`RUN`] terms.
//!
//! The right operand is packed for all threads. A task has some rows of the left one, packs them into its thread's second-level
//! cache, and goes through the right one's panels a few at a time: of these it multiplies a run, 16 KiB a panel, which stays
//! in the first level while all its rows pass, and adds that to tiles beside the left panels. Then it writes the tiles.
//! 16-bit numbers are widened as they are packed.
//!
//! An element is the same whatever the task and the instruction set (of those that have FMA): `a·b` added to one sum term after
//! term, sums of runs added in their order, and those of [`DEPTH`] terms to what the output holds.

mod finish;
mod memory;
mod pack;
mod sums;
#[cfg(test)]
mod tests;

pub(crate) use finish::Then;

use super::{Before, Matrix};
use crate::Real;
use crate::simd::convert::Stored;
use crate::simd::rows::share_out;
use crate::simd::{Isa, Simd};
use finish::{Finish, Output, Turned};
use memory::Memory;
use pack::Pack;
use std::cell::RefCell;
use std::ops::Range;
use sums::{Sums, sums};

/// Terms that are added one after another.
const RUN: usize = 256;
/// Terms whose panels are in memory at once: 48 rows of them are 192 KiB of f32, within every second-level cache.
pub(super) const DEPTH: usize = 4 * RUN;
/// Rows of a panel of the left operand.
const ROWS: usize = 12;
/// Such panels of a task, at most.
const TALL: usize = 4;
/// Panels of the right operand that a task goes through at a time: 256 KiB for a run.
const NEAR: usize = 16;
/// Panels of the right operand that are packed at a time: 8 MiB.
const WIDE: usize = 8 * NEAR;
/// Multiplications that are worth a second thread.
const WORTH_SHARING: usize = 1 << 19;
/// Elements that are worth a task that packs them.
const WORTH_PACKING: usize = 1 << 15;

/// Whether a product may use all threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threads {
    /// The one that calls.
    One,
    /// Those of the pool.
    All,
}

/// A type in which products are summed.
pub(crate) trait Packed: Real + Stored<Self> {
    /// Columns of a panel of the right operand: 64 bytes.
    const COLUMNS: usize;

    /// [`Sums`], where the type is known.
    fn sums<S: Simd>(simd: S, work: Sums<'_, Self>);

    /// The buffers that this thread has kept.
    fn with_kept<R>(what: impl FnOnce(&mut Vec<Vec<Self>>) -> R) -> R;
}

macro_rules! packed {
    ($($t:ty: $columns:literal),*) => {$(
        impl Packed for $t {
            const COLUMNS: usize = $columns;

            #[inline(always)]
            fn sums<S: Simd>(simd: S, work: Sums<'_, Self>) {
                sums(simd, work);
            }

            fn with_kept<R>(what: impl FnOnce(&mut Vec<Vec<Self>>) -> R) -> R {
                thread_local! {
                    static KEPT: RefCell<Vec<Vec<$t>>> = const { RefCell::new(Vec::new()) };
                }
                KEPT.with_borrow_mut(what)
            }
        }
    )*};
}
packed!(f32: 16, f64: 8);

/// The terms of each run of so many.
fn runs(terms: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    (0..terms).step_by(RUN).map(move |at| at..terms.min(at + RUN))
}

/// An operand: a matrix in memory.
pub(crate) type Operand<'a, X> = (&'a [X], Matrix);

/// Writes `a · b` to `out`, one row after another, as `then` says.
///
/// # Panics
///
/// Where the sizes do not fit together, a matrix reaches past its slice, or there are more than [`DEPTH`] terms and `out` is of
/// another type than the sums are.
pub(crate) fn multiply<T: Packed, X: Stored<T>, O: Stored<T>>(
    isa: Isa,
    (a, lhs): Operand<'_, X>,
    (b, rhs): Operand<'_, X>,
    then: Then<'_, T>,
    out: &mut [O],
    threads: Threads,
) {
    let (rows, depth, columns) = (lhs.rows, lhs.columns, rhs.columns);
    if out.is_empty() || depth == 0 && then.before == Before::Kept {
        return;
    }
    assert_eq!(rhs.rows, depth, "a product");
    assert_eq!(out.len(), rows * columns, "where a product goes");
    assert!(lhs.span() <= a.len() && rhs.span() <= b.len(), "matrices within their slices");
    assert!(depth <= DEPTH || size_of::<O>() == size_of::<T>(), "sums that the output holds");
    let (a, b) = ((a, lhs), (b, rhs.transposed()));
    // A product of few columns is that of the transposed matrices, whose rows fill vectors.
    let turned = if columns < T::COLUMNS && rows > columns { Turned::Over } else { Turned::Not };
    let [a, b] = if turned == Turned::Over { [b, a] } else { [a, b] };
    let out = Output::new(out, columns, turned);
    let threads = if rows * columns * depth < WORTH_SHARING { Threads::One } else { threads };
    for first in (0..depth).step_by(DEPTH) {
        let terms = DEPTH.min(depth - first);
        let more = Then { row: None, before: Before::Kept, ..then };
        let then = if first == 0 { then } else { more };
        let [a, b] = [a, b].map(|(x, of)| (&x[first * of.column..], of.columns(terms)));
        Block { isa, a, b, then, out: &out, threads }.multiply();
    }
}

/// A product whose panels are in memory at once, but for the right operand's columns.
struct Block<'a, T, X, O> {
    isa: Isa,
    a: Operand<'a, X>,
    /// A row for each column of the product.
    b: Operand<'a, X>,
    then: Then<'a, T>,
    out: &'a Output<'a, O>,
    threads: Threads,
}

impl<T: Packed, X: Stored<T>, O: Stored<T>> Block<'_, T, X, O> {
    fn multiply(&self) {
        let (_, rhs) = self.b;
        for first in (0..rhs.rows).step_by(WIDE * T::COLUMNS) {
            let columns = first..rhs.rows.min(first + WIDE * T::COLUMNS);
            let panels = self.right_panels(&columns);
            let tasks = self.tasks(columns.len().div_ceil(T::COLUMNS));
            self.share_out(tasks, |task| self.task(task, &columns, &panels));
        }
    }

    /// The panels of some columns: those of the first run, then of the next.
    fn right_panels(&self, columns: &Range<usize>) -> Memory<T> {
        let (x, rhs) = self.b;
        let (width, count) = (T::COLUMNS, columns.len().div_ceil(T::COLUMNS));
        let mut panels = Memory::of(count * width * rhs.columns);
        let mut tasks = Vec::new();
        for (terms, to) in runs(rhs.columns).zip(panels.chunks_mut(count * width * RUN)) {
            let each = match self.threads {
                Threads::One => count,
                Threads::All => (WORTH_PACKING / (width * terms.len())).max(1),
            };
            for (i, to) in to.chunks_mut(each * width * terms.len()).enumerate() {
                let matrix = Matrix { rows: columns.end, columns: terms.len(), ..rhs };
                let x = &x[terms.start * rhs.column..];
                tasks.push(Pack { x, matrix, width, first: columns.start / width + i * each, to });
            }
        }
        self.share_out(tasks, |pack| self.isa.run(pack));
        panels
    }

    fn share_out<W: Send>(&self, tasks: Vec<W>, work: impl Fn(W) + Sync + Send) {
        match self.threads {
            Threads::One => tasks.into_iter().for_each(work),
            Threads::All => share_out(tasks, work),
        }
    }

    /// Rows and panels of the right operand for each task: several tasks a thread, so that all end together.
    fn tasks(&self, panels: usize) -> Vec<(Range<usize>, Range<usize>)> {
        let rows = self.a.1.rows;
        let wanted = match self.threads {
            Threads::One => 1,
            Threads::All => 4 * rayon::current_num_threads(),
        };
        let tall = (rows / (ROWS * wanted)).clamp(1, TALL);
        let tall = if self.threads == Threads::One { TALL } else { tall } * ROWS;
        let parts = wanted.div_ceil(rows.div_ceil(tall)).min(panels);
        let wide = panels.div_ceil(parts).next_multiple_of(2);
        let cut = |len: usize, each: usize| (0..len).step_by(each).map(move |at| at..len.min(at + each));
        cut(rows, tall).flat_map(|rows| cut(panels, wide).map(move |of| (rows.clone(), of))).collect()
    }

    /// Some rows of the product, of some of the `count` panels that begin with the column `first`.
    fn task(&self, (rows, of): (Range<usize>, Range<usize>), columns: &Range<usize>, panels: &[T]) {
        let (x, lhs) = self.a;
        let (width, tall) = (T::COLUMNS, rows.len().div_ceil(ROWS));
        let mut a = Memory::of(tall * ROWS * lhs.columns);
        for (terms, to) in runs(lhs.columns).zip(a.chunks_mut(tall * ROWS * RUN)) {
            let x = &x[rows.start * lhs.row + terms.start * lhs.column..];
            let matrix = Matrix { rows: rows.len(), columns: terms.len(), ..lhs };
            self.isa.run(Pack { x, matrix, width: ROWS, first: 0, to });
        }
        let mut tiles = Memory::of(tall * ROWS * NEAR.min(of.len()) * width);
        let all = columns.len().div_ceil(width);
        for near in of.clone().step_by(NEAR) {
            let count = NEAR.min(of.end - near);
            let tiles = &mut tiles[..tall * ROWS * count * width];
            for (run, of) in runs(lhs.columns).enumerate() {
                let terms = of.len();
                let a = &a[run * tall * ROWS * RUN..][..tall * ROWS * terms];
                let b = &panels[(run * all * RUN + near * terms) * width..][..count * terms * width];
                let before = if run == 0 { Before::Replaced } else { Before::Kept };
                self.isa.run(Sums { a, rows: rows.len(), b, terms, tiles, before });
            }
            let column = columns.start + near * width;
            let (at, size) = ([rows.start, column], [rows.len(), (count * width).min(columns.end - column)]);
            self.isa.run(Finish { tiles, out: self.out, at, size, then: self.then });
        }
    }
}
