//! Vectors that products are summed in, for code that counts its registers.

use super::Baseline;

/// Vectors of `E`, and of sums of products of two. What makes one takes the instruction set, which is the proof that the processor
/// has it.
pub(crate) trait Lanes<E>: Copy {
    /// A sum.
    type Sum;
    /// A vector of `E`.
    type Terms: Copy;
    /// A vector of sums, one for each element.
    type Sums: Copy;
    /// Elements of a vector.
    const LANES: usize;

    /// The same in every element.
    fn same(self, x: E) -> Self::Terms;

    /// `sums + a · b`, rounded once where the instruction set does so.
    fn add_up(self, a: Self::Terms, b: Self::Terms, sums: Self::Sums) -> Self::Sums;

    /// The elements from `from` on.
    ///
    /// # Safety
    ///
    /// There are as many.
    unsafe fn read(self, from: *const E) -> Self::Terms;

    /// `a + b`.
    fn plus(self, a: Self::Sums, b: Self::Sums) -> Self::Sums;

    /// The sums from `from` on.
    ///
    /// # Safety
    ///
    /// There are as many.
    unsafe fn held(self, from: *const Self::Sum) -> Self::Sums;

    /// Writes sums from `to` on.
    ///
    /// # Safety
    ///
    /// There are as many, which are borrowed for it alone.
    unsafe fn write(self, x: Self::Sums, to: *mut Self::Sum);
}

#[cfg(not(target_arch = "aarch64"))]
macro_rules! of_the_baseline {
    ($($t:ty, $count:literal;)*) => {$(
        impl Lanes<$t> for Baseline {
            type Sum = $t;
            type Terms = [$t; $count];
            type Sums = [$t; $count];
            const LANES: usize = $count;

            #[inline(always)]
            fn same(self, x: $t) -> Self::Terms {
                [x; $count]
            }

            #[inline(always)]
            fn add_up(self, a: Self::Terms, b: Self::Terms, mut sums: Self::Sums) -> Self::Sums {
                for lane in 0..$count {
                    sums[lane] += a[lane] * b[lane];
                }
                sums
            }

            #[inline(always)]
            unsafe fn read(self, from: *const $t) -> Self::Terms {
                // SAFETY: as the caller says; an array of them is aligned as one is.
                unsafe { from.cast::<Self::Terms>().read() }
            }

            #[inline(always)]
            fn plus(self, mut a: Self::Sums, b: Self::Sums) -> Self::Sums {
                for lane in 0..$count {
                    a[lane] += b[lane];
                }
                a
            }

            #[inline(always)]
            unsafe fn held(self, from: *const $t) -> Self::Sums {
                // SAFETY: as above.
                unsafe { self.read(from) }
            }

            #[inline(always)]
            unsafe fn write(self, x: Self::Sums, to: *mut $t) {
                // SAFETY: as above.
                unsafe { to.cast::<Self::Sums>().write(x) }
            }
        }
    )*};
}
#[cfg(not(target_arch = "aarch64"))]
of_the_baseline!(f32, 4; f64, 2;);

/// Bytes of a line of the cache.
pub(crate) const LINE: usize = 64;

/// Has the line of an address fetched into the second-level cache, wherever it leads.
#[inline(always)]
pub(crate) fn fetch<E>(line: *const E) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every processor of the target has the instruction, which changes no memory.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

