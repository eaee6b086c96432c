//! The launches: sums by channel in parts, what follows from them, and a pass over all elements.

#![expect(unsafe_code, reason = "launching a kernel")]

use super::shares::Shares;
use super::{Centre, Dims, GradientsOut, Inputs, Norm, OP, Then};
use crate::Result;
use crate::buffer::{In, Out, Ran, ScalarType, Why};
use crate::cuda::rows::{on_device, on_device_mut};
use crate::cuda::{BLOCK, DeviceSlice, Kernel, Module, float_code, memory, module, slice_address};

const MODULE: Module = module!("batch_norm");

/// Channels of a block that adds parts up: `FINISHED` in `batch_norm.cu`.
const FINISHED: usize = 2;

fn name(of: ScalarType) -> Option<&'static str> {
    match of {
        ScalarType::F16 => Some("f16"),
        ScalarType::Bf16 => Some("bf16"),
        ScalarType::F32 => Some("f32"),
        ScalarType::F64 => Some("f64"),
        _ => None,
    }
}

/// The type that sums are handed out in.
fn wide(of: ScalarType) -> ScalarType {
    if of == ScalarType::F64 { of } else { ScalarType::F32 }
}

/// The address of a parameter of each channel and whether it is narrow; zeros where there is none.
fn parameter(of: ScalarType, parameter: Option<&In<'_>>) -> std::result::Result<(u64, u64), Why> {
    let Some(parameter) = parameter else { return Ok((0, 0)) };
    if !parameter.is_contiguous() {
        return Err(Why::Layout("weight"));
    }
    let slice = on_device(parameter).ok_or(Why::Device)?;
    match parameter.scalar_type() {
        its if its == wide(of) => Ok((slice.address(), 0)),
        its if its == of => Ok((slice.address(), 1)),
        _ => Err(Why::Dtype("weight")),
    }
}

/// The addresses of what every launch of a norm reads, as the words of `Args`.
struct Common {
    gpu: candle_core::CudaDevice,
    of: ScalarType,
    name: &'static str,
    x: u64,
    beside: u64,
    weight: (u64, u64),
    bias: (u64, u64),
}

impl Common {
    fn new(inputs: Inputs<'_, '_>) -> std::result::Result<Self, Why> {
        let of = inputs.x.scalar_type();
        let name = name(of).ok_or(Why::Dtype("x"))?;
        let contiguous = |x: &In<'_>| if x.is_contiguous() { Ok(()) } else { Err(Why::Layout("x")) };
        contiguous(inputs.x)?;
        let x = on_device(inputs.x).ok_or(Why::Device)?;
        let beside = match inputs.beside {
            None => 0,
            Some(beside) if beside.scalar_type() != of => return Err(Why::Dtype("what is added")),
            Some(beside) => {
                contiguous(beside)?;
                on_device(beside).ok_or(Why::Device)?.address()
            }
        };
        let (weight, bias) = (parameter(of, inputs.weight)?, parameter(of, inputs.bias)?);
        Ok(Self { gpu: x.gpu().clone(), of, name, x: x.address(), beside, weight, bias })
    }

    fn args(&self, norm: Norm, shares: &Shares, then: Then, at: &Places) -> [u64; 16] {
        let Dims { outer, channels, inner } = norm.dims;
        [
            self.x,
            at.dy,
            at.beside,
            self.weight.0,
            self.bias.0,
            at.statistics,
            at.parts,
            at.sums,
            at.out,
            at.passed,
            outer as u64,
            channels as u64,
            inner as u64,
            shares.each as u64,
            self.weight.1
                | self.bias.1 << 16
                | u64::from(then == Then::Relu) << 32
                | u64::from(norm.centre == Centre::Mean) << 48,
            shares.across as u64,
        ]
    }

    fn kernel(&self, what: &str) -> Result<Kernel> {
        Kernel::load(&self.gpu, MODULE, &format!("batch_norm_{what}_{}", self.name))
    }
}

/// Addresses that differ from launch to launch; 0 for what one has none of.
#[derive(Clone, Copy, Default)]
struct Places {
    dy: u64,
    beside: u64,
    statistics: u64,
    parts: u64,
    sums: u64,
    out: u64,
    passed: u64,
}

