//! The CPU: a task per head, or per some of its queries, with everything that it works on in cache.
//!
//! Rows are widened into contiguous memory, queries are taken [`BLOCK`] at a time and keys [`TILE`] at a time, and the
//! products of these are those of `product`. How a head is cut depends on its sizes alone, and so do the results.
//!
//! A probability of 0 does not hide a NaN in a product: where keys are hidden and a head is not finite, it is computed by
//! [`exact`], which looks at nothing that is hidden.

mod backward;
mod bias;
mod exact;
mod forward;
mod number;
mod product;
#[cfg(test)]
mod tests;

pub(super) use backward::backward;
pub(super) use forward::forward;

use super::checks::{Sizes, operand};
use super::{Attention, Dropout, Inputs, Mask, OP, Order};
use crate::buffer::{In, Slice, SliceMut};
use crate::random::random_bits;
use crate::simd::lanes::{LINE, fetch};
use crate::simd::{Isa, Simd, Work};
use crate::threads::Threads;
use crate::{Error, Result};
use bias::Bias;
use number::{Number, all_finite};

/// Queries that are taken at a time.
const BLOCK: usize = 64;

/// Keys that are taken at a time, a multiple of [`BLOCK`].
const TILE: usize = 256;

/// Products of two numbers that are worth another thread.
const PARALLEL: usize = 256 * 1024;

/// Heads of which each is a task; of fewer, each is cut.
const TASKS: usize = 64;

/// Rows that are on their way before they are read or written: those of a head may lie so far apart that the processor does not see
/// which come next.
const AHEAD: usize = 8;

/// Which call it is, and with which instructions it is done.
#[derive(Clone, Copy)]
struct Call<'a> {
    isa: Isa,
    attention: Attention,
    sizes: Sizes,
    bias: Option<Bias<'a>>,
}

impl<'a> Call<'a> {
    fn new(isa: Isa, attention: Attention, sizes: Sizes, inputs: Inputs<'a>) -> Result<Self> {
        Ok(Self { isa, attention, sizes, bias: inputs.bias.map(Bias::of).transpose()? })
    }

    /// Whether some keys may be hidden from some queries.
    fn hides(&self) -> bool {
        self.attention.mask != Mask::Full || self.bias.is_some()
    }

    /// How many keys a query may see, but for what the bias hides: those from the first on.
    fn seen(&self, query: usize) -> usize {
        match self.attention.mask {
            Mask::Full => self.sizes.keys,
            Mask::Causal => self.sizes.keys.min(query + 1),
        }
    }

    /// How many keys any query sees.
    fn all_seen(&self) -> usize {
        self.sizes.queries.checked_sub(1).map_or(0, |last| self.seen(last))
    }

    /// Heads of all batch elements.
    fn heads(&self) -> usize {
        self.sizes.batch * self.sizes.heads
    }

    /// Whether it is worth more than one thread.
    fn is_large(&self) -> bool {
        let Sizes { queries, keys, width, .. } = self.sizes;
        [queries, keys, width].into_iter().fold(self.heads(), usize::saturating_mul) >= PARALLEL
    }

    /// Those for which there is enough to do.
    fn threads(&self) -> Threads {
        if self.is_large() { Threads::All } else { Threads::One }
    }

    /// What the probabilities of a query of a head are multiplied by.
    fn draws(&self, head: usize, query: usize) -> Option<Draws> {
        let Sizes { queries, keys, .. } = self.sizes;
        self.attention.dropout.map(|dropout| Draws { dropout, first: (head * queries + query) * keys })
    }
}

/// Dropout for one query.
#[derive(Clone, Copy)]
struct Draws {
    dropout: Dropout,
    /// The index of the first key.
    first: usize,
}

impl Draws {
    #[inline(always)]
    fn keeps(&self, key: usize) -> bool {
        u64::from(random_bits(self.dropout.key, (self.first + key) as u64)) >= self.dropout.threshold()
    }
}

/// An input in host memory.
#[derive(Clone, Copy)]
struct Rows<'a> {
    x: Slice<'a>,
    heads: usize,
    width: usize,
    strides: [usize; 4],
}

