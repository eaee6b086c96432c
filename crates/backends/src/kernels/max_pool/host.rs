//! On the CPU: an outer part after the other, in the type of the arithmetic, on as many threads as are worth it. The taps of a row of
//! windows are looked at one after another, each under all windows.

use super::Windows;
use crate::Real;
use crate::buffer::{In, Out, Ran, Slice, SliceMut, Why};
use crate::simd::convert::Stored;
use crate::simd::{Isa, Simd, Work};
use rayon::prelude::*;
use std::marker::PhantomData;
use std::ops::Range;

/// Elements that are worth a task.
const TASK: usize = 16 * 1024;

pub(super) fn largest(isa: Isa, windows: &Windows, x: &In<'_>, out: &mut Out<'_>, taps: &mut Out<'_>) -> Ran {
    let (Some(x), Some(taps)) = (x.host_slice(), taps.slice::<u8>()) else {
        return Ran::Composed(Why::Layout("x"));
    };
    match (x, out.host_slice()) {
        (Slice::F16(x), Some(SliceMut::F16(out))) => forward::<f32, _>(isa, windows, x, out, taps),
        (Slice::Bf16(x), Some(SliceMut::Bf16(out))) => forward::<f32, _>(isa, windows, x, out, taps),
        (Slice::F32(x), Some(SliceMut::F32(out))) => forward::<f32, _>(isa, windows, x, out, taps),
        (Slice::F64(x), Some(SliceMut::F64(out))) => forward::<f64, _>(isa, windows, x, out, taps),
        _ => return Ran::Composed(Why::Dtype("x")),
    }
    Ran::Kernel("max_pool")
}

pub(super) fn gradient(isa: Isa, windows: &Windows, dy: &In<'_>, taps: &In<'_>, dx: &mut Out<'_>) -> Ran {
    let (Some(dy), Some(taps)) = (dy.host_slice(), taps.slice::<u8>()) else {
        return Ran::Composed(Why::Layout("dy"));
    };
    match (dy, dx.host_slice()) {
        (Slice::F16(dy), Some(SliceMut::F16(dx))) => backward::<f32, _>(isa, windows, dy, taps, dx),
        (Slice::Bf16(dy), Some(SliceMut::Bf16(dx))) => backward::<f32, _>(isa, windows, dy, taps, dx),
        (Slice::F32(dy), Some(SliceMut::F32(dx))) => backward::<f32, _>(isa, windows, dy, taps, dx),
        (Slice::F64(dy), Some(SliceMut::F64(dx))) => backward::<f64, _>(isa, windows, dy, taps, dx),
        _ => return Ran::Composed(Why::Dtype("dy")),
    }
    Ran::Kernel("max_pool")
}

/// Elements of an outer part: before, and after.
fn sizes(windows: &Windows) -> [usize; 2] {
    [windows.dims, windows.out()].map(|dims| dims[1..].iter().product())
}

fn forward<T: Real, X: Stored<T>>(isa: Isa, windows: &Windows, x: &[X], out: &mut [X], taps: &mut [u8]) {
    let [before, after] = sizes(windows);
    if before * after == 0 {
        return;
    }
    let parts = x.par_chunks(before).zip(out.par_chunks_mut(after).zip(taps.par_chunks_mut(after)));
    parts.with_min_len(TASK.div_ceil(before)).for_each(|(x, (out, taps))| {
        isa.run(Forward { windows, x, out, taps, of: PhantomData::<T> });
    });
}

struct Forward<'a, X, T> {
    windows: &'a Windows,
    x: &'a [X],
    out: &'a mut [X],
    taps: &'a mut [u8],
    of: PhantomData<T>,
}

impl<T: Real, X: Stored<T>> Work for Forward<'_, X, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Windows { dims: [_, _, width, inner], count, kernel, stride, padding } = *self.windows;
        let row = count[1] * inner;
        let mut wide = vec![T::ZERO; width * inner];
        // The pixels that are `stride` apart next to each other, those from each of the first on.
        let mut phases = vec![vec![T::ZERO; width.div_ceil(stride[1]) * inner]; stride[1].min(width)];
        let (mut best, mut chosen) = (vec![T::ZERO; row], vec![0u32; row]);
        let firsts: Vec<u32> = (0..row).map(|i| taps_of(self.windows, 1, i / inner).start as u32).collect();
        let under: Vec<Range<usize>> =
            (0..kernel[1]).map(|across| windows_of(self.windows, across)).collect();
        let rows = self.out.chunks_exact_mut(row).zip(self.taps.chunks_exact_mut(row));
        for (y, (out, taps)) in rows.enumerate() {
            let down = taps_of(self.windows, 0, y);
            // The first tap is the largest so far, whatever lies there.
            best.fill(T::from_f64(f64::NEG_INFINITY));
            let before = (down.start * kernel[1]) as u32;
            chosen.iter_mut().zip(&firsts).for_each(|(chosen, first)| *chosen = before + first);
            for down in down {
                let from = (y * stride[0] + down - padding[0]) * width * inner;
                X::read(simd, &self.x[from..from + width * inner], &mut wide);
                let has_nan = wide.iter().fold(0, |any, &x| any | u32::from(is_nan(x))) > 0;
                for (phase, to) in phases.iter_mut().enumerate() {
                    deal(&wide, (phase, stride[1], inner), to);
                }
                for (across, windows) in under.iter().enumerate().filter(|(_, windows)| !windows.is_empty()) {
                    let first = windows.start * stride[1] + across - padding[1];
                    let x = &phases[first % stride[1]][first / stride[1] * inner..];
                    let part = windows.start * inner..windows.end * inner;
                    let (best, chosen) = (&mut best[part.clone()], &mut chosen[part]);
                    let tap = (down * kernel[1] + across) as u32;
                    if has_nan { take_of_all(x, tap, best, chosen) } else { take(x, tap, best, chosen) }
                }
            }
            X::write(simd, &best, out);
            taps.iter_mut().zip(&chosen).for_each(|(tap, &chosen)| *tap = chosen as u8);
        }
    }
}

