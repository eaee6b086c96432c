//! Shapes of tiles: the sums of some rows times some vectors, which stay in registers.

/// The shape of a tile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Rows of a left panel, of which a tile has some.
    pub(super) panel: usize,
    pub(super) rows: usize,
    /// Where a block has fewer rows, its last tile has a multiple of this.
    pub(super) step: usize,
    pub(super) vectors: usize,
    /// Right panels by which tasks are cut: those of a tile with vectors as long as a panel is wide, else two.
    pub(super) together: usize,
}

impl Shape {
    /// With the 32 registers of AVX-512.
    pub(super) const OF_512: Self = Self { panel: 8, rows: 8, step: 4, vectors: 3, together: 3 };
    /// The same where each row has an address of its own.
    pub(super) const OF_512_APART: Self = Self { vectors: 2, together: 2, ..Self::OF_512 };
    /// With the 16 of AVX2.
    pub(super) const OF_256: Self = Self { panel: 12, rows: 6, step: 2, vectors: 2, together: 2 };
    /// With the 32 of NEON.
    pub(super) const OF_128: Self = Self { vectors: 4, ..Self::OF_256 };
    /// With the 16 of SSE, which has no fused multiply-add.
    pub(super) const OF_SSE: Self = Self { rows: 2, ..Self::OF_128 };

    /// That of vectors of so many bytes.
    pub(super) const fn of(bytes: usize, rows_are_apart: bool) -> Self {
        match bytes {
            64 if rows_are_apart => Self::OF_512_APART,
            64 => Self::OF_512,
            32 => Self::OF_256,
            _ if cfg!(target_arch = "aarch64") => Self::OF_128,
            _ => Self::OF_SSE,
        }
    }
}
