//! Numbers of one type that lie in another.

use super::{Isa, Simd, Work};
use half::{bf16, f16};

/// Numbers of bf16 that are all read before any is written, in slices of one such group. The compiler writes out a loop of so few before it looks for
/// vectors, and then would have to know that the slices lie apart; of a longer loop it makes sure itself.
const GROUP: usize = 16;

/// A type in which numbers of `T` are stored.
pub(crate) trait Stored<T>: Copy + Default + Send + Sync {
    /// `from` as `T`, exactly.
    ///
    /// # Panics
    ///
    /// Where the lengths differ.
    fn read<S: Simd>(simd: S, from: &[Self], to: &mut [T]);

    /// `from`, where it is in `T` already.
    fn as_it_is(from: &[Self]) -> Option<&[T]>;

    /// `from` as `T`: where it lies, or in `buffer`, which is as long.
    ///
    /// # Panics
    ///
    /// As [`read`](Self::read).
    #[inline(always)]
    fn seen<'a, S: Simd>(simd: S, from: &'a [Self], buffer: &'a mut [T]) -> &'a [T] {
        match Self::as_it_is(from) {
            Some(own) => own,
            None => {
                Self::read(simd, from, buffer);
                buffer
            }
        }
    }

    /// `to`, where it is of `T`.
    fn in_place(to: &mut [Self]) -> Option<&mut [T]>;

    /// `from` rounded to nearest even.
    ///
    /// # Panics
    ///
    /// Where the lengths differ.
    fn write<S: Simd>(simd: S, from: &[T], to: &mut [Self]);
}

macro_rules! in_itself {
    ($($t:ty),*) => {$(
        impl Stored<$t> for $t {
            #[inline(always)]
            fn read<S: Simd>(_: S, from: &[Self], to: &mut [$t]) {
                to.copy_from_slice(from);
            }

            #[inline(always)]
            fn as_it_is(from: &[Self]) -> Option<&[$t]> {
                Some(from)
            }

            #[inline(always)]
            fn in_place(to: &mut [Self]) -> Option<&mut [$t]> {
                Some(to)
            }

            #[inline(always)]
            fn write<S: Simd>(_: S, from: &[$t], to: &mut [Self]) {
                to.copy_from_slice(from);
            }
        }
    )*};
}
in_itself!(f32, f64);

impl Stored<f32> for f16 {
    #[inline(always)]
    fn read<S: Simd>(simd: S, from: &[Self], to: &mut [f32]) {
        assert_eq!(from.len(), to.len(), "as many");
        let (groups, rest) = from.as_chunks::<8>();
        let (wide, wide_rest) = to.as_chunks_mut::<8>();
        for (to, &from) in wide.iter_mut().zip(groups) {
            *to = simd.widen_f16(from);
        }
        if !rest.is_empty() {
            let mut last = [f16::ZERO; 8];
            last[..rest.len()].copy_from_slice(rest);
            wide_rest.copy_from_slice(&simd.widen_f16(last)[..rest.len()]);
        }
    }

    #[inline(always)]
    fn as_it_is(_: &[Self]) -> Option<&[f32]> {
        None
    }

    #[inline(always)]
    fn in_place(_: &mut [Self]) -> Option<&mut [f32]> {
        None
    }

    #[inline(always)]
    fn write<S: Simd>(simd: S, from: &[f32], to: &mut [Self]) {
        assert_eq!(from.len(), to.len(), "as many");
        let (narrow, narrow_rest) = to.as_chunks_mut::<8>();
        let (groups, rest) = from.as_chunks::<8>();
        for (to, &from) in narrow.iter_mut().zip(groups) {
            *to = simd.narrow_f16(from);
        }
        if !rest.is_empty() {
            let mut last = [0f32; 8];
            last[..rest.len()].copy_from_slice(rest);
            narrow_rest.copy_from_slice(&simd.narrow_f16(last)[..rest.len()]);
        }
    }
}

impl Stored<f32> for bf16 {
    #[inline(always)]
    fn read<S: Simd>(_: S, from: &[Self], to: &mut [f32]) {
        assert_eq!(from.len(), to.len(), "as many");
        one_by_one(from, to, wide_bf16);
    }

    #[inline(always)]
    fn as_it_is(_: &[Self]) -> Option<&[f32]> {
        None
    }

    #[inline(always)]
    fn in_place(_: &mut [Self]) -> Option<&mut [f32]> {
        None
    }

    #[inline(always)]
    fn write<S: Simd>(_: S, from: &[f32], to: &mut [Self]) {
        assert_eq!(from.len(), to.len(), "as many");
        one_by_one(from, to, narrow_bf16);
    }
}

/// Writes what becomes of each number.
#[inline(always)]
fn one_by_one<X: Copy, T>(from: &[X], to: &mut [T], of: impl Fn(X) -> T) {
    let (from, to) = match (from.as_chunks::<GROUP>(), to.as_chunks_mut::<GROUP>()) {
        ((&[group], rest), ([to], to_rest)) => {
            for lane in 0..GROUP {
                to[lane] = of(group[lane]);
            }
            (rest, to_rest)
        }
        _ => (from, to),
    };
    for (to, &x) in to.iter_mut().zip(from) {
        *to = of(x);
    }
}

/// `x`, exactly.
#[inline(always)]
pub(crate) fn wide_bf16(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

/// `x` rounded to nearest even.
#[inline(always)]
pub(crate) fn narrow_bf16(x: f32) -> bf16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    // A NaN would carry into the sign; the set bit keeps one whose payload is cut off a NaN.
    let kept = if x.is_nan() { bits >> 16 | 0x40 } else { rounded };
    bf16::from_bits(kept as u16)
}

/// `from` in f32, exactly.
///
/// # Panics
///
/// Where the lengths differ.
pub(crate) fn wide_f16s(from: &[f16], to: &mut [f32]) {
    Isa::best().run(Wide(from, to));
}

/// `from` rounded to nearest even.
///
/// # Panics
///
/// Where the lengths differ.
pub(crate) fn narrow_f16s(from: &[f32], to: &mut [f16]) {
    Isa::best().run(Narrow(from, to));
}

struct Wide<'a>(&'a [f16], &'a mut [f32]);

impl Work for Wide<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        f16::read(simd, self.0, self.1);
    }
}

struct Narrow<'a>(&'a [f32], &'a mut [f16]);

impl Work for Narrow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        f16::write(simd, self.0, self.1);
    }
}
