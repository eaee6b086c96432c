//! The float types that kernels store and the two that they compute in.

use crate::simd::convert::{narrow_bf16, narrow_f16s, wide_bf16, wide_f16s};
use half::{bf16, f16};
use std::fmt::Debug;
use std::ops::{Add, Div, Mul, Neg, Range, Sub};

/// A borrowed buffer of any float type, for inputs whose type is known only at run time.
#[derive(Clone, Copy, Debug)]
pub enum Floats<'a> {
    /// IEEE half precision.
    F16(&'a [f16]),
    /// bfloat16.
    Bf16(&'a [bf16]),
    /// Single precision.
    F32(&'a [f32]),
    /// Double precision.
    F64(&'a [f64]),
}

impl<'a> Floats<'a> {
    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            Floats::F16(x) => x.len(),
            Floats::Bf16(x) => x.len(),
            Floats::F32(x) => x.len(),
            Floats::F64(x) => x.len(),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The part of the buffer in `range`, or `None` where it reaches past the end.
    pub fn get(self, range: Range<usize>) -> Option<Floats<'a>> {
        Some(match self {
            Floats::F16(x) => Floats::F16(x.get(range)?),
            Floats::Bf16(x) => Floats::Bf16(x.get(range)?),
            Floats::F32(x) => Floats::F32(x.get(range)?),
            Floats::F64(x) => Floats::F64(x.get(range)?),
        })
    }

    #[inline(always)]
    pub(crate) fn split_at(self, mid: usize) -> (Floats<'a>, Floats<'a>) {
        match self {
            Floats::F16(x) => split(x, mid, Floats::F16),
            Floats::Bf16(x) => split(x, mid, Floats::Bf16),
            Floats::F32(x) => split(x, mid, Floats::F32),
            Floats::F64(x) => split(x, mid, Floats::F64),
        }
    }
}

#[inline(always)]
fn split<'a, T>(x: &'a [T], mid: usize, wrap: fn(&'a [T]) -> Floats<'a>) -> (Floats<'a>, Floats<'a>) {
    let (head, tail) = x.split_at(mid);
    (wrap(head), wrap(tail))
}

mod sealed {
    pub trait Sealed: crate::heap::Number {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A float type that a buffer can hold: f16, bf16, f32 or f64.
pub trait Element: sealed::Sealed + Copy + Default + Debug + Send + Sync + 'static {
    /// The buffer, with its type as a value.
    fn floats(slice: &[Self]) -> Floats<'_>;
}

macro_rules! element {
    ($($type:ty => $variant:ident),*) => {$(
        impl Element for $type {
            fn floats(slice: &[Self]) -> Floats<'_> {
                Floats::$variant(slice)
            }
        }
    )*};
}
element!(f16 => F16, bf16 => Bf16, f32 => F32, f64 => F64);

/// A float type that arithmetic runs in: f32, or f64 for f64 parameters.
pub trait Real:
    Element
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;

    /// The nearest value, ties to even.
    fn from_f64(value: f64) -> Self;

    /// The value as f64, exactly.
    fn to_f64(self) -> f64;

    /// The square root, correctly rounded.
    fn sqrt(self) -> Self;

    /// The magnitude.
    fn abs(self) -> Self;

    /// Whether it is neither infinite nor NaN.
    fn is_finite(self) -> bool;

    /// The larger of two, or the one that is a number.
    fn larger(self, other: Self) -> Self;

    /// The value moved into `[-limit, limit]`; NaN stays NaN.
    fn clamp_to(self, limit: Self) -> Self;

    /// Converts `src` into `dst`: exactly where it widens, to nearest even where it narrows.
    ///
    /// # Panics
    ///
    /// When the lengths differ.
    fn load(src: Floats<'_>, dst: &mut [Self]);
}

macro_rules! real {
    ($type:ident, $halves:expr) => {
        impl Real for $type {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;

            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                value as $type
            }

            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }

            #[inline(always)]
            fn sqrt(self) -> Self {
                $type::sqrt(self)
            }

            #[inline(always)]
            fn abs(self) -> Self {
                $type::abs(self)
            }

            #[inline(always)]
            fn is_finite(self) -> bool {
                $type::is_finite(self)
            }

            #[inline(always)]
            fn larger(self, other: Self) -> Self {
                self.max(other)
            }

            #[inline(always)]
            fn clamp_to(self, limit: Self) -> Self {
                let low = if self < -limit { -limit } else { self };
                if low > limit { limit } else { low }
            }

            #[inline(always)]
            fn load(src: Floats<'_>, dst: &mut [Self]) {
                match src {
                    Floats::F16(x) => $halves(x, dst),
                    Floats::Bf16(x) => convert(x, dst, |v| $type::from(wide_bf16(v))),
                    Floats::F32(x) => convert(x, dst, |v| v as $type),
                    Floats::F64(x) => convert(x, dst, |v| v as $type),
                }
            }
        }
    };
}
real!(f32, wide_f16s);
real!(f64, |x: &[f16], dst: &mut [f64]| {
    assert_eq!(x.len(), dst.len(), "lengths differ");
    let mut between = [0f32; 256];
    for (x, dst) in x.chunks(256).zip(dst.chunks_mut(256)) {
        wide_f16s(x, &mut between[..x.len()]);
        convert(&between[..x.len()], dst, f64::from);
    }
});

