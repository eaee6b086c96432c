//! Rows for columns, of four times four, and pairs of two rows.

#[cfg(not(target_arch = "x86_64"))]
use super::lanes::Pair;
#[cfg(not(target_arch = "x86_64"))]
use half::bf16;

/// Numbers of which squares are turned in registers.
pub(crate) trait Turn: Copy {
    /// Element `i` of row `j` for element `j` of row `i`.
    fn turned(rows: [&[Self; 4]; 4]) -> [[Self; 4]; 4];
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::paired;

/// Each of `a` with that of `b`.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(crate) fn paired(a: &[bf16; 8], b: &[bf16; 8]) -> [Pair; 8] {
    std::array::from_fn(|i| Pair([a[i], b[i]]))
}

#[cfg(not(target_arch = "x86_64"))]
macro_rules! one_by_one {
    ($($t:ty),*) => {$(
        impl Turn for $t {
            #[inline(always)]
            fn turned(rows: [&[Self; 4]; 4]) -> [[Self; 4]; 4] {
                std::array::from_fn(|i| std::array::from_fn(|j| rows[j][i]))
            }
        }
    )*};
}
#[cfg(not(target_arch = "x86_64"))]
one_by_one!(f32, f64, Pair);

#[cfg(target_arch = "x86_64")]
mod x86 {
    #![expect(unsafe_code, reason = "instructions of every processor of the target")]

    use super::Turn;
    use crate::simd::lanes::Pair;
    use half::bf16;
    use std::arch::x86_64::*;
    use std::mem::transmute;

    /// Each of `a` with that of `b`.
    #[inline(always)]
    pub(crate) fn paired(a: &[bf16; 8], b: &[bf16; 8]) -> [Pair; 8] {
        // SAFETY: every processor of the target has SSE2; all vectors are eight numbers of 16 bits of any value.
        unsafe {
            let [a, b] = [a, b].map(|x| _mm_loadu_si128(x.as_ptr().cast()));
            transmute([_mm_unpacklo_epi16(a, b), _mm_unpackhi_epi16(a, b)])
        }
    }

    impl Turn for f32 {
        #[inline(always)]
        fn turned(rows: [&[f32; 4]; 4]) -> [[f32; 4]; 4] {
            // SAFETY: every processor of the target has SSE; all vectors are four numbers of any value.
            unsafe {
                let [a, b, c, d] = rows.map(|row| _mm_loadu_ps(row.as_ptr()));
                let (ab, ab_high) = (_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
                let (cd, cd_high) = (_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
                transmute([
                    _mm_movelh_ps(ab, cd),
                    _mm_movehl_ps(cd, ab),
                    _mm_movelh_ps(ab_high, cd_high),
                    _mm_movehl_ps(cd_high, ab_high),
                ])
            }
        }
    }

    impl Turn for f64 {
        #[inline(always)]
        fn turned(rows: [&[f64; 4]; 4]) -> [[f64; 4]; 4] {
            let mut turned = [[0.; 4]; 4];
            for half in [0, 2] {
                for pair in [0, 2] {
                    // SAFETY: every processor of the target has SSE2; the pairs are within their rows.
                    unsafe {
                        let a = _mm_loadu_pd(rows[half].as_ptr().add(pair));
                        let b = _mm_loadu_pd(rows[half + 1].as_ptr().add(pair));
                        _mm_storeu_pd(turned[pair].as_mut_ptr().add(half), _mm_unpacklo_pd(a, b));
                        _mm_storeu_pd(turned[pair + 1].as_mut_ptr().add(half), _mm_unpackhi_pd(a, b));
                    }
                }
            }
            turned
        }
    }

    impl Turn for Pair {
        #[inline(always)]
        fn turned(rows: [&[Pair; 4]; 4]) -> [[Pair; 4]; 4] {
            // SAFETY: a pair is 32 bits of any value, as an f32 is, of the same alignment; shuffles keep bits.
            unsafe {
                let rows = rows.map(|row| &*std::ptr::from_ref(row).cast::<[f32; 4]>());
                transmute(f32::turned(rows))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Turn;
    use crate::simd::lanes::Pair;
    use half::bf16;

    #[test]
    fn two_rows_become_pairs_with_all_their_bits() {
        let [a, b] =
            [0x7fa0_u16, 0xff80].map(|first| std::array::from_fn(|i| bf16::from_bits(first + i as u16)));
        for (i, pair) in super::paired(&a, &b).into_iter().enumerate() {
            assert_eq!(pair.0.map(bf16::to_bits), [a[i].to_bits(), b[i].to_bits()]);
        }
    }

    #[test]
    fn rows_become_columns_with_all_their_bits() {
        let rows: [[u32; 4]; 4] =
            std::array::from_fn(|i| std::array::from_fn(|j| 0x7fa0_0000 + (16 * i + j) as u32));
        let floats = rows.map(|row| row.map(f32::from_bits));
        let doubles = rows.map(|row| row.map(f64::from));
        let pairs =
            rows.map(|row| row.map(|x| Pair([bf16::from_bits(x as u16), bf16::from_bits((x >> 16) as u16)])));
        let (f32s, f64s, twos) =
            (f32::turned(floats.each_ref()), f64::turned(doubles.each_ref()), Pair::turned(pairs.each_ref()));
        for i in 0..4 {
            for j in 0..4 {
                assert_eq!(f32s[j][i].to_bits(), rows[i][j]);
                assert_eq!(f64s[j][i], f64::from(rows[i][j]));
                let [low, high] = twos[j][i].0.map(bf16::to_bits);
                assert_eq!(u32::from(low) | u32::from(high) << 16, rows[i][j]);
            }
        }
    }
}