impl<'a> Rows<'a> {
    fn of(argument: &'static str, x: &In<'a>) -> Result<Self> {
        let slice = x.host_place();
        let (&[_, heads, _, width], &[batch, head, row, column]) = (x.dims(), x.strides()) else {
            return Err(operand(argument, "four dimensions".into(), x.dims()));
        };
        if slice.scalar_type() != x.scalar_type() {
            let (expected, got) = ("on the CPU, as the query".into(), "on another device".into());
            return Err(Error::Operand { op: OP, argument, expected, got });
        }
        Ok(Self { x: slice, heads, width, strides: [batch, head, row, column] })
    }

    /// Widens `rows` of a head, counted through the batch, into `to`, and returns how many are finite before the first that
    /// is not.
    fn pack<A: Number>(&self, isa: Isa, head: usize, first: usize, to: &mut [A]) -> usize {
        let [batch_stride, head_stride, row_stride, _] = self.strides;
        let start = head / self.heads * batch_stride + head % self.heads * head_stride + first * row_stride;
        isa.run(Pack { rows: self, start, to })
    }
}

struct Pack<'a, A> {
    rows: &'a Rows<'a>,
    start: usize,
    to: &'a mut [A],
}

impl<A: Number> Work for Pack<'_, A> {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> usize {
        let Rows { x, width, strides: [_, _, row_stride, column_stride], .. } = *self.rows;
        let mut finite = None;
        for (i, to) in self.to.chunks_exact_mut(width).enumerate() {
            let start = self.start + i * row_stride;
            if column_stride == 1 || width == 1 {
                fetch_row(x, start + AHEAD * row_stride, width);
                A::widen(simd, x, start..start + width, to);
            } else {
                for (column, to) in to.iter_mut().enumerate() {
                    let at = start + column * column_stride;
                    A::widen(simd, x, at..at + 1, std::slice::from_mut(to));
                }
            }
            if finite.is_none() && !all_finite(to) {
                finite = Some(i);
            }
        }
        finite.unwrap_or(self.to.len() / width)
    }
}

/// Rounds the rows of `from` into `to`.
struct Narrow<'a, 'b, A> {
    from: &'a [A],
    to: &'a mut [SliceMut<'b>],
}

impl<A: Number> Work for Narrow<'_, '_, A> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let width = self.from.len() / self.to.len().max(1);
        for (i, from) in (0..self.to.len()).zip(self.from.chunks_exact(width.max(1))) {
            if let Some(to) = self.to.get(i + AHEAD) {
                fetch_row(to.as_slice(), 0, width);
            }
            A::narrow(simd, from, &mut self.to[i]);
        }
    }
}

/// Has a row of `x` fetched, if there is one, from the element `at` on.
#[inline(always)]
fn fetch_row(x: Slice<'_>, at: usize, width: usize) {
    for byte in (0..width * x.scalar_type().bytes()).step_by(LINE) {
        fetch(x.address(at).wrapping_add(byte));
    }
}

/// The rows of a result of each head.
type Heads<'a> = Vec<Vec<SliceMut<'a>>>;

/// Deals out the rows of a result to `heads`.
fn deal(out: SliceMut<'_>, width: usize, heads: usize, head_of: impl Fn(usize) -> usize) -> Heads<'_> {
    let mut dealt: Heads<'_> = (0..heads).map(|_| Vec::new()).collect();
    for (i, row) in out.chunks(width).into_iter().enumerate() {
        dealt[head_of(i)].push(row);
    }
    dealt
}

/// The rows of a result with this many to a head.
fn by_heads<'a>(out: SliceMut<'a>, order: Order, sizes: Sizes, rows: usize) -> Heads<'a> {
    let Sizes { batch, heads, width, .. } = sizes;
    deal(out, width, batch * heads, |i| match order {
        Order::HeadsFirst => i / rows,
        Order::RowsFirst => i / (rows * heads) * heads + i % heads,
    })
}

/// The first `len` elements of memory that is used again, which mean nothing.
fn first<A: Number>(memory: &mut Vec<A>, len: usize) -> &mut [A] {
    if memory.len() < len {
        memory.resize(len, A::ZERO);
    }
    &mut memory[..len]
}
