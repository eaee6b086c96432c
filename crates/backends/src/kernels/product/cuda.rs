//! On a GPU: operands as cuBLASLt reads them, and the runs of a long product.

#![expect(unsafe_code, reason = "addresses of operands")]

use super::matrix::{Matrix, Stack};
use super::{Added, DEVICE_RUN, Onto};
use crate::Result;
use crate::algorithms::algorithm_choice;
use crate::buffer::{In, Out, Place, PlaceMut, Ran, ScalarType, Why};
use crate::cuda::DeviceSlice;
use crate::cuda::blaslt::{Addresses, Order, Plus, Shape, Stored, multiply};
use candle_core::cuda_backend::gemm_reduced_precision_f32;

/// What addresses are known to be multiples of, at most.
const ALIGNED: u32 = 256;

pub(super) fn product(
    (of, to): (ScalarType, ScalarType),
    (a, lhs): (DeviceSlice<'_>, Stack),
    (b, rhs): (DeviceSlice<'_>, Stack),
    onto: Onto<'_>,
    out: &mut Out<'_>,
) -> Result<Ran> {
    let PlaceMut::Device(out) = out.place() else { return Ok(Ran::Composed(Why::Device)) };
    let (added, onto) = match onto {
        Onto::Added(added) => (added, false),
        Onto::Output => (Added::default(), true),
    };
    let on_device = |x: Option<&In<'_>>, none: u64| match x.map(|x| (x.is_contiguous(), x.place())) {
        None => Some(none),
        Some((true, Place::Device(x))) => Some(x.address()),
        Some(_) => None,
    };
    let (Some(row), Some(matrix)) = (on_device(added.row, 0), on_device(added.matrix, out.address())) else {
        return Ok(Ran::Composed(Why::Layout("what is added")));
    };
    let plus = Plus { row: added.row.is_some(), matrix: onto || added.matrix.is_some() };
    let (m, n, k) = (lhs.each.rows, rhs.each.columns, lhs.each.columns);
    if lhs.count * m * n * k == 0 {
        return Ok(Ran::Composed(Why::Shape("a or b")));
    }
    let run = if of.bytes() == 2 { k } else { DEVICE_RUN };
    for first in (0..k).step_by(run) {
        let len = run.min(k - first);
        let at = Addresses {
            a: a.address() + (first * lhs.each.column * of.bytes()) as u64,
            b: b.address() + (first * rhs.each.row * of.bytes()) as u64,
            out: out.address(),
            row,
            matrix: if first == 0 { matrix } else { out.address() },
        };
        let (Some(x), Some(y)) =
            (stored(lhs, lhs.each.columns(len), at.a), stored(rhs, Matrix { rows: len, ..rhs.each }, at.b))
        else {
            return Ok(Ran::Composed(Why::Layout("a or b")));
        };
        let shape = Shape {
            of,
            to,
            m,
            n,
            k: len,
            count: lhs.count,
            a: x,
            b: y,
            aligned: aligned(at.out).min(aligned(at.matrix)),
            plus: if first == 0 { plus } else { Plus { row: false, matrix: true } },
            tf32: of == ScalarType::F32 && gemm_reduced_precision_f32(),
            choice: algorithm_choice(),
        };
        // SAFETY: `In` and `Out` were checked to have the elements that their dimensions and strides lead to, of which these
        // runs are a part; the row has one for each column, and the matrix as many as the output. All are freed in the order of the stream.
        if !unsafe { multiply(out.gpu(), &shape, at) }? {
            return Ok(Ran::Composed(Why::Shape("a or b")));
        }
    }
    Ok(Ran::Kernel("product"))
}

/// How the matrices of a stack are stored, of which `each` is seen. `None` where neither rows nor columns are without gaps.
fn stored(stack: Stack, each: Matrix, address: u64) -> Option<Stored> {
    let Matrix { rows, columns, row, column } = each;
    // What there is one of has no pitch.
    let pitch = |count: usize, pitch: usize, run: usize| if count == 1 { run } else { pitch };
    let by_rows = (column == 1 || columns == 1).then(|| (Order::Rows, pitch(rows, row, columns), columns));
    let by_columns = (row == 1 || rows == 1).then(|| (Order::Columns, pitch(columns, column, rows), rows));
    let fits = |&(_, pitch, run): &(Order, usize, usize)| pitch >= run;
    let (by, pitch, _) = by_rows.filter(fits).or(by_columns.filter(fits))?;
    let step = if stack.count == 1 { 0 } else { stack.step };
    Some(Stored { by, pitch, step, aligned: aligned(address) })
}

fn aligned(address: u64) -> u32 {
    1 << address.trailing_zeros().min(ALIGNED.trailing_zeros())
}
