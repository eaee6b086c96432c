//! The CPU: rows shared out among threads, each brought to f32 in a buffer that stays in the cache.

use super::{Centre, GradientsOut, Inputs, Norm, STATISTICS, wide};
use crate::buffer::{In, Out, Ran, Rows, Slice, SliceMut, Why};
use crate::simd::rows::{PARALLEL, Whole, less, place, seen, settle, split, store, sum, sum_pairs};
use crate::simd::{Isa, Simd, Work};
use crate::threads::share_out;

/// Runs of rows whose sums are kept apart, at most: the result must not depend on the number of threads.
const PARTS: usize = 64;

pub(super) fn forward(
    isa: Isa,
    norm: Norm,
    (x, rows): (Slice<'_>, Rows),
    inputs: Inputs<'_>,
    y: &mut Out<'_>,
    statistics: &mut Out<'_>,
) -> Ran {
    let (Ok(weight), Ok(bias)) = (parameter(inputs.weight), parameter(inputs.bias)) else {
        return Ran::Composed(Why::Layout("weight"));
    };
    let (Some(y), Some(statistics)) = (y.host_slice(), statistics.slice::<f64>()) else {
        return Ran::Composed(Why::Device);
    };
    let y = match (x, y) {
        (Slice::F64(x), SliceMut::F64(y)) => {
            wide::forward(isa, norm, (x, rows), [weight, bias], y, statistics);
            return Ran::Kernel("norm forward, f64");
        }
        (_, y) => y,
    };
    let [weight, bias] = [weight, bias].map(|p| p.map(|p| isa.run(Whole(p))));
    let each = (PARALLEL / rows.width).max(1);
    let tasks = y.chunks(each * rows.width).into_iter().zip(statistics.chunks_mut(each * STATISTICS));
    let tasks = tasks.enumerate().map(|(i, (y, statistics))| {
        let (weight, bias) = (weight.as_deref(), bias.as_deref());
        Forward { norm, x, rows, first: i * each, weight, bias, y, statistics }
    });
    share_out(tasks.collect(), |task| isa.run(task));
    Ran::Kernel("norm forward")
}

struct Forward<'a> {
    norm: Norm,
    x: Slice<'a>,
    rows: Rows,
    /// The row that `y` starts with.
    first: usize,
    weight: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
    y: SliceMut<'a>,
    statistics: &'a mut [f64],
}

impl Work for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let width = self.rows.width;
        let (mut wide, mut buffer) = (vec![0f32; width], vec![0f32; width]);
        for (i, saved) in self.statistics.chunks_exact_mut(STATISTICS).enumerate() {
            let from = (self.first + i) * self.rows.pitch;
            let x = seen(simd, self.x, from..from + width, &mut wide);
            let mean = match self.norm.centre {
                Centre::Mean => sum(x, f64::from) / width as f64,
                Centre::Zero => 0.,
            };
            let centre = split(mean).into();
            let squares = sum(x, |x| {
                let moved = f64::from(less(x, centre));
                moved * moved
            });
            let rstd = 1. / (squares / width as f64 + self.norm.eps).sqrt();
            saved.copy_from_slice(&[mean, 0., rstd]);
            let y = place(&mut self.y, i * width..(i + 1) * width, &mut buffer);
            normalize(x, centre, rstd, y);
            if let Some(weight) = self.weight {
                y.iter_mut().zip(weight).for_each(|(y, w)| *y *= w);
            }
            if let Some(bias) = self.bias {
                y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
            }
            settle(simd, &buffer, &mut self.y, i * width..(i + 1) * width);
        }
    }
}

/// Writes `(x − centre) · factor`, in f64 where the factor is no normal f32.
#[inline(always)]
fn normalize(x: &[f32], centre: [f32; 2], factor: f64, to: &mut [f32]) {
    let of = to.iter_mut().zip(x);
    if (factor as f32).is_normal() {
        let factor = factor as f32;
        of.for_each(|(to, &x)| *to = less(x, centre) * factor);
    } else {
        of.for_each(|(to, &x)| *to = (f64::from(less(x, centre)) * factor) as f32);
    }
}

