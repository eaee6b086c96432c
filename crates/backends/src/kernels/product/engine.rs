//! What multiplies 16-bit numbers on this machine.

use std::sync::LazyLock;

/// How products of bf16 are computed. Those of f16 are [`Widened`](Self::Widened) everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Engine {
    /// In f32, after widening: exact, and at the speed of f32.
    Widened,
    /// By `vdpbf16ps` (AVX-512 BF16), which multiplies pairs.
    Pairs,
    /// By the tile unit (AMX), which multiplies blocks of 16 × 32 and 32 × 16.
    Tiles,
}

impl Engine {
    /// The fastest that this machine has: `vdpbf16ps` at twice the rate of f32 on AMD, at half of it on Intel, which has tiles
    /// instead.
    pub fn best() -> Self {
        static BEST: LazyLock<Engine> = LazyLock::new(|| match Engine::available() {
            all if all.contains(&Engine::Tiles) => Engine::Tiles,
            all if all.contains(&Engine::Pairs) && is_amd() => Engine::Pairs,
            _ => Engine::Widened,
        });
        *BEST
    }

    /// What multiplies a product of so many multiplications: of few in f32, for which less is packed.
    pub(crate) fn worth(self, multiplications: usize) -> Self {
        const WORTH_PACKING: usize = 32 * 32 * 32;
        if multiplications >= WORTH_PACKING { self } else { Self::Widened }
    }

    /// All that run on this machine.
    pub fn available() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        let pairs = crate::simd::Pairs::detect().map(|_| Self::Pairs);
        #[cfg(not(target_arch = "x86_64"))]
        let pairs = None;
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        let tiles = super::amx::Amx::detect().map(|_| Self::Tiles);
        #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
        let tiles = None;
        [Self::Widened].into_iter().chain(pairs).chain(tiles).collect()
    }
}

/// Whether the processor is AMD's.
fn is_amd() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        static AMD: LazyLock<bool> = LazyLock::new(|| {
            let leaf = std::arch::x86_64::__cpuid(0);
            let name = [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).concat();
            name == b"AuthenticAMD" || name == b"HygonGenuine"
        });
        *AMD
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}
