//! The sums of a run: a few rows times a few vectors, which stay in registers.

#![expect(unsafe_code, reason = "loops over panels without a check for each term")]

use super::finish::{Direct, Finish};
use super::plan::cut;
use super::rows::{Left, Part, Terms};
use super::shape::Shape;
use super::{Panels, RUN, Term, steps};
use crate::Real;
use crate::simd::convert::Stored;
use crate::simd::lanes::{Lanes, fetch};
use crate::simd::{Baseline, Simd};
use std::ops::Range;

/// Terms that a panel's part has which stays in the first-level cache, with vectors of 64 bytes: of three right panels 24 KiB, and half of that of
/// the left one in f64, which is what two threads on one core leave each other.
const PART: usize = 128;
/// Terms that are written out one after another, where rows have no addresses of their own to be kept in registers.
const UNROLLED: usize = 4;
/// Right panels of a block, at most: a multiple of a tile's, of which it has one, two or three.
const NEAR: usize = 12;
/// Bytes of a block's sums that have left the registers, at most.
const HELD: usize = 48 << 10;
/// Sums of a tile, at most.
const TILE: usize = Shape::OF_512.rows * Shape::OF_512.vectors * 16;

/// Elements of [`Sums::held`].
pub(super) const fn held<T>() -> usize {
    2 * HELD / size_of::<T>() + TILE
}

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
    pub(super) finish: Finish<'a, E::Sum, O>,
    /// Memory for [`held`] sums, of any value: of the runs before, of the parts of a run before, and of nothing.
    pub(super) held: &'a mut [E::Sum],
}

/// [`Sums`] by fused multiply-adds, where the instruction set has them.
#[inline(always)]
pub(super) fn fused<S: Simd + Lanes<E, Sum = E::Sum>, E: Term, O: Stored<E::Sum>, L: Left<E>>(
    simd: S,
    sums: Sums<'_, E, O, L>,
) {
    match const { <S as Lanes<E>>::LANES * size_of::<E>() } {
        64 if const { L::APART } => by_tiles!(OF_512_APART, simd, simd, sums),
        64 => by_tiles!(OF_512, simd, simd, sums),
        32 => by_tiles!(OF_256, simd, simd, sums),
        _ if Baseline::FUSES => by_tiles!(OF_128, simd, simd, sums),
        _ => by_tiles!(OF_SSE, simd, simd, sums),
    }
}

/// [`all`] by tiles of that shape.
macro_rules! by_tiles {
    ($shape:ident, $simd:expr, $dot:expr, $sums:expr) => {
        $crate::kernels::product::blocked::sums::all::<
            _,
            _,
            _,
            _,
            _,
            { Shape::$shape.panel },
            { Shape::$shape.rows },
            { Shape::$shape.step },
            { Shape::$shape.vectors },
        >($simd, $dot, $sums)
    };
}
pub(super) use by_tiles;

/// `MOST` rows of a panel of `PANEL` at a time, or a multiple of `STEP` where there are fewer, of `VECTORS`.
#[inline(always)]
pub(super) fn all<
    S,
    D,
    E,
    O,
    L,
    const PANEL: usize,
    const MOST: usize,
    const STEP: usize,
    const VECTORS: usize,
>(
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
    // Registers begin with these.
    let nothing = sums.held.len() - TILE;
    sums.held[nothing..].fill(E::Sum::ZERO);
    let tall = HELD / size_of::<E::Sum>() / (PANEL * E::COLUMNS * sums.right.of.len().clamp(1, NEAR));
    for near in parts(sums.right.of.clone(), NEAR) {
        for rows in steps(sums.left.rows().len(), tall * PANEL) {
            block::<S, D, E, O, L, PANEL, MOST, STEP, VECTORS>(simd, dot, &mut sums, rows, near.clone());
        }
    }
}

/// Ranges of so many at most.
fn parts(all: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    steps(all.len(), most).map(move |part| all.start + part.start..all.start + part.end)
}

