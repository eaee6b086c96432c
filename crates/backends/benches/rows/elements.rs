//! Functions of elements, sums, dropout, casts.

use super::number::{Number, read, written};
use super::over_rows::ran;
use super::{Case, Kernel, Size};
use backends::buffer::{In, Slice};
use backends::kernels::add::{Sign, add};
use backends::kernels::binary::{Binary, binary};
use backends::kernels::cast::convert;
use backends::kernels::dropout::{Draw, drop_out};
use backends::kernels::finite::finite_or_zero;
use backends::kernels::pointwise::{Function, gradients, values};
use backends::kernels::rope::{Inputs, Pairs, Turn, rotate};
use backends::kernels::sum::{Axes, Term, sum};
use half::{bf16, f16};
use std::hint::black_box;

pub(super) fn kernels<T: Number>() -> Vec<Kernel> {
    let mut all: Vec<Kernel> = vec![
        ("relu", |size| value::<T>(Function::Relu, size)),
        ("relu backward", |size| gradient::<T>(Function::Relu, size)),
        ("gelu", |size| value::<T>(Function::Gelu, size)),
        ("gelu backward", |size| gradient::<T>(Function::Gelu, size)),
        ("gelu_tanh", |size| value::<T>(Function::GeluTanh, size)),
        ("gelu_tanh backward", |size| gradient::<T>(Function::GeluTanh, size)),
        ("silu", |size| value::<T>(Function::Silu, size)),
        ("silu backward", |size| gradient::<T>(Function::Silu, size)),
        ("scale", |size| value::<T>(Function::Scale { factor: 0.3 }, size)),
        ("add", |size| sum_of_two::<T>(size.len(), size)),
        ("add row", |size| sum_of_two::<T>(size.width, size)),
        ("multiply", |size| product::<T>(size, [size.width, 1])),
        ("multiply columns", |size| product::<T>(size, [1, 0])),
        ("rope", turned::<T>),
        ("dropout", dropout::<T>),
        ("finite or zero", finite::<T>),
        ("column sums", column_sums::<T>),
    ];
    if size_of::<T>() == 4 {
        all.push(("cast to bf16", cast::<f32, bf16>));
        all.push(("cast to f16", cast::<f32, f16>));
    }
    if size_of::<T>() == 2 {
        all.push(("cast to f32", cast::<T, f32>));
    }
    all
}

fn value<T: Number>(function: Function, size: Size) -> Case {
    let x = T::numbers(size.len());
    Case::new(2 * size_of_val(&*x), move || drop(black_box(values(function, &x))))
}

fn gradient<T: Number>(function: Function, size: Size) -> Case {
    let (x, grad) = (T::numbers(size.len()), T::numbers(size.len()));
    Case::new(3 * size_of_val(&*x), move || {
        drop(black_box(gradients(function, &x, T::floats(&grad)).expect("as long")));
    })
}

fn sum_of_two<T: Number>(repeated: usize, size: Size) -> Case {
    let (a, b, mut y) = (T::numbers(size.len()), T::numbers(repeated), T::numbers(size.len()));
    Case::new(2 * size_of_val(&*a) + size_of_val(&*b), move || {
        let (a, b) = (read(T::slice(&a), &[size.len()]), read(T::slice(&b), &[repeated]));
        ran(add(&a, &b, Sign::Plus, &mut written(T::slice_mut(&mut y), &[size.len()])));
    })
}

/// Of elements with others that lie so, or are repeated along a row.
fn product<T: Number>(size: Size, strides: [usize; 2]) -> Case {
    let dims = [size.rows, size.width];
    let (a, b, mut y) = (T::numbers(size.len()), T::numbers(size.len()), T::numbers(size.len()));
    let read_beside = if strides[1] == 0 { size.rows * size_of::<T>() } else { size_of_val(&*b) };
    Case::new(2 * size_of_val(&*a) + read_beside, move || {
        let (a, b) = (read(T::slice(&a), &dims), In::host("b", T::slice(&b), &dims, &strides).expect("fits"));
        ran(binary(Binary::Times, &a, &b, &mut written(T::slice_mut(&mut y), &dims)));
    })
}

/// Angles of 128 rows, in f32 or f64, repeated.
fn turned<T: Number>(Size { rows, width }: Size) -> Case {
    const STEPS: usize = 128;
    let (x, mut y) = (T::numbers(rows * width), T::numbers(rows * width));
    let (narrow, wide) = (f32::numbers(STEPS * width / 2), f64::numbers(STEPS * width / 2));
    Case::new(2 * size_of_val(&*x), move || {
        let dims = [rows / STEPS, STEPS, width];
        let angles = if size_of::<T>() == 8 { Slice::F64(&wide) } else { Slice::F32(&narrow) };
        let half = [dims[0], STEPS, width / 2];
        let angles = In::host("angles", angles, &half, &[0, width / 2, 1]).expect("fits");
        let inputs = Inputs { x: &read(T::slice(&x), &dims), cos: &angles, sin: &angles };
        ran(rotate(inputs, Pairs::Halves, Turn::Forth, &mut written(T::slice_mut(&mut y), &dims)));
    })
}

fn dropout<T: Number>(size: Size) -> Case {
    let (x, mut y) = (T::numbers(size.len()), T::numbers(size.len()));
    Case::new(2 * size_of_val(&*x), move || {
        let x = read(T::slice(&x), &[size.len()]);
        ran(drop_out(&x, Draw { key: 7, p: 0.1 }, &mut written(T::slice_mut(&mut y), &[size.len()])));
    })
}

fn finite<T: Number>(size: Size) -> Case {
    let (x, mut y) = (T::numbers(size.len()), T::numbers(size.len()));
    Case::new(2 * size_of_val(&*x), move || {
        let x = read(T::slice(&x), &[size.len()]);
        ran(finite_or_zero(&x, &mut written(T::slice_mut(&mut y), &[size.len()])));
    })
}

fn cast<T: Number, U: Number>(size: Size) -> Case {
    let (x, mut y) = (T::numbers(size.len()), U::numbers(size.len()));
    Case::new(size_of_val(&*x) + size_of_val(&*y), move || {
        let x = read(T::slice(&x), &[size.len()]);
        ran(convert(&x, &mut written(U::slice_mut(&mut y), &[size.len()])));
    })
}

fn column_sums<T: Number>(Size { rows, width }: Size) -> Case {
    let x = T::numbers(rows * width);
    let axes = Axes { outer: 1, reduced: rows, inner: width };
    Case::new(size_of_val(&*x), move || {
        black_box(sum(T::floats(&x), axes, Term::Value).expect("as many"));
    })
}
