//! What is done to rows and to elements, beside a copy of memory. Throughput is in the bytes that a call reads and writes at
//! least: a kernel that is bound by memory reaches the copy's.
//!
//! `cargo bench --workspace --bench rows`

use backends::buffer::{In, Out, Slice, SliceMut};
use backends::kernels::cast::convert;
use backends::kernels::finite::finite_or_zero;
use backends::kernels::norm::{self, Centre, Inputs, Norm, STATISTICS};
use backends::kernels::pointwise::{Function, values};
use backends::kernels::softmax::{self, Form, Seen};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use half::{bf16, f16};
use std::hint::black_box;
use std::time::Duration;

/// Rows of a training step, and their elements: 8 MiB of f32.
const ROWS: usize = 8192;
const WIDTH: usize = 256;
const LEN: usize = ROWS * WIDTH;

/// Numbers from −2 to 2.
fn numbers() -> Vec<f32> {
    (0..LEN).map(|i| (i * 7919 % 1000) as f32 / 250. - 2.).collect()
}

fn rows(c: &mut Criterion) {
    let mut group = c.benchmark_group("rows");
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let x = numbers();
    let (mut out, mut statistics) = (vec![0f32; LEN], vec![0f64; ROWS * STATISTICS]);
    let (mut brains, mut halves) = (vec![bf16::ZERO; LEN], vec![f16::ZERO; LEN]);
    let dims = [ROWS, WIDTH];
    let read = In::host("x", Slice::F32(&x), &dims, &[WIDTH, 1]).expect("fits");

    group.throughput(Throughput::Bytes(8 * LEN as u64));
    group.bench_function("copy, one thread", |bench| bench.iter(|| out.copy_from_slice(black_box(&x))));
    group.bench_function("softmax f32", |bench| {
        let mut y = Out::host("y", SliceMut::F32(&mut out), &dims).expect("fits");
        bench.iter(|| softmax::forward(Form::Softmax, Seen::Whole, WIDTH, &read, &mut y).expect("fits"));
    });
    group.bench_function("layer norm f32", |bench| {
        let mut y = Out::host("y", SliceMut::F32(&mut out), &dims).expect("fits");
        let mut kept =
            Out::host("statistics", SliceMut::F64(&mut statistics), &[ROWS, STATISTICS]).expect("fits");
        let norm = Norm { centre: Centre::Mean, width: WIDTH, eps: 1e-5 };
        let inputs = Inputs { x: &read, weight: None, bias: None };
        bench.iter(|| norm::forward(norm, inputs, &mut y, &mut kept).expect("fits"));
    });
    group.bench_function("finite or zero f32", |bench| {
        let mut y = Out::host("y", SliceMut::F32(&mut out), &dims).expect("fits");
        bench.iter(|| finite_or_zero(&read, &mut y).expect("fits"));
    });
    for (name, function) in
        [("relu f32", Function::Relu), ("gelu by tanh f32", Function::GeluTanh), ("silu f32", Function::Silu)]
    {
        group.bench_function(name, |bench| bench.iter(|| values(function, &x)));
    }
    group.throughput(Throughput::Bytes(6 * LEN as u64));
    group.bench_function("f32 to bf16", |bench| {
        let mut y = Out::host("y", SliceMut::Bf16(&mut brains), &dims).expect("fits");
        bench.iter(|| convert(&read, &mut y).expect("fits"));
    });
    group.bench_function("f32 to f16", |bench| {
        let mut y = Out::host("y", SliceMut::F16(&mut halves), &dims).expect("fits");
        bench.iter(|| convert(&read, &mut y).expect("fits"));
    });
    group.finish();
}

criterion_group!(all, rows);
criterion_main!(all);
