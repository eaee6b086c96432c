//! The same for candle's tensors.

use candle_core::{DType, Tensor};
use half::{bf16, f16};

use super::{Axes, Term, sum};
use crate::bridge::{Call, in_rows, run_one};
use crate::buffer::{In, Out, PlaceMut, Ran, Slice, SliceMut, Why};
use crate::{Floats, Result};

const OP: &str = "sum";

/// The sums of a tensor that is seen as `axes`, in `dtype`: `[outer · inner]`, part of no graph.
///
/// # Errors
///
/// [`Error::LengthMismatch`](crate::Error::LengthMismatch) where the axes do not multiply to the tensor's length,
/// [`Error::Device`](crate::Error::Device).
pub fn sum_of(x: &Tensor, axes: Axes, term: Term, dtype: DType) -> Result<Call<Tensor>> {
    axes.check(x.elem_count())?;
    let x = in_rows(OP, x, x.elem_count())?;
    let output = ((axes.outer * axes.inner).into(), dtype);
    run_one(OP, &[&x], output, |ins, out| match out.place() {
        PlaceMut::Host(_) => on_host(&ins[0], axes, term, out),
        #[cfg(feature = "cuda")]
        PlaceMut::Device(_) => super::cuda::sum(&ins[0], axes, term, out),
    })
}

fn on_host(x: &In<'_>, axes: Axes, term: Term, out: &mut Out<'_>) -> Result<Ran> {
    let x = match x.host_slice() {
        Some(Slice::F16(x)) => Floats::F16(x),
        Some(Slice::Bf16(x)) => Floats::Bf16(x),
        Some(Slice::F32(x)) => Floats::F32(x),
        Some(Slice::F64(x)) => Floats::F64(x),
        _ => return Ok(Ran::Composed(Why::Dtype("x"))),
    };
    let sums = sum(x, axes, term)?;
    let narrow = sums.iter().map(|&sum| sum as f32);
    match out.host_slice() {
        Some(SliceMut::F16(out)) => {
            out.iter_mut().zip(narrow).for_each(|(out, sum)| *out = f16::from_f32(sum))
        }
        Some(SliceMut::Bf16(out)) => {
            out.iter_mut().zip(narrow).for_each(|(out, sum)| *out = bf16::from_f32(sum));
        }
        Some(SliceMut::F32(out)) => out.iter_mut().zip(narrow).for_each(|(out, sum)| *out = sum),
        Some(SliceMut::F64(out)) => out.copy_from_slice(&sums),
        _ => return Ok(Ran::Composed(Why::Dtype("the sums"))),
    }
    Ok(Ran::Kernel(OP))
}