/// [`Lanes`] by intrinsics.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! of_intrinsics {
    ($($token:ident, $t:ty, $vector:ty, $count:literal: $set:ident $plus:ident $load:ident $store:ident |$a:ident, $b:ident, $c:ident| $sum:expr;)*) => {$(
        impl Lanes<$t> for $token {
            type Sum = $t;
            type Terms = $vector;
            type Sums = $vector;
            const LANES: usize = $count;

            #[inline(always)]
            fn same(self, x: $t) -> $vector {
                // SAFETY: the token exists, so the processor has the instruction.
                unsafe { $set(x) }
            }

            #[inline(always)]
            fn add_up(self, $a: $vector, $b: $vector, $c: $vector) -> $vector {
                // SAFETY: the token exists, so the processor has the instruction.
                unsafe { $sum }
            }

            #[inline(always)]
            unsafe fn read(self, from: *const $t) -> $vector {
                // SAFETY: as above, and the elements are there, by the caller's word.
                unsafe { $load(from) }
            }

            #[inline(always)]
            fn plus(self, a: $vector, b: $vector) -> $vector {
                // SAFETY: as above.
                unsafe { $plus(a, b) }
            }

            #[inline(always)]
            unsafe fn held(self, from: *const $t) -> $vector {
                // SAFETY: as above, and the sums are there, by the caller's word.
                unsafe { $load(from) }
            }

            #[inline(always)]
            unsafe fn write(self, x: $vector, to: *mut $t) {
                // SAFETY: as above.
                unsafe { $store(to, x) }
            }
        }
    )*};
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use super::{Baseline, Lanes};
    use std::arch::aarch64::*;

    of_intrinsics! {
        Baseline, f32, float32x4_t, 4: vdupq_n_f32 vaddq_f32 vld1q_f32 vst1q_f32 |a, b, sums| vfmaq_f32(sums, a, b);
        Baseline, f64, float64x2_t, 2: vdupq_n_f64 vaddq_f64 vld1q_f64 vst1q_f64 |a, b, sums| vfmaq_f64(sums, a, b);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use super::Pair;
    use crate::simd::{Avx2, Avx512, Pairs};
    use std::arch::x86_64::*;

    of_intrinsics! {
        Avx2, f32, __m256, 8: _mm256_set1_ps _mm256_add_ps _mm256_loadu_ps _mm256_storeu_ps |a, b, sums| _mm256_fmadd_ps(a, b, sums);
        Avx2, f64, __m256d, 4: _mm256_set1_pd _mm256_add_pd _mm256_loadu_pd _mm256_storeu_pd |a, b, sums| _mm256_fmadd_pd(a, b, sums);
        Avx512, f32, __m512, 16: _mm512_set1_ps _mm512_add_ps _mm512_loadu_ps _mm512_storeu_ps |a, b, sums| _mm512_fmadd_ps(a, b, sums);
        Avx512, f64, __m512d, 8: _mm512_set1_pd _mm512_add_pd _mm512_loadu_pd _mm512_storeu_pd |a, b, sums| _mm512_fmadd_pd(a, b, sums);
    }

    impl Lanes<Pair> for Pairs {
        type Sum = f32;
        type Terms = __m512bh;
        type Sums = __m512;
        const LANES: usize = 16;

        #[inline(always)]
        fn same(self, Pair([low, high]): Pair) -> __m512bh {
            let both = u32::from(low.to_bits()) | u32::from(high.to_bits()) << 16;
            // SAFETY: the token exists, so the processor has the instruction; both vectors are 64 bytes of any value.
            unsafe { std::mem::transmute(_mm512_set1_epi32(both.cast_signed())) }
        }

        #[inline(always)]
        fn add_up(self, a: __m512bh, b: __m512bh, sums: __m512) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_dpbf16_ps(sums, a, b) }
        }

        #[inline(always)]
        unsafe fn read(self, from: *const Pair) -> __m512bh {
            // SAFETY: as above, and 16 pairs are there, by the caller's word.
            unsafe { std::mem::transmute(_mm512_loadu_si512(from.cast())) }
        }

        #[inline(always)]
        fn plus(self, a: __m512, b: __m512) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_add_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn held(self, from: *const f32) -> __m512 {
            // SAFETY: as above, and 16 sums are there, by the caller's word.
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn write(self, x: __m512, to: *mut f32) {
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(to, x) }
        }
    }
}

/// Two terms that one instruction multiplies with two others and adds up.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(4))]
pub(crate) struct Pair(pub(crate) [half::bf16; 2]);
