//! f64: the oracle's formulas, of several elements at once, rows shared out among threads. Sums keep what their additions lose.

use super::{Centre, Norm, STATISTICS};
use crate::buffer::{Rows, Slice};
use crate::simd::rows::{PARALLEL, SUMS, to_f64};
use crate::simd::{Isa, Simd, Work};
use crate::threads::share_out;

/// Sums side by side, and what their additions have lost.
pub(in crate::kernels) struct Sums {
    sums: Vec<f64>,
    lost: Vec<f64>,
}

impl Sums {
    pub(in crate::kernels) fn new(count: usize) -> Self {
        Self { sums: vec![0.; count], lost: vec![0.; count] }
    }

    /// A term for each of the first.
    #[inline(always)]
    fn add(&mut self, terms: &[f64]) {
        for ((sum, lost), &x) in self.sums.iter_mut().zip(&mut self.lost).zip(terms) {
            let (next, lacks) = two_sum(*sum, x);
            *lost += lacks;
            *sum = next;
        }
    }

    #[inline(always)]
    fn merge(&mut self, other: &Self) {
        self.add(&other.sums);
        self.lost.iter_mut().zip(&other.lost).for_each(|(lost, other)| *lost += other);
    }

    /// What an infinite sum has lost is NaN, and means nothing.
    fn values(&self) -> impl Iterator<Item = f64> {
        self.sums.iter().zip(&self.lost).map(|(sum, lost)| if sum.is_finite() { sum + lost } else { *sum })
    }

    /// The mean of a row, by sums that are used again.
    #[inline(always)]
    pub(in crate::kernels) fn mean(&mut self, row: &[f64]) -> f64 {
        self.total(row) / row.len() as f64
    }

    /// The sum of a row, likewise.
    #[inline(always)]
    pub(in crate::kernels) fn total(&mut self, row: &[f64]) -> f64 {
        self.sums.fill(0.);
        self.lost.fill(0.);
        for group in row.chunks(SUMS) {
            self.add(group);
        }
        let mut width = self.sums.len() / 2;
        while width > 0 {
            let ((sums, others), (lost, lost_others)) =
                (self.sums.split_at_mut(width), self.lost.split_at_mut(width));
            for i in 0..width {
                let (next, lacks) = two_sum(sums[i], others[i]);
                lost[i] += lost_others[i] + lacks;
                sums[i] = next;
            }
            width /= 2;
        }
        self.values().next().unwrap_or(0.)
    }
}

/// A sum, and what it lacks.
#[inline(always)]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let kept = sum - a;
    (sum, (a - (sum - kept)) + (b - kept))
}

/// Writes `(x − high − low) · factor`.
#[inline(always)]
fn moved(x: &[f64], [high, low]: [f64; 2], factor: f64, to: &mut [f64]) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to = (x - high - low) * factor);
}

pub(super) fn forward(
    isa: Isa,
    norm: Norm,
    (x, rows): (&[f64], Rows),
    parameters: [Option<Slice<'_>>; 2],
    y: &mut [f64],
    statistics: &mut [f64],
) {
    let [weight, bias] = parameters.map(|p| p.map(to_f64));
    let (weight, bias) = (weight.as_deref(), bias.as_deref());
    let each = (PARALLEL / rows.width).max(1);
    let tasks = y.chunks_mut(each * rows.width).zip(statistics.chunks_mut(each * STATISTICS)).enumerate();
    share_out(tasks.collect(), |(i, (y, statistics))| {
        isa.run(Forward {
            norm,
            x: &x[i * each * rows.pitch..],
            pitch: rows.pitch,
            weight,
            bias,
            y,
            statistics,
        });
    });
}

struct Forward<'a> {
    norm: Norm,
    x: &'a [f64],
    pitch: usize,
    weight: Option<&'a [f64]>,
    bias: Option<&'a [f64]>,
    y: &'a mut [f64],
    statistics: &'a mut [f64],
}

impl Work for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let width = self.norm.width;
        let (mut sums, mut terms) = (Sums::new(SUMS), vec![0.; width]);
        let rows = self.y.chunks_exact_mut(width).zip(self.statistics.chunks_exact_mut(STATISTICS));
        for (i, (y, saved)) in rows.enumerate() {
            let x = &self.x[i * self.pitch..][..width];
            let mut centre = [0.; 2];
            if self.norm.centre == Centre::Mean {
                centre[0] = sums.mean(x);
                moved(x, centre, 1., y);
                centre[1] = sums.mean(y);
            }
            moved(x, centre, 1., y);
            terms.iter_mut().zip(&*y).for_each(|(square, y)| *square = y * y);
            let rstd = 1. / (sums.mean(&terms) + self.norm.eps).sqrt();
            saved.copy_from_slice(&[centre[0], centre[1], rstd]);
            y.iter_mut().for_each(|y| *y *= rstd);
            if let Some(weight) = self.weight {
                y.iter_mut().zip(weight).for_each(|(y, w)| *y *= w);
            }
            if let Some(bias) = self.bias {
                y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
            }
        }
    }
}

