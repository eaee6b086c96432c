//! The CPU: rows shared out among threads, read in blocks that stay in the cache.

use super::{CrossEntropy, OP, PerRow, backward_scalar, forward_scalar};
use crate::buffer::{In, Out, Ran, Rows, Slice, SliceMut, Why};
use crate::simd::math::{self, exp};
use crate::simd::rows::{PARALLEL, gather, load, max, place, seen, settle, split, sum};
use crate::simd::{Isa, Simd, Work};
use crate::threads::share_out;
use crate::{Error, Result};

/// Elements that are brought to f32 at once.
const BLOCK: usize = 1024;

/// The class of each row, `None` for one that is left out.
fn classes(loss: CrossEntropy, targets: Slice<'_>, rows: Rows) -> Result<Vec<Option<usize>>> {
    let class = |row: usize| {
        let at = row * rows.pitch;
        let target = match targets {
            Slice::I64(t) => t[at],
            Slice::U32(t) => i64::from(t[at]),
            Slice::U8(t) => i64::from(t[at]),
            _ => -1,
        };
        match usize::try_from(target) {
            _ if target == loss.ignore_index => Ok(None),
            Ok(class) if class < loss.classes => Ok(Some(class)),
            _ => Err(Error::Operand {
                op: OP,
                argument: "a target",
                expected: format!(
                    "one of the {} classes, counted from 0, or {}",
                    loss.classes, loss.ignore_index
                ),
                got: target.to_string(),
            }),
        }
    };
    (0..rows.count).map(class).collect()
}

/// Something like [`PARALLEL`] elements.
fn rows_of_a_task(width: usize) -> usize {
    (PARALLEL / width).max(1)
}

pub(super) fn forward(
    isa: Isa,
    loss: CrossEntropy,
    (x, rows): (Slice<'_>, Rows),
    (targets, target_rows): (Slice<'_>, Rows),
    losses: &mut Out<'_>,
    lse: &mut Out<'_>,
) -> Result<Ran> {
    let targets = classes(loss, targets, target_rows)?;
    let of = x.scalar_type();
    let (Some(losses), Some(lse)) = (losses.host_slice(), lse.slice::<f64>()) else {
        return Ok(Ran::Composed(Why::Device));
    };
    let each = rows_of_a_task(rows.width);
    let lse_chunks = lse.chunks_mut(each * super::lse_parts(of));
    let tasks = losses.chunks(each).into_iter().zip(lse_chunks).zip(targets.chunks(each)).enumerate();
    share_out(tasks.collect(), |(i, ((losses, lse), targets))| match (x, losses) {
        (Slice::F64(x), SliceMut::F64(losses)) => {
            let x = gather(x, rows, i * each..i * each + targets.len());
            let (values, saved) = forward_scalar(loss, &x, targets);
            losses.copy_from_slice(&values);
            lse.copy_from_slice(saved.as_flattened());
        }
        (_, SliceMut::F32(losses)) => {
            isa.run(Forward { loss, x, rows, first: i * each, targets, losses, lse })
        }
        _ => {}
    });
    Ok(Ran::Kernel("cross_entropy forward"))
}

struct Forward<'a> {
    loss: CrossEntropy,
    x: Slice<'a>,
    rows: Rows,
    /// The row of the first target.
    first: usize,
    targets: &'a [Option<usize>],
    losses: &'a mut [f32],
    lse: &'a mut [f64],
}

impl Work for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (width, smoothing) = (self.rows.width, self.loss.label_smoothing);
        let (mut buffer, mut exponentials) = ([0f32; BLOCK], [0f32; BLOCK]);
        for (i, &target) in self.targets.iter().enumerate() {
            let row = (self.first + i) * self.rows.pitch;
            // Of what has been read: the maximum, Σ exp(x − maximum), Σ x.
            let (mut most, mut exps, mut total) = (f32::NEG_INFINITY, 0f64, 0f64);
            let mut at = 0;
            while at < width {
                let len = BLOCK.min(width - at);
                let block = seen(simd, self.x, row + at..row + at + len, &mut buffer[..len]);
                let largest = max(block);
                if largest > most {
                    exps *= f64::from(most - largest).exp();
                    most = largest;
                }
                if most != f32::NEG_INFINITY {
                    math::exps(simd, block, most, &mut exponentials[..len]);
                    exps += sum(&exponentials[..len], f64::from);
                } else if block.iter().any(|x| x.is_nan()) {
                    // Of which the sum is one, too, and stays so.
                    exps = f64::NAN;
                }
                if smoothing > 0. {
                    total += sum(block, f64::from);
                }
                at += len;
            }
            let lse = f64::from(most) + exps.ln();
            self.lse[i] = lse;
            self.losses[i] = 0.;
            let Some(target) = target else { continue };
            let mut value = 0.;
            if smoothing < 1. {
                let mut own = [0f32];
                load(simd, self.x, row + target..row + target + 1, &mut own);
                value += (1. - smoothing) * (lse - f64::from(own[0]));
            }
            if smoothing > 0. {
                value += smoothing * (lse - total / width as f64);
            }
            self.losses[i] = value as f32;
        }
    }
}

