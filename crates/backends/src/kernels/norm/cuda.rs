//! The launches. What stands beside `x` is of its type or f32, and of f64 beside f64.

#![expect(unsafe_code, reason = "launching a kernel")]

use super::{Centre, GradientsOut, Inputs, Norm, OP};
use crate::Result;
use crate::buffer::{In, Out, Ran, Rows, ScalarType, Why};
use crate::cuda::rows::{Holder, UNIT, float_name, in_parts, narrow, on_device, on_device_mut};
use crate::cuda::{
    BLOCK, DeviceSlice, Kernel, Launch, Module, float_code, memory, module, shared_limit, slice_address,
};

const MODULE: Module = module!("norm");

/// Runs of rows whose sums are kept apart: two for each multiprocessor of an H100.
const PARTS: usize = 264;
/// Columns that a block of `norm_reduce` folds: `FOLDED`.
const FOLDED: usize = 8;
/// Blocks of a forward pass: four for each multiprocessor of an H100.
const BLOCKS: usize = 528;
/// Shared memory that the kernels declare for themselves.
const DECLARED: usize = 9 << 10;
/// Warps of a block, each with a row.
const WARPS: usize = BLOCK as usize / 32;

/// Who holds rows. Those of f64 would fill the registers.
fn holder(of: ScalarType, width: usize) -> Holder {
    if of == ScalarType::F64 { Holder::Stream } else { Holder::of(width) }
}

/// The kernel of `whole.cuh` for rows of this width, where they are a warp's, and lie and are written in whole units.
fn whole(pass: &str, types: &str, width: usize, lie_well: bool) -> Option<String> {
    let units = width.div_ceil(32 * UNIT);
    let takes = Holder::of(width) == Holder::Warp && width > 0 && width.is_multiple_of(UNIT) && lie_well;
    takes.then(|| format!("norm_{pass}_whole_{types}_{units}"))
}

/// Whether rows begin at multiples of 16 bytes.
fn lie_well(slice: DeviceSlice<'_>, pitch: usize, of: ScalarType) -> bool {
    slice.address().is_multiple_of(16) && (pitch * of.bytes()).is_multiple_of(16)
}

/// The address of a contiguous parameter and whether it is narrow; zeros where there is none.
fn parameter(of: ScalarType, parameter: Option<&In<'_>>) -> std::result::Result<(u64, u64), Why> {
    let Some(parameter) = parameter else { return Ok((0, 0)) };
    if !parameter.is_contiguous() {
        return Err(Why::Layout("weight"));
    }
    let slice = on_device(parameter).ok_or(Why::Device)?;
    let narrow = narrow(of, parameter.scalar_type()).ok_or(Why::Dtype("weight"))?;
    Ok((slice.address(), narrow))
}