#[inline(always)]
fn convert<T: Copy, A>(src: &[T], dst: &mut [A], f: impl Fn(T) -> A) {
    assert_eq!(src.len(), dst.len(), "lengths differ");
    for (d, &s) in dst.iter_mut().zip(src) {
        *d = f(s);
    }
}

/// A type that parameters are stored in, whose updates are computed in `A`.
pub trait Store<A: Real>: Element + PartialEq {
    /// Rounds `src` into `dst`, to nearest even.
    ///
    /// # Panics
    ///
    /// When the lengths differ.
    fn store(src: &[A], dst: &mut [Self]);

    /// Rounds `value` up or down with a probability that makes the mean of the results `value`: `random`, of which a
    /// type uses the bits that it needs, is added below the last bit that is kept, and carries. NaN stays NaN, an
    /// infinity stays itself, and a finite value stays finite.
    fn round_stochastic(value: A, random: u32) -> Self;

    /// Whether the two hold the same bits, so that a NaN is equal to itself.
    fn same_bits(self, other: Self) -> bool;
}

macro_rules! store_itself {
    ($type:ident) => {
        impl Store<$type> for $type {
            #[inline(always)]
            fn store(src: &[$type], dst: &mut [$type]) {
                dst.copy_from_slice(src);
            }

            #[inline(always)]
            fn round_stochastic(value: $type, _random: u32) -> $type {
                value
            }

            #[inline(always)]
            fn same_bits(self, other: Self) -> bool {
                self.to_bits() == other.to_bits()
            }
        }
    };
}
store_itself!(f32);
store_itself!(f64);

impl Store<f32> for bf16 {
    #[inline(always)]
    fn store(src: &[f32], dst: &mut [Self]) {
        convert(src, dst, narrow_bf16);
    }

    #[inline(always)]
    fn round_stochastic(value: f32, random: u32) -> Self {
        // Adding 16 uniform bits below the ones that are kept carries with the right probability.
        let carried = value.to_bits().wrapping_add(random & 0xffff) >> 16;
        // Past the largest finite value the carry would make an infinity of it.
        let kept = if carried & 0x7fff == 0x7f80 { carried - 1 } else { carried };
        if value.is_finite() { Self::from_bits(kept as u16) } else { Self::from_f32(value) }
    }

    #[inline(always)]
    fn same_bits(self, other: Self) -> bool {
        self.to_bits() == other.to_bits()
    }
}

impl Store<f32> for f16 {
    fn store(src: &[f32], dst: &mut [Self]) {
        narrow_f16s(src, dst);
    }

    #[inline(always)]
    fn round_stochastic(value: f32, random: u32) -> Self {
        const MIN_NORMAL: f32 = 6.103_515_6e-5; // 2^-14
        const MAX: f32 = 65504.0;
        let magnitude = value.abs();
        if magnitude.is_nan() || magnitude.is_infinite() {
            return Self::from_f32(value);
        }
        let rounded = if magnitude >= MAX {
            MAX
        } else if magnitude >= MIN_NORMAL {
            // 13 bits of the f32 mantissa have no place in f16's.
            f32::from_bits((magnitude.to_bits() + (random & 0x1fff)) & !0x1fff).min(MAX)
        } else {
            // Subnormals are whole multiples of 2^-24: 2^24 scales exactly, and 24 random bits decide the rest.
            let units = magnitude * 16_777_216.0;
            let floor = units.floor();
            let up = units - floor >= 1.0 - (random >> 8) as f32 / 16_777_216.0;
            (floor + if up { 1.0 } else { 0.0 }) / 16_777_216.0
        };
        Self::from_f32(rounded.copysign(value))
    }

    #[inline(always)]
    fn same_bits(self, other: Self) -> bool {
        self.to_bits() == other.to_bits()
    }
}
