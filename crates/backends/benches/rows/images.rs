//! What is done to images, and to rows of a table: planes of 56 × 56 are a plane's elements here.

use super::number::{Number, read, written};
use super::{Case, Kernel, Size};
use backends::bridge::Call;
use backends::buffer::{Ran, Slice};
use backends::kernels::batch_norm::{self, Centre, Dims, Norm, Then, Wanted};
use backends::kernels::group_norm::{self, GroupNorm};
use backends::kernels::lookup;
use backends::kernels::max_pool::{self, Windows};
use backends::kernels::resample::{Taps, resample};
use backends::kernels::row_sums::row_sums;
use candle_core::{Device, Tensor};
use std::hint::black_box;

pub(super) fn kernels<T: Number>() -> Vec<Kernel> {
    let mut all: Vec<Kernel> = vec![
        ("batch_norm", batch_norm::<T>),
        ("batch_norm backward", batch_norm_backward::<T>),
        ("group_norm", group_norm::<T>),
        ("group_norm backward", group_norm_backward::<T>),
        ("max_pool", pooled::<T>),
        ("max_pool backward", pooled_backward::<T>),
        ("embedding", looked_up::<T>),
        ("embedding backward", lookup_backward::<T>),
    ];
    match size_of::<T>() {
        4 => all.push(("resample", resampled::<f32>)),
        8 => all.push(("resample", resampled::<f64>)),
        _ => {}
    }
    all
}

/// A plane's height and width.
const SIDE: usize = 56;

fn image<T: Number>(size: Size) -> (Norm, Tensor) {
    let (batch, plane) = (8, SIDE * SIDE);
    let channels = (size.len() / batch / plane / 4 * 4).max(4);
    let dims = Dims { outer: batch, channels, inner: plane };
    let x = Tensor::from_vec(T::numbers(dims.count()), (batch, channels, SIDE, SIDE), &Device::Cpu);
    (Norm { dims, centre: Centre::Mean, then: Then::Relu, eps: 1e-5 }, x.expect("as many"))
}

fn ran<T>(call: backends::Result<Call<T>>) -> T {
    call.ok().and_then(Call::ran).expect("a kernel")
}

/// The elements are read for the statistics, and again for the value.
fn batch_norm<T: Number>(size: Size) -> Case {
    let (norm, x) = image::<T>(size);
    let parameter = Tensor::ones(norm.dims.channels, x.dtype(), &Device::Cpu).expect("ones");
    Case::new(3 * size_of::<T>() * norm.dims.count(), move || {
        let others = [Some(&parameter), Some(&parameter), None];
        drop(black_box(ran(batch_norm::value_of(norm, &x, others))));
    })
}

/// Elements and gradient are read for the sums, and again for the gradient.
fn batch_norm_backward<T: Number>(size: Size) -> Case {
    let (norm, x) = image::<T>(size);
    let parameter = Tensor::ones(norm.dims.channels, x.dtype(), &Device::Cpu).expect("ones");
    let statistics = ran(batch_norm::value_of(norm, &x, [None; 3])).statistics;
    let wanted = Wanted { x: true, plus: false, weight: true, bias: true };
    Case::new(5 * size_of::<T>() * norm.dims.count(), move || {
        let others = [Some(&parameter), Some(&parameter), None];
        drop(black_box(ran(batch_norm::gradients_of(norm, &x, &x, others, &statistics, wanted))));
    })
}

/// Groups of four channels.
fn groups<T: Number>(size: Size) -> (GroupNorm, Tensor) {
    let (norm, x) = image::<T>(size);
    let channels = norm.dims.channels;
    (GroupNorm { groups: channels / 4, channels, positions: norm.dims.inner, eps: 1e-5 }, x)
}

