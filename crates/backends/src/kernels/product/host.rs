//! On the CPU: which engine multiplies what, and how a stack is shared out among threads.

use super::gemm::{Before, matrix_product};
use super::matrix::{Matrix, Stack};
use super::{Engine, RUN};
use crate::Real;
use crate::buffer::{Out, Ran, Slice, SliceMut, Why};
use crate::kernels::cast::convert_slice;
use crate::simd::Isa;
use crate::simd::rows::share_out;
use ::gemm::Parallelism;
use gemmkit::{MatMut, MatRef};
use half::{bf16, f16};

/// Multiplications of a product that are worth packing operands for another engine than that of f32.
const WORTH_PACKING: usize = 32 * 32 * 32;

pub(super) fn product(
    engine: Engine,
    (a, lhs): (Slice<'_>, Stack),
    (b, rhs): (Slice<'_>, Stack),
    out: &mut Out<'_>,
) -> Ran {
    let Some(mut out) = out.host_slice() else { return Ran::Composed(Why::Device) };
    let (a, b) = (a.until(lhs.span()), b.until(rhs.span()));
    let (k, worth) = (lhs.each.columns, lhs.each.rows * lhs.each.columns * rhs.each.columns >= WORTH_PACKING);
    if out.is_empty() {
        return Ran::Kernel("product");
    }
    if k == 0 {
        return no_terms(&mut out);
    }
    match (a, b, &mut out) {
        (Slice::F64(a), Slice::F64(b), SliceMut::F64(out)) => multiply(a, lhs, b, rhs, out),
        (Slice::F32(a), Slice::F32(b), SliceMut::F32(out)) => multiply(a, lhs, b, rhs, out),
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        (Slice::Bf16(a), Slice::Bf16(b), _) if engine == Engine::Tiles && worth => {
            let Some(amx) = super::amx::Amx::detect() else { return Ran::Composed(Why::Device) };
            amx.product(a, lhs, b, rhs, out);
            return Ran::Kernel("product");
        }
        (Slice::Bf16(a), Slice::Bf16(b), SliceMut::Bf16(out)) if engine == Engine::Pairs && worth => {
            in_pairs(a, lhs, b, rhs, out);
            return Ran::Kernel("product");
        }
        (a @ (Slice::F16(_) | Slice::Bf16(_)), b, _) => return widened((a, lhs), (b, rhs), out),
        _ => return Ran::Composed(Why::Dtype("a")),
    }
    Ran::Kernel("product")
}

/// Sums over nothing. The operands have no elements, wherever their strides lead.
fn no_terms(out: &mut SliceMut<'_>) -> Ran {
    match out {
        SliceMut::F16(out) => out.fill(f16::ZERO),
        SliceMut::Bf16(out) => out.fill(bf16::ZERO),
        SliceMut::F32(out) => out.fill(0.),
        SliceMut::F64(out) => out.fill(0.),
        _ => return Ran::Composed(Why::Dtype("out")),
    }
    Ran::Kernel("product")
}

/// Widens both operands as they lie, multiplies, and rounds.
fn widened((a, lhs): (Slice<'_>, Stack), (b, rhs): (Slice<'_>, Stack), out: SliceMut<'_>) -> Ran {
    let [a, b] = [a, b].map(|x| {
        let mut wide = vec![0f32; x.len()];
        convert_slice(Isa::best(), x, SliceMut::F32(&mut wide));
        wide
    });
    if let SliceMut::F32(out) = out {
        multiply(&a, lhs, &b, rhs, out);
        return Ran::Kernel("product");
    }
    let mut wide = vec![0f32; out.len()];
    multiply(&a, lhs, &b, rhs, &mut wide);
    match convert_slice(Isa::best(), Slice::F32(&wide), out) {
        Ran::Kernel(_) => Ran::Kernel("product"),
        composed => composed,
    }
}

/// Does `one` for each matrix of the stack: several at a time where there are as many as threads, or one after another on all
/// threads.
fn each<T: Send>(count: usize, out: &mut [T], one: impl Fn(usize, &mut [T], bool) + Sync + Send) {
    let size = out.len() / count;
    if count > 1 && count >= rayon::current_num_threads() {
        let tasks = out.chunks_mut(size).enumerate().collect();
        share_out(tasks, |(i, out)| one(i, out, false));
    } else {
        out.chunks_mut(size).enumerate().for_each(|(i, out)| one(i, out, true));
    }
}

fn multiply<T: Real>(a: &[T], lhs: Stack, b: &[T], rhs: Stack, out: &mut [T]) {
    each(lhs.count, out, |i, out, shared| {
        let (mut a, mut b) = (&a[i * lhs.step..], &b[i * rhs.step..]);
        let (left, right) = (lhs.each, rhs.each);
        let parallelism = if shared { Parallelism::Rayon(0) } else { Parallelism::None };
        for first in (0..left.columns).step_by(RUN) {
            let len = RUN.min(left.columns - first);
            if first > 0 {
                (a, b) = (&a[RUN * left.column..], &b[RUN * right.row..]);
            }
            let before = if first > 0 { Before::Kept } else { Before::Replaced };
            let (a, b) = ((a, left.columns(len)), (b, right.rows(len)));
            matrix_product(out, before, T::ONE, a, b, parallelism);
        }
    });
}

/// By `vdpbf16ps`, which the crate finds at run time.
fn in_pairs(a: &[bf16], lhs: Stack, b: &[bf16], rhs: Stack, out: &mut [bf16]) {
    each(lhs.count, out, |i, out, shared| {
        let parallelism = if shared { gemmkit::Parallelism::Rayon(0) } else { gemmkit::Parallelism::Serial };
        let (a, b) = (&a[i * lhs.step..], &b[i * rhs.step..]);
        let out = MatMut::from_row_major(out, lhs.each.rows, rhs.each.columns);
        gemmkit::gemm(bf16::ONE, seen(a, lhs.each), seen(b, rhs.each), bf16::ZERO, out, parallelism);
    });
}

fn seen(x: &[bf16], matrix: Matrix) -> MatRef<'_, bf16> {
    let Matrix { rows, columns, row, column } = matrix;
    MatRef::new(x, rows, columns, row as isize, column as isize)
}
