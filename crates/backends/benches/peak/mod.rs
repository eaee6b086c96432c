//! What the machine can do at most: fused multiply-adds in registers.

#![expect(unsafe_code, reason = "instructions that were found at run time")]

use criterion::{Criterion, Throughput};
use std::hint::black_box;
use std::time::Duration;

/// Sums that are in flight at a time.
const SUMS: usize = 12;
/// Steps of a measurement.
const STEPS: usize = 100_000;

/// Multiply-adds in registers on one thread, and on all.
pub(crate) fn measured(c: &mut Criterion) {
    let Some(operations) = operations() else {
        return println!("SKIPPED: the peak of multiply-adds, which this machine does not have");
    };
    let mut group = c.benchmark_group("peak f32");
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group.throughput(Throughput::Elements(operations));
    group.bench_function("one thread", |bench| bench.iter(multiply_add));
    group.throughput(Throughput::Elements(operations * rayon::current_num_threads() as u64));
    group.bench_function("all threads", |bench| bench.iter(|| rayon::broadcast(|_| multiply_add())));
    group.finish();
}

/// Floating-point operations of a call of [`multiply_add`], if the machine has FMA: a multiplication and an addition for each
/// element of f32 vectors.
fn operations() -> Option<u64> {
    Some((2 * SUMS * STEPS * lanes()?) as u64)
}

#[cfg(target_arch = "x86_64")]
fn lanes() -> Option<usize> {
    if is_x86_feature_detected!("avx512f") {
        return Some(16);
    }
    (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(8)
}

#[cfg(not(target_arch = "x86_64"))]
fn lanes() -> Option<usize> {
    None
}

/// Multiplies and adds in registers, in the widest vectors of f32 that [`operations`] counts.
#[cfg(target_arch = "x86_64")]
fn multiply_add() {
    match lanes() {
        // SAFETY: the processor has these instructions.
        Some(16) => unsafe { in_avx512() },
        // SAFETY: as above.
        Some(_) => unsafe { in_avx2() },
        None => {}
    }
}

/// As above; there are none.
#[cfg(not(target_arch = "x86_64"))]
fn multiply_add() {}

#[cfg(target_arch = "x86_64")]
macro_rules! in_registers {
    ($name:ident, $features:literal, $set:ident, $fma:ident) => {
        #[target_feature(enable = $features)]
        fn $name() {
            use std::arch::x86_64::{$fma, $set};
            let (a, b) = ($set(black_box(0.5)), $set(black_box(0.25)));
            let mut sums = [b; SUMS];
            for _ in 0..STEPS {
                for sum in &mut sums {
                    *sum = $fma(a, *sum, b);
                }
            }
            black_box(sums);
        }
    };
}
#[cfg(target_arch = "x86_64")]
in_registers!(in_avx2, "avx2,fma", _mm256_set1_ps, _mm256_fmadd_ps);
#[cfg(target_arch = "x86_64")]
in_registers!(in_avx512, "avx512f", _mm512_set1_ps, _mm512_fmadd_ps);
