//! What is added to scores, read a row at a time where it lies.

use super::super::OP;
use super::TILE;
use super::number::Number;
use crate::buffer::{In, Slice};
use crate::simd::Simd;
use crate::{Error, Result};

/// `(batch, heads, queries, keys)` of the call, or of one and the same where it is repeated.
#[derive(Clone, Copy)]
pub(super) struct Bias<'a> {
    x: Slice<'a>,
    heads: usize,
    strides: [usize; 4],
}

impl<'a> Bias<'a> {
    pub(super) fn of(x: &In<'a>) -> Result<Self> {
        let (&[_, heads, _, _], &[batch, head, query, key]) = (x.dims(), x.strides()) else {
            let (expected, got) = ("four dimensions".into(), format!("{:?}", x.dims()));
            return Err(Error::Operand { op: OP, argument: "the bias", expected, got });
        };
        Ok(Self { x: x.host_place(), heads, strides: [batch, head, query, key] })
    }

    /// Where the row of a query of a head, counted through the batch, begins.
    fn start(&self, head: usize, query: usize) -> usize {
        let [batch_stride, head_stride, query_stride, _] = self.strides;
        head / self.heads * batch_stride + head % self.heads * head_stride + query * query_stride
    }

    /// What is added to the score of one pair, if the query sees the key.
    pub(super) fn at(&self, head: usize, query: usize, key: usize) -> Option<f64> {
        let at = self.start(head, query) + key * self.strides[3];
        let x = match self.x {
            Slice::U8(x) if x[at] == 0 => f64::NEG_INFINITY,
            Slice::U8(_) => 0.,
            Slice::F16(x) => x[at].to_f64(),
            Slice::Bf16(x) => x[at].to_f64(),
            Slice::F32(x) => f64::from(x[at]),
            Slice::F64(x) => x[at],
            _ => f64::NAN,
        };
        (x != f64::NEG_INFINITY).then_some(x)
    }

    /// A query's row from the key `first` on, −∞ where the key is hidden.
    #[inline(always)]
    fn row<A: Number, S: Simd>(&self, simd: S, (head, query): (usize, usize), first: usize, to: &mut [A]) {
        let apart = self.strides[3];
        let start = self.start(head, query) + first * apart;
        match (self.x, apart) {
            (Slice::U8(x), 1) => {
                let x = &x[start..start + to.len()];
                to.iter_mut().zip(x).for_each(|(to, &x)| *to = if x == 0 { A::LOWEST } else { A::ZERO });
            }
            (Slice::U8(x), _) => {
                for (i, to) in to.iter_mut().enumerate() {
                    *to = if x[start + i * apart] == 0 { A::LOWEST } else { A::ZERO };
                }
            }
            (x, 1) => A::widen(simd, x, start..start + to.len(), to),
            (x, _) => {
                for (i, to) in to.iter_mut().enumerate() {
                    let at = start + i * apart;
                    A::widen(simd, x, at..at + 1, std::slice::from_mut(to));
                }
            }
        }
    }

    /// Adds a query's row from the key `first` on, of which there are at most [`TILE`], and makes what is hidden −∞.
    #[inline(always)]
    pub(super) fn add<A: Number, S: Simd>(
        &self,
        simd: S,
        of: (usize, usize),
        first: usize,
        scores: &mut [A],
    ) {
        let mut row = [A::ZERO; TILE];
        let row = &mut row[..scores.len()];
        self.row(simd, of, first, row);
        // A choice: a score may be +∞, or NaN.
        for (score, &bias) in scores.iter_mut().zip(&*row) {
            *score = if bias == A::LOWEST { A::LOWEST } else { *score + bias };
        }
    }

    /// Makes what is hidden 0, as [`add`](Self::add).
    #[inline(always)]
    pub(super) fn hide<A: Number, S: Simd>(
        &self,
        simd: S,
        of: (usize, usize),
        first: usize,
        [x, y]: [&mut [A]; 2],
    ) {
        let mut row = [A::ZERO; TILE];
        let row = &mut row[..x.len()];
        self.row(simd, of, first, row);
        for ((x, y), &bias) in x.iter_mut().zip(y).zip(&*row) {
            let hidden = bias == A::LOWEST;
            (*x, *y) = if hidden { (A::ZERO, A::ZERO) } else { (*x, *y) };
        }
    }
}
