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
        let Windows { dims: [_, height, width, inner], count, kernel, stride, padding } = *self.windows;
        let row = count[1] * inner;
        let dealt = Dealt::of(self.windows);
        let mut wide = vec![T::ZERO; width * inner];
        let mut pixels = vec![T::from_f64(f64::NEG_INFINITY); height * dealt.row()];
        let mut has_nan = vec![false; height];
        for (y, has_nan) in has_nan.iter_mut().enumerate() {
            let x = X::seen(simd, &self.x[y * width * inner..][..width * inner], &mut wide);
            *has_nan = x.iter().fold(0, |any, &x| any | u32::from(is_nan(x))) > 0;
            dealt.deal(x, &mut pixels[y * dealt.row()..][..dealt.row()]);
        }
        let (mut best, mut chosen) = (vec![T::ZERO; dealt.windows], vec![0u32; dealt.windows]);
        let mut next = chosen.clone();
        let first = |i: usize| if i < row { taps_of(self.windows, 1, i / inner).start as u32 } else { 0 };
        let firsts: Vec<u32> = (0..dealt.windows).map(first).collect();
        let rows = self.out.chunks_exact_mut(row).zip(self.taps.chunks_exact_mut(row));
        for (y, (out, taps)) in rows.enumerate() {
            let down = taps_of(self.windows, 0, y);
            // The first tap is the largest so far, whatever lies there.
            best.fill(T::from_f64(f64::NEG_INFINITY));
            let before = (down.start * kernel[1]) as u32;
            chosen.iter_mut().zip(&firsts).for_each(|(chosen, first)| *chosen = before + first);
            for down in down {
                let at = y * stride[0] + down - padding[0];
                let pixels = &pixels[at * dealt.row()..][..dealt.row()];
                for across in 0..kernel[1] {
                    let (x, tap) = (dealt.under(pixels, across), (down * kernel[1] + across) as u32);
                    match has_nan[at] {
                        true => take_of_all(x, tap, &mut best, &mut chosen),
                        false => {
                            take(x, tap, &mut best, &chosen, &mut next);
                            std::mem::swap(&mut chosen, &mut next);
                        }
                    }
                }
            }
            X::write(simd, &best[..row], out);
            taps.iter_mut().zip(&chosen).for_each(|(tap, &chosen)| *tap = chosen as u8);
        }
    }
}

/// A row of pixels with those next to each other that are `stride` apart, once from each of the first on, behind as many −∞ as the padding
/// is wide, and with −∞ where windows end: so a tap lies under all windows at once, and a tap on no pixel is never the largest.
struct Dealt {
    inner: usize,
    stride: usize,
    padding: usize,
    /// How many of the first some tap lies on.
    phases: usize,
    /// Elements from one of the first to the next.
    pitch: usize,
    /// Elements of a row of windows, and some more, so that they are whole vectors.
    windows: usize,
}

impl Dealt {
    fn of(windows: &Windows) -> Self {
        /// Elements of the largest vectors.
        const VECTOR: usize = 16;
        let Windows { dims: [_, _, width, inner], count, kernel, stride, padding } = *windows;
        // From the second window on nothing is left of a row that is no wider than a step.
        let (stride, padding) = (stride[1].clamp(1, (width + padding[1]).max(1)), padding[1]);
        let windows = (count[1] * inner).next_multiple_of(VECTOR);
        let pixels = (width + padding).div_ceil(stride) * inner;
        let pitch = pixels.max(windows + kernel[1] / stride * inner);
        Self { inner, stride, padding, phases: stride.min(kernel[1]), pitch, windows }
    }

    fn row(&self) -> usize {
        self.pitch * self.phases
    }

    /// Deals the pixels of a row.
    #[inline(always)]
    fn deal<T: Copy>(&self, x: &[T], to: &mut [T]) {
        let Self { inner, stride, padding, phases, pitch, .. } = *self;
        let place = |pixel: usize| (pixel + padding) % stride * pitch + (pixel + padding) / stride * inner;
        match (stride, phases, inner) {
            (1, 1, _) => to[place(0)..][..x.len()].copy_from_slice(x),
            (2, 2, 1) => {
                let (low, high) = to.split_at_mut(pitch);
                let (even, odd) = match padding % 2 {
                    0 => (&mut low[padding / 2..], &mut high[padding / 2..]),
                    _ => (&mut high[padding / 2..], &mut low[padding / 2 + 1..]),
                };
                let (pairs, rest) = x.as_chunks::<2>();
                for ((even, odd), pair) in even.iter_mut().zip(odd).zip(pairs) {
                    [*even, *odd] = *pair;
                }
                if let [last] = rest {
                    even[pairs.len()] = *last;
                }
            }
            _ => {
                let under_a_tap = |(pixel, _): &(usize, &[T])| (pixel + padding) % stride < phases;
                for (pixel, x) in x.chunks_exact(inner).enumerate().filter(under_a_tap) {
                    to[place(pixel)..][..inner].copy_from_slice(x);
                }
            }
        }
    }

    /// What lies under a tap of each window.
    #[inline(always)]
    fn under<'a, T>(&self, pixels: &'a [T], tap: usize) -> &'a [T] {
        let first = tap % self.stride * self.pitch + tap / self.stride * self.inner;
        &pixels[first..first + self.windows]
    }
}

/// The taps of a window that lie on a pixel, along one of the two dimensions.
#[inline(always)]
fn taps_of(windows: &Windows, along: usize, window: usize) -> Range<usize> {
    let (from, padding) = (window * windows.stride[along], windows.padding[along]);
    padding.saturating_sub(from)..windows.kernel[along].min(windows.dims[along + 1] + padding - from)
}

#[inline(always)]
fn is_nan<T: Real>(x: T) -> bool {
    x.partial_cmp(&x).is_none()
}

/// Takes what is larger than the best so far, of elements of which none is NaN.
#[inline(always)]
fn take<T: Real>(x: &[T], tap: u32, best: &mut [T], chosen: &[u32], to: &mut [u32]) {
    for ((&x, best), (&chosen, to)) in x.iter().zip(best).zip(chosen.iter().zip(to)) {
        // To another place: a number that is left or replaced where it lies becomes a store with a mask, which is slow on some processors.
        *to = if x > *best { tap } else { chosen };
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
