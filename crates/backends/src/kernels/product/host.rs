//! On the CPU: which engine multiplies what, and how a stack is shared out among threads.

#![expect(unsafe_code, reason = "the crate gemm takes addresses and strides")]

use super::matrix::{Matrix, Stack};
use super::{Engine, RUN};
use crate::buffer::{Out, Ran, Slice, SliceMut, Why};
use crate::simd::rows::{PARALLEL, load, share_out, store};
use crate::simd::{Isa, Simd, Work};
use gemm::Parallelism;
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
        (a @ (Slice::F16(_) | Slice::Bf16(_)), b, _) => widened((a, lhs), (b, rhs), out),
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
fn widened((a, lhs): (Slice<'_>, Stack), (b, rhs): (Slice<'_>, Stack), mut out: SliceMut<'_>) {
    let [a, b] = [a, b].map(widen);
    if let SliceMut::F32(out) = out {
        return multiply(&a, lhs, &b, rhs, out);
    }
    let mut wide = vec![0f32; out.len()];
    multiply(&a, lhs, &b, rhs, &mut wide);
    let len = out.len();
    let tasks = out.until(len).chunks(PARALLEL).into_iter().zip(wide.chunks(PARALLEL)).collect();
    share_out(tasks, |(out, wide): (SliceMut<'_>, &[f32])| Isa::best().run(Narrow(wide, out)));
}

fn widen(x: Slice<'_>) -> Vec<f32> {
    let mut wide = vec![0f32; x.len()];
    let tasks = wide.chunks_mut(PARALLEL).enumerate().collect();
    share_out(tasks, |(i, to): (usize, &mut [f32])| Isa::best().run(Widen(x.from(i * PARALLEL), to)));
    wide
}

struct Widen<'a>(Slice<'a>, &'a mut [f32]);

impl Work for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        load(simd, self.0, 0..self.1.len(), self.1);
    }
}

struct Narrow<'a>(&'a [f32], SliceMut<'a>);

impl Work for Narrow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        store(simd, self.0, &mut self.1, 0..self.0.len());
    }
}

/// Does `one` for each matrix of the stack: several at a time where there are as many as threads, or one after another on all
/// threads.
pub(super) fn each<T: Send>(count: usize, out: &mut [T], one: impl Fn(usize, &mut [T], bool) + Sync + Send) {
    let size = out.len() / count;
    if count > 1 && count >= rayon::current_num_threads() {
        let tasks = out.chunks_mut(size).enumerate().collect();
        share_out(tasks, |(i, out)| one(i, out, false));
    } else {
        out.chunks_mut(size).enumerate().for_each(|(i, out)| one(i, out, true));
    }
}

fn multiply<T: Number>(a: &[T], lhs: Stack, b: &[T], rhs: Stack, out: &mut [T]) {
    each(lhs.count, out, |i, out, shared| {
        let (mut a, mut b) = (&a[i * lhs.step..], &b[i * rhs.step..]);
        let (left, right) = (lhs.each, rhs.each);
        for first in (0..left.columns).step_by(RUN) {
            let len = RUN.min(left.columns - first);
            if first > 0 {
                (a, b) = (&a[RUN * left.column..], &b[RUN * right.row..]);
            }
            add_product((a, left.columns(len)), (b, right.rows(len)), out, first > 0, shared);
        }
    });
}

/// `out = a · b`, or `out += a · b`. The operands hold all elements of their matrices.
fn add_product<T: Number>(
    (a, lhs): (&[T], Matrix),
    (b, rhs): (&[T], Matrix),
    out: &mut [T],
    add: bool,
    shared: bool,
) {
    let (m, k, n) = (lhs.rows, lhs.columns, rhs.columns);
    assert!(rhs.rows == k && out.len() == m * n && k > 0, "sizes that were checked");
    for (x, matrix) in [(a, lhs), (b, rhs)] {
        assert!(Stack { count: 1, step: 0, each: matrix }.span() <= x.len(), "an operand that was checked");
    }
    let parallelism = if shared { Parallelism::Rayon(0) } else { Parallelism::None };
    let strides = |matrix: Matrix| (matrix.column as isize, matrix.row as isize);
    let ((a_column, a_row), (b_column, b_row)) = (strides(lhs), strides(rhs));
    // SAFETY: by the assertions above every index within the matrices is within the slices, of which `out` is this call's
    // alone.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            add,
            a.as_ptr(),
            a_column,
            a_row,
            b.as_ptr(),
            b_column,
            b_row,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// What the crate multiplies as it is.
trait Number: Copy + Send + Sync + 'static {
    const ONE: Self;
}

impl Number for f32 {
    const ONE: Self = 1.;
}

impl Number for f64 {
    const ONE: Self = 1.;
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
