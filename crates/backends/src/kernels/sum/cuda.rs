//! The launches: chunks of the reduced axis first, then their partial sums, until one is left.

#![expect(unsafe_code, reason = "launching a kernel")]

use super::{Axes, Term};
use crate::cuda::{Kernel, Module, device, dtype_code, module, read_address, write_address};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};

const OP: &str = "sum";
const MODULE: Module = module!("sum");

/// Terms that one block takes: along a row, and down a column of its tile.
const ALONG: usize = 16 * 1024;
const DOWN: usize = 512;
/// Lanes of a tile, and the columns of each where rows begin where so many can be read at once.
const TILE: usize = 32;
const COLUMNS: usize = 4;
/// Blocks of a launch; more are walked by these.
const GRID: usize = 1 << 20;

/// The sums of a contiguous tensor on a CUDA device that is seen as `axes`: a new f64 tensor of `outer · inner` elements.
///
/// # Errors
///
/// [`Error::LengthMismatch`] where the axes do not multiply to the tensor's length, [`Error::Operand`] for a dtype that is no
/// float, another device or a tensor that is not contiguous, [`Error::Device`] where the driver fails.
pub fn sum(x: &Tensor, axes: Axes, term: Term) -> Result<Tensor> {
    axes.check(x.elem_count())?;
    let zeros = |len: usize| Tensor::zeros(len, DType::F64, x.device()).map_err(device(OP));
    let Axes { outer, reduced, inner } = axes;
    if outer * reduced * inner == 0 {
        // A tensor without elements is made by nobody's kernel.
        let none = || Tensor::zeros(0, DType::F64, &Device::Cpu).and_then(|t| t.to_device(x.device()));
        return if outer * inner == 0 { none().map_err(device(OP)) } else { zeros(outer * inner) };
    }
    let Device::Cuda(candle) = x.device() else {
        let got = format!("{:?}", x.device().location());
        return Err(Error::Operand { op: OP, argument: "x", expected: "on a CUDA device".into(), got });
    };
    let rows = if inner == 1 { ALONG } else { DOWN };
    let address = read_address(OP, "x", candle, x)?;
    let aligned = address.is_multiple_of((COLUMNS * x.dtype().size_in_bytes()) as u64);
    let columns = if aligned && inner.is_multiple_of(COLUMNS) { COLUMNS } else { 1 };
    let tiles = if inner == 1 { 1 } else { inner.div_ceil(TILE * columns) };
    let chunks = reduced.div_ceil(rows);
    let out = zeros(outer * chunks * inner)?;
    let blocks = outer * chunks * tiles;
    let args: [u64; 9] = [
        address,
        write_address(OP, "the sums", candle, &out)?,
        reduced as u64,
        inner as u64,
        chunks as u64,
        rows as u64,
        tiles as u64,
        blocks as u64,
        dtype_code(OP, x.dtype())? | (columns as u64) << 8 | u64::from(term == Term::Square) << 32,
    ];
    // SAFETY: `args` is `SumArgs`. `x` is contiguous on this device with `outer · reduced · inner` elements, as checked, and
    // `out` has `outer · chunks · inner`, which is what the kernel indexes; both are freed in the order of the stream.
    unsafe { Kernel::load(candle, MODULE, "sum")?.launch(blocks.min(GRID) as u64, &args) }?;
    crate::bridge::hear(OP, &crate::buffer::Ran::Kernel(OP));
    match chunks {
        1 => Ok(out),
        chunks => sum(&out, Axes { outer, reduced: chunks, inner }, Term::Value),
    }
}