pub(super) fn forward(
    norm: Norm,
    rows: Rows,
    inputs: Inputs<'_>,
    y: &mut Out<'_>,
    statistics: &mut Out<'_>,
) -> Result<Ran> {
    let of = inputs.x.scalar_type();
    let (weight, bias) = match (parameter(of, inputs.weight), parameter(of, inputs.bias)) {
        (Ok(weight), Ok(bias)) => (weight, bias),
        (Err(why), _) | (_, Err(why)) => return Ok(Ran::Composed(why)),
    };
    let (Some(name), Some(narrow_y)) = (float_name(of), narrow(of, y.scalar_type())) else {
        return Ok(Ran::Composed(Why::Dtype("x")));
    };
    let (Some(x), Some(y), Some(statistics)) =
        (on_device(inputs.x), on_device_mut(y), on_device_mut(statistics))
    else {
        return Ok(Ran::Composed(Why::Device));
    };
    let holder = holder(of, norm.width);
    let args: [u64; 10] = [
        x.address(),
        weight.0,
        bias.0,
        y.address(),
        statistics.address(),
        rows.count as u64,
        norm.width as u64,
        rows.pitch as u64,
        norm.eps.to_bits(),
        narrow_y | weight.1 << 16 | bias.1 << 32 | u64::from(norm.centre == Centre::Mean) << 48,
    ];
    let y_type = if narrow_y == 1 { of } else { ScalarType::F32 };
    let lie_well = lie_well(x, rows.pitch, of) && lie_well(y, norm.width, y_type);
    let whole = whole("forward", name, norm.width, lie_well && of.bytes() == 2);
    let kernel = match &whole {
        Some(whole) => Kernel::load(x.gpu(), MODULE, whole)?,
        None => Kernel::load(x.gpu(), MODULE, &format!("norm_forward_{}_{name}", holder.name()))?,
    };
    if whole.is_some() {
        // The parameters in f32, and two rows for each warp: at most 40 KiB.
        let shared = norm.width * 2 * (size_of::<f32>() + WARPS * of.bytes());
        let blocks = rows.count.div_ceil(WARPS).min(BLOCKS);
        let launch = Launch { grid: (blocks as u32, 1, 1), block: BLOCK, shared_bytes: shared as u32 };
        // SAFETY: as below; the block has the shared memory that its rows take.
        unsafe { kernel.launch_as(launch, &args) }?;
        return Ok(Ran::Kernel("norm forward, CUDA"));
    }
    // SAFETY: `args` is `ForwardArgs`. `x` has the rows that `In` was checked for, `y` as many elements, the statistics three
    // for each row and the parameters `width`, as the caller compared; all are alive in the order of the stream.
    unsafe { kernel.launch(holder.blocks(rows.count), &args) }?;
    Ok(Ran::Kernel("norm forward, CUDA"))
}

