//! Numbers in memory as elements of panels.

use crate::simd::Simd;
use crate::simd::convert::Stored;
use crate::simd::lanes::Pair;
use crate::simd::turn::paired;
use half::bf16;

/// A type of which elements of panels are made.
pub(crate) trait Source<E>: Copy + Send + Sync {
    /// A term of each lane, where lanes lie one after another: of so many numbers, so far apart.
    fn side_by_side<S: Simd>(simd: S, x: &[Self], numbers: (usize, usize), to: &mut [E]);

    /// Terms of one lane, whose numbers lie one after another.
    fn along<S: Simd>(simd: S, x: &[Self], to: &mut [E]);

    /// `x`, where it is of `E` already.
    fn as_it_is(x: &[Self]) -> Option<&[E]>;

    /// `x`, where it is of bf16 and not widened.
    fn as_bf16(_: &[Self]) -> Option<&[bf16]> {
        None
    }
}

macro_rules! numbers {
    ($($t:ty),*) => {$(
        impl<X: Stored<$t>> Source<$t> for X {
            #[inline(always)]
            fn side_by_side<S: Simd>(simd: S, x: &[Self], _: (usize, usize), to: &mut [$t]) {
                X::read(simd, &x[..to.len()], to);
            }

            #[inline(always)]
            fn along<S: Simd>(simd: S, x: &[Self], to: &mut [$t]) {
                X::read(simd, x, to);
            }

            #[inline(always)]
            fn as_it_is(x: &[Self]) -> Option<&[$t]> {
                X::as_it_is(x)
            }
        }
    )*};
}
numbers!(f32, f64);

/// A pair whose second number is not there has zero for it: with that of the other operand it adds nothing.
impl Source<Pair> for bf16 {
    #[inline(always)]
    fn side_by_side<S: Simd>(_: S, x: &[Self], (apart, there): (usize, usize), to: &mut [Pair]) {
        let first = &x[..to.len()];
        if there == 2 {
            let second = &x[apart..][..to.len()];
            let ((a, a_rest), (b, b_rest)) = (first.as_chunks(), second.as_chunks());
            let (whole, rest) = to.as_chunks_mut();
            whole.iter_mut().zip(a.iter().zip(b)).for_each(|(to, (a, b))| *to = paired(a, b));
            rest.iter_mut().zip(a_rest.iter().zip(b_rest)).for_each(|(to, (&a, &b))| *to = Pair([a, b]));
        } else {
            to.iter_mut().zip(first).for_each(|(to, &a)| *to = Pair([a, Self::ZERO]));
        }
    }

    #[inline(always)]
    fn along<S: Simd>(_: S, x: &[Self], to: &mut [Pair]) {
        let (pairs, _) = x.as_chunks::<2>();
        to.iter_mut().zip(pairs).for_each(|(to, &pair)| *to = Pair(pair));
    }

    #[inline(always)]
    fn as_it_is(_: &[Self]) -> Option<&[Pair]> {
        None
    }

    fn as_bf16(x: &[Self]) -> Option<&[bf16]> {
        Some(x)
    }
}
