//! One body of code, compiled for each instruction set, of which the best that the machine has is chosen at run time.
//!
//! A [`Work`] is a loop that the compiler vectorizes. What it cannot express in plain Rust is a method of [`Simd`]. A value
//! of [`Avx2`] or [`Avx512`] exists only where the processor has these instructions, and so is the proof that running them
//! is sound.

#![expect(unsafe_code, reason = "calling code that is compiled for instructions found at run time")]

pub(crate) mod convert;
pub(crate) mod lanes;
pub(crate) mod map;
pub(crate) mod math;
pub(crate) mod rows;
#[cfg(test)]
mod tests;
pub(crate) mod turn;
pub(crate) mod walk;

use half::f16;
use lanes::Lanes;

/// Elements that are worked on side by side.
pub(crate) const LANES: usize = 16;

/// An instruction set.
pub(crate) trait Simd: Lanes<f32, Sum = f32> + Lanes<f64, Sum = f64> + Copy + Send + Sync {
    /// `a · b + c`, rounded once where the instruction set does so.
    fn mul_add(self, a: f32, b: f32, c: f32) -> f32;

    /// [`mul_add`](Self::mul_add) of f64.
    fn mul_add_f64(self, a: f64, b: f64, c: f64) -> f64;

    /// Eight elements in f32.
    fn widen_f16(self, x: [f16; 8]) -> [f32; 8];

    /// Eight elements rounded to f16.
    fn narrow_f16(self, x: [f32; 8]) -> [f16; 8];
}

/// What is done with an instruction set. Everything that [`run`](Self::run) calls is `#[inline(always)]`, so that it becomes
/// part of the function that has the instructions.
pub(crate) trait Work {
    /// What comes of it.
    type Output;

    /// Does it.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// The instruction sets that code is compiled for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Isa {
    /// What every processor of the target has.
    Baseline(Baseline),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Isa {
    /// All that this machine has, the best last.
    pub(crate) fn available() -> impl Iterator<Item = Self> {
        let baseline = std::iter::once(Self::Baseline(Baseline));
        #[cfg(target_arch = "x86_64")]
        return baseline.chain(Avx2::detect().map(Self::Avx2)).chain(Avx512::detect().map(Self::Avx512));
        #[cfg(not(target_arch = "x86_64"))]
        baseline
    }

    /// The best that this machine has.
    pub(crate) fn best() -> Self {
        Self::available().last().unwrap_or(Self::Baseline(Baseline))
    }

    /// Bytes of a vector.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Baseline(_) => 16,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => 32,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => 64,
        }
    }

    /// Whether `a · b + c` is rounded once.
    #[cfg(test)]
    pub(crate) fn fuses(self) -> bool {
        Baseline::FUSES || !matches!(self, Self::Baseline(_))
    }

    /// Does the work with these instructions.
    pub(crate) fn run<W: Work>(self, work: W) -> W::Output {
        match self {
            Self::Baseline(simd) => work.run(simd),
            // SAFETY: the token exists, so the processor has the instructions.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => unsafe { in_avx2(work, simd) },
            // SAFETY: the token exists, so the processor has the instructions.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => unsafe { in_avx512(work, simd) },
        }
    }
}

/// No more than the target has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Baseline;

impl Baseline {
    /// Whether its multiplication and addition are one instruction: with NEON.
    pub(crate) const FUSES: bool = cfg!(target_arch = "aarch64");
}

impl Simd for Baseline {
    #[inline(always)]
    fn mul_add(self, a: f32, b: f32, c: f32) -> f32 {
        if Self::FUSES { a.mul_add(b, c) } else { a * b + c }
    }

    #[inline(always)]
    fn mul_add_f64(self, a: f64, b: f64, c: f64) -> f64 {
        if Self::FUSES { a.mul_add(b, c) } else { a * b + c }
    }

    #[inline(always)]
    fn widen_f16(self, x: [f16; 8]) -> [f32; 8] {
        x.map(f16::to_f32)
    }

    #[inline(always)]
    fn narrow_f16(self, x: [f32; 8]) -> [f16; 8] {
        x.map(f16::from_f32)
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512, Pairs, WorkOnPairs, in_avx2, in_avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Simd, Work};
    use half::f16;
    use std::arch::x86_64::{__m128i, _MM_FROUND_TO_NEAREST_INT, _mm256_cvtph_ps, _mm256_cvtps_ph};

    /// AVX2, FMA and F16C.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Avx2(());

    impl Avx2 {
        pub(super) fn detect() -> Option<Self> {
            let found = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            found.then_some(Self(()))
        }
    }

    /// AVX-512 F, BW, DQ and VL beside [`Avx2`].
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Avx512(());

    impl Avx512 {
        pub(super) fn detect() -> Option<Self> {
            let found = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            Avx2::detect().filter(|_| found).map(|_| Self(()))
        }
    }

    /// `vdpbf16ps` beside [`Avx512`]: no work is compiled for it but the sums of products of bf16.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Pairs(Avx512);

    impl Pairs {
        pub(crate) fn detect() -> Option<Self> {
            Avx512::detect().filter(|_| is_x86_feature_detected!("avx512bf16")).map(Self)
        }

        pub(crate) fn isa(self) -> super::Isa {
            super::Isa::Avx512(self.0)
        }

        /// Does the work with these instructions.
        pub(crate) fn run(self, work: impl WorkOnPairs) {
            // SAFETY: the token exists, so the processor has the instructions.
            unsafe { in_pairs(work, self) }
        }
    }

    /// [`Work`] with `vdpbf16ps`.
    pub(crate) trait WorkOnPairs {
        /// Does it.
        fn run(self, simd: Avx512, pairs: Pairs);
    }

    /// # Safety
    ///
    /// The processor has AVX-512 F, BW, DQ, VL and BF16 beside AVX2, FMA and F16C.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
    unsafe fn in_pairs(work: impl WorkOnPairs, pairs: Pairs) {
        work.run(pairs.0, pairs);
    }

    /// # Safety
    ///
    /// The processor has AVX2, FMA and F16C.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(crate) unsafe fn in_avx2<W: Work>(work: W, simd: Avx2) -> W::Output {
        work.run(simd)
    }

    /// # Safety
    ///
    /// The processor has AVX-512 F, BW, DQ and VL beside AVX2, FMA and F16C.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
    pub(crate) unsafe fn in_avx512<W: Work>(work: W, simd: Avx512) -> W::Output {
        work.run(simd)
    }

    macro_rules! with_fma_and_f16c {
        ($($token:ident),*) => {$(
            impl Simd for $token {
                #[inline(always)]
                fn mul_add(self, a: f32, b: f32, c: f32) -> f32 {
                    a.mul_add(b, c)
                }

                #[inline(always)]
                fn mul_add_f64(self, a: f64, b: f64, c: f64) -> f64 {
                    a.mul_add(b, c)
                }

                #[inline(always)]
                fn widen_f16(self, x: [f16; 8]) -> [f32; 8] {
                    // SAFETY: the token exists, so the processor has F16C; all types are 8 numbers of any bits.
                    unsafe {
                        let x = std::mem::transmute::<[f16; 8], __m128i>(x);
                        std::mem::transmute(_mm256_cvtph_ps(x))
                    }
                }

                #[inline(always)]
                fn narrow_f16(self, x: [f32; 8]) -> [f16; 8] {
                    // SAFETY: as above.
                    unsafe {
                        let x = std::mem::transmute::<[f32; 8], std::arch::x86_64::__m256>(x);
                        std::mem::transmute(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x))
                    }
                }
            }
        )*};
    }
    with_fma_and_f16c!(Avx2, Avx512);
}
