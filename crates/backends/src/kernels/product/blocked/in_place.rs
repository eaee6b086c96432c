//! Operands that are multiplied where they lie.

use std::ops::Range;

/// An operand whose elements lie in memory at the sum of two offsets: its lane's, and its number's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InPlace<'a, E> {
    x: &'a [E],
    lanes: &'a [usize],
    numbers: &'a [usize],
}

impl<'a, E> InPlace<'a, E> {
    /// # Panics
    ///
    /// Where an element would lie beyond `x`, or there is none.
    pub(crate) fn new(x: &'a [E], lanes: &'a [usize], numbers: &'a [usize]) -> Self {
        let last = lanes.iter().max().zip(numbers.iter().max()).and_then(|(a, b)| a.checked_add(*b));
        assert!(last.is_some_and(|last| last < x.len()), "elements within their slice");
        Self { x, lanes, numbers }
    }

    /// Some of its lanes.
    pub(super) fn lanes(self, of: &Range<usize>) -> Self {
        Self { lanes: &self.lanes[of.clone()], ..self }
    }

    /// Some of its numbers.
    pub(super) fn numbers(self, of: &Range<usize>) -> Self {
        Self { numbers: &self.numbers[of.clone()], ..self }
    }

    /// Where `COUNT` lanes from one on begin, the last of all in the place of those behind it, and how far from there the numbers are.
    #[inline(always)]
    pub(super) fn rows<const COUNT: usize>(self, first: usize) -> ([*const E; COUNT], &'a [usize]) {
        let last = self.lanes.len() - 1;
        let row = |i: usize| self.x.as_ptr().wrapping_add(self.lanes[last.min(first + i)]);
        (std::array::from_fn(row), self.numbers)
    }

    #[cfg(test)]
    pub(crate) fn number(self, lane: usize, number: usize) -> E
    where
        E: Copy,
    {
        self.x[self.lanes[lane] + self.numbers[number]]
    }
}
