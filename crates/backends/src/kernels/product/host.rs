//! On the CPU: which engine multiplies what, and how a stack is shared out among threads.

use super::blocked::{Packed, Plus, Source, Term, Then};
use super::gemm::{Float, matrix_product};
use super::matrix::Stack;
use super::unit::{Multiply, OfBf16, Panels, by_engine, multiply_matrices};
use super::{Added, Engine, Onto};
use crate::buffer::{In, Out, Ran, Scalar, Slice, SliceMut, Why};
use crate::kernels::cast::convert_slice;
use crate::simd::Isa;
use crate::simd::convert::Stored;
use crate::simd::rows::Whole;
use crate::threads::{Threads, share_out};
use half::{bf16, f16};

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
        (Slice::F16(a), Slice::F16(b), out) => stacks.sixteen::<f32, f16>(Panels(Isa::best()), a, b, out),
        (Slice::Bf16(a), Slice::Bf16(b), out) => {
            let engine = engine.worth(lhs.each.rows * k * rhs.each.columns);
            by_engine(engine, Bf16 { stacks, a, b, out })
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

/// A product of two stacks of bf16.
struct Bf16<'a, 'b> {
    stacks: Stacks<'a>,
    a: &'a [bf16],
    b: &'a [bf16],
    out: SliceMut<'b>,
}

impl OfBf16 for Bf16<'_, '_> {
    type Output = Ran;

    fn run<E: Term<Sum = f32>>(self, by: impl Multiply<E>) -> Ran
    where
        bf16: Source<E>,
    {
        self.stacks.sixteen::<E, bf16>(by, self.a, self.b, self.out)
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
    fn sixteen<E: Term<Sum = f32>, X: Source<E> + Scalar + Stored<f32>>(
        self,
        by: impl Multiply<E>,
        a: &[X],
        b: &[X],
        mut out: SliceMut<'_>,
    ) -> Ran {
        if let Some(out) = <f32 as Scalar>::write(&mut out) {
            return self.by(by, a, b, self.plus::<f32>(), out);
        }
        if self.lhs.each.columns <= by.most_numbers() {
            return match <X as Scalar>::write(&mut out) {
                Some(out) => self.by(by, a, b, self.plus::<X>(), out),
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
        match self.by(by, a, b, Some(plus), &mut wide) {
            Ran::Kernel(_) => {}
            composed => return composed,
        }
        match convert_slice(Isa::best(), Slice::F32(&wide), out.until(len)) {
            Ran::Kernel(_) => Ran::Kernel("product"),
            composed => composed,
        }
    }

    /// With what is added, or nothing where that is not read.
    fn by<E: Term<Sum = f32>, X: Source<E>, O: Stored<f32>>(
        self,
        by: impl Multiply<E>,
        a: &[X],
        b: &[X],
        plus: Option<Plus<'_, O>>,
        out: &mut [O],
    ) -> Ran {
        let (Some(row), Some(plus)) = (self.wide_row(), plus) else { return ADDED };
        let then = Then { row: row.as_deref(), plus, ..Then::WRITTEN };
        self.each(then, out, |a_at, b_at, then, out, threads| {
            let (a, b) = ((&a[a_at..], self.lhs.each), (&b[b_at..], self.rhs.each));
            multiply_matrices::<E, X, O>(by, a, b, then, out, threads);
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
