//! The sums of a run: a few rows times a few vectors, which stay in registers.

#![expect(unsafe_code, reason = "loops over panels without a check for each term")]

use super::finish::{Direct, Finish};
use super::in_place::InPlace;
use super::{Panels, ROWS, RUN, Term, steps};
use crate::simd::convert::Stored;
use crate::simd::lanes::{Lanes, fetch};
use crate::simd::{Baseline, Simd};
use std::ops::Range;

/// Right panels of a block, at most.
const NEAR: usize = 16;
/// Times as many panels of the left operand as of the right one in a block, at most: sums that have left the registers are 48 KiB of f32.
pub(super) const HELD: usize = 64;

/// Some panels of an operand.
#[derive(Clone)]
pub(super) struct Side<'a, E: Term> {
    pub(super) panels: &'a Panels<E>,
    pub(super) of: Range<usize>,
}

/// The products of some rows with some right panels.
pub(crate) struct Sums<'a, E: Term, O, L> {
    pub(super) left: L,
    pub(super) right: Side<'a, E>,
    /// Whether left panels come from the third level of the cache, not right ones.
    pub(super) left_is_far: bool,
    pub(super) finish: Finish<'a, E::Sum, O>,
    /// Memory for the sums of [`HELD`] panels times panels, of any value.
    pub(super) held: &'a mut [E::Sum],
}

/// [`Sums`] by fused multiply-adds, where the instruction set has them: 12 rows of two vectors of 64 bytes (8 where each has an address of its
/// own), 6 of two of 32 bytes, and of four of 16 bytes 6 with NEON's registers and 2 with SSE's.
#[inline(always)]
pub(super) fn fused<S: Simd + Lanes<E, Sum = E::Sum>, E: Term, O: Stored<E::Sum>, L: Left<E>>(
    simd: S,
    sums: Sums<'_, E, O, L>,
) {
    match const { <S as Lanes<E>>::LANES * size_of::<E>() } {
        64 if const { L::APART } => all::<S, S, E, O, L, 8, 4, 2>(simd, simd, sums),
        64 => all::<S, S, E, O, L, 12, 4, 2>(simd, simd, sums),
        32 => all::<S, S, E, O, L, 6, 2, 2>(simd, simd, sums),
        _ if Baseline::FUSES => all::<S, S, E, O, L, 6, 2, 4>(simd, simd, sums),
        _ => all::<S, S, E, O, L, 2, 2, 4>(simd, simd, sums),
    }
}

/// `MOST` rows at a time, or a multiple of `STEP` where there are fewer, of `VECTORS`.
#[inline(always)]
pub(super) fn all<S, D, E, O, L, const MOST: usize, const STEP: usize, const VECTORS: usize>(
    simd: S,
    dot: D,
    mut sums: Sums<'_, E, O, L>,
) where
    S: Simd,
    D: Lanes<E, Sum = E::Sum>,
    E: Term,
    O: Stored<E::Sum>,
    L: Left<E>,
{
    let tall = HELD / sums.right.of.len().clamp(1, NEAR);
    for columns in parts(sums.right.of.clone(), NEAR) {
        for rows in parts(0..sums.left.rows().len().div_ceil(ROWS), tall) {
            block::<S, D, E, O, L, MOST, STEP, VECTORS>(simd, dot, &mut sums, (rows, tall), columns.clone());
        }
    }
}

/// Ranges of so many at most.
fn parts(all: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    steps(all.len(), most).map(move |part| all.start + part.start..all.start + part.end)
}

