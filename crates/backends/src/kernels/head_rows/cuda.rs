//! The launch.

#![expect(unsafe_code, reason = "launching a kernel")]

use super::Lying;
use crate::Result;
use crate::buffer::{In, Out, Ran, ScalarType, Why};
use crate::cuda::rows::{on_device, on_device_mut};
use crate::cuda::{BLOCK, Kernel, Module, module};

const MODULE: Module = module!("head_rows");

/// Bytes that a thread copies at once.
const CHUNK: usize = 16;
/// Chunks of a launch, which the kernel counts in 32 bits.
const CHUNKS: usize = 1 << 31;

pub(super) fn place(x: &In<'_>, factor: f64, out: &mut Out<'_>, lying: Lying) -> Result<Ran> {
    let of = x.scalar_type();
    let name = match of {
        ScalarType::F32 => "head_rows_f32",
        ScalarType::F64 => "head_rows_f64",
        _ => return Ok(Ran::Composed(Why::Dtype("x"))),
    };
    if out.scalar_type() != of {
        return Ok(Ran::Composed(Why::Dtype("out")));
    }
    let (&[batch, heads, rows, width], &[from_batch, from_head, from_row, step]) = (x.dims(), x.strides())
    else {
        return Ok(Ran::Composed(Why::Shape("x")));
    };
    let each = CHUNK / of.bytes();
    let count = x.count() / each;
    if count == 0 || count >= CHUNKS {
        return Ok(Ran::Composed(Why::Shape("x")));
    }
    let from = [from_batch, from_head, from_row];
    let whole = |strides: [usize; 3]| strides.iter().all(|stride| stride.is_multiple_of(each));
    if step != 1 || !width.is_multiple_of(each) || !whole(from) || !whole(lying.strides) {
        return Ok(Ran::Composed(Why::Layout("x")));
    }
    let (Some(x), Some(out)) = (on_device(x), on_device_mut(out)) else {
        return Ok(Ran::Composed(Why::Device));
    };
    let to = out.address() + (lying.offset * of.bytes()) as u64;
    if !x.address().is_multiple_of(CHUNK as u64) || !to.is_multiple_of(CHUNK as u64) {
        return Ok(Ran::Composed(Why::Layout("x")));
    }
    let in_chunks = |strides: [usize; 3]| strides.map(|stride| (stride / each) as u64);
    let ([a, b, c], [d, e, f]) = (in_chunks(from), in_chunks(lying.strides));
    let pair = |low: usize, high: usize| low as u64 | (high as u64) << 32;
    let sizes = [pair(count, heads), pair(rows, width / each)];
    debug_assert_eq!(batch * heads * rows * (width / each), count);
    let args = [x.address(), to, a, b, c, d, e, f, sizes[0], sizes[1], factor.to_bits()];
    let kernel = Kernel::load(x.gpu(), MODULE, name)?;
    // SAFETY: `args` is `HeadRowsArgs`. `x` has rows of its dimensions that `In` was checked for, and `out` ends behind the last
    // place, as the caller compared; both are of the kernel's type, and their rows begin at multiples of 16 bytes.
    unsafe { kernel.launch(count.div_ceil(BLOCK as usize) as u64, &args) }?;
    Ok(Ran::Kernel(name))
}
