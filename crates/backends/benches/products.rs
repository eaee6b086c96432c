//! Matrix products beside the crates that could make them, of which candle calls `gemm`, and what fused multiply-adds in registers
//! reach on one thread and on all. Throughput is in floating-point operations: "Gelem/s" reads GFLOP/s.
//!
//! `cargo bench --workspace --bench products -- 'f32 2048x768x256'`

mod peak;

use backends::buffer::{In, Out, Slice, SliceMut};
use backends::kernels::product::product;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use gemmkit::{MatMut, MatRef};
use half::{bf16, f16};
use std::time::Duration;

/// Rows, columns and terms, and which operand is stored by columns.
const SHAPES: [([usize; 3], Form); 11] = [
    ([1024, 1024, 1024], Form::Plain),
    ([1024, 1024, 1024], Form::RightByColumns),
    ([1024, 1024, 1024], Form::LeftByColumns),
    ([2048, 2048, 2048], Form::Plain),
    ([2048, 256, 1024], Form::Plain),
    ([2048, 256, 1024], Form::RightByColumns),
    ([2048, 256, 1024], Form::LeftByColumns),
    ([2048, 768, 256], Form::Plain),
    ([2048, 768, 256], Form::RightByColumns),
    ([2048, 768, 256], Form::LeftByColumns),
    ([256, 768, 2048], Form::LeftByColumns),
];

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Plain,
    RightByColumns,
    LeftByColumns,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "nn",
            Self::RightByColumns => "nt",
            Self::LeftByColumns => "tn",
        }
    }

    /// Strides of the operands.
    fn strides(self, [m, n, k]: [usize; 3]) -> [[usize; 2]; 2] {
        let a = if self == Self::LeftByColumns { [1, m] } else { [k, 1] };
        [a, if self == Self::RightByColumns { [1, k] } else { [n, 1] }]
    }
}

/// Numbers from 0 to 1.
fn numbers(len: usize) -> impl Iterator<Item = f32> {
    (0..len).map(|i| (i * 7919 % 1000) as f32 / 1000.)
}

fn group<'c>(c: &'c mut Criterion, of: &str, shape: ([usize; 3], Form)) -> BenchmarkGroup<'c, WallTime> {
    let ([m, n, k], form) = shape;
    let mut group = c.benchmark_group(format!("{of} {m}x{n}x{k} {}", form.name()));
    group.throughput(Throughput::Elements((2 * m * n * k) as u64));
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group
}

macro_rules! products {
    ($name:ident, $of:literal, $t:ty, $variant:ident, $from:expr, $gemm:expr, $gemmkit:expr) => {
        fn $name(c: &mut Criterion) {
            for (sizes @ [m, n, k], form) in SHAPES {
                let [a, b] = [m * k, n * k].map(|len| numbers(len).map($from).collect::<Vec<$t>>());
                let [lhs, rhs] = form.strides(sizes);
                let mut out = vec![<$t>::default(); m * n];
                let mut group = group(c, $of, (sizes, form));
                group.bench_function("ours", |bench| {
                    let a = In::host("a", Slice::$variant(&a), &[m, k], &lhs).expect("fits");
                    let b = In::host("b", Slice::$variant(&b), &[k, n], &rhs).expect("fits");
                    let mut out = Out::host("out", SliceMut::$variant(&mut out), &[m, n]).expect("fits");
                    bench.iter(|| product(&a, &b, &mut out).expect("shapes fit"));
                });
                if $gemm {
                    group.bench_function("gemm", |bench| {
                        bench.iter(|| by_gemm(sizes, [1., 0.].map($from), (&a, lhs), (&b, rhs), &mut out));
                    });
                }
                if $gemmkit {
                    group.bench_function("gemmkit", |bench| {
                        let a = MatRef::new(&a, m, k, lhs[0] as isize, lhs[1] as isize);
                        let b = MatRef::new(&b, k, n, rhs[0] as isize, rhs[1] as isize);
                        let [one, zero] = [1., 0.].map($from);
                        bench.iter(|| {
                            let out = MatMut::from_row_major(&mut out, m, n);
                            gemmkit::gemm(one, a, b, zero, out, gemmkit::Parallelism::Rayon(0));
                        });
                    });
                }
                group.finish();
            }
        }
    };
}
products!(f32s, "f32", f32, F32, |x: f32| x, true, true);
products!(f64s, "f64", f64, F64, |x: f32| f64::from(x), true, true);
products!(bf16s, "bf16", bf16, Bf16, bf16::from_f32, false, true);
products!(f16s, "f16", f16, F16, f16::from_f32, false, true);

/// What the crate `gemm` takes.
#[expect(unsafe_code, reason = "the crate takes addresses and strides")]
fn by_gemm<T: Copy + 'static>(
    [m, n, k]: [usize; 3],
    [one, zero]: [T; 2],
    (a, lhs): (&[T], [usize; 2]),
    (b, rhs): (&[T], [usize; 2]),
    out: &mut [T],
) {
    assert!(a.len() == m * k && b.len() == n * k && out.len() == m * n, "whole matrices");
    let [[a_row, a_column], [b_row, b_column]] = [lhs, rhs].map(|x| x.map(|x| x as isize));
    // SAFETY: the strides are those of whole matrices, one way or the other, which the slices hold.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.as_ptr(),
            a_column,
            a_row,
            b.as_ptr(),
            b_column,
            b_row,
            zero,
            one,
            false,
            false,
            false,
            gemm::Parallelism::Rayon(0),
        );
    }
}

criterion_group!(all, peak::measured, f32s, f64s, bf16s, f16s);
criterion_main!(all);
