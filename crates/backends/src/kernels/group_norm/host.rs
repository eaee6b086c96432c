//! The CPU: groups shared out among threads, each read for its sums and again for what is written.

use super::arithmetic::{Arithmetic, Scratch};
use super::{GradientsOut, GroupNorm, Inputs, OP};
use crate::buffer::{In, Out, Ran, Slice, SliceMut, Why};
use crate::kernels::norm::{STATISTICS, parameter};
use crate::simd::rows::{PARALLEL, less, store};
use crate::simd::{Isa, Simd, Work};
use crate::threads::share_out;
use std::marker::PhantomData;

pub(super) fn forward(
    isa: Isa,
    norm: GroupNorm,
    inputs: Inputs<'_>,
    y: &mut Out<'_>,
    statistics: &mut Out<'_>,
) -> Ran {
    let (Ok(weight), Ok(bias)) = (parameter(inputs.weight), parameter(inputs.bias)) else {
        return Ran::Composed(Why::Layout("weight"));
    };
    let Some(x) = inputs.x.host_slice() else { return Ran::Composed(Why::Layout("x")) };
    let (Some(y), Some(statistics)) = (y.host_slice(), statistics.slice::<f64>()) else {
        return Ran::Composed(Why::Device);
    };
    let operands = Operands { norm, x, weight, bias };
    match x {
        Slice::F64(_) => operands.forward::<f64>(isa, y, statistics),
        _ => operands.forward::<f32>(isa, y, statistics),
    }
    Ran::Kernel(OP)
}

/// What both directions read.
#[derive(Clone, Copy)]
struct Operands<'a> {
    norm: GroupNorm,
    x: Slice<'a>,
    weight: Option<Slice<'a>>,
    bias: Option<Slice<'a>>,
}

impl Operands<'_> {
    fn groups_of_a_task(&self) -> usize {
        (PARALLEL / self.norm.width()).max(1)
    }

    fn forward<T: Arithmetic>(self, isa: Isa, y: SliceMut<'_>, statistics: &mut [f64]) {
        let each = self.groups_of_a_task();
        let [weight, bias] = [self.weight, self.bias].map(|of| of.map(|of| isa.run(All(of, PhantomData))));
        let tasks = y.chunks(each * self.norm.width()).into_iter();
        let tasks = tasks.zip(statistics.chunks_mut(each * STATISTICS)).enumerate();
        let tasks = tasks.map(|(i, (y, statistics))| {
            let parameters: [Option<&[T]>; 2] = [weight.as_deref(), bias.as_deref()];
            Forward { norm: self.norm, x: self.x, first: i * each, parameters, y, statistics }
        });
        share_out(tasks.collect(), |task| isa.run(task));
    }
}

/// All elements in the type of the arithmetic.
struct All<'a, T>(Slice<'a>, PhantomData<T>);

impl<T: Arithmetic> Work for All<'_, T> {
    type Output = Vec<T>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<T> {
        T::all(simd, self.0)
    }
}

struct Forward<'a, T> {
    norm: GroupNorm,
    x: Slice<'a>,
    /// The group that `y` starts with.
    first: usize,
    /// Weight and bias.
    parameters: [Option<&'a [T]>; 2],
    y: SliceMut<'a>,
    statistics: &'a mut [f64],
}