/// The products of some rows, of those that there are, with the panels in `near` of the right operand.
#[inline(always)]
fn block<S, D, E, O, L, const PANEL: usize, const MOST: usize, const STEP: usize, const VECTORS: usize>(
    simd: S,
    dot: D,
    sums: &mut Sums<'_, E, O, L>,
    rows: Range<usize>,
    near: Range<usize>,
) where
    S: Simd,
    D: Lanes<E, Sum = E::Sum>,
    E: Term,
    O: Stored<E::Sum>,
    L: Left<E>,
{
    let Sums { left, right, finish, held } = sums;
    let room = (held.len() - TILE) / 2;
    let (runs, rest) = held.split_at_mut(room);
    let (parts, nothing) = rest.split_at_mut(room);
    // Panels that one call multiplies with: vectors as wide as a panel come of several.
    let together = (VECTORS * D::LANES / E::COLUMNS).max(1);
    let pitch = |there: usize| if together == 1 { VECTORS * D::LANES } else { there * D::LANES };
    let each = if const { D::LANES * size_of::<E>() == 64 } { PART } else { RUN };
    let (terms, tall) = (right.panels.terms, rows.len().next_multiple_of(MOST));
    for run in steps(terms, RUN) {
        for group in cut(near.len(), near.len().div_ceil(together)) {
            let (j, there) = (near.start + group.start, group.len());
            let b = right.panels.run(&run, j, there);
            let pitch = pitch(there);
            // Sums of one run alone are written before the next panel's are made.
            let first = if terms > RUN { group.start * tall * E::COLUMNS } else { 0 };
            let runs = &mut runs[first..][..tall * pitch];
            let at = [left.rows().start + rows.start, right.panels.lanes.start + j * E::COLUMNS];
            let columns = right.panels.lanes.len() - j * E::COLUMNS;
            // Sums that are whole go to the output as they are, if no register has sums beyond it.
            let whole = run.end == terms && rows.len().is_multiple_of(STEP) && columns >= pitch;
            let direct = if whole { finish.direct(at, [rows.len(), pitch]) } else { None };
            for of in steps(run.len(), each) {
                let part = Part { run: run.clone(), of };
                let last = part.of.end == run.len();
                for row in (0..rows.len()).step_by(MOST) {
                    // The next right panels come from the third level while these are multiplied, some for each row.
                    let step = there * E::COLUMNS * MOST / tall;
                    let done = (part.of.start * tall / MOST + row / MOST * part.of.len()) * step;
                    let next = (b.as_ptr().wrapping_add(b.len() + done), step);
                    let of = row * pitch..(row + MOST) * pitch;
                    let held = Held { nothing, parts: &mut parts[of.clone()], runs: &mut runs[of] };
                    let call = Tile {
                        a: (&*left, &part, rows.start + row),
                        b: &b[part.of.start * E::COLUMNS..],
                        next,
                        apart: run.len() * E::COLUMNS,
                        is_last: last,
                        direct: if last { direct.map(|block| block.from(row)) } else { None },
                    };
                    let count = MOST.min(rows.len() - row).div_ceil(STEP) * STEP;
                    match there {
                        1 if together > 1 => call.rows::<D, PANEL, MOST, STEP, 1>(dot, count, held),
                        2 if together > 2 => call.rows::<D, PANEL, MOST, STEP, 2>(dot, count, held),
                        _ => call.rows::<D, PANEL, MOST, STEP, VECTORS>(dot, count, held),
                    }
                }
            }
            if run.end == terms && direct.is_none() {
                finish.tile(simd, (runs, pitch), at, [rows.len(), columns.min(pitch)]);
            }
        }
    }
}

/// Sums of a tile that have left the registers.
struct Held<'a, T> {
    /// Zeros.
    nothing: &'a [T],
    /// Of the parts of a run before, if there is one.
    parts: &'a mut [T],
    /// Of the runs before, if there is one.
    runs: &'a mut [T],
}

/// One set of registers.
struct Tile<'a, E: Term, L> {
    /// Rows, the terms, and the first of the rows.
    a: (&'a L, &'a Part, usize),
    /// From the first term of the first right panel on.
    b: &'a [E],
    /// What is fetched meanwhile, and how many elements further for each term.
    next: (*const E, usize),
    /// How far apart panels of `b` are.
    apart: usize,
    /// Whether the terms are the last of their run.
    is_last: bool,
    /// Where they go, if not to where sums are held.
    direct: Option<Direct<E::Sum>>,
}

