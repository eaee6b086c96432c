//! Pairs of bf16, by `vdpbf16ps`.

use super::Term;
use super::memory::keep;
use super::rows::Left;
use super::shape::Shape;
use super::sums::{Sums, by_tiles};
use crate::simd::convert::Stored;
use crate::simd::lanes::Pair;
use crate::simd::{Avx512, Isa, Pairs, WorkOnPairs};
use half::bf16;

impl Term for Pair {
    type Sum = f32;
    type Unit = Pairs;
    const NUMBERS: usize = 2;

    fn isa(unit: Pairs) -> Isa {
        unit.isa()
    }

    fn add_up<O: Stored<f32>, L: Left<Self>>(unit: Pairs, sums: Sums<'_, Self, O, L>) {
        unit.run(sums);
    }
}

keep!(Pair);
keep!(bf16);

impl<O: Stored<f32>, L: Left<Pair>> WorkOnPairs for Sums<'_, Pair, O, L> {
    #[inline(always)]
    fn run(self, simd: Avx512, pairs: Pairs) {
        by_tiles!(OF_512, simd, pairs, self);
    }
}