pub(super) fn backward(
    norm: Norm,
    (dy, dy_type, dy_rows): (DeviceSlice<'_>, ScalarType, Rows),
    x_rows: Rows,
    inputs: Inputs<'_>,
    statistics: &In<'_>,
    grads: GradientsOut<'_, '_>,
) -> Result<Ran> {
    let of = inputs.x.scalar_type();
    let weight = match parameter(of, inputs.weight) {
        Ok(weight) => weight,
        Err(why) => return Ok(Ran::Composed(why)),
    };
    let takes = narrow(of, dy_type).is_some() || (of == ScalarType::F32 && dy_type != ScalarType::F64);
    let (Some(x_name), Some(dy_name), true) = (float_name(of), float_name(dy_type), takes) else {
        return Ok(Ran::Composed(Why::Dtype("dy")));
    };
    let (Some(x), Some(saved), true) =
        (on_device(inputs.x), on_device(statistics), statistics.is_contiguous())
    else {
        return Ok(Ran::Composed(Why::Device));
    };
    let narrow_dx = match &grads.x {
        Some(dx) => narrow(of, dx.scalar_type()),
        None => Some(0),
    };
    let Some(narrow_dx) = narrow_dx else { return Ok(Ran::Composed(Why::Dtype("dx"))) };
    let plus = match grads.plus.map(on_device) {
        Some(None) => return Ok(Ran::Composed(Why::Device)),
        plus => plus.flatten().map_or(0, |plus| plus.address()),
    };
    let gpu = x.gpu();
    let holder = holder(of, norm.width);
    let each = x_rows.count.div_ceil(PARTS).max(1);
    let parts = x_rows.count.div_ceil(each);
    let code = |grad: &Option<&mut Out<'_>>| {
        grad.as_ref().and_then(|grad| float_code(grad.scalar_type())).unwrap_or_default()
    };
    let dtypes = [code(&grads.weight), code(&grads.bias)];
    let outs = [grads.weight, grads.bias].map(|grad| grad.and_then(on_device_mut));
    let scratch =
        |out: &Option<DeviceSlice<'_>>| out.map(|_| memory::scratch(OP, gpu, parts * norm.width)).transpose();
    let sums = [scratch(&outs[0])?, scratch(&outs[1])?];
    let stream = gpu.cuda_stream();
    let [dw, db] = sums.each_ref().map(|sums| sums.as_ref().map_or(0, |sums| slice_address(sums, &stream)));
    let dx = grads.x.and_then(on_device_mut).map_or(0, |dx| dx.address());
    let args = |dx: u64, dw: u64, db: u64| -> [u64; 14] {
        [
            dy.address(),
            x.address(),
            weight.0,
            saved.address(),
            plus,
            dx,
            dw,
            db,
            x_rows.count as u64,
            norm.width as u64,
            x_rows.pitch as u64,
            dy_rows.pitch as u64,
            each as u64,
            narrow_dx | weight.1 << 16 | u64::from(norm.centre == Centre::Mean) << 32,
        ]
    };
    let named = |what: &str| Kernel::load(gpu, MODULE, &format!("norm_{what}_{x_name}_{dy_name}"));
    if holder == Holder::Stream {
        if dx != 0 {
            // SAFETY: `args` is `BackwardArgs`; `x`, `dy`, `plus` and `dx` have `x_rows.count` rows of `width` elements, and the
            // statistics three for each, as the caller compared. Without sums nothing else is written.
            unsafe { named("backward_stream")?.launch(parts as u64, &args(dx, 0, 0)) }?;
        }
        if dw != 0 || db != 0 {
            let columns = norm.width.div_ceil(BLOCK as usize);
            let Some(launch) = in_parts(columns, parts) else { return Ok(Ran::Composed(Why::Shape("x"))) };
            // SAFETY: as above; the sums have `parts · width` elements.
            unsafe { named("columns")?.launch_as(launch, &args(0, dw, db)) }?;
        }
    } else {
        let dx_type = if narrow_dx == 1 { of } else { ScalarType::F32 };
        let aligned = plus.is_multiple_of(16) && dx.is_multiple_of(16);
        let lie_well = aligned && lie_well(x, x_rows.pitch, of) && lie_well(dy, dy_rows.pitch, dy_type);
        // The weight in f32, and for each warp two rows of x and dy and one of what is added.
        let added = if plus == 0 { 0 } else { dx_type.bytes() };
        let of_row = size_of::<f32>() + WARPS * (2 * (of.bytes() + dy_type.bytes()) + added);
        let shared = norm.width * of_row;
        let fits = shared + DECLARED <= shared_limit(gpu)?;
        if let Some(whole) = whole("backward", &format!("{x_name}_{dy_name}"), norm.width, lie_well && fits) {
            let kernel = Kernel::load(gpu, MODULE, &whole)?;
            let bytes = shared as u32;
            kernel.allow_shared(bytes.cast_signed())?;
            let launch = Launch { grid: (parts as u32, 1, 1), block: BLOCK, shared_bytes: bytes };
            // SAFETY: as above; the sums have `parts · width` elements, at most `PARTS` of `width`, and the block has the shared
            // memory that its rows take.
            unsafe { kernel.launch_as(launch, &args(dx, dw, db)) }?;
        } else {
            // SAFETY: as above; the sums have `parts · width` elements.
            unsafe {
                named(&format!("backward_{}", holder.name()))?.launch(parts as u64, &args(dx, dw, db))
            }?;
        }
    }
    let made: Vec<(u64, u64, u64)> = (outs.into_iter().zip([dw, db]).zip(dtypes))
        .filter_map(|((out, sums), dtype)| Some((sums, out?.address(), dtype)))
        .collect();
    if let [first, rest @ ..] = &made[..] {
        let second = rest.first().unwrap_or(first);
        let args =
            [first.0, second.0, first.1, second.1, parts as u64, norm.width as u64, first.2 | second.2 << 8];
        let Some(launch) = in_parts(norm.width.div_ceil(FOLDED), made.len()) else {
            return Ok(Ran::Composed(Why::Shape("x")));
        };
        // SAFETY: `args` is `ReduceArgs`; each gradient has `width` floats of its dtype, as the caller compared.
        unsafe { Kernel::load(gpu, MODULE, "norm_reduce")?.launch_as(launch, &args) }?;
    }
    Ok(Ran::Kernel("norm backward, CUDA"))
}