impl<T: Arithmetic> Work for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let (width, positions) = (self.norm.width(), self.norm.positions);
        let (mut wide, mut buffer) = (vec![T::ZERO; width], vec![T::ZERO; width]);
        let mut scratch = Scratch::new();
        for (i, saved) in self.statistics.chunks_exact_mut(STATISTICS).enumerate() {
            let from = (self.first + i) * width;
            let x = T::seen(simd, self.x, from..from + width, &mut wide);
            let mean = T::mean(&mut scratch, x);
            let centre = T::centre(mean);
            let squares = T::squares(&mut scratch, x, centre);
            let rstd = 1. / (squares / width as f64 + self.norm.eps).sqrt();
            saved.copy_from_slice(&[mean[0], mean[1], rstd]);
            let y = T::place(&mut self.y, i * width..(i + 1) * width, &mut buffer);
            let first = from / positions % self.norm.channels;
            let channels = x.chunks_exact(positions).zip(y.chunks_exact_mut(positions));
            for (channel, (x, y)) in (first..).zip(channels) {
                let [weight, bias] = self.parameters.map(|of| of.map(|of| of[channel]));
                normalize(x, centre, rstd, (weight.unwrap_or(T::ONE), bias.unwrap_or(T::ZERO)), y);
            }
            T::settle(simd, &buffer, &mut self.y, i * width..(i + 1) * width);
        }
    }
}

/// Writes `(x − centre) · rstd · weight + bias`.
#[inline(always)]
fn normalize<T: Arithmetic>(x: &[T], centre: [T; 2], rstd: f64, (weight, bias): (T, T), y: &mut [T]) {
    let of = y.iter_mut().zip(x);
    match T::factor(rstd) {
        Some(rstd) => of.for_each(|(y, &x)| *y = less(x, centre) * rstd * weight + bias),
        None => of.for_each(|(y, &x)| {
            *y = T::from_f64(less(x, centre).to_f64() * rstd) * weight + bias;
        }),
    }
}

pub(super) fn backward(
    isa: Isa,
    norm: GroupNorm,
    dy: &In<'_>,
    inputs: Inputs<'_>,
    statistics: &In<'_>,
    grads: GradientsOut<'_, '_>,
) -> Ran {
    let Ok(weight) = parameter(inputs.weight) else { return Ran::Composed(Why::Layout("weight")) };
    let operands = (inputs.x.host_slice(), dy.host_slice(), statistics.slice::<f64>());
    let (Some(x), Some(dy), Some(statistics)) = operands else { return Ran::Composed(Why::Layout("x")) };
    let operands = Operands { norm, x, weight, bias: None };
    match x {
        Slice::F64(_) => operands.backward::<f64>(isa, dy, statistics, grads),
        _ => operands.backward::<f32>(isa, dy, statistics, grads),
    }
    Ran::Kernel(OP)
}

impl Operands<'_> {
    fn backward<T: Arithmetic>(
        self,
        isa: Isa,
        dy: Slice<'_>,
        statistics: &[f64],
        grads: GradientsOut<'_, '_>,
    ) {
        let (each, norm) = (self.groups_of_a_task(), self.norm);
        let weight: Option<Vec<T>> = self.weight.map(|weight| isa.run(All(weight, PhantomData)));
        let GradientsOut { x: mut dx, weight: dw, bias: db } = grads;
        let mut sums = vec![[0f64; 2]; self.x.len() / norm.positions];
        let dx: Vec<Option<SliceMut<'_>>> = match dx.as_mut().and_then(|dx| dx.host_slice()) {
            Some(dx) => dx.chunks(each * norm.width()).into_iter().map(Some).collect(),
            None => statistics.chunks(each * STATISTICS).map(|_| None).collect(),
        };
        let tasks = statistics.chunks(each * STATISTICS).zip(dx);
        let tasks = tasks.zip(sums.chunks_mut(each * norm.channels_of_a_group())).enumerate();
        let tasks = tasks.map(|(i, ((statistics, dx), sums))| {
            let weight = weight.as_deref();
            Backward { norm, x: self.x, dy, first: i * each, weight, statistics, dx, sums }
        });
        share_out(tasks.collect(), |task| isa.run(task));
        for (grad, which) in [(db, 0), (dw, 1)] {
            let Some(grad) = grad.and_then(Out::host_slice) else { continue };
            let mut totals = vec![0f64; norm.channels];
            for sample in sums.chunks_exact(norm.channels) {
                totals.iter_mut().zip(sample).for_each(|(total, sums)| *total += sums[which]);
            }
            isa.run(Written(totals, grad));
        }
    }
}