/// The products of `panels` of the left operand, of `tall` at most, with those in `near` of the right one.
#[inline(always)]
fn block<S, D, E, O, L, const MOST: usize, const STEP: usize, const VECTORS: usize>(
    simd: S,
    dot: D,
    sums: &mut Sums<'_, E, O, L>,
    (panels, tall): (Range<usize>, usize),
    near: Range<usize>,
) where
    S: Simd,
    D: Lanes<E, Sum = E::Sum>,
    E: Term,
    O: Stored<E::Sum>,
    L: Left<E>,
{
    let Sums { left, right, left_is_far, finish, held: sums_held } = sums;
    // Panels that one call multiplies with: vectors as wide as a panel come of two.
    let together = (VECTORS * D::LANES / E::COLUMNS).max(1);
    let pitch = |there: usize| if there < together { D::LANES } else { VECTORS * D::LANES };
    let (terms, first) = (right.panels.terms, panels.start * ROWS);
    let rows = left.rows().len().min(panels.end * ROWS) - first;
    for run in steps(terms, RUN) {
        for j in near.clone().step_by(together) {
            let there = together.min(near.end - j);
            let b = right.panels.run(&run, j, there, E::COLUMNS);
            // Sums of one run alone are written before the next panel's are made.
            let held = if terms > RUN { (j - near.start) * tall * ROWS * E::COLUMNS } else { 0 };
            let held = &mut sums_held[held..][..tall * ROWS * pitch(there)];
            let at = [left.rows().start + first, right.panels.lanes.start + j * E::COLUMNS];
            let columns = right.panels.lanes.len() - j * E::COLUMNS;
            // Sums that are whole go to the output as they are, if no register has sums beyond it.
            let whole = run.end == terms && rows.is_multiple_of(STEP) && columns >= pitch(there);
            let direct = if whole { finish.direct(at, [rows, pitch(there)]) } else { None };
            for row in (0..rows).step_by(MOST) {
                let row_there = first + row;
                // The next panels come from the third level while these are multiplied: of right ones a part for each row.
                let next = match left.behind(&run, row_there) {
                    Some(behind) if *left_is_far => (behind, ROWS),
                    _ => {
                        let step = there * E::COLUMNS * MOST / rows.next_multiple_of(MOST);
                        (b.as_ptr().wrapping_add(b.len() + row / MOST * step * run.len()), step)
                    }
                };
                let (apart, continues) = (run.len() * E::COLUMNS, run.start > 0);
                let direct = direct.map(|block| block.from(row));
                let call = Tile { left: (&*left, run.clone(), row_there), b, next, apart, continues, direct };
                let count = MOST.min(rows - row).div_ceil(STEP) * STEP;
                let to = &mut held[row * pitch(there)..];
                if const { VECTORS * D::LANES > E::COLUMNS } && there < together {
                    call.rows::<D, MOST, STEP, 1>(dot, count, to);
                } else {
                    call.rows::<D, MOST, STEP, VECTORS>(dot, count, to);
                }
            }
            if run.end == terms && direct.is_none() {
                finish.tile(simd, (held, pitch(there)), at, [rows, columns.min(pitch(there))]);
            }
        }
    }
}

/// Rows of a product.
pub(crate) trait Left<E> {
    /// Whether each row has an address of its own.
    const APART: bool;

    /// Which.
    fn rows(&self) -> Range<usize>;

    /// Where the terms of a run are, of `COUNT` rows from one on: of the first, the second.
    fn terms<const COUNT: usize>(&self, run: &Range<usize>, row: usize) -> impl Terms<E>;

    /// What is read after these rows, if that lies behind them.
    fn behind(&self, run: &Range<usize>, row: usize) -> Option<*const E>;
}

/// Where a term of some rows is.
pub(crate) trait Terms<E> {
    /// # Safety
    ///
    /// There is such a row, and such a term.
    unsafe fn row(&self, row: usize) -> *const E;

    /// Has it be the next one.
    fn advance(&mut self);
}

impl<E: Term> Left<E> for Side<'_, E> {
    const APART: bool = false;

    #[inline(always)]
    fn rows(&self) -> Range<usize> {
        let lanes = &self.panels.lanes;
        lanes.start + self.of.start * ROWS..lanes.end.min(lanes.start + self.of.end * ROWS)
    }

    #[inline(always)]
    fn terms<const COUNT: usize>(&self, run: &Range<usize>, row: usize) -> impl Terms<E> {
        let (panel, row) = (self.of.start + row / ROWS, row % ROWS);
        assert!(row + COUNT <= ROWS, "rows of the panel");
        InPanel(self.panels.run(run, panel, 1, ROWS).as_ptr().wrapping_add(row))
    }

    #[inline(always)]
    fn behind(&self, run: &Range<usize>, row: usize) -> Option<*const E> {
        let panel = self.panels.run(run, self.of.start + row / ROWS, 1, ROWS);
        Some(panel.as_ptr().wrapping_add(panel.len()))
    }
}

/// From the first row in a panel on.
struct InPanel<E>(*const E);

impl<E: Copy> Terms<E> for InPanel<E> {
    #[inline(always)]
    unsafe fn row(&self, row: usize) -> *const E {
        self.0.wrapping_add(row)
    }

    #[inline(always)]
    fn advance(&mut self) {
        self.0 = self.0.wrapping_add(ROWS);
    }
}

/// Rows that are multiplied in place.
pub(super) struct Lying<'a, E> {
    pub(super) rows: Range<usize>,
    /// These rows, and the terms that there are.
    pub(super) of: InPlace<'a, E>,
}

