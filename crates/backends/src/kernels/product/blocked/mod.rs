//! Products on a CPU: operands are packed into panels, which are multiplied in blocks that fit the caches, and every sum stays in
//! a register for a run of [`RUN`] terms.
//!
//! The right operand is packed for all threads. A task has some rows of the left one, packs them into its thread's second-level
//! cache, and goes through the right one's panels a few at a time: of these it multiplies a run, 16 KiB a panel, which stays in the
//! first level while all its rows pass, then the next run, whose sums are added to those before; they are written after the last.
//! 16-bit numbers are widened as they are packed, but for pairs of bf16, which `vdpbf16ps` multiplies as they are.
//!
//! An element is the same whatever the task and the instruction set (of those that have FMA): `a·b` added to one sum term after
//! term, sums of runs added in their order, and those of [`DEPTH`] terms to what the output holds.

mod finish;
mod memory;
mod pack;
#[cfg(target_arch = "x86_64")]
mod pairs;
mod plan;
mod source;
mod sums;
mod term;
#[cfg(test)]
mod tests;

pub(super) use finish::{Finish, Output, Turned};
pub(crate) use finish::{Lies, Plus, Then};
pub(super) use memory::Memory;
pub(crate) use pack::{Operand, Strided, turned};
pub(crate) use source::Source;
pub(crate) use term::{Packed, Term};

use crate::simd::convert::Stored;
use crate::simd::rows::share_out;
use pack::Pack;
use plan::tasks;
use std::ops::Range;
use sums::{Product, Sums, held};

/// Terms that are added one after another.
const RUN: usize = 256;
/// Terms whose panels are in memory at once: 48 rows of them are 192 KiB of f32, within every second-level cache.
pub(super) const DEPTH: usize = 4 * RUN;
/// Rows of a panel of the left operand.
const ROWS: usize = 12;
/// Panels of the left operand in a task, at most.
const TALL: usize = 4;
/// Rows of a task, at most.
pub(super) const TASK: usize = TALL * ROWS;
/// Panels of the right operand that are packed at a time: 8 MiB.
const WIDE: usize = 128;
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

impl Threads {
    /// Does `work` on every task.
    pub(crate) fn share_out<W: Send>(self, tasks: Vec<W>, work: impl Fn(W) + Sync + Send) {
        match self {
            Self::One => tasks.into_iter().for_each(work),
            Self::All => share_out(tasks, work),
        }
    }
}

/// Parts of so many, of which the last may be shorter.
pub(super) fn steps(len: usize, each: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    (0..len).step_by(each).map(move |at| at..len.min(at + each))
}

/// Writes the products of each lane of `a` with each of `b` to `out`, a row for each of `a`, as `then` says. `b` is packed for all
/// threads, and `a` where it is multiplied.
///
/// # Panics
///
/// Where the sizes do not fit together, or there are more than [`DEPTH`] terms and `out` is of another type than the sums are.
pub(super) fn multiply<E: Term, O: Stored<E::Sum>>(
    unit: E::Unit,
    a: impl Operand<E>,
    b: impl Operand<E>,
    then: Then<'_, E::Sum, O>,
    (out, lies): (&mut [O], Lies),
    threads: Threads,
) {
    // A product of few columns is that of the transposed matrices, whose rows fill vectors.
    if b.lanes() < E::COLUMNS && a.lanes() > b.lanes() {
        return multiply_turned(unit, a, b, then, (out, lies), threads);
    }
    let out = Output::new(out, lies, [a.lanes(), b.lanes()], Turned::Not);
    Blocks { unit, a, b, then, out: &out, threads }.multiply();
}

