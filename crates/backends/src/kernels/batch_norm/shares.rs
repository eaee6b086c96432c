//! How a norm's elements are shared out among blocks.

use super::Dims;
use crate::cuda::rows::{UNIT, in_parts};
use crate::cuda::{BLOCK, Launch};

/// Blocks of a launch: two for each multiprocessor of an H100, all that run at a time.
const BLOCKS: usize = 264;
/// The most elements of a part of a channel.
const PART: usize = 1 << 30;

/// How a norm's elements are shared out.
pub(super) struct Shares {
    /// As part of a kernel's name; `_1` where units do not fit, and a thread takes an element at a time.
    pub(super) walk: &'static str,
    pub(super) launch: Launch,
    pub(super) parts: usize,
    pub(super) each: usize,
    pub(super) across: usize,
}

impl Shares {
    /// For arrays at these addresses.
    pub(super) fn of(dims: Dims, arrays: &[u64]) -> Option<Self> {
        let Dims { outer, channels, inner } = dims;
        let aligned = arrays.iter().all(|address| address.is_multiple_of(16));
        let together = |length: usize| if aligned && length.is_multiple_of(UNIT) { UNIT } else { 1 };
        if inner == 1 {
            let at_once = together(channels);
            let pieces = channels / at_once;
            let across = pieces.next_power_of_two().min(32);
            let wide = pieces.div_ceil(across);
            let down = BLOCK as usize / across;
            let parts = BLOCKS.div_ceil(wide).min(outer.div_ceil(4 * down)).max(1);
            let each = outer.div_ceil(parts);
            let walk = if at_once == UNIT { "rows" } else { "rows_1" };
            let parts = outer.div_ceil(each);
            return Some(Self { walk, launch: in_parts(wide, parts)?, parts, each, across });
        }
        let parts = BLOCKS.div_ceil(channels).min(outer).max(1);
        let each = outer.div_ceil(parts).min((PART / inner).max(1));
        let parts = outer.div_ceil(each);
        u32::try_from(inner).ok()?;
        let walk = if together(inner) == UNIT { "planes" } else { "planes_1" };
        Some(Self { walk, launch: in_parts(channels, parts)?, parts, each, across: 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_in_one_part_of_its_channel() {
        for outer in [1, 2, 31, 1000, 802_816] {
            for channels in [1, 8, 9, 64, 300, 4096] {
                for (inner, at) in [(1, 0), (1, 8), (2, 0), (49, 0), (3136, 0), (3136, 2)] {
                    let Some(shares) = Shares::of(Dims { outer, channels, inner }, &[0, 4096, at]) else {
                        panic!("{outer} {channels} {inner}");
                    };
                    assert_eq!(shares.launch.grid.1 as usize, shares.parts);
                    assert!((shares.parts - 1) * shares.each < outer && shares.parts * shares.each >= outer);
                    let at_once = if shares.walk.ends_with("_1") { 1 } else { UNIT };
                    let run = if inner == 1 { channels } else { inner };
                    assert_eq!(at_once == UNIT, run.is_multiple_of(UNIT) && at == 0);
                    let across = shares.launch.grid.0 as usize * shares.across * at_once;
                    assert!(
                        inner > 1 || across >= channels && (BLOCK as usize).is_multiple_of(shares.across)
                    );
                }
            }
        }
    }
}