impl<E: Term, L: Left<E>> Tile<'_, E, L> {
    #[inline(always)]
    fn rows<
        D: Lanes<E, Sum = E::Sum>,
        const PANEL: usize,
        const MOST: usize,
        const STEP: usize,
        const VECTORS: usize,
    >(
        self,
        dot: D,
        rows: usize,
        held: Held<'_, E::Sum>,
    ) {
        match (STEP, rows) {
            (4, 4) => self.sum::<D, PANEL, 4, VECTORS>(dot, held),
            (2, 2) => self.sum::<D, PANEL, 2, VECTORS>(dot, held),
            (2, 4) => self.sum::<D, PANEL, 4, VECTORS>(dot, held),
            _ => self.sum::<D, PANEL, MOST, VECTORS>(dot, held),
        }
    }

    /// Adds to the sums of `COUNT` rows, one row after another, and writes them to the output where that is said.
    #[inline(always)]
    fn sum<D: Lanes<E, Sum = E::Sum>, const PANEL: usize, const COUNT: usize, const VECTORS: usize>(
        self,
        dot: D,
        held: Held<'_, E::Sum>,
    ) {
        let (left, part, row) = self.a;
        let (mut a, terms) = (left.terms::<PANEL, COUNT>(part, row), part.of.len());
        // Vectors lie in one panel, or each begins one.
        let apart = if D::LANES == E::COLUMNS { self.apart } else { D::LANES };
        assert!((terms - 1) * E::COLUMNS + (VECTORS - 1) * apart + D::LANES <= self.b.len(), "terms of b");
        let Held { nothing, parts, runs } = held;
        let room = parts.len().min(runs.len()).min(nothing.len());
        assert!(COUNT * VECTORS * D::LANES <= room, "room for the sums");
        let begun = if part.of.start == 0 { nothing } else { &*parts };
        let mut sums: [[_; VECTORS]; COUNT] = std::array::from_fn(|row| {
            std::array::from_fn(|v| {
                // SAFETY: by the assertion there are as many.
                unsafe { dot.held(begun.as_ptr().add((row * VECTORS + v) * D::LANES)) }
            })
        });
        let (mut b, next) = ((self.b.as_ptr(), apart), &mut self.next.clone());
        // SAFETY: by the assertions the vectors of every term are in `b`, and the rows where they are said to be.
        unsafe {
            let unrolled = const { if L::APART { 1 } else { UNROLLED } };
            for _ in 0..terms / unrolled {
                for _ in 0..unrolled {
                    add_term(dot, &mut a, &mut b, next, &mut sums);
                }
            }
            for _ in 0..terms % unrolled {
                add_term(dot, &mut a, &mut b, next, &mut sums);
            }
        }
        let held = if self.is_last { runs.as_mut_ptr() } else { parts.as_mut_ptr() };
        let Direct { to, pitch, row, matrix } =
            self.direct.unwrap_or(Direct { to: held, pitch: VECTORS * D::LANES, row: None, matrix: None });
        // SAFETY: by the assertion all that is held is there, and all of a direct block, which is this task's alone.
        unsafe {
            if self.is_last && part.run.start > 0 {
                plus(dot, &mut sums, held, VECTORS * D::LANES);
            }
            if let Some(row) = row {
                plus(dot, &mut sums, row, 0);
            }
            if let Some(matrix) = matrix {
                plus(dot, &mut sums, matrix, pitch);
            }
            for (row, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    dot.write(sum, to.add(row * pitch + v * D::LANES));
                }
            }
        }
    }
}

/// Adds the products of a term's rows with its vectors, has a line fetched, and goes to the next.
///
/// # Safety
///
/// There is such a term of each row, and there are the vectors.
#[inline(always)]
unsafe fn add_term<E: Term, D: Lanes<E>, const COUNT: usize, const VECTORS: usize>(
    dot: D,
    a: &mut impl Terms<E>,
    (b, apart): &mut (*const E, usize),
    (next, step): &mut (*const E, usize),
    sums: &mut [[D::Sums; VECTORS]; COUNT],
) {
    // SAFETY: by the caller's word.
    unsafe {
        let vectors: [_; VECTORS] = std::array::from_fn(|v| dot.read(b.add(v * *apart)));
        for (row, sums) in sums.iter_mut().enumerate() {
            let a = dot.same(*a.row(row));
            for (sum, &vector) in sums.iter_mut().zip(&vectors) {
                *sum = dot.add_up(a, vector, *sum);
            }
        }
    }
    fetch(*next);
    a.advance();
    (*b, *next) = (b.wrapping_add(E::COLUMNS), next.wrapping_add(*step));
}

/// Adds a matrix, whose rows are so far apart.
///
/// # Safety
///
/// There are as many rows and columns.
#[inline(always)]
unsafe fn plus<E, D: Lanes<E>, const COUNT: usize, const VECTORS: usize>(
    dot: D,
    sums: &mut [[D::Sums; VECTORS]; COUNT],
    from: *const D::Sum,
    pitch: usize,
) {
    for (row, sums) in sums.iter_mut().enumerate() {
        for (v, sum) in sums.iter_mut().enumerate() {
            // SAFETY: by the caller's word.
            *sum = dot.plus(*sum, unsafe { dot.held(from.add(row * pitch + v * D::LANES)) });
        }
    }
}
