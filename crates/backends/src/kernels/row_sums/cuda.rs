//! The launches: rows into lists by their id, then the sums.

#![expect(unsafe_code, reason = "launching a kernel")]

use crate::buffer::{In, Out, Place, PlaceMut, Ran, ScalarType, Why};
use crate::cuda::{BLOCK, Kernel, Module, float_code, module};
use crate::{Error, Result};

const MODULE: Module = module!("row_sums");

/// Blocks of a launch; more rows are walked by these.
const GRID: u64 = 1 << 20;

/// The sums, and as scratch a head for each of their rows and a link for each id.
pub(super) fn row_sums(ids: &In<'_>, x: &In<'_>, outs: &mut [Out<'_>], rows: usize) -> Result<Ran> {
    let Some(dtype) = float_code(x.scalar_type()) else { return Ok(Ran::Composed(Why::Dtype("x"))) };
    let [out, head, next] = outs else { return Ok(Ran::Composed(Why::Shape("the result"))) };
    if ids.scalar_type() != ScalarType::I64 {
        return Ok(Ran::Composed(Why::Dtype("ids")));
    }
    let (count, width) = (ids.count(), out.count() / rows.max(1));
    if u32::try_from(count).is_err() {
        return Ok(Ran::Composed(Why::Shape("ids")));
    }
    let long_enough = out.count() == rows * width && x.count() == count * width;
    if !long_enough || head.count() != rows || next.count() != count {
        let (expected, got) = (count * width, x.count());
        return Err(Error::LengthMismatch { op: "row_sums", argument: "x", expected, got });
    }
    let (Place::Device(ids), Place::Device(x)) = (ids.place(), x.place()) else {
        return Ok(Ran::Composed(Why::Device));
    };
    let (PlaceMut::Device(out), PlaceMut::Device(head), PlaceMut::Device(next)) =
        (out.place(), head.place(), next.place())
    else {
        return Ok(Ran::Composed(Why::Device));
    };
    let args: [u64; 9] = [
        ids.address(),
        x.address(),
        out.address(),
        head.address(),
        next.address(),
        count as u64,
        rows as u64,
        width as u64,
        dtype,
    ];
    let gpu = out.gpu();
    let threads = |len: usize| (len as u64).div_ceil(u64::from(BLOCK)).min(GRID);
    // SAFETY: `args` is `RowSumsArgs`. All buffers are contiguous on one device and of the lengths that the kernels index:
    // `count` ids and links, `rows` heads, `count · width` elements of `dtype` and `rows · width` sums, as checked; they are
    // freed in the order of the stream.
    unsafe {
        Kernel::load(gpu, MODULE, "row_sums_clear")?.launch(threads(rows), &args)?;
        Kernel::load(gpu, MODULE, "row_sums_link")?.launch(threads(count), &args)?;
        Kernel::load(gpu, MODULE, "row_sums")?.launch((rows as u64).min(GRID), &args)?;
    }
    Ok(Ran::Kernel("row_sums"))
}