/// Writes mean and 1/std of each channel in f64, and its mean and unbiased variance.
pub(super) fn moments(norm: Norm, x: &In<'_>, [statistics, mean, var]: [&mut Out<'_>; 3]) -> Result<Ran> {
    let common = match Common::new(Inputs { x, weight: None, bias: None, beside: None }) {
        Ok(common) => common,
        Err(why) => return Ok(Ran::Composed(why)),
    };
    let Some(shares) = Shares::of(norm.dims, &[common.x]) else { return Ok(Ran::Composed(Why::Shape("x"))) };
    let typed = mean.scalar_type() == wide(common.of) && var.scalar_type() == wide(common.of);
    let (Some(statistics), Some(mean), Some(var), true) =
        (on_device_mut(statistics), on_device_mut(mean), on_device_mut(var), typed)
    else {
        return Ok(Ran::Composed(Why::Dtype("an output")));
    };
    let channels = norm.dims.channels;
    let parts = memory::scratch(OP, &common.gpu, shares.parts * 2 * channels)?;
    let parts_at = slice_address(&parts, &common.gpu.cuda_stream());
    let places = Places { parts: parts_at, ..Places::default() };
    let args = common.args(norm, &shares, Then::Nothing, &places);
    // SAFETY: `args` is `Args`; `x` has `dims.count()` elements, as the caller compared, and the parts two for each channel.
    unsafe { common.kernel(&format!("moments_{}", shares.walk))?.launch_as(shares.launch, &args) }?;
    let finish = finish_args(
        norm,
        &shares,
        [parts_at, common.x, statistics.address(), 0, mean.address(), var.address()],
    );
    let blocks = channels.div_ceil(FINISHED) as u64;
    // SAFETY: `finish` is `FinishArgs`; the statistics have two f64 for each channel, mean and variance one number.
    unsafe { common.kernel("finish_moments")?.launch(blocks, &finish) }?;
    Ok(Ran::Kernel("batch_norm moments, CUDA"))
}

fn finish_args(norm: Norm, shares: &Shares, at: [u64; 6]) -> [u64; 12] {
    let Dims { outer, channels, inner } = norm.dims;
    let [parts, x, statistics, sums, first, second] = at;
    [
        parts,
        x,
        statistics,
        sums,
        first,
        second,
        shares.parts as u64,
        channels as u64,
        inner as u64,
        (outer * inner) as u64,
        norm.eps.to_bits(),
        u64::from(norm.centre == Centre::Mean),
    ]
}

/// Writes the value from the statistics.
pub(super) fn apply(norm: Norm, inputs: Inputs<'_, '_>, statistics: &In<'_>, y: &mut Out<'_>) -> Result<Ran> {
    let common = match Common::new(inputs) {
        Ok(common) => common,
        Err(why) => return Ok(Ran::Composed(why)),
    };
    let (Some(statistics), Some(out), true) =
        (on_device(statistics), on_device_mut(y), y.scalar_type() == common.of)
    else {
        return Ok(Ran::Composed(Why::Dtype("y")));
    };
    let (statistics, out) = (statistics.address(), out.address());
    let shares = Shares::of(norm.dims, &[common.x, common.beside, out]);
    let Some(shares) = shares else { return Ok(Ran::Composed(Why::Shape("x"))) };
    let places = Places { beside: common.beside, statistics, out, ..Places::default() };
    let args = common.args(norm, &shares, norm.then, &places);
    let what = if common.beside == 0 { "apply" } else { "added" };
    // SAFETY: `args` is `Args`; `x`, what is added and `y` have `dims.count()` elements, the parameters one and the statistics two
    // for each channel, as the caller compared.
    unsafe { common.kernel(&format!("{what}_{}", shares.walk))?.launch_as(shares.launch, &args) }?;
    Ok(Ran::Kernel("batch_norm, CUDA"))
}

