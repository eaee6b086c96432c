//! The CPU: rows shared out among threads, each brought to f32 in a buffer that stays in the cache.

use super::{Form, Seen, backward_scalar, forward_scalar};
use crate::buffer::{Out, Ran, Rows, Slice, SliceMut, Why};
use crate::simd::math::{exp, exps};
use crate::simd::rows::{self, PARALLEL, gather, max, place, settle, sum, sum_pairs};
use crate::simd::{Isa, Simd, Work};
use crate::threads::share_out;

pub(super) fn forward(
    isa: Isa,
    form: Form,
    seen: Seen,
    (x, rows): (Slice<'_>, Rows),
    y: &mut Out<'_>,
) -> Ran {
    let Some(y) = y.host_slice() else { return Ran::Composed(Why::Device) };
    let each = (PARALLEL / rows.width).max(1);
    let tasks = y.chunks(each * rows.width).into_iter().enumerate().collect();
    share_out(tasks, |(i, mut y): (usize, SliceMut<'_>)| match (x, &mut y) {
        (Slice::F64(x), SliceMut::F64(y)) => {
            for (row, y) in (i * each..).zip(y.chunks_exact_mut(rows.width)) {
                let (y, beyond) = y.split_at_mut(seen.of(row, rows.width));
                let x = gather(x, rows, row..row + 1);
                y.copy_from_slice(&forward_scalar(form, Seen::Whole, y.len(), &x[..y.len()]));
                beyond.fill(0.);
            }
        }
        _ => isa.run(Forward { form, seen, x, rows, first: i * each, y }),
    });
    Ran::Kernel("softmax forward")
}

struct Forward<'a> {
    form: Form,
    seen: Seen,
    x: Slice<'a>,
    rows: Rows,
    /// The row that `y` starts with.
    first: usize,
    y: SliceMut<'a>,
}

impl Work for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let width = self.rows.width;
        let (mut wide, mut buffer) = (vec![0f32; width], vec![0f32; width]);
        for i in 0..self.y.len() / width {
            let (from, seen) = ((self.first + i) * self.rows.pitch, self.seen.of(self.first + i, width));
            let x = rows::seen(simd, self.x, from..from + seen, &mut wide[..seen]);
            let (y, beyond) = place(&mut self.y, i * width..(i + 1) * width, &mut buffer).split_at_mut(seen);
            let max = max(x);
            exps(simd, x, max, y);
            let total = sum(y, f64::from);
            match self.form {
                Form::Softmax => {
                    let share = (1. / total) as f32;
                    y.iter_mut().for_each(|y| *y *= share);
                }
                Form::LogSoftmax => {
                    let log = total.ln() as f32;
                    y.iter_mut().zip(x).for_each(|(y, x)| *y = x - max - log);
                }
            }
            beyond.fill(0.);
            settle(simd, &buffer, &mut self.y, i * width..(i + 1) * width);
        }
    }
}

pub(super) fn backward(
    isa: Isa,
    form: Form,
    seen: Seen,
    (dy, dy_rows): (Slice<'_>, Rows),
    (y, rows): (Slice<'_>, Rows),
    dx: &mut Out<'_>,
) -> Ran {
    let Some(dx) = dx.host_slice() else { return Ran::Composed(Why::Device) };
    let each = (PARALLEL / rows.width).max(1);
    let tasks = dx.chunks(each * rows.width).into_iter().enumerate().collect();
    share_out(tasks, |(i, mut dx): (usize, SliceMut<'_>)| match (dy, y, &mut dx) {
        (Slice::F64(dy), Slice::F64(y), SliceMut::F64(dx)) => {
            for (row, dx) in (i * each..).zip(dx.chunks_exact_mut(rows.width)) {
                let (dx, beyond) = dx.split_at_mut(seen.of(row, rows.width));
                let (dy, y) = (gather(dy, dy_rows, row..row + 1), gather(y, rows, row..row + 1));
                let len = dx.len();
                dx.copy_from_slice(&backward_scalar(form, Seen::Whole, len, &dy[..len], &y[..len]));
                beyond.fill(0.);
            }
        }
        _ => isa.run(Backward { form, seen, dy: (dy, dy_rows), y: (y, rows), first: i * each, dx }),
    });
    Ran::Kernel("softmax backward")
}

struct Backward<'a> {
    form: Form,
    seen: Seen,
    dy: (Slice<'a>, Rows),
    y: (Slice<'a>, Rows),
    first: usize,
    dx: SliceMut<'a>,
}

impl Work for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let width = self.y.1.width;
        let [mut wide, mut beside, mut buffer] = [(); 3].map(|()| vec![0f32; width]);
        for i in 0..self.dx.len() / width {
            let seen = self.seen.of(self.first + i, width);
            let row = |rows: Rows| (self.first + i) * rows.pitch..(self.first + i) * rows.pitch + seen;
            let g = rows::seen(simd, self.dy.0, row(self.dy.1), &mut wide[..seen]);
            let y = rows::seen(simd, self.y.0, row(self.y.1), &mut beside[..seen]);
            let (dx, beyond) =
                place(&mut self.dx, i * width..(i + 1) * width, &mut buffer).split_at_mut(seen);
            let to = dx.iter_mut().zip(g).zip(y);
            match self.form {
                Form::Softmax => {
                    let along = sum_pairs(g, y, |g, y| f64::from(g) * f64::from(y)) as f32;
                    to.for_each(|((dx, g), y)| *dx = y * (g - along));
                }
                Form::LogSoftmax => {
                    let total = sum(g, f64::from) as f32;
                    to.for_each(|((dx, &g), &y)| *dx = simd.mul_add(exp(simd, y), -total, g));
                }
            }
            beyond.fill(0.);
            settle(simd, &buffer, &mut self.dx, i * width..(i + 1) * width);
        }
    }
}
