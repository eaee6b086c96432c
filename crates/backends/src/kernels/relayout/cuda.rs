//! The launch.

#![expect(unsafe_code, reason = "launching a kernel")]

use crate::Result;
use crate::buffer::{In, Out, Ran, Why};
use crate::cuda::rows::{on_device, on_device_mut};
use crate::cuda::{BLOCK, Kernel, Launch, Module, module};

const MODULE: Module = module!("relayout");

/// The side of a tile: `TILE` in `relayout.cu`.
const TILE: usize = 32;
/// The most elements of a short side.
const SHORT: usize = 32;
/// The most elements of a strip, whose rows have room for an odd number: `STRIP` in `relayout.cu`.
const STRIP: usize = 4096;
/// Blocks of a launch; what is more is walked by these.
const GRID: usize = 1 << 20;

pub(super) fn relayout(x: &In<'_>, [n, a, b]: [usize; 3], width: usize, out: &mut Out<'_>) -> Result<Ran> {
    let bytes = x.scalar_type().bytes();
    if ![2, 4, 8].contains(&bytes) {
        return Ok(Ran::Composed(Why::Dtype("x")));
    }
    let short = if a.min(b) > SHORT {
        None
    } else if b <= a {
        Some([(STRIP / (b | 1)).min(a), b])
    } else {
        Some([a, ((STRIP / a - 1) | 1).min(b)])
    };
    if width != a && short.is_none() {
        return Ok(Ran::Composed(Why::Shape("x")));
    }
    let (Some(x), Some(out)) = (on_device(x), on_device_mut(out)) else {
        return Ok(Ran::Composed(Why::Device));
    };
    let (how, [along_a, along_b]) = match short {
        Some(strip) => ("strips", strip),
        None => ("tiles", [TILE, TILE]),
    };
    let blocks = n * a.div_ceil(along_a) * b.div_ceil(along_b);
    let sizes = [n, a, b, width, along_a, along_b].map(|size| size as u64);
    let mut args = [x.address(), out.address(), 0, 0, 0, 0, 0, 0];
    args[2..].copy_from_slice(&sizes);
    let launch = Launch { grid: (blocks.min(GRID) as u32, 1, 1), block: BLOCK, shared_bytes: 0 };
    let kernel = Kernel::load(x.gpu(), MODULE, &format!("relayout_{how}_{bytes}"))?;
    // SAFETY: `args` is `Args`; `x` has `n · a · b` elements and `out` `n · b · width`, as the caller compared.
    unsafe { kernel.launch_as(launch, &args) }?;
    Ok(Ran::Kernel("relayout, CUDA"))
}
