//! A copy of memory by all threads, and what is measured in turn with it.
//!
//! The C library's copy takes four times as long for some pairs of addresses on processors whose `rep movsb` does, and is faster than loads
//! and stores for others: the copy of a round is the faster of the two.

#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "instructions that were found at run time"))]

use std::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

use rayon::prelude::*;

/// Numbers that a thread copies at a time: 128 KiB.
const PART: usize = 16 << 10;
/// How often all are measured.
const ROUNDS: usize = 21;
/// What a measurement takes at least.
const LEAST: Duration = Duration::from_micros(300);

/// A kernel beside a copy.
pub(super) struct Beside {
    bytes: f64,
    kernel: f64,
    copy: f64,
    share: f64,
}

impl Beside {
    /// What a line shows.
    pub(super) const HEAD: &'static str = "      ms    GB/s    copy  share";

    /// Medians of rounds in which a kernel that moves `bytes` and copies that do so take turns.
    pub(super) fn measured(bytes: usize, kernel: &mut dyn FnMut()) -> Self {
        let from = vec![1u64; bytes / 16];
        let (mut to, mut beside) = (vec![2u64; bytes / 16], vec![3u64; bytes / 16]);
        let mut librarys = || copied(&from, &mut to, |from, to| to.copy_from_slice(from));
        let mut loads = || copied(&from, &mut beside, by_loads);
        let times = [repeats(kernel), repeats(&mut librarys), repeats(&mut loads)];
        let round = |_| {
            let copy = seconds(&mut librarys, times[1]).min(seconds(&mut loads, times[2]));
            [seconds(kernel, times[0]), copy]
        };
        let rounds: Vec<[f64; 2]> = (0..ROUNDS).map(round).collect();
        let of = |f: &dyn Fn(&[f64; 2]) -> f64| median(rounds.iter().map(f).collect());
        Self {
            bytes: bytes as f64,
            kernel: of(&|[kernel, _]| *kernel),
            copy: of(&|[_, copy]| *copy),
            share: of(&|[kernel, copy]| copy / kernel),
        }
    }
}

impl fmt::Display for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |seconds: f64| self.bytes / seconds / 1e9;
        let (ours, copy) = (rate(self.kernel), rate(self.copy));
        write!(f, "{:8.3} {ours:7.1} {copy:7.1} {:6.2}", self.kernel * 1e3, self.share)
    }
}

fn copied(from: &[u64], to: &mut [u64], copy: impl Fn(&[u64], &mut [u64]) + Sync) {
    to.par_chunks_mut(PART).zip(from.par_chunks(PART)).for_each(|(to, from)| copy(from, to));
    black_box(to);
}

#[cfg(target_arch = "x86_64")]
fn by_loads(from: &[u64], to: &mut [u64]) {
    #[target_feature(enable = "avx2")]
    fn wide(from: &[u64], to: &mut [u64]) {
        changed(from, to);
    }
    match is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has these instructions.
        true => unsafe { wide(from, to) },
        false => changed(from, to),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn by_loads(from: &[u64], to: &mut [u64]) {
    changed(from, to);
}

/// With a change on the way, so that it does not become a call of the library.
#[inline(always)]
fn changed(from: &[u64], to: &mut [u64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = from ^ 1);
}

/// How many calls a measurement takes.
fn repeats(call: &mut dyn FnMut()) -> usize {
    call();
    let start = Instant::now();
    call();
    (LEAST.as_secs_f64() / start.elapsed().as_secs_f64()).ceil() as usize
}

/// Seconds of a call, after one that finds the caches as the other left them.
fn seconds(call: &mut dyn FnMut(), times: usize) -> f64 {
    call();
    let start = Instant::now();
    (0..times).for_each(|_| call());
    start.elapsed().as_secs_f64() / times as f64
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}
