//! ULP distance: how many values of a format lie between two of them. It is the measure behind a kernel's ULP(n)
//! contract, and says nothing where counting steps would hide a failure: at NaNs and infinities.

use half::{bf16, f16};

use crate::FloatFormat;

/// A Rust type whose values are those of one [`FloatFormat`]. Sealed: `f16`, `bf16`, `f32` and `f64`.
pub trait Float: Copy + sealed::Sealed {
    /// The format.
    const FORMAT: FloatFormat;

    /// The bit pattern, in the low bits.
    fn bits(self) -> u64;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! float {
    ($($ty:ty => $format:ident),*) => {$(
        impl sealed::Sealed for $ty {}

        impl Float for $ty {
            const FORMAT: FloatFormat = FloatFormat::$format;

            fn bits(self) -> u64 {
                self.to_bits().into()
            }
        }
    )*};
}

float!(f16 => F16, bf16 => Bf16, f32 => F32, f64 => F64);

/// The number of steps from one value to the next that lead from `a` to `b`, whichever is larger.
///
/// - Zeros are one value: the distance from -0 to +0 is 0, and that from the least negative to the least positive 2.
/// - Two NaNs are at distance 0, whatever their sign and payload, and so are two infinities of one sign.
/// - `None` if exactly one is NaN, exactly one is infinite, or the infinities differ in sign. An overflow is never one
///   step away from the right answer.
///
/// ```
/// use precision_types::ulp_distance;
///
/// assert_eq!(ulp_distance(1.0_f32, 1.0 + f32::EPSILON), Some(1));
/// assert_eq!(ulp_distance(f32::MAX, f32::INFINITY), None);
/// ```
pub fn ulp_distance<T: Float>(a: T, b: T) -> Option<u64> {
    T::FORMAT.ulp_distance(a.bits(), b.bits())
}

impl FloatFormat {
    /// [`ulp_distance`] for bit patterns of this format. Bits above its width are ignored.
    pub fn ulp_distance(self, a: u64, b: u64) -> Option<u64> {
        let (x, y) = (self.from_bits(a), self.from_bits(b));
        if x.is_finite() && y.is_finite() {
            return Some(self.signed_ordinal(a).abs_diff(self.signed_ordinal(b)));
        }
        ((x.is_nan() && y.is_nan()) || x == y).then_some(0)
    }

    /// Rises by one from each value to the next, through zero.
    fn signed_ordinal(self, bits: u64) -> i64 {
        // An ordinal has at most 63 bits.
        let ordinal = (bits & self.ordinal_mask()) as i64;
        if bits & self.sign_mask() == 0 { ordinal } else { -ordinal }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_step_apart() {
        assert_eq!(ulp_distance(1.0_f64, 1.0_f64.next_up()), Some(1));
        assert_eq!(ulp_distance(2.0_f32, 2.0_f32.next_down()), Some(1));
        assert_eq!(ulp_distance(f32::from_bits(1), -f32::from_bits(1)), Some(2));
        assert_eq!(ulp_distance(f16::ONE, f16::from_f32(2.0)), Some(1024));
        assert_eq!(ulp_distance(bf16::ONE, bf16::from_f32(2.0)), Some(128));
    }

    #[test]
    fn the_widest_distance_fits() {
        let ordinal = f64::MAX.to_bits();
        assert_eq!(ulp_distance(f64::MIN, f64::MAX), Some(2 * ordinal));
    }

    #[test]
    fn zeros_are_one_value() {
        assert_eq!(ulp_distance(-0.0_f32, 0.0), Some(0));
        assert_eq!(ulp_distance(-0.0_f32, f32::from_bits(1)), Some(1));
    }

    #[test]
    fn nan_and_infinity_equal_their_own_class_only() {
        let payload = f32::from_bits(0xffc0_1234);
        assert_eq!(ulp_distance(f32::NAN, payload), Some(0));
        assert_eq!(ulp_distance(f32::NAN, 1.0), None);
        assert_eq!(ulp_distance(f32::INFINITY, f32::NAN), None);
        assert_eq!(ulp_distance(f32::INFINITY, f32::INFINITY), Some(0));
        assert_eq!(ulp_distance(f32::INFINITY, f32::NEG_INFINITY), None);
        assert_eq!(ulp_distance(f32::MAX, f32::INFINITY), None);
        // E4M3 has 448 (0x7e) right below its NaN (0x7f).
        assert_eq!(FloatFormat::F8E4M3.ulp_distance(0x7e, 0x7f), None);
    }
}
