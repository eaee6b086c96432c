//! On the CPU: rows shared out among threads.

use super::OP;
use crate::buffer::{In, Out, Ran, Slice, SliceMut, Why};
use half::{bf16, f16};
use rayon::prelude::*;

/// Elements that are worth a task.
const TASK: usize = 32 * 1024;

pub(super) fn lookup(ids: &In<'_>, table: &In<'_>, width: usize, out: &mut Out<'_>) -> Ran {
    let ids: Vec<i64> = match ids.host_slice() {
        Some(Slice::I64(ids)) => ids.to_vec(),
        Some(Slice::U32(ids)) => ids.iter().map(|&id| id.into()).collect(),
        Some(Slice::U8(ids)) => ids.iter().map(|&id| id.into()).collect(),
        _ => return Ran::Composed(Why::Dtype("ids")),
    };
    match (table.host_slice(), out.host_slice()) {
        (Some(Slice::F16(from)), Some(SliceMut::F16(to))) => rows(&ids, from, width, f16::NAN, to),
        (Some(Slice::Bf16(from)), Some(SliceMut::Bf16(to))) => rows(&ids, from, width, bf16::NAN, to),
        (Some(Slice::F32(from)), Some(SliceMut::F32(to))) => rows(&ids, from, width, f32::NAN, to),
        (Some(Slice::F64(from)), Some(SliceMut::F64(to))) => rows(&ids, from, width, f64::NAN, to),
        _ => return Ran::Composed(Why::Dtype("the table")),
    }
    Ran::Kernel(OP)
}

fn rows<T: Copy + Send + Sync>(ids: &[i64], table: &[T], width: usize, nan: T, out: &mut [T]) {
    if width == 0 {
        return;
    }
    let each = TASK.div_ceil(width);
    let copied = |(ids, out): (&[i64], &mut [T])| {
        for (&id, out) in ids.iter().zip(out.chunks_exact_mut(width)) {
            let start = usize::try_from(id).ok().and_then(|id| id.checked_mul(width));
            let row = start.and_then(|start| table.get(start..start.checked_add(width)?));
            match row {
                Some(row) => out.copy_from_slice(row),
                None => out.fill(nan),
            }
        }
    };
    match ids.len() > 2 * each {
        true => ids.par_chunks(each).zip(out.par_chunks_mut(each * width)).for_each(copied),
        false => copied((ids, out)),
    }
}