impl<E: Term> Left<E> for Lying<'_, E> {
    const APART: bool = true;

    #[inline(always)]
    fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    #[inline(always)]
    fn terms<const COUNT: usize>(&self, run: &Range<usize>, row: usize) -> impl Terms<E> {
        let (rows, numbers) = self.of.rows::<COUNT>(row);
        Apart(rows, numbers[run.clone()].as_ptr())
    }

    #[inline(always)]
    fn behind(&self, _: &Range<usize>, _: usize) -> Option<*const E> {
        None
    }
}

/// Where each row begins, and how far from there the term is.
struct Apart<E, const COUNT: usize>([*const E; COUNT], *const usize);

impl<E: Copy, const COUNT: usize> Terms<E> for Apart<E, COUNT> {
    #[inline(always)]
    unsafe fn row(&self, row: usize) -> *const E {
        // SAFETY: by the caller's word there is such a term.
        self.0[row].wrapping_add(unsafe { *self.1 })
    }

    #[inline(always)]
    fn advance(&mut self) {
        self.1 = self.1.wrapping_add(1);
    }
}

/// One set of registers.
struct Tile<'a, E: Term, L> {
    /// Rows, the run, and the first of the rows.
    left: (&'a L, Range<usize>, usize),
    /// From the first term of the first right panel on.
    b: &'a [E],
    /// What is fetched meanwhile, and how many elements further for each term.
    next: (*const E, usize),
    /// How far apart panels of `b` are.
    apart: usize,
    /// Whether these are added to the sums that are there.
    continues: bool,
    /// Where they go, if not to where sums are held.
    direct: Option<Direct<E::Sum>>,
}

impl<E: Term, L: Left<E>> Tile<'_, E, L> {
    #[inline(always)]
    fn rows<D: Lanes<E, Sum = E::Sum>, const MOST: usize, const STEP: usize, const VECTORS: usize>(
        self,
        dot: D,
        rows: usize,
        to: &mut [E::Sum],
    ) {
        match (STEP, rows) {
            (4, 4) => self.sum::<D, 4, VECTORS>(dot, to),
            (4, 8) => self.sum::<D, 8, VECTORS>(dot, to),
            (2, 2) => self.sum::<D, 2, VECTORS>(dot, to),
            (2, 4) => self.sum::<D, 4, VECTORS>(dot, to),
            _ => self.sum::<D, MOST, VECTORS>(dot, to),
        }
    }

    /// Writes the sums of `COUNT` rows to `to`, one row after another, or to the output.
    #[inline(always)]
    fn sum<D: Lanes<E, Sum = E::Sum>, const COUNT: usize, const VECTORS: usize>(
        self,
        dot: D,
        to: &mut [E::Sum],
    ) {
        let (left, run, row) = &self.left;
        let (mut a, terms) = (left.terms::<COUNT>(run, *row), run.len());
        // Vectors lie in one panel, or each begins one.
        let apart = if D::LANES == E::COLUMNS { self.apart } else { D::LANES };
        assert!((terms - 1) * E::COLUMNS + (VECTORS - 1) * apart + D::LANES <= self.b.len(), "terms of b");
        assert!(COUNT * VECTORS * D::LANES <= to.len(), "room for the sums");
        let mut sums = [[dot.zero(); VECTORS]; COUNT];
        let mut b = self.b.as_ptr();
        let (mut next, step) = self.next;
        for _ in 0..terms {
            // SAFETY: by the assertions the vectors of every term are in `b`, and the rows where they are said to be.
            unsafe {
                let vectors: [_; VECTORS] = std::array::from_fn(|v| dot.read(b.add(v * apart)));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let a = dot.same(*a.row(row));
                    for (sum, &vector) in sums.iter_mut().zip(&vectors) {
                        *sum = dot.add_up(a, vector, *sum);
                    }
                }
            }
            fetch(next);
            a.advance();
            (b, next) = (b.wrapping_add(E::COLUMNS), next.wrapping_add(step));
        }
        for (row, sums) in sums.iter().enumerate() {
            let direct = self.direct.map(|block| block.from(row));
            for (v, &sum) in sums.iter().enumerate() {
                // SAFETY: by the assertions all of it is there, and all of a row of a direct block, which is this task's alone.
                unsafe {
                    let held = to.as_mut_ptr().add((row * VECTORS + v) * D::LANES);
                    let mut sum = if self.continues { dot.plus(dot.held(held), sum) } else { sum };
                    let Some(Direct { to, row, matrix, .. }) = direct else {
                        dot.write(sum, held);
                        continue;
                    };
                    for added in [row, matrix].into_iter().flatten() {
                        sum = dot.plus(sum, dot.held(added.add(v * D::LANES)));
                    }
                    dot.write(sum, to.add(v * D::LANES));
                }
            }
        }
    }
}
