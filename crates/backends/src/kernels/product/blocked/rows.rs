//! Rows of a product, in panels or where they lie.

#![expect(unsafe_code, reason = "terms are read without a check for each")]

use super::sums::Side;
use super::{InPlace, Term};
use std::ops::Range;

/// Some terms of a run.
pub(crate) struct Part {
    /// The run, among all terms.
    pub(super) run: Range<usize>,
    /// The terms, among those of the run.
    pub(super) of: Range<usize>,
}

/// Rows of a product.
pub(crate) trait Left<E> {
    /// Whether each row has an address of its own.
    const APART: bool;

    /// Which.
    fn rows(&self) -> Range<usize>;

    /// Where the terms of a part of a run are, of `COUNT` rows from one on, counted from the first.
    fn terms<const PANEL: usize, const COUNT: usize>(&self, part: &Part, row: usize) -> impl Terms<E>;
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
        let (lanes, width) = (&self.panels.lanes, self.panels.width);
        lanes.start + self.of.start * width..lanes.end.min(lanes.start + self.of.end * width)
    }

    #[inline(always)]
    fn terms<const PANEL: usize, const COUNT: usize>(&self, part: &Part, row: usize) -> impl Terms<E> {
        assert!(row % PANEL + COUNT <= PANEL && self.panels.width == PANEL, "rows of the panel");
        let panel = self.panels.run(&part.run, self.of.start + row / PANEL, 1);
        InPanel::<E, PANEL>(
            panel[part.of.start * PANEL..part.of.end * PANEL].as_ptr().wrapping_add(row % PANEL),
        )
    }
}

/// From the first row in a panel on.
struct InPanel<E, const PANEL: usize>(*const E);

impl<E: Copy, const PANEL: usize> Terms<E> for InPanel<E, PANEL> {
    #[inline(always)]
    unsafe fn row(&self, row: usize) -> *const E {
        self.0.wrapping_add(row)
    }

    #[inline(always)]
    fn advance(&mut self) {
        self.0 = self.0.wrapping_add(PANEL);
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
    fn terms<const PANEL: usize, const COUNT: usize>(&self, part: &Part, row: usize) -> impl Terms<E> {
        let (rows, numbers) = self.of.rows::<COUNT>(row);
        Apart(rows, numbers[part.run.clone()][part.of.clone()].as_ptr())
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
