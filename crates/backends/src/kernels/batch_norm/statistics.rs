//! On the CPU: a channel's statistics, given or taken of its elements, and those that run along.

use std::ops::Range;

use super::blocks::{Arithmetic, Fold, Read, by_channel, fold, ran, write};
use super::{Centre, Norm, OP};
use crate::buffer::{In, Out, Ran, Slice, SliceMut, Why};
use crate::simd::rows::less;
use crate::{Floats, Real};

pub(super) fn moments(norm: Norm, x: &In<'_>, [statistics, mean, var]: [&mut Out<'_>; 3]) -> Ran {
    let Some(x) = Read::of(x) else { return Ran::Composed(Why::Layout("x")) };
    let count = (norm.dims.outer * norm.dims.inner) as f64;
    let found: Vec<[f64; 2]> = by_channel(norm, |channel| {
        let narrow = !matches!(x.0, Floats::F64(_));
        // Squares that f32 does not hold are taken in f64; so are those of what is not finite, of which nothing is.
        let held = |[_, squares]: &[f64; 2]| (2f64.powi(-100)..2f64.powi(100)).contains(&(squares / count));
        narrow
            .then(|| moments_of::<f32>(norm, x, channel))
            .filter(held)
            .unwrap_or_else(|| moments_of::<f64>(norm, x, channel))
    });
    let part = |f: &dyn Fn(&[f64; 2]) -> f64| found.iter().map(f).collect::<Vec<f64>>();
    let centre = part(&|[mean, _]| if norm.centre == Centre::Mean { *mean } else { 0. });
    let scale = part(&|[_, squares]| 1. / (squares / count + norm.eps).sqrt());
    ran(write(&[centre, scale].concat(), statistics)
        && write(&part(&|[mean, _]| *mean), mean)
        && write(&part(&|[_, squares]| squares / (count - 1.)), var))
}

/// The mean of a channel, and the sum of squares of what is left of it.
fn moments_of<A: Arithmetic>(norm: Norm, x: Read<'_>, channel: usize) -> [f64; 2] {
    let count = (norm.dims.outer * norm.dims.inner) as f64;
    // From the first element, so that a large mean costs no digits.
    let first = Some(x.at(channel * norm.dims.inner)).filter(|first| first.is_finite()).unwrap_or(0.);
    let [moved] = fold(norm, channel, Deviations { x, from: A::from_f64(first) });
    let centre = if norm.centre == Centre::Mean { first + moved / count } else { 0. };
    let [squares] = fold(norm, channel, Squares { x, centre: A::split(centre) });
    [first + moved / count, squares]
}

#[derive(Clone, Copy)]
struct Deviations<'a, A> {
    x: Read<'a>,
    from: A,
}

impl<A: Arithmetic> Fold<A, 1> for Deviations<'_, A> {
    #[inline(always)]
    fn terms(&self, at: usize, [to]: [&mut [A]; 1]) {
        let mut wide = A::NONE;
        let x = self.x.seen(at, &mut wide[..to.len()]);
        to.iter_mut().zip(x).for_each(|(to, &x)| *to = x - self.from);
    }
}

#[derive(Clone, Copy)]
struct Squares<'a, A> {
    x: Read<'a>,
    centre: [A; 2],
}

impl<A: Arithmetic> Fold<A, 1> for Squares<'_, A> {
    #[inline(always)]
    fn terms(&self, at: usize, [to]: [&mut [A]; 1]) {
        let mut wide = A::NONE;
        let x = self.x.seen(at, &mut wide[..to.len()]);
        to.iter_mut().zip(x).for_each(|(to, &x)| {
            let left = less(x, self.centre);
            *to = left * left;
        });
    }
}

pub(super) fn given(eps: f64, mean: &In<'_>, var: &In<'_>, statistics: &mut Out<'_>) -> Ran {
    let (Some(mean), Some(var)) = (Read::of(mean), Read::of(var)) else {
        return Ran::Composed(Why::Layout("mean"));
    };
    let all: Range<usize> = 0..statistics.count() / 2;
    let scales = all.clone().map(|c| 1. / (var.at(c) + eps).sqrt());
    let numbers: Vec<f64> = all.clone().map(|c| mean.at(c)).chain(scales).collect();
    ran(write(&numbers, statistics))
}

pub(super) fn moved(momentum: f64, [old, fresh, guard]: [&In<'_>; 3], out: &mut Out<'_>) -> Ran {
    fn move_on<T: Real>(momentum: f64, [old, fresh, guard]: [&[T]; 3], out: &mut [T]) {
        let (keep, add) = (T::from_f64(1. - momentum), T::from_f64(momentum));
        for (i, out) in out.iter_mut().enumerate() {
            let finite = fresh[i].is_finite() && guard[i].is_finite();
            *out = if finite { old[i] * keep + fresh[i] * add } else { old[i] };
        }
    }
    match (old.host_slice(), fresh.host_slice(), guard.host_slice(), out.host_slice()) {
        (Some(Slice::F32(a)), Some(Slice::F32(b)), Some(Slice::F32(c)), Some(SliceMut::F32(out))) => {
            move_on(momentum, [a, b, c], out);
        }
        (Some(Slice::F64(a)), Some(Slice::F64(b)), Some(Slice::F64(c)), Some(SliceMut::F64(out))) => {
            move_on(momentum, [a, b, c], out);
        }
        _ => return Ran::Composed(Why::Dtype("old")),
    }
    Ran::Kernel(OP)
}
