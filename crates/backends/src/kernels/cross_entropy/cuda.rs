//! The launches. A gradient is of the logits' type or f32, of f64 logits f64.

#![expect(unsafe_code, reason = "launching a kernel")]

use super::{CrossEntropy, PerRow};
use crate::Result;
use crate::buffer::{In, Out, Ran, Rows, ScalarType, Why};
use crate::cuda::rows::{Holder, float_name, narrow, on_device, on_device_mut};
use crate::cuda::{BLOCK, DeviceSlice, Kernel, Launch, Module, module};

const MODULE: Module = module!("cross_entropy");

/// Nothing is held, so that a block takes what does not fit a warp.
fn holder(rows: Rows) -> Holder {
    if Holder::of(rows.width) == Holder::Warp { Holder::Warp } else { Holder::Block }
}

/// `Targets` in `cross_entropy.cu`.
fn targets_words(loss: CrossEntropy, targets: &In<'_>) -> std::result::Result<[u64; 4], Why> {
    let kind = match targets.scalar_type() {
        ScalarType::I64 => 0,
        ScalarType::U32 => 1,
        ScalarType::U8 => 2,
        _ => return Err(Why::Dtype("targets")),
    };
    let slice = on_device(targets).ok_or(Why::Device)?;
    let rows = targets.rows(1).ok_or(Why::Layout("targets"))?;
    Ok([slice.address(), rows.pitch as u64, loss.ignore_index.cast_unsigned(), kind])
}

pub(super) fn forward(
    loss: CrossEntropy,
    (x, of, rows): (DeviceSlice<'_>, ScalarType, Rows),
    targets: &In<'_>,
    losses: &mut Out<'_>,
    lse: &mut Out<'_>,
) -> Result<Ran> {
    let targets = match targets_words(loss, targets) {
        Ok(targets) => targets,
        Err(why) => return Ok(Ran::Composed(why)),
    };
    let Some(name) = float_name(of) else {
        return Ok(Ran::Composed(Why::Dtype("logits")));
    };
    let (Some(losses), Some(lse)) = (on_device_mut(losses), on_device_mut(lse)) else {
        return Ok(Ran::Composed(Why::Device));
    };
    let holder = holder(rows);
    let [at, pitch, ignore_index, kind] = targets;
    let args: [u64; 11] = [
        x.address(),
        losses.address(),
        lse.address(),
        rows.count as u64,
        rows.width as u64,
        rows.pitch as u64,
        loss.label_smoothing.to_bits(),
        at,
        pitch,
        ignore_index,
        kind,
    ];
    let kernel = Kernel::load(x.gpu(), MODULE, &format!("cross_entropy_losses_{}_{name}", holder.name()))?;
    // SAFETY: `args` is `LossArgs`. The logits have the rows that `In` was checked for, and there are as many targets, losses
    // and sums (two of a row of f64), as the caller compared; the kernel reads no logit of a target that is no class. All are alive in the order of
    // the stream.
    unsafe { kernel.launch(holder.blocks(rows.count), &args) }?;
    Ok(Ran::Kernel("cross_entropy forward, CUDA"))
}

/// Threads of a block that has a row to itself, of which few are to be under way at a time.
const WHOLE: u32 = 512;

pub(super) fn both(
    loss: CrossEntropy,
    targets: &In<'_>,
    factor: f64,
    losses: &mut Out<'_>,
    logits: &mut Out<'_>,
) -> Result<Ran> {
    let targets = match targets_words(loss, targets) {
        Ok(targets) => targets,
        Err(why) => return Ok(Ran::Composed(why)),
    };
    let (count, width) = (losses.count(), loss.classes);
    let Some(name) = float_name(logits.scalar_type()) else {
        return Ok(Ran::Composed(Why::Dtype("logits")));
    };
    let (Some(losses), Some(logits)) = (on_device_mut(losses), on_device_mut(logits)) else {
        return Ok(Ran::Composed(Why::Device));
    };
    let [at, pitch, ignore_index, kind] = targets;
    let args: [u64; 10] = [
        logits.address(),
        losses.address(),
        count as u64,
        width as u64,
        loss.label_smoothing.to_bits(),
        factor.to_bits(),
        at,
        pitch,
        ignore_index,
        kind,
    ];
    let holder = holder(Rows { count, width, pitch: width });
    let kernel = Kernel::load(logits.gpu(), MODULE, &format!("cross_entropy_both_{}_{name}", holder.name()))?;
    let block = if holder == Holder::Warp { BLOCK } else { WHOLE };
    let grid = (u32::try_from(holder.blocks(count)).unwrap_or(u32::MAX), 1, 1);
    // SAFETY: `args` is `BothArgs`. There are `count` contiguous rows of logits, targets and losses, as the caller compared; the kernel
    // reads no logit of a target that is no class, and a block of `WHOLE` threads is what `both_block` is made for.
    unsafe { kernel.launch_as(Launch { grid, block, shared_bytes: 0 }, &args) }?;
    Ok(Ran::Kernel("cross_entropy forward and backward, CUDA"))
}

pub(super) fn backward(
    loss: CrossEntropy,
    logits: Option<&In<'_>>,
    rows: Rows,
    (per_row, factor_rows): (PerRow<'_>, Rows),
    dx: &mut Out<'_>,
) -> Result<Ran> {
    let of = logits.map_or(dx.scalar_type(), In::scalar_type);
    let targets = match targets_words(loss, per_row.targets) {
        Ok(targets) => targets,
        Err(why) => return Ok(Ran::Composed(why)),
    };
    let (Some(name), Some(narrow_dx)) = (float_name(of), narrow(of, dx.scalar_type())) else {
        return Ok(Ran::Composed(Why::Dtype("logits")));
    };
    let (Some(dx), Some(lse), Some(factors)) =
        (on_device_mut(dx), on_device(per_row.lse), on_device(per_row.factors))
    else {
        return Ok(Ran::Composed(Why::Device));
    };
    let x = match logits {
        Some(logits) => on_device(logits),
        None => Some(dx),
    };
    let Some(x) = x else { return Ok(Ran::Composed(Why::Device)) };
    let [at, pitch, ignore_index, kind] = targets;
    let args: [u64; 14] = [
        x.address(),
        dx.address(),
        lse.address(),
        factors.address(),
        rows.count as u64,
        rows.width as u64,
        rows.pitch as u64,
        factor_rows.pitch as u64,
        loss.label_smoothing.to_bits(),
        at,
        pitch,
        ignore_index,
        kind,
        narrow_dx | u64::from(per_row.factors.scalar_type() == ScalarType::F64) << 32,
    ];
    let holder = holder(rows);
    let kernel = Kernel::load(x.gpu(), MODULE, &format!("cross_entropy_gradient_{}_{name}", holder.name()))?;
    // SAFETY: `args` is `GradientArgs`. The logits have the rows that `In` was checked for, or are the gradient's own memory,
    // of which each thread reads what it then writes; there are as many targets, sums and factors, as the caller compared.
    // All are alive in the order of the stream.
    unsafe { kernel.launch(holder.blocks(rows.count), &args) }?;
    Ok(Ran::Kernel("cross_entropy backward, CUDA"))
}
