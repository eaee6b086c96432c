//! Products on a CPU: operands are packed into panels, which are multiplied in blocks that fit the caches, and every sum stays in
//! a register for a run of [`RUN`] terms.
//!
//! The shorter operand is packed for all threads. A task packs some lanes of the other into its thread's second-level cache, and goes
//! through blocks of the product whose sums fit the caches: it multiplies a run of two right panels, 16 KiB each (with vectors of 64 bytes one half
//! of three, and then the other), which stays in the first level while all rows of the block pass, then of the next ones, then the next run, whose sums are
//! added to those before; they are written after the last. 16-bit numbers are widened as they are packed, but for pairs of bf16, which `vdpbf16ps` multiplies as they are.
//!
//! An element is the same whatever the task and the instruction set (of those that have FMA): `a·b` added to one sum term after
//! term, sums of runs added in their order, and those of [`DEPTH`] terms to what the output holds.

mod finish;
mod in_place;
mod memory;
mod pack;
#[cfg(target_arch = "x86_64")]
mod pairs;
mod plan;
mod rows;
mod shape;
mod source;
mod sums;
mod term;
#[cfg(test)]
mod tests;

pub(super) use finish::{Finish, Output, Turned};
pub(crate) use finish::{Lies, Plus, Then};
pub(crate) use in_place::InPlace;
pub(super) use memory::Memory;
pub(crate) use pack::{Operand, Strided, turned};
pub(crate) use source::Source;
pub(crate) use term::{Packed, Term};

use crate::simd::convert::Stored;
use crate::threads::Threads;
use pack::Pack;
use plan::tasks;
use rows::{Left, Lying};
use shape::Shape;
use std::ops::Range;
use sums::{Side, Sums, held};

/// Terms that are added one after another.
const RUN: usize = 256;
/// Terms whose panels are in memory at once: 48 rows of them are 192 KiB of f32, within every second-level cache.
pub(super) const DEPTH: usize = 4 * RUN;
/// Rows, and groups of right panels, that a task packs at most: 192 KiB of f32, and 256 or 384 KiB.
const TALL: usize = 48;
const BROAD: usize = 2;
/// Lanes that are packed for all threads at a time, at most: 8 MiB of f32.
const WIDE: usize = 2048;
/// Times as many columns as rows for which rows are packed for all threads.
const WIDER: usize = 4;
/// Bytes of vectors from which on rows are multiplied in place, where they can be. Shorter ones have registers for 6 rows, whose reading took a
/// quarter longer than that of panels does; 12 rows of 64 bytes took a tenth less.
const IN_PLACE: usize = 64;
/// Multiplications that are worth a second thread.
const WORTH_SHARING: usize = 1 << 19;
/// Elements that are worth a task that packs them.
const WORTH_PACKING: usize = 1 << 15;

/// Parts of so many, of which the last may be shorter.
pub(super) fn steps(len: usize, each: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    (0..len).step_by(each).map(move |at| at..len.min(at + each))
}

/// Whether the left operand is the one that is packed for all threads. It is read again for every task: the shorter one.
pub(super) fn left_is_shared([rows, columns]: [usize; 2]) -> bool {
    columns / WIDER >= rows
}

/// Writes the products of each lane of `a` with each of `b` to `out`, a row for each of `a`, as `then` says.
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
    let may_lie = E::isa(unit).bytes() >= IN_PLACE;
    multiply_where(may_lie, unit, a, b, then, (out, lies), threads);
}

/// [`multiply`], where rows may be multiplied in place or not.
fn multiply_where<E: Term, O: Stored<E::Sum>>(
    may_lie: bool,
    unit: E::Unit,
    a: impl Operand<E>,
    b: impl Operand<E>,
    then: Then<'_, E::Sum, O>,
    (out, lies): (&mut [O], Lies),
    threads: Threads,
) {
    let size = [a.lanes(), b.lanes()];
    let in_place = if may_lie && size[0] >= E::COLUMNS { b.in_place() } else { None };
    // What lies in place is the left operand. A product of few columns is that of the transposed matrices, whose rows fill vectors.
    if in_place.is_some() || (size[1] < E::COLUMNS && size[0] > size[1]) {
        let out = Output::new(out, lies, size, Turned::Over);
        Blocks { unit, a: b, in_place, b: a, then, out: &out, threads }.multiply();
    } else {
        let out = Output::new(out, lies, size, Turned::Not);
        Blocks { unit, a, in_place: None, b, then, out: &out, threads }.multiply();
    }
}

