//! On the CPU: which engine multiplies what, and how a stack is shared out among threads.

use super::blocked::{DEPTH, Packed, Then, Threads, multiply};
use super::gemm::matrix_product;
use super::matrix::{Matrix, Stack};
use super::{Added, Before, Engine, Plus};
use crate::buffer::{Out, Ran, Slice, SliceMut, Why};
use crate::kernels::cast::convert_slice;
use crate::simd::Isa;
use crate::simd::convert::Stored;
use crate::simd::rows::{Whole, share_out};
use gemmkit::{MatMut, MatRef};
use half::{bf16, f16};

/// Multiplications of a product that are worth packing operands for another engine than that of f32.
const WORTH_PACKING: usize = 32 * 32 * 32;
/// What no kernel of a CPU adds.
const ROW: Ran = Ran::Composed(Why::Layout("the row"));

pub(super) fn product(
    engine: Engine,
    (a, lhs): (Slice<'_>, Stack),
    (b, rhs): (Slice<'_>, Stack),
    plus: Plus<'_>,
    out: &mut Out<'_>,
) -> Ran {
    let Some(mut out) = out.host_slice() else { return Ran::Composed(Why::Device) };
    let (a, b) = (a.until(lhs.span()), b.until(rhs.span()));
    let (k, worth) = (lhs.each.columns, lhs.each.rows * lhs.each.columns * rhs.each.columns >= WORTH_PACKING);
    let plain = matches!(plus, Plus::Added(Added { row: None, .. }));
    if out.is_empty() {
        return Ran::Kernel("product");
    }
    if k == 0 {
        return if plain { no_terms(&mut out) } else { Ran::Composed(Why::Shape("a")) };
    }
    let pair = Pair { lhs, rhs, plus };
    match (a, b, &mut out) {
        (Slice::F64(a), Slice::F64(b), SliceMut::F64(out)) => pair.floats(a, b, out),
        (Slice::F32(a), Slice::F32(b), SliceMut::F32(out)) => pair.floats(a, b, out),
        (Slice::Bf16(_), _, _) if engine != Engine::Widened && worth && !plain => Ran::Composed(Why::Device),
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        (Slice::Bf16(a), Slice::Bf16(b), _) if engine == Engine::Tiles && worth => {
            let Some(amx) = super::amx::Amx::detect() else { return Ran::Composed(Why::Device) };
            amx.product(a, lhs, b, rhs, out);
            Ran::Kernel("product")
        }
        (Slice::Bf16(a), Slice::Bf16(b), SliceMut::Bf16(out)) if engine == Engine::Pairs && worth => {
            in_pairs(a, lhs, b, rhs, out);
            Ran::Kernel("product")
        }
        (Slice::F16(a), Slice::F16(b), SliceMut::F16(to)) if k <= DEPTH => pair.widened(a, b, to),
        (Slice::F16(a), Slice::F16(b), SliceMut::F32(to)) => pair.widened(a, b, to),
        (Slice::F16(a), Slice::F16(b), _) => pair.through_f32(a, b, out),
        (Slice::Bf16(a), Slice::Bf16(b), SliceMut::Bf16(to)) if k <= DEPTH => pair.widened(a, b, to),
        (Slice::Bf16(a), Slice::Bf16(b), SliceMut::F32(to)) => pair.widened(a, b, to),
        (Slice::Bf16(a), Slice::Bf16(b), _) => pair.through_f32(a, b, out),
        _ => Ran::Composed(Why::Dtype("a")),
    }
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

/// Two stacks that are multiplied, and what is added.
#[derive(Clone, Copy)]
struct Pair<'a> {
    lhs: Stack,
    rhs: Stack,
    plus: Plus<'a>,
}

impl Pair<'_> {
    /// In the type that all are of.
    fn floats<T: Packed + crate::buffer::Scalar>(self, a: &[T], b: &[T], out: &mut [T]) -> Ran {
        let Self { lhs, rhs, plus } = self;
        let row = match plus {
            Plus::Added(Added { row: Some(row), .. }) => match row.slice::<T>() {
                Some(row) => Some(row),
                None => return ROW,
            },
            _ => None,
        };
        let then = Then { row, before: self.before(), ..Then::WRITTEN };
        each(lhs.count, out, |i, out, threads| {
            let (a, b) = ((&a[i * lhs.step..], lhs.each), (&b[i * rhs.step..], rhs.each));
            matrix_product(out, then, a, b, threads);
        });
        Ran::Kernel("product")
    }

    /// In f32, to which numbers are widened as they are packed.
    fn widened<X: Stored<f32>, O: Stored<f32> + Send>(self, a: &[X], b: &[X], out: &mut [O]) -> Ran {
        let Self { lhs, rhs, plus } = self;
        let wide_row = match plus {
            Plus::Added(Added { row: Some(row), .. }) => match row.host_slice() {
                Some(row) => Some(Isa::best().run(Whole(row))),
                None => return ROW,
            },
            _ => None,
        };
        let then = Then { row: wide_row.as_deref(), before: self.before(), ..Then::WRITTEN };
        each(lhs.count, out, |i, out, threads| {
            let (a, b) = ((&a[i * lhs.step..], lhs.each), (&b[i * rhs.step..], rhs.each));
            multiply(Isa::best(), a, b, then, out, threads);
        });
        Ran::Kernel("product")
    }

    /// [`widened`](Self::widened), with the sums of more terms than stay in the cache in f32 between them.
    fn through_f32<X: Stored<f32>>(self, a: &[X], b: &[X], mut out: SliceMut<'_>) -> Ran {
        let mut wide = vec![0f32; out.len()];
        if self.before() == Before::Kept {
            convert_slice(Isa::best(), out.as_slice(), SliceMut::F32(&mut wide));
        }
        let len = out.len();
        match self.widened(a, b, &mut wide) {
            Ran::Kernel(_) => match convert_slice(Isa::best(), Slice::F32(&wide), out.until(len)) {
                Ran::Kernel(_) => Ran::Kernel("product"),
                composed => composed,
            },
            composed => composed,
        }
    }

    fn before(&self) -> Before {
        if matches!(self.plus, Plus::Output) { Before::Kept } else { Before::Replaced }
    }
}

/// Does `one` for each matrix of the stack: several at a time where there are as many as threads, or one after another on all
/// threads.
fn each<T: Send>(count: usize, out: &mut [T], one: impl Fn(usize, &mut [T], Threads) + Sync + Send) {
    let size = out.len() / count;
    if count > 1 && count >= rayon::current_num_threads() {
        let tasks = out.chunks_mut(size).enumerate().collect();
        share_out(tasks, |(i, out)| one(i, out, Threads::One));
    } else {
        out.chunks_mut(size).enumerate().for_each(|(i, out)| one(i, out, Threads::All));
    }
}

/// By `vdpbf16ps`, which the crate finds at run time.
fn in_pairs(a: &[bf16], lhs: Stack, b: &[bf16], rhs: Stack, out: &mut [bf16]) {
    each(lhs.count, out, |i, out, threads| {
        let parallelism = match threads {
            Threads::All => gemmkit::Parallelism::Rayon(0),
            Threads::One => gemmkit::Parallelism::Serial,
        };
        let (a, b) = (&a[i * lhs.step..], &b[i * rhs.step..]);
        let out = MatMut::from_row_major(out, lhs.each.rows, rhs.each.columns);
        gemmkit::gemm(bf16::ONE, seen(a, lhs.each), seen(b, rhs.each), bf16::ZERO, out, parallelism);
    });
}

fn seen(x: &[bf16], matrix: Matrix) -> MatRef<'_, bf16> {
    let Matrix { rows, columns, row, column } = matrix;
    MatRef::new(x, rows, columns, row as isize, column as isize)
}
