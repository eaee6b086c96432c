//! The launch.

#![expect(unsafe_code, reason = "launching a kernel")]

use crate::Result;
use crate::buffer::{In, Out, Place, PlaceMut, Ran, ScalarType, Why};
use crate::cuda::{BLOCK, Kernel, Module, float_code, module};

const MODULE: Module = module!("lookup");

/// Bytes that a thread copies at once, where rows begin where so many can be.
const UNIT: usize = 16;
/// Blocks of a launch; more rows are walked by these.
const GRID: u64 = 1 << 20;

pub(super) fn lookup(ids: &In<'_>, table: &In<'_>, width: usize, out: &mut Out<'_>) -> Result<Ran> {
    let kind = match ids.scalar_type() {
        ScalarType::I64 => 0u64,
        ScalarType::U32 => 1,
        ScalarType::U8 => 2,
        _ => return Ok(Ran::Composed(Why::Dtype("ids"))),
    };
    let Some(dtype) = float_code(table.scalar_type()) else {
        return Ok(Ran::Composed(Why::Dtype("the table")));
    };
    if out.scalar_type() != table.scalar_type() || !ids.is_contiguous() || !table.is_contiguous() {
        return Ok(Ran::Composed(Why::Layout("ids or the table")));
    }
    let (rows, count) = (table.count() / width, ids.count());
    if rows * width != table.count() || out.count() != count * width {
        return Ok(Ran::Composed(Why::Shape("the table")));
    }
    let (Place::Device(ids), Place::Device(from), PlaceMut::Device(to)) =
        (ids.place(), table.place(), out.place())
    else {
        return Ok(Ran::Composed(Why::Device));
    };
    let bytes = width * table.scalar_type().bytes();
    let whole = |address: u64| address.is_multiple_of(UNIT as u64);
    let unit = bytes.is_multiple_of(UNIT) && whole(from.address()) && whole(to.address());
    let args: [u64; 7] = [
        ids.address(),
        from.address(),
        to.address(),
        count as u64,
        rows as u64,
        width as u64,
        dtype | kind << 8 | u64::from(unit) << 16,
    ];
    // Eight warps of a block, a row each.
    let blocks = (count as u64).div_ceil(u64::from(BLOCK) / 32).min(GRID);
    // SAFETY: `args` is `LookupArgs`. The ids, the table and the rows to write are contiguous on one device and of the lengths
    // that the kernel indexes, as checked; they are freed in the order of the stream.
    unsafe { Kernel::load(to.gpu(), MODULE, "lookup")?.launch(blocks, &args) }?;
    Ok(Ran::Kernel("lookup"))
}
