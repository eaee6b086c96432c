//! On the CPU: which engine multiplies what, and how a stack is shared out among threads.

use super::blocked::{DEPTH, Packed, Plus, Then, Threads, multiply_matrices};
use super::gemm::{Float, matrix_product};
use super::matrix::{Matrix, Stack};
use super::{Added, Engine, Onto};
use crate::buffer::{In, Out, Ran, Scalar, Slice, SliceMut, Why};
use crate::kernels::cast::convert_slice;
use crate::simd::Isa;
use crate::simd::convert::Stored;
use crate::simd::rows::{Whole, share_out};
use half::{bf16, f16};

/// Multiplications of a product that are worth packing operands for another engine than that of f32.
const WORTH_PACKING: usize = 32 * 32 * 32;
/// What no kernel of a CPU adds.
const ADDED: Ran = Ran::Composed(Why::Layout("what is added"));

pub(super) fn product(
    engine: Engine,
    (a, lhs): (Slice<'_>, Stack),
    (b, rhs): (Slice<'_>, Stack),
    onto: Onto<'_>,
    out: &mut Out<'_>,
) -> Ran {
    let Some(mut out) = out.host_slice() else { return Ran::Composed(Why::Device) };
    let (a, b) = (a.until(lhs.span()), b.until(rhs.span()));
    let k = lhs.each.columns;
    if out.is_empty() {
        return Ran::Kernel("product");
    }
    if k == 0 {
        let plain = matches!(onto, Onto::Added(Added { row: None, matrix: None }));
        return if plain { no_terms(&mut out) } else { Ran::Composed(Why::Shape("a")) };
    }
    let stacks = Stacks { lhs, rhs, onto };
    match (a, b, out) {
        (Slice::F64(a), Slice::F64(b), SliceMut::F64(out)) => stacks.floats(a, b, out),
        (Slice::F32(a), Slice::F32(b), SliceMut::F32(out)) => stacks.floats(a, b, out),
        (Slice::F16(a), Slice::F16(b), out) => stacks.sixteen(Engine::Widened, a, b, out),
        (Slice::Bf16(a), Slice::Bf16(b), out) => {
            let worth = lhs.each.rows * k * rhs.each.columns >= WORTH_PACKING;
            stacks.sixteen(if worth { engine } else { Engine::Widened }, a, b, out)
        }
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

/// 16-bit numbers that an engine multiplies.
trait Sixteen: Scalar + Stored<f32> {
    /// One product of a stack, whose sums fit into runs of the engine or are written in f32.
    fn by<O: Stored<f32>>(
        engine: Engine,
        a: (&[Self], Matrix),
        b: (&[Self], Matrix),
        then: Then<'_, f32, O>,
        out: &mut [O],
        threads: Threads,
    ) {
        let _ = engine;
        widened(a, b, then, out, threads);
    }
}

impl Sixteen for f16 {}

impl Sixteen for bf16 {
    fn by<O: Stored<f32>>(
        engine: Engine,
        a: (&[Self], Matrix),
        b: (&[Self], Matrix),
        then: Then<'_, f32, O>,
        out: &mut [O],
        threads: Threads,
    ) {
        match engine {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Engine::Tiles if let Some(amx) = super::amx::Amx::detect() => {
                amx.multiply(a, b, then, out, threads)
            }
            #[cfg(target_arch = "x86_64")]
            Engine::Pairs if let Some(pairs) = crate::simd::Pairs::detect() => {
                multiply_matrices::<crate::simd::lanes::Pair, _, O>(pairs, a, b, then, out, threads);
            }
            _ => widened(a, b, then, out, threads),
        }
    }
}

/// In f32, to which numbers are widened as they are packed.
fn widened<X: Stored<f32>, O: Stored<f32>>(
    a: (&[X], Matrix),
    b: (&[X], Matrix),
    then: Then<'_, f32, O>,
    out: &mut [O],
    threads: Threads,
) {
    multiply_matrices::<f32, X, O>(Isa::best(), a, b, then, out, threads);
}

/// Numbers of a lane whose sums are complete before they are written.
fn most_numbers(engine: Engine) -> usize {
    match engine {
        Engine::Widened => DEPTH,
        Engine::Pairs => 2 * DEPTH,
        Engine::Tiles => usize::MAX,
    }
}

/// Two stacks that are multiplied, and what is added.
#[derive(Clone, Copy)]
struct Stacks<'a> {
    lhs: Stack,
    rhs: Stack,
    onto: Onto<'a>,
}

impl<'a> Stacks<'a> {
    /// In the type that all are of.
    fn floats<T: Float + Scalar>(self, a: &[T], b: &[T], out: &mut [T]) -> Ran {
        let row = match self.row() {
            Some(row) => match row.slice::<T>() {
                Some(row) => Some(row),
                None => return ADDED,
            },
            None => None,
        };
        let Some(plus) = self.plus::<T>() else { return ADDED };
        self.each(Then { row, plus, ..Then::WRITTEN }, out, |a_at, b_at, then, out, threads| {
            matrix_product(out, then, (&a[a_at..], self.lhs.each), (&b[b_at..], self.rhs.each), threads);
        });
        Ran::Kernel("product")
    }

    /// In f32, to 16 bits or f32.
    fn sixteen<X: Sixteen>(self, engine: Engine, a: &[X], b: &[X], mut out: SliceMut<'_>) -> Ran {
        if let Some(out) = <f32 as Scalar>::write(&mut out) {
            return self.by(engine, a, b, self.plus::<f32>(), out);
        }
        if self.lhs.each.columns <= most_numbers(engine) {
            return match <X as Scalar>::write(&mut out) {
                Some(out) => self.by(engine, a, b, self.plus::<X>(), out),
                None => Ran::Composed(Why::Dtype("out")),
            };
        }
        // Sums of more terms than stay in the cache are in f32 between them.
        let (mut wide, len) = (vec![0f32; out.len()], out.len());
        let held = match self.onto {
            Onto::Output => Some(out.as_slice()),
            Onto::Added(Added { matrix: Some(matrix), .. }) => match matrix.host_slice() {
                Some(matrix) => Some(matrix),
                None => return ADDED,
            },
            Onto::Added(_) => None,
        };
        let plus = if let Some(held) = held {
            convert_slice(Isa::best(), held, SliceMut::F32(&mut wide));
            Plus::Output
        } else {
            Plus::Nothing
        };
        match self.by(engine, a, b, Some(plus), &mut wide) {
            Ran::Kernel(_) => {}
            composed => return composed,
        }
        match convert_slice(Isa::best(), Slice::F32(&wide), out.until(len)) {
            Ran::Kernel(_) => Ran::Kernel("product"),
            composed => composed,
        }
    }

    /// With what is added, or nothing where that is not read.
    fn by<X: Sixteen, O: Stored<f32>>(
        self,
        engine: Engine,
        a: &[X],
        b: &[X],
        plus: Option<Plus<'_, O>>,
        out: &mut [O],
    ) -> Ran {
        let (Some(row), Some(plus)) = (self.wide_row(), plus) else { return ADDED };
        let then = Then { row: row.as_deref(), plus, ..Then::WRITTEN };
        self.each(then, out, |a_at, b_at, then, out, threads| {
            X::by(engine, (&a[a_at..], self.lhs.each), (&b[b_at..], self.rhs.each), then, out, threads);
        });
        Ran::Kernel("product")
    }

    fn row(self) -> Option<&'a In<'a>> {
        if let Onto::Added(Added { row, .. }) = self.onto { row } else { None }
    }

    /// The row in f32, or nothing where there is one that is not read.
    fn wide_row(self) -> Option<Option<Vec<f32>>> {
        match self.row() {
            Some(row) => Some(Some(Isa::best().run(Whole(row.host_slice()?)))),
            None => Some(None),
        }
    }

    /// The matrix that is added, or nothing where there is one that is not read.
    fn plus<O: Scalar>(self) -> Option<Plus<'a, O>> {
        match self.onto {
            Onto::Output => Some(Plus::Output),
            Onto::Added(Added { matrix: None, .. }) => Some(Plus::Nothing),
            Onto::Added(Added { matrix: Some(matrix), .. }) => matrix.slice::<O>().map(Plus::Matrix),
        }
    }

    /// Does `one` for each matrix of the stack, with where the operands begin: several at a time where there are as many as threads, or
    /// one after another on all threads.
    fn each<T: Packed, O: Copy + Send + Sync>(
        self,
        then: Then<'_, T, O>,
        out: &mut [O],
        one: impl Fn(usize, usize, Then<'_, T, O>, &mut [O], Threads) + Sync + Send,
    ) {
        let Self { lhs, rhs, .. } = self;
        let size = out.len() / lhs.count;
        let of = |i: usize, out: &mut [O], threads| {
            let plus = match then.plus {
                Plus::Matrix(matrix) => Plus::Matrix(&matrix[i * size..][..size]),
                plus => plus,
            };
            one(i * lhs.step, i * rhs.step, Then { plus, ..then }, out, threads);
        };
        if lhs.count > 1 && lhs.count >= rayon::current_num_threads() {
            share_out(out.chunks_mut(size).enumerate().collect(), |(i, out)| of(i, out, Threads::One));
        } else {
            out.chunks_mut(size).enumerate().for_each(|(i, out)| of(i, out, Threads::All));
        }
    }
}