pub(super) fn backward(
    isa: Isa,
    norm: Norm,
    (x, dy, (x_rows, dy_rows)): (&[f64], &[f64], (Rows, Rows)),
    weight: Option<Slice<'_>>,
    statistics: &[f64],
    [dx, dw, db]: [Option<&mut [f64]>; 3],
    plus: Option<Slice<'_>>,
) {
    let (width, count) = (norm.width, x_rows.count);
    let (weight, plus) = (weight.map(to_f64), plus.map(to_f64));
    let each = super::host::rows_of_a_part(width, count);
    let parts = count.div_ceil(each);
    let mut sums: Vec<[Sums; 2]> = (0..parts).map(|_| [Sums::new(width), Sums::new(width)]).collect();
    let mut dx: Vec<Option<&mut [f64]>> = match dx {
        Some(dx) => dx.chunks_mut(each * width).map(Some).collect(),
        None => (0..parts).map(|_| None).collect(),
    };
    let tasks = statistics.chunks(each * STATISTICS).zip(&mut sums).zip(dx.drain(..)).enumerate();
    let tasks = tasks.map(|(i, ((statistics, sums), dx))| Backward {
        norm,
        x: (&x[i * each * x_rows.pitch..], x_rows.pitch),
        dy: (&dy[i * each * dy_rows.pitch..], dy_rows.pitch),
        weight: weight.as_deref(),
        statistics,
        plus: plus.as_deref().map(|plus| &plus[i * each * width..]),
        dx,
        sums,
    });
    share_out(tasks.collect(), |task| isa.run(task));
    for (which, grad) in [dw, db].into_iter().enumerate() {
        let Some(grad) = grad else { continue };
        let mut all = Sums::new(width);
        sums.iter().for_each(|sums| all.merge(&sums[which]));
        grad.iter_mut().zip(all.values()).for_each(|(grad, value)| *grad = value);
    }
}

struct Backward<'a> {
    norm: Norm,
    x: (&'a [f64], usize),
    dy: (&'a [f64], usize),
    weight: Option<&'a [f64]>,
    statistics: &'a [f64],
    plus: Option<&'a [f64]>,
    dx: Option<&'a mut [f64]>,
    /// Those of the weight and of the bias.
    sums: &'a mut [Sums; 2],
}

impl Work for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, _: S) {
        let width = self.norm.width;
        let mut sums = Sums::new(SUMS);
        let [mut normalized, mut weighted, mut terms] = [(); 3].map(|()| vec![0.; width]);
        for (i, saved) in self.statistics.chunks_exact(STATISTICS).enumerate() {
            let (x, g) = (&self.x.0[i * self.x.1..][..width], &self.dy.0[i * self.dy.1..][..width]);
            moved(x, [saved[0], saved[1]], saved[2], &mut normalized);
            terms.iter_mut().zip(g).zip(&normalized).for_each(|((term, g), n)| *term = g * n);
            self.sums[0].add(&terms);
            self.sums[1].add(g);
            let Some(dx) = &mut self.dx else { continue };
            let h = match self.weight {
                Some(weight) => {
                    weighted.iter_mut().zip(g).zip(weight).for_each(|((h, g), w)| *h = g * w);
                    &weighted[..]
                }
                None => g,
            };
            terms.iter_mut().zip(h).zip(&normalized).for_each(|((term, h), n)| *term = h * n);
            let along = sums.mean(&terms);
            let mut centre = [0.; 2];
            if self.norm.centre == Centre::Mean {
                centre[0] = sums.mean(h);
                moved(h, centre, 1., &mut terms);
                centre[1] = sums.mean(&terms);
            }
            let dx = &mut dx[i * width..][..width];
            for ((dx, h), n) in dx.iter_mut().zip(h).zip(&normalized) {
                *dx = (h - centre[0] - centre[1] - n * along) * saved[2];
            }
            if let Some(plus) = self.plus {
                dx.iter_mut().zip(&plus[i * width..]).for_each(|(dx, plus)| *dx += plus);
            }
        }
    }
}
