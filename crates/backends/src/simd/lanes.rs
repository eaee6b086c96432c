//! Vectors of an instruction set, for code that counts its registers.

use super::Baseline;

/// Vectors of `T`. What makes one takes the instruction set, which is the proof that the processor has it.
pub(crate) trait Lanes<T>: Copy {
    /// A vector.
    type Vector: Copy;
    /// Its elements.
    const COUNT: usize;

    /// The same in every element.
    fn splat(self, x: T) -> Self::Vector;

    /// `a · b + c`, rounded once where the instruction set does so.
    fn fused(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;

    /// `a + b`.
    fn plus(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// Has the line of an address fetched into the second-level cache, wherever it leads.
    fn prefetch(self, line: *const T);

    /// The elements from `from` on.
    ///
    /// # Safety
    ///
    /// There are as many.
    unsafe fn read(self, from: *const T) -> Self::Vector;

    /// Writes the elements from `to` on.
    ///
    /// # Safety
    ///
    /// There are as many, which are borrowed for it alone.
    unsafe fn write(self, x: Self::Vector, to: *mut T);
}

macro_rules! of_the_baseline {
    ($($t:ty, $count:literal;)*) => {$(
        impl Lanes<$t> for Baseline {
            type Vector = [$t; $count];
            const COUNT: usize = $count;

            #[inline(always)]
            fn splat(self, x: $t) -> Self::Vector {
                [x; $count]
            }

            #[inline(always)]
            fn fused(self, a: Self::Vector, b: Self::Vector, mut c: Self::Vector) -> Self::Vector {
                for lane in 0..$count {
                    c[lane] += a[lane] * b[lane];
                }
                c
            }

            #[inline(always)]
            fn plus(self, mut a: Self::Vector, b: Self::Vector) -> Self::Vector {
                for lane in 0..$count {
                    a[lane] += b[lane];
                }
                a
            }

            #[inline(always)]
            fn prefetch(self, _: *const $t) {}

            #[inline(always)]
            unsafe fn read(self, from: *const $t) -> Self::Vector {
                // SAFETY: as the caller says; an array of them is aligned as one is.
                unsafe { from.cast::<Self::Vector>().read() }
            }

            #[inline(always)]
            unsafe fn write(self, x: Self::Vector, to: *mut $t) {
                // SAFETY: as above.
                unsafe { to.cast::<Self::Vector>().write(x) }
            }
        }
    )*};
}
of_the_baseline!(f32, 4; f64, 2;);

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use crate::simd::{Avx2, Avx512};
    use std::arch::x86_64::*;

    macro_rules! of_intrinsics {
        ($($token:ident, $t:ty, $vector:ty, $count:literal: $set:ident $fma:ident $add:ident $load:ident $store:ident;)*) => {$(
            impl Lanes<$t> for $token {
                type Vector = $vector;
                const COUNT: usize = $count;

                #[inline(always)]
                fn splat(self, x: $t) -> $vector {
                    // SAFETY: the token exists, so the processor has the instruction.
                    unsafe { $set(x) }
                }

                #[inline(always)]
                fn fused(self, a: $vector, b: $vector, c: $vector) -> $vector {
                    // SAFETY: as above.
                    unsafe { $fma(a, b, c) }
                }

                #[inline(always)]
                fn plus(self, a: $vector, b: $vector) -> $vector {
                    // SAFETY: as above.
                    unsafe { $add(a, b) }
                }

                #[inline(always)]
                fn prefetch(self, line: *const $t) {
                    // SAFETY: as above; it changes no memory.
                    unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
                }

                #[inline(always)]
                unsafe fn read(self, from: *const $t) -> $vector {
                    // SAFETY: as above, and the elements are there, by the caller's word.
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
    of_intrinsics! {
        Avx2, f32, __m256, 8: _mm256_set1_ps _mm256_fmadd_ps _mm256_add_ps _mm256_loadu_ps _mm256_storeu_ps;
        Avx2, f64, __m256d, 4: _mm256_set1_pd _mm256_fmadd_pd _mm256_add_pd _mm256_loadu_pd _mm256_storeu_pd;
        Avx512, f32, __m512, 16: _mm512_set1_ps _mm512_fmadd_ps _mm512_add_ps _mm512_loadu_ps _mm512_storeu_ps;
        Avx512, f64, __m512d, 8: _mm512_set1_pd _mm512_fmadd_pd _mm512_add_pd _mm512_loadu_pd _mm512_storeu_pd;
    }
}