pub(super) fn gradients(
    norm: Norm,
    dy: &In<'_>,
    inputs: Inputs<'_, '_>,
    statistics: &In<'_>,
    grads: GradientsOut<'_, '_>,
) -> Result<Ran> {
    let common = match Common::new(inputs) {
        Ok(common) => common,
        Err(why) => return Ok(Ran::Composed(why)),
    };
    let written = |out: Option<&mut Out<'_>>, of: ScalarType| match out {
        None => Ok(0),
        Some(out) if out.scalar_type() == of => {
            on_device_mut(out).map(|slice: DeviceSlice<'_>| slice.address()).ok_or(Why::Device)
        }
        Some(_) => Err(Why::Dtype("a gradient")),
    };
    let of = common.of;
    let outs = (
        written(grads.x, of),
        written(grads.passed, of),
        written(grads.weight, wide(of)),
        written(grads.bias, wide(of)),
    );
    let (Ok(dx), Ok(passed), Ok(dw), Ok(db)) = outs else {
        return Ok(Ran::Composed(Why::Dtype("a gradient")));
    };
    let (Some(dy_at), Some(statistics), true) =
        (on_device(dy), on_device(statistics), dy.is_contiguous() && dy.scalar_type() == of)
    else {
        return Ok(Ran::Composed(Why::Dtype("dy")));
    };
    let shares = Shares::of(norm.dims, &[common.x, dy_at.address(), common.beside, dx, passed]);
    let Some(shares) = shares else { return Ok(Ran::Composed(Why::Shape("x"))) };
    let (channels, stream) = (norm.dims.channels, common.gpu.cuda_stream());
    let parts = memory::scratch(OP, &common.gpu, (shares.parts + 1) * 2 * channels)?;
    let parts_at = slice_address(&parts, &stream);
    let sums = parts_at + (shares.parts * 2 * channels * size_of::<f64>()) as u64;
    let places = Places {
        dy: dy_at.address(),
        beside: common.beside,
        statistics: statistics.address(),
        parts: parts_at,
        sums,
        out: dx,
        passed,
    };
    let args = common.args(norm, &shares, norm.then, &places);
    let sums_of = match (norm.then, common.beside, passed) {
        (_, 0, 0) | (Then::Nothing, _, 0) => "sums",
        (Then::Relu, 1.., 1..) => "added_sums",
        _ => return Ok(Ran::Composed(Why::Shape("what passed, without a value that says it"))),
    };
    // SAFETY: `args` is `Args`; `x`, `dy`, the value and what passed have `dims.count()` elements, the parameters one and the statistics
    // two for each channel, as the caller compared.
    unsafe { common.kernel(&format!("{sums_of}_{}", shares.walk))?.launch_as(shares.launch, &args) }?;
    let finish = finish_args(norm, &shares, [parts_at, common.x, statistics.address(), sums, db, dw]);
    // SAFETY: `finish` is `FinishArgs`; the gradients have one number for each channel.
    unsafe { common.kernel("finish_gradients")?.launch(channels.div_ceil(FINISHED) as u64, &finish) }?;
    if dx != 0 {
        // What passed has been through the relu.
        let (then, dy) = if passed == 0 { (norm.then, places.dy) } else { (Then::Nothing, passed) };
        let args = common.args(norm, &shares, then, &Places { dy, passed: 0, ..places });
        // SAFETY: as for the sums; `dx` has `dims.count()` elements.
        unsafe { common.kernel(&format!("gradient_{}", shares.walk))?.launch_as(shares.launch, &args) }?;
    }
    Ok(Ran::Kernel("batch_norm backward, CUDA"))
}

/// Writes mean and 1/std of each channel in f64 from statistics that are given.
pub(super) fn given(eps: f64, mean: &In<'_>, var: &In<'_>, statistics: &mut Out<'_>) -> Result<Ran> {
    let codes = (float_code(mean.scalar_type()), float_code(var.scalar_type()));
    let (Some(mean_code), Some(var_code)) = codes else {
        return Ok(Ran::Composed(Why::Dtype("a statistic")));
    };
    let (Some(mean_at), Some(var_at), Some(out)) =
        (on_device(mean), on_device(var), on_device_mut(statistics))
    else {
        return Ok(Ran::Composed(Why::Device));
    };
    let channels = mean.count() as u64;
    let codes = mean_code | var_code << 8;
    let args = [mean_at.address(), var_at.address(), out.address(), channels, eps.to_bits(), codes];
    let kernel = Kernel::load(mean_at.gpu(), MODULE, "batch_norm_given")?;
    // SAFETY: `args` is `GivenArgs`; both have an element for each channel and the statistics two f64, as the caller compared.
    unsafe { kernel.launch(channels.div_ceil(u64::from(BLOCK)), &args) }?;
    Ok(Ran::Kernel("batch_norm statistics, CUDA"))
}

/// Writes a running statistic after another batch.
pub(super) fn moved(momentum: f64, [old, fresh, guard]: [&In<'_>; 3], out: &mut Out<'_>) -> Result<Ran> {
    let of = out.scalar_type();
    let typed = [old, fresh, guard].iter().all(|x| x.scalar_type() == of && x.is_contiguous());
    let (Some(name), true) = (name(of), typed && wide(of) == of) else {
        return Ok(Ran::Composed(Why::Dtype("a statistic")));
    };
    let (Some(old), Some(fresh), Some(guard), Some(to)) =
        (on_device(old), on_device(fresh), on_device(guard), on_device_mut(out))
    else {
        return Ok(Ran::Composed(Why::Device));
    };
    let count = out.count() as u64;
    let args = [old.address(), fresh.address(), guard.address(), to.address(), count, momentum.to_bits()];
    let kernel = Kernel::load(to.gpu(), MODULE, &format!("batch_norm_moved_{name}"))?;
    // SAFETY: `args` is `MovedArgs`; all have as many elements, as the caller compared.
    unsafe { kernel.launch(count.div_ceil(u64::from(BLOCK)), &args) }?;
    Ok(Ran::Kernel("batch_norm running statistic, CUDA"))
}
