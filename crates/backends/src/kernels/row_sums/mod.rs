//! Rows of a matrix added up by their index: the gradient of a lookup.
//!
//! `out[r, j] = Σ x[i, j]` over the `i` with `ids[i] = r`; an id that is no row is left out, and a row that no id names is 0.
//! Each sum is taken in f64 in the order of `i` (of f64 with what its additions lose) and rounded once, to f32 or, for f64,
//! to f64. Contract: within one rounding of [`sum`](super::sum) over the same terms, on any number of threads.

#[cfg(feature = "cuda")]
mod cuda;
mod scalar;
#[cfg(feature = "candle")]
mod tensors;

pub use scalar::row_sums_scalar;
#[cfg(feature = "candle")]
pub use tensors::row_sums_of;

use super::sum::{Accumulator, Compensated, Plain};
use crate::simd::convert::Stored;
use crate::simd::{Isa, Simd, Work};
use crate::{Error, Floats, Real, Result};
use rayon::prelude::*;
use std::marker::PhantomData;

/// Elements of the result that are worth a task.
const TASK: usize = 16 * 1024;

/// The sums of f16, bf16 or f32 rows, `[rows, width]`, in f32; or of f64 rows in f64.
#[derive(Clone, Debug, PartialEq)]
pub enum RowSums {
    /// Of f16, bf16 and f32.
    F32(Vec<f32>),
    /// Of f64.
    F64(Vec<f64>),
}

/// Adds up the rows of `x`, `[ids.len(), width]`.
///
/// # Errors
///
/// [`Error::LengthMismatch`] where `x` has another length.
pub fn row_sums(ids: &[i64], x: Floats<'_>, rows: usize, width: usize) -> Result<RowSums> {
    check(ids, x, width)?;
    Ok(match x {
        Floats::F16(x) => RowSums::F32(sums::<_, f32, Plain>(ids, x, rows, width)),
        Floats::Bf16(x) => RowSums::F32(sums::<_, f32, Plain>(ids, x, rows, width)),
        Floats::F32(x) => RowSums::F32(sums::<_, f32, Plain>(ids, x, rows, width)),
        Floats::F64(x) => RowSums::F64(sums::<_, f64, Compensated>(ids, x, rows, width)),
    })
}

fn check(ids: &[i64], x: Floats<'_>, width: usize) -> Result<()> {
    let expected = ids.len().saturating_mul(width);
    match x.len() {
        got if got == expected => Ok(()),
        got => Err(Error::LengthMismatch { op: "row_sums", argument: "x", expected, got }),
    }
}

fn sums<T: Stored<W>, W: Real, A: Accumulator>(ids: &[i64], x: &[T], rows: usize, width: usize) -> Vec<W> {
    let mut out = vec![W::ZERO; rows * width];
    if width == 0 {
        return out;
    }
    let hits = Hits::new(ids, rows);
    let per_task = TASK.div_ceil(width);
    out.par_chunks_mut(per_task * width).enumerate().for_each(|(task, out)| {
        Isa::best().run(Part { hits: &hits, x, width, first: task * per_task, out, of: PhantomData::<A> });
    });
    out
}

/// Rows of the result, from one on.
struct Part<'a, T, W, A> {
    hits: &'a Hits,
    x: &'a [T],
    width: usize,
    first: usize,
    out: &'a mut [W],
    of: PhantomData<A>,
}

impl<T: Stored<W>, W: Real, A: Accumulator> Work for Part<'_, T, W, A> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let width = self.width;
        let (mut totals, mut wide) = (vec![A::default(); width], vec![W::ZERO; width]);
        for (row, out) in self.out.chunks_exact_mut(width).enumerate() {
            let places = self.hits.of(self.first + row);
            if places.is_empty() {
                continue;
            }
            totals.fill(A::default());
            for &place in places {
                let row = &self.x[place * width..(place + 1) * width];
                let values = T::seen(simd, row, &mut wide);
                totals.iter_mut().zip(values).for_each(|(total, &x)| total.add(x.to_f64()));
            }
            out.iter_mut().zip(&totals).for_each(|(out, &total)| *out = W::from_f64(total.value()));
        }
    }
}

