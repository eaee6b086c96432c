//! The launches: chunks of the reduced axis first, then their partial sums, until one is left.

#![expect(unsafe_code, reason = "launching a kernel")]

use super::{Axes, Term};
use crate::Result;
use crate::buffer::{In, Out, Place, PlaceMut, Ran, ScalarType, Why};
use crate::cuda::memory::scratch;
use crate::cuda::{Kernel, Module, float_code, module, slice_address};

const OP: &str = "sum";
const MODULE: Module = module!("sum");

/// Terms that one block takes along a row.
const ALONG: usize = 16 * 1024;
/// Rows that one block takes down a column, at least and at most.
const DOWN: (usize, usize) = (64, 512);
/// Blocks that keep a GPU busy.
const BUSY: usize = 1024;
/// Lanes that read a run of a row, and of one that is no longer; bytes that each reads at once where rows begin at a multiple.
const FAR: usize = 32;
const NEAR: usize = 8;
const BYTES: usize = 16;
/// Blocks of a launch; more are walked by these.
const GRID: usize = 1 << 20;

/// Numbers that are added up: where they are, and of which type.
#[derive(Clone, Copy)]
struct Terms {
    at: u64,
    of: ScalarType,
    code: u64,
    term: Term,
}

/// The sums of a contiguous buffer of floats, which `axes` were checked to multiply to.
pub(super) fn sum(x: &In<'_>, axes: Axes, term: Term, out: &mut Out<'_>) -> Result<Ran> {
    let (Some(code), Some(to)) = (float_code(x.scalar_type()), float_code(out.scalar_type())) else {
        return Ok(Ran::Composed(Why::Dtype("x or the sums")));
    };
    let (Place::Device(from), PlaceMut::Device(sums)) = (x.place(), out.place()) else {
        return Ok(Ran::Composed(Why::Device));
    };
    let Axes { outer, mut reduced, inner } = axes;
    if outer * reduced * inner == 0 || !x.is_contiguous() {
        return Ok(Ran::Composed(Why::Shape("x")));
    }
    let (gpu, stream) = (sums.gpu(), sums.gpu().cuda_stream());
    let kernel = Kernel::load(gpu, MODULE, OP)?;
    let mut terms = Terms { at: from.address(), of: x.scalar_type(), code, term };
    // Freed in the order of the stream, after the launch that reads them.
    let mut parts = Vec::new();
    loop {
        let Tiles { columns, lanes, count: tiles } = tiles(terms, inner);
        let rows = if inner == 1 { ALONG } else { rows(outer * tiles, reduced) };
        let chunks = reduced.div_ceil(rows);
        let (at, to) = match chunks {
            1 => (sums.address(), to),
            chunks => {
                parts.push(scratch(OP, gpu, outer * chunks * inner)?);
                let last = parts.last().map_or(0, |part| slice_address(part, &stream));
                (last, float_code(ScalarType::F64).unwrap_or_default())
            }
        };
        let blocks = outer * chunks * tiles;
        let square = u64::from(terms.term == Term::Square);
        let args: [u64; 9] = [
            terms.at,
            at,
            reduced as u64,
            inner as u64,
            chunks as u64,
            rows as u64,
            tiles as u64,
            blocks as u64,
            terms.code | to << 8 | (columns as u64) << 16 | square << 24 | (lanes as u64) << 32,
        ];
        // SAFETY: `args` is `SumArgs`. The terms are contiguous on this device, `outer · reduced · inner` of them, as checked,
        // and there is room for `outer · chunks · inner` sums, which is what the kernel indexes; all is freed in the order of
        // the stream.
        unsafe { kernel.launch(blocks.min(GRID) as u64, &args) }?;
        if chunks == 1 {
            return Ok(Ran::Kernel(OP));
        }
        (reduced, terms) = (chunks, Terms { at, of: ScalarType::F64, code: to, term: Term::Value });
    }
}

/// How a row is shared out: columns of a lane, lanes of a tile, and tiles.
struct Tiles {
    columns: usize,
    lanes: usize,
    count: usize,
}

fn tiles(terms: Terms, inner: usize) -> Tiles {
    let most = BYTES / terms.of.bytes();
    let at_once = terms.at.is_multiple_of(BYTES as u64) && inner.is_multiple_of(most);
    let (columns, lanes) = match inner {
        1 => return Tiles { columns: 1, lanes: 1, count: 1 },
        _ if !at_once => (1, FAR),
        inner if inner >= FAR * most => (most, FAR),
        _ => (most, NEAR),
    };
    Tiles { columns, lanes, count: inner.div_ceil(columns * lanes) }
}

/// Rows of a block, by the shape alone: a sum is the same on every GPU.
fn rows(tiles: usize, reduced: usize) -> usize {
    match reduced {
        few if few <= DOWN.1 => few,
        many => (many.saturating_mul(tiles) / BUSY).clamp(DOWN.0, DOWN.1),
    }
}