/// [`multiply`], where `a` is packed for all threads, and `b` where it is multiplied.
///
/// # Panics
///
/// As [`multiply`].
pub(super) fn multiply_turned<E: Term, O: Stored<E::Sum>>(
    unit: E::Unit,
    a: impl Operand<E>,
    b: impl Operand<E>,
    then: Then<'_, E::Sum, O>,
    (out, lies): (&mut [O], Lies),
    threads: Threads,
) {
    let out = Output::new(out, lies, [a.lanes(), b.lanes()], Turned::Over);
    Blocks { unit, a: b, b: a, then, out: &out, threads }.multiply();
}

/// A product whose rows and columns are as tiles lie.
struct Blocks<'a, E: Term, A, B, O> {
    unit: E::Unit,
    a: A,
    b: B,
    then: Then<'a, E::Sum, O>,
    out: &'a Output<'a, O>,
    threads: Threads,
}

impl<E: Term, A: Operand<E>, B: Operand<E>, O: Stored<E::Sum>> Blocks<'_, E, A, B, O> {
    fn multiply(mut self) {
        let (numbers, depth) = (self.a.numbers(), DEPTH * E::NUMBERS);
        assert_eq!(self.b.numbers(), numbers, "a product");
        if self.a.lanes() * self.b.lanes() == 0 {
            return;
        }
        assert!(numbers <= depth || size_of::<O>() == size_of::<E::Sum>(), "sums that the output holds");
        if self.a.lanes() * self.b.lanes() * numbers < WORTH_SHARING {
            self.threads = Threads::One;
        }
        for first in (0..numbers).step_by(depth) {
            if first > 0 {
                self.then = Then { row: None, plus: Plus::Output, ..self.then };
            }
            self.of(first..numbers.min(first + depth));
        }
    }

    /// Of some numbers, whose panels are in memory at once, for some columns and some rows.
    fn of(&self, numbers: Range<usize>) {
        let threads = match self.threads {
            Threads::One => 1,
            Threads::All => rayon::current_num_threads(),
        };
        let terms = numbers.len().div_ceil(E::NUMBERS);
        let rows = self.a.lanes();
        for columns in steps(self.b.lanes(), WIDE * E::COLUMNS) {
            let right = self.panels(self.b, E::COLUMNS, &columns, &numbers, self.threads);
            let tasks = tasks([rows.div_ceil(ROWS), columns.len().div_ceil(E::COLUMNS)], threads);
            self.threads.share_out(tasks, |[left, of]| {
                let rows = left.start * ROWS..rows.min(left.end * ROWS);
                let left = self.panels(self.a, ROWS, &rows, &numbers, Threads::One);
                let (at, size) = ([rows.start, columns.start], [rows.len(), columns.len()]);
                let product = Product { left: &left, right: &right, terms, at, size };
                let finish = Finish { out: self.out, then: self.then };
                let mut held = Memory::of(held::<E>());
                E::add_up(self.unit, Sums { product, of, finish, held: &mut held });
            });
        }
    }

    /// The panels of some lanes: those of the first run, then of the next.
    fn panels(
        &self,
        operand: impl Operand<E>,
        width: usize,
        lanes: &Range<usize>,
        numbers: &Range<usize>,
        threads: Threads,
    ) -> Memory<E> {
        let terms = numbers.len().div_ceil(E::NUMBERS);
        let count = lanes.len().div_ceil(width);
        let mut panels = Memory::of(count * width * terms);
        let mut tasks = Vec::new();
        for (of, to) in steps(terms, RUN).zip(panels.chunks_mut(count * width * RUN)) {
            let each = match threads {
                Threads::One => count,
                Threads::All => (WORTH_PACKING / (width * of.len())).max(1),
            };
            let at = |term: usize| numbers.end.min(numbers.start + term * E::NUMBERS);
            for (i, to) in to.chunks_mut(each * width * of.len()).enumerate() {
                let (first, of) = (lanes.start + i * each * width, at(of.start)..at(of.end));
                tasks.push(Pack { operand, width, first, of, to });
            }
        }
        threads.share_out(tasks, |pack| E::isa(self.unit).run(pack));
        panels
    }
}