/// The taps of a window that lie on a pixel, along one of the two dimensions.
#[inline(always)]
fn taps_of(windows: &Windows, along: usize, window: usize) -> Range<usize> {
    let (from, padding) = (window * windows.stride[along], windows.padding[along]);
    padding.saturating_sub(from)..windows.kernel[along].min(windows.dims[along + 1] + padding - from)
}

/// The windows of a row under which a tap lies on a pixel.
#[inline(always)]
fn windows_of(windows: &Windows, tap: usize) -> Range<usize> {
    let (stride, padding) = (windows.stride[1], windows.padding[1]);
    let end = (windows.dims[2] + padding).saturating_sub(tap).div_ceil(stride);
    padding.saturating_sub(tap).div_ceil(stride)..windows.count[1].min(end)
}

/// Pixels of `inner` elements that are `stride` apart, from the first on.
#[inline(always)]
fn deal<T: Copy>(x: &[T], (first, stride, inner): (usize, usize, usize), to: &mut [T]) {
    if inner == 1 {
        to.iter_mut().zip(x[first..].iter().step_by(stride)).for_each(|(to, x)| *to = *x);
    } else {
        let pixels = x.chunks_exact(inner).skip(first).step_by(stride);
        to.chunks_exact_mut(inner).zip(pixels).for_each(|(to, pixel)| to.copy_from_slice(pixel));
    }
}

#[inline(always)]
fn is_nan<T: Real>(x: T) -> bool {
    x.partial_cmp(&x).is_none()
}

/// Takes what is larger than the best so far, of elements of which none is NaN.
#[inline(always)]
fn take<T: Real>(x: &[T], tap: u32, best: &mut [T], chosen: &mut [u32]) {
    for (&x, (best, chosen)) in x.iter().zip(best.iter_mut().zip(chosen)) {
        // By bits: a number that is left or replaced where it lies becomes a store with a mask, which is slow on some processors.
        *chosen ^= (*chosen ^ tap) & u32::from(x > *best).wrapping_neg();
        *best = if x > *best { x } else { *best };
    }
}

/// [`take`] where one may be.
fn take_of_all<T: Real>(x: &[T], tap: u32, best: &mut [T], chosen: &mut [u32]) {
    for (&x, (best, chosen)) in x.iter().zip(best.iter_mut().zip(chosen)) {
        if x > *best || is_nan(x) && !is_nan(*best) {
            (*best, *chosen) = (x, tap);
        }
    }
}

fn backward<T: Real, X: Stored<T>>(isa: Isa, windows: &Windows, dy: &[X], taps: &[u8], dx: &mut [X]) {
    let [before, after] = sizes(windows);
    if before == 0 {
        return;
    }
    if after == 0 {
        return dx.fill(X::default());
    }
    let parts = dx.par_chunks_mut(before).zip(dy.par_chunks(after).zip(taps.par_chunks(after)));
    parts.with_min_len(TASK.div_ceil(before)).for_each(|(dx, (dy, taps))| {
        isa.run(Backward { windows, dy, taps, dx, of: PhantomData::<T> });
    });
}

struct Backward<'a, X, T> {
    windows: &'a Windows,
    dy: &'a [X],
    taps: &'a [u8],
    dx: &'a mut [X],
    of: PhantomData<T>,
}

impl<T: Real, X: Stored<T>> Work for Backward<'_, X, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Windows { dims: [_, _, width, inner], count, kernel, stride, padding } = *self.windows;
        let row = count[1] * inner;
        let (mut sums, mut wide) = (vec![T::ZERO; self.dx.len()], vec![T::ZERO; row]);
        // Where each tap lies, from the first on.
        let offsets: Vec<usize> = (0..kernel[0] * kernel[1])
            .map(|tap| {
                (tap / kernel[1]).wrapping_sub(padding[0]).wrapping_mul(width).wrapping_add(tap % kernel[1])
            })
            .map(|offset| offset.wrapping_sub(padding[1]))
            .collect();
        for (y, (dy, taps)) in self.dy.chunks_exact(row).zip(self.taps.chunks_exact(row)).enumerate() {
            X::read(simd, dy, &mut wide);
            let windows = wide.chunks_exact(inner).zip(taps.chunks_exact(inner)).enumerate();
            for (column, (dy, taps)) in windows {
                for (channel, (&dy, &tap)) in dy.iter().zip(taps).enumerate() {
                    let Some(offset) = offsets.get(usize::from(tap)) else { continue };
                    let pixel = (y * stride[0] * width + column * stride[1]).wrapping_add(*offset);
                    if let Some(sum) = sums.get_mut(pixel.wrapping_mul(inner).wrapping_add(channel)) {
                        *sum = *sum + dy;
                    }
                }
            }
        }
        X::write(simd, &sums, self.dx);
    }
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