fn group_norm<T: Number>(size: Size) -> Case {
    let (norm, x) = groups::<T>(size);
    let parameter = Tensor::ones(norm.channels, x.dtype(), &Device::Cpu).expect("ones");
    Case::new(2 * size_of::<T>() * x.elem_count(), move || {
        drop(black_box(ran(group_norm::value_of(norm, &x, [Some(&parameter); 2], x.dtype()))));
    })
}

fn group_norm_backward<T: Number>(size: Size) -> Case {
    let (norm, x) = groups::<T>(size);
    let parameter = Tensor::ones(norm.channels, x.dtype(), &Device::Cpu).expect("ones");
    let statistics = ran(group_norm::value_of(norm, &x, [None; 2], x.dtype())).statistics;
    let dtype = Some(x.dtype());
    let wanted = group_norm::Wanted { x: dtype, weight: dtype, bias: dtype };
    Case::new(3 * size_of::<T>() * x.elem_count(), move || {
        drop(black_box(ran(group_norm::gradients_of(norm, &x, &x, Some(&parameter), &statistics, wanted))));
    })
}

/// Windows of 3 × 3, two pixels apart, and the images that they are of.
fn windows<T: Number>(size: Size) -> (Windows, Tensor) {
    let (norm, x) = image::<T>(size);
    let Dims { outer, channels, .. } = norm.dims;
    let dims = [outer * channels, SIDE, SIDE, 1];
    (Windows { dims, count: [SIDE / 2; 2], kernel: [3; 2], stride: [2; 2], padding: [1; 2] }, x)
}

/// Elements are read, and a quarter as many and their taps written.
fn pooled<T: Number>(size: Size) -> Case {
    let (windows, x) = windows::<T>(size);
    let count = x.elem_count();
    Case::new(count * size_of::<T>() * 5 / 4 + count / 4, move || {
        drop(black_box(ran(max_pool::largest_of(&windows, &x))));
    })
}

fn pooled_backward<T: Number>(size: Size) -> Case {
    let (windows, x) = windows::<T>(size);
    let count = x.elem_count();
    let [dy, taps] = ran(max_pool::largest_of(&windows, &x));
    Case::new(count * size_of::<T>() * 5 / 4 + count / 4, move || {
        drop(black_box(ran(max_pool::gradient_of(&windows, &dy, &taps))));
    })
}

/// Rows of a table of 512 that lie anywhere in it.
fn looked_up<T: Number>(Size { rows, width }: Size) -> Case {
    let (table, mut out) = (T::numbers(512 * width), T::numbers(rows * width));
    let ids: Vec<i64> = (0..rows as i64).map(|i| i * 7919 % 512).collect();
    Case::new(2 * size_of_val(&*out), move || {
        let (ids, table) = (read(Slice::I64(&ids), &[rows]), read(T::slice(&table), &[512, width]));
        let kernel =
            lookup::lookup(&ids, &table, width, &mut written(T::slice_mut(&mut out), &[rows, width]));
        assert!(matches!(kernel, Ok(Ran::Kernel(_))), "{kernel:?}");
    })
}

fn lookup_backward<T: Number>(Size { rows, width }: Size) -> Case {
    let x = T::numbers(rows * width);
    let ids: Vec<i64> = (0..rows as i64).map(|i| i * 7919 % 512).collect();
    let table = 512 * width * if size_of::<T>() == 8 { 8 } else { 4 };
    Case::new(size_of_val(&*x) + table, move || {
        black_box(row_sums(&ids, T::floats(&x), 512, width).expect("as many"));
    })
}

/// Averages of two elements, down each column.
fn resampled<T: Number + backends::Real>(Size { rows, width }: Size) -> Case {
    let x = T::numbers(rows * width);
    let taps = Taps::new(SIDE / 2, SIDE, |at| [(2 * at, 0.5), (2 * at + 1, 0.5)]);
    let whole = rows / SIDE * SIDE;
    Case::new(size_of::<T>() * whole * width * 3 / 2, move || {
        drop(black_box(resample(&x[..whole * width], width, &taps)));
    })
}
