//! What panels hold: numbers, or pairs of bf16 that one instruction multiplies and adds up.

use super::memory::{Keep, keep};
use super::rows::Left;
use super::sums::{Sums, fused};
use crate::Real;
use crate::simd::convert::Stored;
use crate::simd::turn::Turn;
use crate::simd::{Isa, Simd, Work};

/// An element of a panel.
pub(crate) trait Term: Keep + Turn {
    /// What products of two are added up in.
    type Sum: Packed;
    /// What multiplies them.
    type Unit: Copy + Send + Sync;
    /// Numbers in an element.
    const NUMBERS: usize;
    /// Elements of 64 bytes: columns of a panel of the right operand.
    const COLUMNS: usize = 64 / size_of::<Self>();

    /// The instruction set for packing and writing.
    fn isa(unit: Self::Unit) -> Isa;

    /// Does [`Sums`] with the unit.
    fn add_up<O: Stored<Self::Sum>, L: Left<Self>>(unit: Self::Unit, sums: Sums<'_, Self, O, L>);
}

/// A type in which products are summed.
pub(crate) trait Packed: Real + Stored<Self> + Keep + Turn {}

macro_rules! numbers {
    ($($t:ident),*) => {$(
        impl Packed for $t {}

        impl Term for $t {
            type Sum = Self;
            type Unit = Isa;
            const NUMBERS: usize = 1;

            fn isa(unit: Isa) -> Isa {
                unit
            }

            fn add_up<O: Stored<Self>, L: Left<Self>>(unit: Isa, sums: Sums<'_, Self, O, L>) {
                unit.run(sums);
            }
        }

        keep!($t);

        impl<O: Stored<$t>, L: Left<$t>> Work for Sums<'_, $t, O, L> {
            type Output = ();

            #[inline(always)]
            fn run<S: Simd>(self, simd: S) {
                fused::<S, $t, O, L>(simd, self);
            }
        }
    )*};
}
numbers!(f32, f64);
