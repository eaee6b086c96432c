//! How a norm's elements are shared out among blocks.

use super::Dims;
use crate::cuda::rows::in_parts;
use crate::cuda::{BLOCK, Launch};

/// Elements of a thread's unit: `UNIT` in `rows.cuh`.
const UNIT: usize = 8;
/// Blocks whose sums are kept apart: two for each multiprocessor of an H100, all that run at a time.
pub(super) const SUMMING: usize = 264;
/// Blocks of a pass over all elements.
pub(super) const PASSING: usize = 1056;
/// The most elements of a part of a channel.
const PART: usize = 1 << 30;

/// How a norm's elements are shared out.
pub(super) struct Shares {
    pub(super) walk: &'static str,
    pub(super) launch: Launch,
    pub(super) parts: usize,
    pub(super) each: usize,
    pub(super) across: usize,
}

impl Shares {
    pub(super) fn of(dims: Dims, blocks: usize) -> Option<Self> {
        let Dims { outer, channels, inner } = dims;
        if inner == 1 {
            let units = channels.div_ceil(UNIT);
            let across = units.next_power_of_two().min(32);
            let wide = units.div_ceil(across);
            let down = BLOCK as usize / across;
            let parts = blocks.div_ceil(wide).min(outer.div_ceil(4 * down)).max(1);
            let each = outer.div_ceil(parts);
            let parts = outer.div_ceil(each);
            return Some(Self { walk: "rows", launch: in_parts(wide, parts)?, parts, each, across });
        }
        let parts = blocks.div_ceil(channels).min(outer).max(1);
        let each = outer.div_ceil(parts).min((PART / inner).max(1));
        let parts = outer.div_ceil(each);
        u32::try_from(inner).ok()?;
        Some(Self { walk: "planes", launch: in_parts(channels, parts)?, parts, each, across: 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_in_one_part_of_its_channel() {
        for outer in [1, 2, 31, 1000, 802_816] {
            for channels in [1, 8, 9, 64, 300, 4096] {
                for inner in [1, 2, 49, 3136] {
                    let Some(shares) = Shares::of(Dims { outer, channels, inner }, SUMMING) else {
                        panic!("{outer} {channels} {inner}");
                    };
                    assert_eq!(shares.launch.grid.1 as usize, shares.parts);
                    assert!((shares.parts - 1) * shares.each < outer && shares.parts * shares.each >= outer);
                    let across = shares.launch.grid.0 as usize * shares.across * UNIT;
                    assert!(
                        inner > 1 || across >= channels && (BLOCK as usize).is_multiple_of(shares.across)
                    );
                }
            }
        }
    }
}