/// What [`backward`] reads.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a> {
    pub(super) dy: (Slice<'a>, Rows),
    pub(super) x: (Slice<'a>, Rows),
    pub(super) weight: Option<&'a In<'a>>,
    pub(super) statistics: &'a In<'a>,
}

pub(super) fn backward(isa: Isa, norm: Norm, operands: Operands<'_>, grads: GradientsOut<'_, '_>) -> Ran {
    let Ok(weight) = parameter(operands.weight) else { return Ran::Composed(Why::Layout("weight")) };
    let Some(statistics) = operands.statistics.slice::<f64>() else {
        return Ran::Composed(Why::Layout("the statistics"));
    };
    let GradientsOut { x: mut dx, plus, weight: mut dw, bias: mut db } = grads;
    let Ok(plus) = parameter(plus) else { return Ran::Composed(Why::Layout("plus")) };
    if let (Slice::F64(x), Slice::F64(dy)) = (operands.x.0, operands.dy.0) {
        let rows = (operands.x.1, operands.dy.1);
        let [dx, dw, db] = [dx, dw, db].map(|grad| grad.and_then(Out::slice::<f64>));
        wide::backward(isa, norm, (x, dy, rows), weight, statistics, [dx, dw, db], plus);
        return Ran::Kernel("norm backward, f64");
    }
    let (width, count) = (norm.width, operands.x.1.count);
    let weight = weight.map(|w| isa.run(Whole(w)));
    let each = rows_of_a_part(width, count);
    let parts = count.div_ceil(each);
    let dx = dx.as_mut().and_then(|dx| dx.host_slice());
    let mut dx: Vec<Option<SliceMut<'_>>> = match dx {
        Some(dx) => dx.chunks(each * width).into_iter().map(Some).collect(),
        None => (0..parts).map(|_| None).collect(),
    };
    // A gradient that is not wanted has no sums.
    let mut sums = [&dw, &db].map(|grad| vec![0f64; if grad.is_some() { parts * width } else { 0 }]);
    let [dw_sums, db_sums] = &mut sums;
    let mut dw_parts = dw_sums.chunks_mut(width);
    let mut db_parts = db_sums.chunks_mut(width);
    let tasks = statistics.chunks(each * STATISTICS).zip(dx.drain(..)).enumerate();
    let tasks = tasks.map(|(i, (statistics, dx))| Backward {
        norm,
        operands,
        first: i * each,
        weight: weight.as_deref(),
        statistics,
        dx,
        plus,
        dw: dw_parts.next(),
        db: db_parts.next(),
    });
    share_out(tasks.collect(), |task| isa.run(task));
    for (grad, sums) in [&mut dw, &mut db].into_iter().zip(&sums) {
        let Some(grad) = grad.as_mut().and_then(|grad| grad.host_slice()) else { continue };
        let mut total = vec![0f64; width];
        for part in sums.chunks_exact(width) {
            total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
        }
        let total: Vec<f32> = total.into_iter().map(|total| total as f32).collect();
        isa.run(Stored(&total, grad));
    }
    Ran::Kernel("norm backward")
}

/// Rows whose sums are kept apart from the others'.
pub(super) fn rows_of_a_part(width: usize, count: usize) -> usize {
    count.div_ceil(PARTS).max((PARALLEL / width).clamp(1, 16))
}

/// A row of f32 as the floats of a buffer.
struct Stored<'a>(&'a [f32], SliceMut<'a>);

impl Work for Stored<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        store(simd, self.0, &mut self.1, 0..self.0.len());
    }
}

struct Backward<'a> {
    norm: Norm,
    operands: Operands<'a>,
    first: usize,
    weight: Option<&'a [f32]>,
    statistics: &'a [f64],
    dx: Option<SliceMut<'a>>,
    plus: Option<Slice<'a>>,
    dw: Option<&'a mut [f64]>,
    db: Option<&'a mut [f64]>,
}

impl Work for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let width = self.norm.width;
        let [mut wide, mut beside, mut normalized, mut weighted, mut buffer] =
            [(); 5].map(|()| vec![0f32; width]);
        let (n, h) = (&mut normalized[..width], &mut weighted[..width]);
        let ((x, x_rows), (dy, dy_rows)) = (self.operands.x, self.operands.dy);
        for (i, saved) in self.statistics.chunks_exact(STATISTICS).enumerate() {
            let from = (self.first + i) * dy_rows.pitch;
            let g = seen(simd, dy, from..from + width, &mut wide);
            if let Some(sums) = &mut self.db {
                sums.iter_mut().zip(g).for_each(|(sum, &g)| *sum += f64::from(g));
            }
            if self.dx.is_none() && self.dw.is_none() {
                continue;
            }
            let from = (self.first + i) * x_rows.pitch;
            normalize(seen(simd, x, from..from + width, &mut beside), split(saved[0]).into(), saved[2], n);
            if let Some(sums) = &mut self.dw {
                sums.iter_mut().zip(g).zip(&*n).for_each(|((sum, g), n)| *sum += f64::from(g * n));
            }
            let Some(dx) = &mut self.dx else { continue };
            let h = match self.weight {
                Some(weight) => {
                    h.iter_mut().zip(g).zip(weight).for_each(|((h, g), w)| *h = g * w);
                    &*h
                }
                None => g,
            };
            let along = (sum_pairs(h, n, |h, n| f64::from(h * n)) / width as f64) as f32;
            let mean = match self.norm.centre {
                Centre::Mean => sum(h, f64::from) / width as f64,
                Centre::Zero => 0.,
            };
            let range = i * width..(i + 1) * width;
            let to = place(dx, range.clone(), &mut buffer);
            // In the place of what was normalised, what is left of `h`.
            let centre = split(mean).into();
            n.iter_mut().zip(h).for_each(|(n, &h)| *n = simd.mul_add(-*n, along, less(h, centre)));
            normalize(n, [0.; 2], saved[2], to);
            if let Some(plus) = self.plus {
                let from = (self.first + i) * width;
                let plus = seen(simd, plus, from..from + width, &mut beside);
                to.iter_mut().zip(plus).for_each(|(to, plus)| *to += plus);
            }
            settle(simd, &buffer, dx, range);
        }
    }
}

/// A contiguous operand in host memory.
pub(in crate::kernels) fn parameter<'a>(parameter: Option<&In<'a>>) -> Result<Option<Slice<'a>>, ()> {
    parameter.map(|parameter| parameter.host_slice().ok_or(())).transpose()
}
