//! The launch.

#![expect(unsafe_code, reason = "launching a kernel")]

use super::Taps;
use crate::Result;
use crate::buffer::{In, Out, Ran, ScalarType, Why};
use crate::cuda::rows::{on_device, on_device_mut};
use crate::cuda::{BLOCK, Kernel, Module, module};

const MODULE: Module = module!("resample");
/// Blocks of a launch.
const GRID: u64 = 1 << 20;

pub(super) fn resample(
    x: &In<'_>,
    inner: usize,
    taps: &Taps,
    table: &In<'_>,
    out: &mut Out<'_>,
) -> Result<Ran> {
    let (from, to) = (x.scalar_type(), out.scalar_type());
    let fits = x.count().max(out.count()) < u32::MAX as usize;
    if !fits || !x.is_contiguous() || !table.is_contiguous() {
        return Ok(Ran::Composed(Why::Shape("x")));
    }
    let known = from == to || [from, to].contains(&ScalarType::F32) && from != ScalarType::F64;
    let (Some(from), Some(to), true, ScalarType::U32) = (name(from), name(to), known, table.scalar_type())
    else {
        return Ok(Ran::Composed(Why::Dtype("x")));
    };
    let (Some(x), Some(table), Some(at)) = (on_device(x), on_device(table), on_device_mut(out)) else {
        return Ok(Ran::Composed(Why::Device));
    };
    let (inputs, outputs) = (taps.inputs(), taps.outputs());
    let count = out.count();
    let args = [
        x.address(),
        at.address(),
        table.address(),
        (count / (outputs * inner)) as u64,
        inputs as u64,
        outputs as u64,
        inner as u64,
    ];
    let blocks = (count as u64).div_ceil(u64::from(BLOCK)).min(GRID);
    let kernel = Kernel::load(x.gpu(), MODULE, &format!("resample_{from}_{to}"))?;
    // SAFETY: `args` is `Args`; `x` has `outer · inputs · inner` elements and `out` one for each sum, as the caller compared, and the
    // table is that of the taps, each below `inputs`.
    unsafe { kernel.launch(blocks, &args) }?;
    Ok(Ran::Kernel("resample, CUDA"))
}

fn name(of: ScalarType) -> Option<&'static str> {
    match of {
        ScalarType::F16 => Some("f16"),
        ScalarType::Bf16 => Some("bf16"),
        ScalarType::F32 => Some("f32"),
        ScalarType::F64 => Some("f64"),
        _ => None,
    }
}