pub(super) fn backward(
    isa: Isa,
    loss: CrossEntropy,
    logits: Option<(Slice<'_>, Rows)>,
    (per_row, factor_rows): (PerRow<'_>, Rows),
    dx: &mut Out<'_>,
) -> Result<Ran> {
    let Some(target_rows) = super::target_rows(per_row.targets) else {
        return Ok(Ran::Composed(Why::Dtype("targets")));
    };
    let targets = classes(loss, per_row.targets.host_place(), target_rows)?;
    let factors = factors(per_row.factors, factor_rows);
    let (Some(dx), Some(lse)) = (dx.host_slice(), per_row.lse.slice::<f64>()) else {
        return Ok(Ran::Composed(Why::Device));
    };
    let width = loss.classes;
    let each = rows_of_a_task(width);
    let tasks = dx.chunks(each * width).into_iter().enumerate();
    share_out(tasks.collect(), |(i, mut dx): (usize, SliceMut<'_>)| {
        let which = i * each..i * each + dx.len() / width;
        let (targets, factors) = (&targets[which.clone()], &factors[which.clone()]);
        if let SliceMut::F64(dx) = &mut dx {
            let (lse, _) = lse.as_chunks::<2>();
            let lse = &lse[which.clone()];
            let x = match logits {
                Some((Slice::F64(x), rows)) => gather(x, rows, which),
                _ => dx.to_vec(),
            };
            dx.copy_from_slice(&backward_scalar(loss, &x, targets, lse, factors));
            return;
        }
        let lse = &lse[which.clone()];
        isa.run(Backward { loss, logits, first: which.start, targets, lse, factors, dx });
    });
    Ok(Ran::Kernel("cross_entropy backward"))
}

fn factors(factors: &In<'_>, rows: Rows) -> Vec<f64> {
    let at = (0..rows.count).map(|row| row * rows.pitch);
    match factors.host_place() {
        Slice::F32(f) => at.map(|i| f64::from(f[i])).collect(),
        Slice::F64(f) => at.map(|i| f[i]).collect(),
        _ => vec![0.; rows.count],
    }
}

struct Backward<'a> {
    loss: CrossEntropy,
    logits: Option<(Slice<'a>, Rows)>,
    first: usize,
    targets: &'a [Option<usize>],
    lse: &'a [f64],
    factors: &'a [f64],
    dx: SliceMut<'a>,
}

impl Work for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let width = self.loss.classes;
        let (mut wide, mut buffer) = ([0f32; BLOCK], [0f32; BLOCK]);
        for (i, &target) in self.targets.iter().enumerate() {
            let factor = self.factors[i] as f32;
            let target = target.filter(|_| factor != 0.);
            let own = (self.factors[i] * (1. - self.loss.label_smoothing)) as f32;
            let even = (self.factors[i] * self.loss.label_smoothing / width as f64) as f32;
            let (high, low) = split(self.lse[i]);
            for at in (0..width).step_by(BLOCK) {
                let len = BLOCK.min(width - at);
                let (wide, buffer) = (&mut wide[..len], &mut buffer[..len]);
                let range = i * width + at..i * width + at + len;
                if target.is_some() && self.logits.is_none() {
                    load(simd, self.dx.as_slice(), range.clone(), wide);
                }
                let x = match self.logits {
                    Some((x, rows)) if target.is_some() => {
                        let from = (self.first + i) * rows.pitch + at;
                        seen(simd, x, from..from + len, wide)
                    }
                    _ => wide,
                };
                let dx = place(&mut self.dx, range.clone(), buffer);
                match target {
                    Some(target) => {
                        for (dx, x) in dx.iter_mut().zip(x) {
                            *dx = simd.mul_add(exp(simd, x - high - low), factor, -even);
                        }
                        if let Some(dx) = target.checked_sub(at).and_then(|i| dx.get_mut(i)) {
                            *dx -= own;
                        }
                    }
                    None => dx.fill(0.),
                }
                settle(simd, buffer, &mut self.dx, range);
            }
        }
    }
}
