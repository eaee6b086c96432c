//! The sums of a run: a few rows times a few vectors, which stay in registers.

#![expect(unsafe_code, reason = "loops over panels without a check for each term")]

use super::finish::{Direct, Finish};
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

/// The products of some left panels with some right ones.
pub(crate) struct Sums<'a, E: Term, O> {
    pub(super) left: Side<'a, E>,
    pub(super) right: Side<'a, E>,
    /// Whether left panels come from the third level of the cache, not right ones.
    pub(super) left_is_far: bool,
    pub(super) finish: Finish<'a, E::Sum, O>,
    /// Memory for the sums of [`HELD`] panels times panels, of any value.
    pub(super) held: &'a mut [E::Sum],
}

/// [`Sums`] by fused multiply-adds, where the instruction set has them: 12 rows of two vectors of 64 bytes, 6 of two of 32 bytes,
/// and of four of 16 bytes 6 with NEON's registers and 2 with SSE's.
#[inline(always)]
pub(super) fn fused<S: Simd + Lanes<E, Sum = E::Sum>, E: Term, O: Stored<E::Sum>>(
    simd: S,
    sums: Sums<'_, E, O>,
) {
    match const { <S as Lanes<E>>::LANES * size_of::<E>() } {
        64 => all::<S, S, E, O, 12, 4, 2>(simd, simd, sums),
        32 => all::<S, S, E, O, 6, 2, 2>(simd, simd, sums),
        _ if Baseline::FUSES => all::<S, S, E, O, 6, 2, 4>(simd, simd, sums),
        _ => all::<S, S, E, O, 2, 2, 4>(simd, simd, sums),
    }
}

/// `MOST` rows at a time, or a multiple of `STEP` where there are fewer, of `VECTORS`.
#[inline(always)]
pub(super) fn all<S, D, E, O, const MOST: usize, const STEP: usize, const VECTORS: usize>(
    simd: S,
    dot: D,
    mut sums: Sums<'_, E, O>,
) where
    S: Simd,
    D: Lanes<E, Sum = E::Sum>,
    E: Term,
    O: Stored<E::Sum>,
{
    let tall = HELD / sums.right.of.len().clamp(1, NEAR);
    for columns in parts(sums.right.of.clone(), NEAR) {
        for rows in parts(sums.left.of.clone(), tall) {
            block::<S, D, E, O, MOST, STEP, VECTORS>(simd, dot, &mut sums, (rows, tall), columns.clone());
        }
    }
}

/// Ranges of so many at most.
fn parts(all: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    steps(all.len(), most).map(move |part| all.start + part.start..all.start + part.end)
}

