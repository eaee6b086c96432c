//! Weighted sums of a few elements each along one dimension, `y[o] = Σ w · x[i]` over the taps `(i, w)` of `o`: average
//! pools, interpolation, and their gradients, which are the same sums over the taps the other way round.
//!
//! Only taps are read. A product with the matrix of the weights, most of them 0, would make NaN of `0 · inf` in every
//! output of an image with one infinite pixel.
//!
//! Sums are in f64, in the order of the taps, and rounded once: the result does not depend on the number of threads. On a GPU
//! the same, element by element; a sum in 16 bits is rounded to f32 before.

#[cfg(feature = "cuda")]
mod cuda;
mod scalar;
#[cfg(feature = "candle")]
mod tensors;

#[cfg(feature = "candle")]
pub use tensors::resampled;

use crate::floats::Real;

/// From how many elements on a result is made on several threads.
const PARALLEL_FROM: usize = 1 << 15;

/// Which elements each output is the weighted sum of.
#[derive(Clone, Debug, PartialEq)]
pub struct Taps {
    inputs: usize,
    /// Where the taps of each output start in `taps`, and where the last ones end.
    starts: Vec<usize>,
    /// Inputs and their weights.
    taps: Vec<(usize, f64)>,
}

impl Taps {
    /// From the `(input, weight)` pairs that `taps` gives for each of `outputs` outputs. Those that are no input or weigh
    /// nothing are left out.
    pub fn new<T: IntoIterator<Item = (usize, f64)>>(
        outputs: usize,
        inputs: usize,
        taps: impl Fn(usize) -> T,
    ) -> Self {
        let mut made = Self { inputs, starts: vec![0], taps: Vec::new() };
        for output in 0..outputs {
            made.taps
                .extend(taps(output).into_iter().filter(|&(input, weight)| input < inputs && weight != 0.));
            made.starts.push(made.taps.len());
        }
        made
    }

    /// The number of sums.
    pub fn outputs(&self) -> usize {
        self.starts.len() - 1
    }

    /// The number of elements that they are taken from.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The taps of one output.
    pub fn of(&self, output: usize) -> &[(usize, f64)] {
        &self.taps[self.starts[output]..self.starts[output + 1]]
    }

    /// The taps as a device reads them: where those of each output start, and where the last ones end; then an input and the two
    /// halves of its weight, the lower first. `None` where they do not fit 32 bits.
    #[cfg(feature = "candle")]
    fn table(&self) -> Option<Vec<u32>> {
        u32::try_from(self.inputs).ok()?;
        let mut words = Vec::with_capacity(self.starts.len() + 3 * self.taps.len());
        for &start in &self.starts {
            words.push(u32::try_from(start).ok().filter(|start| *start < u32::MAX / 4)?);
        }
        for &(input, weight) in &self.taps {
            let bits = weight.to_bits();
            words.extend([input as u32, bits as u32, (bits >> 32) as u32]);
        }
        Some(words)
    }

    /// The adjoint: which outputs each input is a tap of.
    pub fn transposed(&self) -> Self {
        let mut starts = vec![0; self.inputs + 1];
        for &(input, _) in &self.taps {
            starts[input + 1] += 1;
        }
        for input in 0..self.inputs {
            starts[input + 1] += starts[input];
        }
        let mut free = starts.clone();
        let mut taps = vec![(0, 0.); self.taps.len()];
        for output in 0..self.outputs() {
            for &(input, weight) in self.of(output) {
                taps[free[input]] = (output, weight);
                free[input] += 1;
            }
        }
        Self { inputs: self.outputs(), starts, taps }
    }
}

/// `x` of shape `(n, taps.inputs(), inner)` mapped to `(n, taps.outputs(), inner)`. An element that no tap is on does not
/// matter, whatever it holds.
pub fn resample<T: Real>(x: &[T], inner: usize, taps: &Taps) -> Vec<T> {
    let block = taps.inputs() * inner;
    if block == 0 || taps.outputs() == 0 {
        return Vec::new();
    }
    let mut y = vec![T::ZERO; x.len() / block * taps.outputs() * inner];
    let rows = |first: usize, y: &mut [T]| {
        let mut sums = vec![0.; inner];
        for (at, row) in y.chunks_mut(inner).enumerate() {
            let (n, output) = ((first + at) / taps.outputs(), (first + at) % taps.outputs());
            scalar::row(&x[n * block..(n + 1) * block], taps.of(output), &mut sums, row);
        }
    };
    if y.len() < PARALLEL_FROM {
        rows(0, &mut y);
    } else {
        use rayon::prelude::*;
        let rows_per_chunk = (PARALLEL_FROM / 4).div_ceil(inner);
        let chunks = y.par_chunks_mut(rows_per_chunk * inner).enumerate();
        chunks.for_each(|(at, chunk)| rows(at * rows_per_chunk, chunk));
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows() -> Taps {
        Taps::new(3, 5, |at| (at * 2..at * 2 + 2).map(|input| (input, 0.5)))
    }

    #[test]
    fn taps_that_are_no_input_or_weigh_nothing_are_left_out() {
        assert_eq!(windows().of(2), [(4, 0.5)]);
        assert!(Taps::new(1, 2, |_| [(0, 0.)]).of(0).is_empty());
    }

    #[test]
    fn the_adjoint_of_the_adjoint_is_the_map() {
        let taps = windows();
        assert_eq!(taps.transposed().of(3), [(1, 0.5)]);
        assert_eq!(taps.transposed().transposed(), taps);
    }

    #[cfg(feature = "candle")]
    #[test]
    fn a_table_has_starts_and_taps() {
        let half = 0.5f64.to_bits();
        let tap = |input: u32| [input, half as u32, (half >> 32) as u32];
        let want = [&[0, 2, 4, 5][..], &[0, 1, 2, 3, 4].map(tap).concat()].concat();
        assert_eq!(windows().table(), Some(want));
    }

    #[test]
    fn an_element_reaches_only_the_sums_that_it_is_a_tap_of() {
        let x = [1f32, 3., f32::NAN, 1., f32::INFINITY];
        let y = resample(&x, 1, &windows());
        assert!(y[0] == 2. && y[1].is_nan() && y[2] == f32::INFINITY, "{y:?}");
    }

    #[test]
    fn many_rows_are_what_single_rows_are() {
        let taps = windows();
        let (n, inner) = (999, 13);
        let x: Vec<f64> = (0..n * 5 * inner).map(|i| (i % 101) as f64).collect();
        let y = resample(&x, inner, &taps);
        for (at, &got) in y.iter().enumerate() {
            let (block, output, column) = (at / (3 * inner), at / inner % 3, at % inner);
            let element = |&(input, weight): &(usize, f64)| weight * x[(block * 5 + input) * inner + column];
            assert_eq!(got, taps.of(output).iter().map(element).sum::<f64>(), "{at}");
        }
    }
}