/// The places of each row's id, by a counting sort that keeps their order.
struct Hits {
    starts: Vec<usize>,
    places: Vec<usize>,
}

impl Hits {
    fn new(ids: &[i64], rows: usize) -> Self {
        let row_of = |&id: &i64| usize::try_from(id).ok().filter(|&row| row < rows);
        let mut starts = vec![0; rows + 1];
        ids.iter().filter_map(row_of).for_each(|row| starts[row + 1] += 1);
        for row in 0..rows {
            starts[row + 1] += starts[row];
        }
        let mut next = starts.clone();
        let mut places = vec![0; starts[rows]];
        for (place, row) in ids.iter().enumerate().filter_map(|(place, id)| Some((place, row_of(id)?))) {
            places[next[row]] = place;
            next[row] += 1;
        }
        Self { starts, places }
    }

    fn of(&self, row: usize) -> &[usize] {
        &self.places[self.starts[row]..self.starts[row + 1]]
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};
    use proptest::prelude::*;

    use super::*;
    use crate::random::random_bits;

    fn numbers(sums: &RowSums) -> Vec<f64> {
        match sums {
            RowSums::F32(x) => x.iter().map(|&x| x.into()).collect(),
            RowSums::F64(x) => x.clone(),
        }
    }

    /// The order of the terms is the oracle's, and nothing but the compensation may differ: a rounding of the result, and what
    /// f64 loses of terms that cancel, whose magnitudes sum to `size`.
    fn agree(got: &RowSums, want: &RowSums, size: &RowSums) -> bool {
        let ulp = match (got, want) {
            (RowSums::F32(_), RowSums::F32(_)) => f64::from(f32::EPSILON),
            (RowSums::F64(_), RowSums::F64(_)) => f64::EPSILON,
            _ => return false,
        };
        let (got, want, size) = (numbers(got), numbers(want), numbers(size));
        let close = |(&a, (&b, &size)): (&f64, (&f64, &f64))| {
            let bound = ulp * b.abs() + 128. * f64::EPSILON * size;
            a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= bound
        };
        got.len() == want.len() && got.iter().zip(want.iter().zip(&size)).all(close)
    }

    proptest! {
        #[test]
        fn every_type_agrees_with_the_oracle(
            ids in prop::collection::vec(prop_oneof![-2i64..12, Just(i64::MAX), Just(i64::MIN)], 0..67),
            rows in 0usize..10,
            width in 0usize..20,
            seed in any::<u64>(),
        ) {
            let bits = |i: usize| random_bits(seed, i as u64);
            let len = ids.len() * width;
            let halves: Vec<f16> = (0..len).map(|i| f16::from_bits(bits(i) as u16)).collect();
            let brains: Vec<bf16> = (0..len).map(|i| bf16::from_bits(bits(i) as u16)).collect();
            let singles: Vec<f32> = (0..len).map(|i| bits(i) as f32).collect();
            let doubles: Vec<f64> = (0..len).map(|i| f64::from(bits(i)) * 0.1).collect();
            for x in [Floats::F16(&halves), Floats::Bf16(&brains), Floats::F32(&singles), Floats::F64(&doubles)] {
                let got = row_sums(&ids, x, rows, width).unwrap();
                let mut sizes = vec![0f64; x.len()];
                f64::load(x, &mut sizes);
                sizes.iter_mut().for_each(|x| *x = x.abs());
                let sizes = row_sums_scalar(&ids, Floats::F64(&sizes), rows, width).unwrap();
                let want = row_sums_scalar(&ids, x, rows, width).unwrap();
                prop_assert!(agree(&got, &want, &sizes), "{got:?} for {want:?}");
            }
        }
    }

    #[test]
    fn a_row_of_a_million_hits_is_exact() {
        let ids = vec![1i64; 1_000_000];
        let x = vec![0.1f32; 1_000_000];
        let got = row_sums(&ids, Floats::F32(&x), 3, 1).unwrap();
        assert_eq!(got, RowSums::F32(vec![0., (1e6 * f64::from(0.1f32)) as f32, 0.]));
    }

    #[test]
    fn a_buffer_of_another_length_is_refused() {
        assert!(row_sums(&[0, 1], Floats::F32(&[1.; 3]), 2, 2).is_err());
    }
}