/// The products of `panels` of the left operand, of `tall` at most, with those in `near` of the right one.
#[inline(always)]
fn block<S, D, E, O, const MOST: usize, const STEP: usize, const VECTORS: usize>(
    simd: S,
    dot: D,
    sums: &mut Sums<'_, E, O>,
    (panels, tall): (Range<usize>, usize),
    near: Range<usize>,
) where
    S: Simd,
    D: Lanes<E, Sum = E::Sum>,
    E: Term,
    O: Stored<E::Sum>,
{
    let Sums { left, right, left_is_far, finish, held: sums_held } = sums;
    // Panels that one call multiplies with: vectors as wide as a panel come of two.
    let together = (VECTORS * D::LANES / E::COLUMNS).max(1);
    let pitch = |there: usize| if there < together { D::LANES } else { VECTORS * D::LANES };
    let (terms, first) = (right.panels.terms, panels.start * ROWS);
    let rows = left.panels.lanes.len().min(panels.end * ROWS) - first;
    for run in steps(terms, RUN) {
        for j in near.clone().step_by(together) {
            let there = together.min(near.end - j);
            let b = right.panels.run(&run, j, there, E::COLUMNS);
            // Sums of one run alone are written before the next panel's are made.
            let held = if terms > RUN { (j - near.start) * tall * ROWS * E::COLUMNS } else { 0 };
            let held = &mut sums_held[held..][..tall * ROWS * pitch(there)];
            let at = [left.panels.lanes.start + first, right.panels.lanes.start + j * E::COLUMNS];
            let columns = right.panels.lanes.len() - j * E::COLUMNS;
            // Sums that are whole go to the output as they are, if no register has sums beyond it.
            let whole = run.end == terms && rows.is_multiple_of(STEP) && columns >= pitch(there);
            let direct = if whole { finish.direct(at, [rows, pitch(there)]) } else { None };
            for row in (0..rows).step_by(MOST) {
                let a = left.panels.run(&run, panels.start + row / ROWS, 1, ROWS);
                // The next panels come from the third level while these are multiplied: of right ones a part for each row.
                let next = if *left_is_far {
                    (a.as_ptr().wrapping_add(a.len()), ROWS)
                } else {
                    let step = there * E::COLUMNS * MOST / rows.next_multiple_of(MOST);
                    (b.as_ptr().wrapping_add(b.len() + row / MOST * step * run.len()), step)
                };
                let (apart, continues) = (run.len() * E::COLUMNS, run.start > 0);
                let direct = direct.map(|block| block.from(row));
                let call = Tile { a: (a, row % ROWS), b, next, apart, continues, direct };
                let count = MOST.min(rows - row).div_ceil(STEP) * STEP;
                let to = &mut held[row * pitch(there)..];
                if const { VECTORS * D::LANES > E::COLUMNS } && there < together {
                    call.rows::<D, STEP, 1>(dot, count, to);
                } else {
                    call.rows::<D, STEP, VECTORS>(dot, count, to);
                }
            }
            if run.end == terms && direct.is_none() {
                finish.tile(simd, (held, pitch(there)), at, [rows, columns.min(pitch(there))]);
            }
        }
    }
}

/// One set of registers.
struct Tile<'a, E: Term> {
    /// The left panel's terms, and the first of its rows.
    a: (&'a [E], usize),
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

impl<E: Term> Tile<'_, E> {
    #[inline(always)]
    fn rows<D: Lanes<E, Sum = E::Sum>, const STEP: usize, const VECTORS: usize>(
        self,
        dot: D,
        rows: usize,
        to: &mut [E::Sum],
    ) {
        match (STEP, rows) {
            (4, 4) => self.sum::<D, 4, VECTORS>(dot, to),
            (4, 8) => self.sum::<D, 8, VECTORS>(dot, to),
            (4, _) => self.sum::<D, 12, VECTORS>(dot, to),
            (_, 2) => self.sum::<D, 2, VECTORS>(dot, to),
            (_, 4) => self.sum::<D, 4, VECTORS>(dot, to),
            _ => self.sum::<D, 6, VECTORS>(dot, to),
        }
    }

    /// Writes the sums of `COUNT` rows to `to`, one row after another, or to the output.
    #[inline(always)]
    fn sum<D: Lanes<E, Sum = E::Sum>, const COUNT: usize, const VECTORS: usize>(
        self,
        dot: D,
        to: &mut [E::Sum],
    ) {
        let (a, row) = self.a;
        let terms = a.len() / ROWS;
        // Vectors lie in one panel, or each begins one.
        let apart = if D::LANES == E::COLUMNS { self.apart } else { D::LANES };
        assert!((terms - 1) * E::COLUMNS + (VECTORS - 1) * apart + D::LANES <= self.b.len(), "terms of b");
        assert!(COUNT * VECTORS * D::LANES <= to.len(), "room for the sums");
        assert!(row + COUNT <= ROWS, "rows of the panel");
        let mut sums = [[dot.zero(); VECTORS]; COUNT];
        let (mut a, mut b) = (a.as_ptr().wrapping_add(row), self.b.as_ptr());
        let (mut next, step) = self.next;
        for _ in 0..terms {
            // SAFETY: by the assertions the vectors of every term are in `b`, and the rows among those of a term.
            unsafe {
                let vectors: [_; VECTORS] = std::array::from_fn(|v| dot.read(b.add(v * apart)));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let a = dot.same(*a.add(row));
                    for (sum, &vector) in sums.iter_mut().zip(&vectors) {
                        *sum = dot.add_up(a, vector, *sum);
                    }
                }
            }
            fetch(next);
            (a, b, next) = (a.wrapping_add(ROWS), b.wrapping_add(E::COLUMNS), next.wrapping_add(step));
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