/// A product whose rows and columns are as tiles lie.
struct Blocks<'a, E: Term, A, B, O> {
    unit: E::Unit,
    a: A,
    /// `a`, where it is multiplied in place.
    in_place: Option<InPlace<'a, E>>,
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

    /// Of some numbers, whose panels are in memory at once.
    fn of(&self, numbers: Range<usize>) {
        let threads = match self.threads {
            Threads::One => 1,
            Threads::All => rayon::current_num_threads(),
        };
        let (rows, columns) = (self.a.lanes(), self.b.lanes());
        let Shape { panel, together, .. } = self.shape();
        if left_is_shared([rows, columns]) {
            let wide = together * E::COLUMNS;
            for rows in steps(rows, WIDE) {
                let left = self.left(rows, &numbers, self.threads);
                let units = [columns.div_ceil(wide), left.count(panel)];
                self.threads.share_out(tasks(units, BROAD, threads), |[own, of]| {
                    let own = own.start * wide..columns.min(own.end * wide);
                    let right = self.panels(self.b, E::COLUMNS, own, &numbers, Threads::One);
                    let right = Side { of: 0..right.count, panels: &right };
                    self.block(&left, of, right);
                });
            }
        } else {
            for columns in steps(columns, WIDE) {
                let right = self.panels(self.b, E::COLUMNS, columns, &numbers, self.threads);
                let units = [rows.div_ceil(panel), right.count.div_ceil(together)];
                self.threads.share_out(tasks(units, TALL / panel, threads), |[own, of]| {
                    let own = own.start * panel..rows.min(own.end * panel);
                    let left = self.left(own, &numbers, Threads::One);
                    let of = of.start * together..right.count.min(of.end * together);
                    self.block(&left, 0..left.count(panel), Side { panels: &right, of });
                });
            }
        }
    }

    fn shape(&self) -> Shape {
        Shape::of(E::isa(self.unit).bytes(), self.in_place.is_some())
    }

    /// The products of some panels' rows with some panels.
    fn block(&self, left: &Rows<'_, E>, of: Range<usize>, right: Side<'_, E>) {
        match left {
            Rows::Packed(panels) => self.sums(Side { panels, of }, right),
            Rows::InPlace(all, rows) if const { E::NUMBERS == 1 } => {
                let panel = self.shape().panel;
                let rows = rows.start + of.start * panel..rows.end.min(rows.start + of.end * panel);
                self.sums(Lying { of: all.lanes(&rows), rows }, right);
            }
            Rows::InPlace(..) => unreachable!("pairs are packed"),
        }
    }

    fn sums(&self, left: impl Left<E>, right: Side<'_, E>) {
        let finish = Finish { out: self.out, then: self.then };
        let mut held = Memory::of(held::<E::Sum>());
        E::add_up(self.unit, Sums { left, right, finish, held: &mut held });
    }

    /// Some rows, which are packed where they cannot be multiplied in place.
    fn left(&self, lanes: Range<usize>, numbers: &Range<usize>, threads: Threads) -> Rows<'_, E> {
        match self.in_place {
            Some(all) => Rows::InPlace(all.numbers(numbers), lanes),
            None => Rows::Packed(self.panels(self.a, self.shape().panel, lanes, numbers, threads)),
        }
    }

    /// The panels of some lanes.
    fn panels(
        &self,
        operand: impl Operand<E>,
        width: usize,
        lanes: Range<usize>,
        numbers: &Range<usize>,
        threads: Threads,
    ) -> Panels<E> {
        let terms = numbers.len().div_ceil(E::NUMBERS);
        let count = lanes.len().div_ceil(width);
        let mut memory = Memory::of(count * width * terms);
        let mut tasks = Vec::new();
        for (of, to) in steps(terms, RUN).zip(memory.chunks_mut(count * width * RUN)) {
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
        Panels { memory, width, lanes, terms, count }
    }
}

/// Rows of the left operand.
enum Rows<'a, E: Term> {
    Packed(Panels<E>),
    /// All that there are, and which.
    InPlace(InPlace<'a, E>, Range<usize>),
}

impl<E: Term> Rows<'_, E> {
    /// Panels of them, of so many rows.
    fn count(&self, panel: usize) -> usize {
        match self {
            Self::Packed(panels) => panels.count,
            Self::InPlace(_, rows) => rows.len().div_ceil(panel),
        }
    }
}

/// Lanes of an operand in panels.
struct Panels<E: Term> {
    /// Those of the first run, then of the next.
    memory: Memory<E>,
    /// Lanes of a panel.
    width: usize,
    lanes: Range<usize>,
    /// Terms of each lane.
    terms: usize,
    /// Panels of a run.
    count: usize,
}

impl<E: Term> Panels<E> {
    /// From the first term of a run on, of the `there` panels from one on.
    #[inline(always)]
    fn run(&self, run: &Range<usize>, panel: usize, there: usize) -> &[E] {
        let (first, len) = (run.start * self.count + panel * run.len(), there * run.len());
        &self.memory[first * self.width..][..len * self.width]
    }
}
