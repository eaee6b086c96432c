//! The launches.

#![expect(unsafe_code, reason = "launching a kernel")]

use super::{Among, RANK, Sign};
use crate::Result;
use crate::buffer::{In, Out, PlaceMut, Ran, ScalarType, Why};
use crate::cuda::rows::on_device;
use crate::cuda::{BLOCK, Kernel, Module, float_code, module};

const MODULE: Module = module!("add");

/// Elements of a thread, and blocks of a launch; more elements are walked by these.
const PACK: u64 = 8;
const GRID: u64 = 1 << 16;

/// The code of what was checked to be a float.
fn code(of: ScalarType) -> u64 {
    float_code(of).unwrap_or_default()
}

fn address(x: &In<'_>) -> Option<u64> {
    on_device(x).map(|slice| slice.address())
}

pub(super) fn add(a: &In<'_>, b: &In<'_>, sign: Sign, out: &mut Out<'_>) -> Result<Ran> {
    let (len, dtype) = (out.count() as u64, code(out.scalar_type()));
    let (Some(first), Some(second), PlaceMut::Device(to)) = (address(a), address(b), out.place()) else {
        return Ok(Ran::Composed(Why::Device));
    };
    let dtypes = code(a.scalar_type()) | code(b.scalar_type()) << 8 | dtype << 16;
    let args = [first, second, to.address(), len, b.count() as u64, sign.factor().to_bits(), dtypes];
    let blocks = len.div_ceil(PACK * u64::from(BLOCK)).min(GRID);
    let wide = [a, b].iter().any(|x| x.scalar_type() == ScalarType::F64);
    // SAFETY: `args` is `AddArgs`. The three buffers are contiguous on one device with `len` floats of the dtypes given, the second
    // with so many as it is repeated after, as checked, and are freed in the order of the stream.
    unsafe { Kernel::load(to.gpu(), MODULE, if wide { "add_f64" } else { "add" })?.launch(blocks, &args) }?;
    Ok(Ran::Kernel("add"))
}

pub(super) fn add_to_part(x: &In<'_>, among: &Among, target: &mut Out<'_>) -> Result<Ran> {
    let runs = among.merged(x.dims());
    if runs.len() > RANK {
        return Ok(Ran::Composed(Why::Shape("x")));
    }
    let of = target.scalar_type();
    let (Some(from), PlaceMut::Device(to)) = (address(x), target.place()) else {
        return Ok(Ran::Composed(Why::Device));
    };
    let len = x.count() as u64;
    let mut args = [0u64; 4 + 2 * RANK];
    args[0] = from;
    args[1] = to.address() + (among.offset * of.bytes()) as u64;
    args[2] = len;
    args[3..3 + RANK].fill(1);
    for (i, &(size, stride)) in runs.iter().enumerate() {
        (args[3 + i], args[3 + RANK + i]) = (size as u64, stride as u64);
    }
    args[3 + 2 * RANK] = code(x.scalar_type()) | code(of) << 8;
    let blocks = len.div_ceil(u64::from(BLOCK)).min(GRID);
    // SAFETY: `args` is `AddIntoArgs`. `x` is contiguous with `len` floats; every index of its dimensions leads to an element
    // of the target, each to another, as checked; both are on one device and are freed in the order of the stream.
    unsafe { Kernel::load(to.gpu(), MODULE, "add_into")?.launch(blocks, &args) }?;
    Ok(Ran::Kernel("add_into"))
}

pub(super) fn add_to_rows(row: &In<'_>, target: &mut Out<'_>) -> Result<Ran> {
    let (len, of) = (target.count() as u64, target.scalar_type());
    let (Some(from), PlaceMut::Device(to)) = (address(row), target.place()) else {
        return Ok(Ran::Composed(Why::Device));
    };
    let dtypes = code(row.scalar_type()) | code(of) << 8;
    let args = [from, to.address(), len, row.count() as u64, dtypes];
    let blocks = len.div_ceil(PACK * u64::from(BLOCK)).min(GRID);
    // SAFETY: `args` is `AddRowArgs`. The row and the target are contiguous floats of the dtypes given, the target a whole
    // number of rows, as checked; both are on one device and are freed in the order of the stream.
    unsafe { Kernel::load(to.gpu(), MODULE, "add_row")?.launch(blocks, &args) }?;
    Ok(Ran::Kernel("add_row"))
}
