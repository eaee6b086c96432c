//! Norms, softmax and cross-entropy.

use super::number::{Number, read, written};
use super::{Case, Kernel, Size};
use backends::buffer::{Ran, ScalarType, Slice, SliceMut};
use backends::kernels::cross_entropy::{self, CrossEntropy, PerRow};
use backends::kernels::norm::{self, Centre, GradientsOut, Inputs, Norm, STATISTICS};
use backends::kernels::softmax::{self, Form, Seen};

pub(super) fn kernels<T: Number>() -> Vec<Kernel> {
    vec![
        ("layer_norm", |size| norm_forward::<T>(Centre::Mean, size)),
        ("layer_norm backward", |size| norm_backward::<T>(Centre::Mean, size)),
        ("rms_norm", |size| norm_forward::<T>(Centre::Zero, size)),
        ("rms_norm backward", |size| norm_backward::<T>(Centre::Zero, size)),
        ("softmax", softmax_forward::<T>),
        ("softmax backward", softmax_backward::<T>),
        ("cross_entropy", cross_entropy_forward::<T>),
        ("cross_entropy backward", cross_entropy_backward::<T>),
    ]
}

pub(super) fn ran(ran: backends::Result<Ran>) {
    assert!(matches!(ran, Ok(Ran::Kernel(_))), "{ran:?}");
}

fn norm_forward<T: Number>(centre: Centre, Size { rows, width }: Size) -> Case {
    let norm = Norm { centre, width, eps: 1e-5 };
    let (x, parameters, mut y) = (T::numbers(rows * width), T::numbers(width), T::numbers(rows * width));
    let mut statistics = vec![0f64; rows * STATISTICS];
    let moved = 2 * size_of_val(&*x) + size_of_val(&*statistics);
    Case::new(moved, move || {
        let (x, p) = (read(T::slice(&x), &[rows, width]), read(T::slice(&parameters), &[width]));
        let inputs = Inputs { x: &x, weight: Some(&p), bias: (centre == Centre::Mean).then_some(&p) };
        let mut y = written(T::slice_mut(&mut y), &[rows, width]);
        let mut kept = written(SliceMut::F64(&mut statistics), &[rows, STATISTICS]);
        ran(norm::forward(norm, inputs, &mut y, &mut kept));
    })
}

fn norm_backward<T: Number>(centre: Centre, Size { rows, width }: Size) -> Case {
    let norm = Norm { centre, width, eps: 1e-5 };
    let (x, dy, mut dx) = (T::numbers(rows * width), T::numbers(rows * width), T::numbers(rows * width));
    let weight = T::numbers(width);
    let (mut dw, mut db) = (weight.clone(), weight.clone());
    let statistics = [0.1, 0., 0.9].repeat(rows);
    let moved = 3 * size_of_val(&*x) + size_of_val(&*statistics);
    Case::new(moved, move || {
        let (x, dy) = (read(T::slice(&x), &[rows, width]), read(T::slice(&dy), &[rows, width]));
        let weight = read(T::slice(&weight), &[width]);
        let kept = read(Slice::F64(&statistics), &[rows, STATISTICS]);
        let mut dx = written(T::slice_mut(&mut dx), &[rows, width]);
        let mut dw = written(T::slice_mut(&mut dw), &[width]);
        let mut db = written(T::slice_mut(&mut db), &[width]);
        let bias = (centre == Centre::Mean).then_some(&mut db);
        let grads = GradientsOut { x: Some(&mut dx), plus: None, weight: Some(&mut dw), bias };
        let inputs = Inputs { x: &x, weight: Some(&weight), bias: None };
        ran(norm::backward(norm, &dy, inputs, &kept, grads));
    })
}

fn softmax_forward<T: Number>(size: Size) -> Case {
    let (x, mut y) = (T::numbers(size.len()), T::numbers(size.len()));
    Case::new(2 * size_of_val(&*x), move || {
        let dims = [size.rows, size.width];
        let (x, mut y) = (read(T::slice(&x), &dims), written(T::slice_mut(&mut y), &dims));
        ran(softmax::forward(Form::Softmax, Seen::Whole, size.width, &x, &mut y));
    })
}

fn softmax_backward<T: Number>(size: Size) -> Case {
    let (y, dy, mut dx) = (T::numbers(size.len()), T::numbers(size.len()), T::numbers(size.len()));
    Case::new(3 * size_of_val(&*y), move || {
        let dims = [size.rows, size.width];
        let (y, dy) = (read(T::slice(&y), &dims), read(T::slice(&dy), &dims));
        let mut dx = written(T::slice_mut(&mut dx), &dims);
        ran(softmax::backward(Form::Softmax, Seen::Whole, size.width, &dy, &y, &mut dx));
    })
}

fn loss(Size { width, .. }: Size) -> CrossEntropy {
    CrossEntropy { classes: width, ignore_index: -100, label_smoothing: 0. }
}

/// f64 beside f64, else f32.
fn wide<T: Number>(x: &mut Vec<f64>, narrow: &mut Vec<f32>) -> bool {
    let is_wide = T::TYPE == ScalarType::F64;
    if is_wide {
        narrow.clear()
    } else {
        x.clear()
    }
    is_wide
}

fn cross_entropy_forward<T: Number>(size: Size) -> Case {
    let rows = size.rows;
    let (x, targets) = (T::numbers(size.len()), vec![3u32; rows]);
    let parts = cross_entropy::lse_parts(T::TYPE);
    let (mut lse, mut losses, mut narrow) = (vec![0f64; rows * parts], vec![0f64; rows], vec![0f32; rows]);
    let is_wide = wide::<T>(&mut losses, &mut narrow);
    Case::new(size_of_val(&*x) + size_of_val(&*lse), move || {
        let (x, targets) = (read(T::slice(&x), &[rows, size.width]), read(Slice::U32(&targets), &[rows]));
        let losses = if is_wide { SliceMut::F64(&mut losses) } else { SliceMut::F32(&mut narrow) };
        let mut losses = written(losses, &[rows]);
        let mut lse = written(SliceMut::F64(&mut lse), &[rows, parts]);
        ran(cross_entropy::forward(loss(size), &x, &targets, &mut losses, &mut lse));
    })
}

fn cross_entropy_backward<T: Number>(size: Size) -> Case {
    let rows = size.rows;
    let (x, mut dx, targets) = (T::numbers(size.len()), T::numbers(size.len()), vec![3u32; rows]);
    let parts = cross_entropy::lse_parts(T::TYPE);
    let (lse, mut factors, mut narrow) = (vec![7f64; rows * parts], vec![0.5f64; rows], vec![0.5f32; rows]);
    let is_wide = wide::<T>(&mut factors, &mut narrow);
    Case::new(2 * size_of_val(&*x) + size_of_val(&*lse), move || {
        let (x, targets) = (read(T::slice(&x), &[rows, size.width]), read(Slice::U32(&targets), &[rows]));
        let factors = if is_wide { Slice::F64(&factors) } else { Slice::F32(&narrow) };
        let (factors, lse) = (read(factors, &[rows]), read(Slice::F64(&lse), &[rows, parts]));
        let mut dx = written(T::slice_mut(&mut dx), &[rows, size.width]);
        let per_row = PerRow { targets: &targets, lse: &lse, factors: &factors };
        ran(cross_entropy::backward(loss(size), Some(&x), per_row, &mut dx));
    })
}