/// Numbers of channels as the floats of a buffer.
struct Written<'a>(Vec<f64>, SliceMut<'a>);

impl Work for Written<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        if let SliceMut::F64(to) = self.1 {
            return to.copy_from_slice(&self.0);
        }
        let narrow: Vec<f32> = self.0.into_iter().map(|total| total as f32).collect();
        store(simd, &narrow, &mut self.1, 0..narrow.len());
    }
}

struct Backward<'a, T> {
    norm: GroupNorm,
    x: Slice<'a>,
    dy: Slice<'a>,
    first: usize,
    weight: Option<&'a [T]>,
    statistics: &'a [f64],
    dx: Option<SliceMut<'a>>,
    /// Of each sample's channels: `Σ g` and `Σ g·n`.
    sums: &'a mut [[f64; 2]],
}

impl<T: Arithmetic> Work for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let (width, positions, channels) =
            (self.norm.width(), self.norm.positions, self.norm.channels_of_a_group());
        let [mut wide, mut beside, mut buffer] = [(); 3].map(|()| vec![T::ZERO; width]);
        let mut scratch = Scratch::new();
        let groups = self.statistics.chunks_exact(STATISTICS).zip(self.sums.chunks_exact_mut(channels));
        for (i, (saved, sums)) in groups.enumerate() {
            let from = (self.first + i) * width;
            let x = T::seen(simd, self.x, from..from + width, &mut wide);
            let g = T::seen(simd, self.dy, from..from + width, &mut beside);
            let (centre, rstd) = (T::centre([saved[0], saved[1]]), saved[2]);
            let of = x.chunks_exact(positions).zip(g.chunks_exact(positions));
            for (sums, (x, g)) in sums.iter_mut().zip(of.clone()) {
                let [grad, along] = T::along(&mut scratch, g, x, centre);
                *sums = [grad, along * rstd];
            }
            let Some(dx) = &mut self.dx else { continue };
            let first = from / positions % self.norm.channels;
            let weight = |channel: usize| self.weight.map_or(T::ONE, |weight| weight[first + channel]);
            let mut means = [0f64; 2];
            for (channel, sums) in sums.iter().enumerate() {
                let weight = weight(channel).to_f64();
                means.iter_mut().zip(sums).for_each(|(mean, sum)| *mean += weight * sum);
            }
            let [mean, along] = means.map(|sum| sum / width as f64);
            let row = i * width..(i + 1) * width;
            let to = T::place(dx, row.clone(), &mut buffer).chunks_exact_mut(positions);
            for (channel, ((x, g), to)) in of.zip(to).enumerate() {
                let factors = Factors { weight: weight(channel), mean: T::centre([mean, 0.]), along, rstd };
                factors.of_x(x, centre, g, to);
            }
            T::settle(simd, &buffer, dx, row);
        }
    }
}

/// What the gradient of `x` is made with.
struct Factors<T> {
    weight: T,
    mean: [T; 2],
    along: f64,
    rstd: f64,
}

impl<T: Arithmetic> Factors<T> {
    #[inline(always)]
    fn of_x(&self, x: &[T], centre: [T; 2], g: &[T], to: &mut [T]) {
        let Self { weight, mean, along, rstd } = *self;
        let of = to.iter_mut().zip(x).zip(g);
        match T::factor(rstd) {
            Some(rstd) => {
                let along = T::from_f64(along);
                of.for_each(|((to, &x), &g)| {
                    *to = (less(g * weight, mean) - less(x, centre) * rstd * along) * rstd;
                });
            }
            None => of.for_each(|((to, &x), &g)| {
                let left = less(g * weight, mean).to_f64() - less(x, centre).to_f64() * rstd * along;
                *to = T::from_f64(left * rstd);
            }),
        }
    }
}
