//! The convolutions of a ResNet-18 on 8 images of 112 × 112 on a CPU, each beside candle's, which has no gradients of its own, and what
//! fused multiply-adds in registers reach. Throughput is in floating-point operations: "Gelem/s" reads GFLOP/s.
//!
//! `cargo bench --workspace --bench convolutions -- 'f32 64->64'`

mod peak;

use backends::buffer::{In, Out, Slice, SliceMut};
use backends::kernels::convolution::{Channels, Moves, Part, convolution};
use candle_core::{Device, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use half::bf16;
use std::time::Duration;

const IMAGES: usize = 8;

/// Channels of images and of values, the side of images and of kernels, and the stride.
const SHAPES: [[usize; 5]; 11] = [
    [3, 64, 112, 7, 2],
    [64, 64, 28, 3, 1],
    [64, 128, 28, 3, 2],
    [64, 128, 28, 1, 2],
    [128, 128, 14, 3, 1],
    [128, 256, 14, 3, 2],
    [128, 256, 14, 1, 2],
    [256, 256, 7, 3, 1],
    [256, 512, 7, 3, 2],
    [256, 512, 7, 1, 2],
    [512, 512, 4, 3, 1],
];

/// What is written.
#[derive(Clone, Copy)]
enum Written {
    Values,
    Image,
    Kernel,
}

/// The dimensions of an operand that lies in its order, and their strides.
fn seen<'a>(x: Slice<'a>, dims: [usize; 4]) -> In<'a> {
    let strides = [dims[1] * dims[2] * dims[3], dims[2] * dims[3], dims[3], 1];
    In::host("x", x, &dims, &strides).expect("fits")
}

macro_rules! convolutions {
    ($name:ident, $of:literal, $t:ty, $variant:ident, $from:expr) => {
        fn $name(c: &mut Criterion) {
            for [channels, out, side, taps, stride] in SHAPES {
                let padding = taps / 2;
                let places = (side + 2 * padding - taps) / stride + 1;
                let moves = Moves { padding: [padding; 2], stride: [stride; 2], dilation: [1, 1] };
                let [image, kernel, values] = [
                    [IMAGES, channels, side, side],
                    [out, channels, taps, taps],
                    [IMAGES, out, places, places],
                ];
                let numbers = |dims: [usize; 4]| {
                    let len = dims.iter().product::<usize>();
                    (0..len).map(|i| $from((i * 7919 % 1000) as f32 / 1000. - 0.5)).collect::<Vec<$t>>()
                };
                let [x, w, y] = [image, kernel, values].map(numbers);
                let mut group =
                    c.benchmark_group(format!("{} {channels}->{out} {side} k{taps} s{stride}", $of));
                let operations = 2 * IMAGES * places * places * out * channels * taps * taps;
                group.throughput(Throughput::Elements(operations as u64));
                group.sample_size(10);
                group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(400));
                for (name, written, dims) in [
                    ("values", Written::Values, values),
                    ("image's gradient", Written::Image, image),
                    ("kernel's gradient", Written::Kernel, kernel),
                ] {
                    let mut made = vec![<$t>::default(); dims.iter().product()];
                    let (x, w, y) = (
                        seen(Slice::$variant(&x), image),
                        seen(Slice::$variant(&w), kernel),
                        seen(Slice::$variant(&y), values),
                    );
                    group.bench_function(name, |bench| {
                        bench.iter(|| {
                            let slice = SliceMut::$variant(&mut made);
                            let mut out = Out::host("out", slice, &dims).expect("fits");
                            let out = Part::Out(&mut out, Channels::Second);
                            let (x, w, y) = (Part::In(&x), Part::In(&w), Part::In(&y));
                            match written {
                                Written::Values => convolution(moves, x, w, out),
                                Written::Image => convolution(moves, out, w, y),
                                Written::Kernel => convolution(moves, x, out, y),
                            }
                            .expect("shapes fit")
                        });
                    });
                }
                let of = |x: &[$t], dims: [usize; 4]| {
                    Tensor::from_slice(x, dims.to_vec(), &Device::Cpu).expect("fits")
                };
                let (x, w) = (of(&x, image), of(&w, kernel));
                group.bench_function("candle's values", |bench| {
                    bench.iter(|| x.conv2d(&w, padding, stride, 1, 1).expect("shapes fit"));
                });
                group.finish();
            }
        }
    };
}
convolutions!(f32s, "f32", f32, F32, |x: f32| x);
convolutions!(bf16s, "bf16", bf16, Bf16, bf16::from_f32);

criterion_group!(all, peak::measured, f32s, bf16s);
criterion_main!(all);
