//! Rows for columns, of four times four.

/// Numbers of which squares are turned in registers.
pub(crate) trait Turn: Copy {
    /// Element `i` of row `j` for element `j` of row `i`.
    fn turned(rows: [&[Self; 4]; 4]) -> [[Self; 4]; 4];
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
one_by_one!(f32, f64, super::lanes::Pair);

#[cfg(target_arch = "x86_64")]
mod x86 {
    #![expect(unsafe_code, reason = "instructions of every processor of the target")]

    use super::Turn;
    use crate::simd::lanes::Pair;
    use std::arch::x86_64::*;
    use std::mem::transmute;

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
