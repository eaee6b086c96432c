//! The launches. What is written is of the type that is read, or f32 (f64 for f64).

#![expect(unsafe_code, reason = "launching a kernel")]

use super::{Form, Seen};
use crate::Result;
use crate::buffer::{Out, Ran, Rows, ScalarType, Why};
use crate::cuda::rows::{Holder, float_name, narrow, on_device_mut};
use crate::cuda::{DeviceSlice, Kernel, Module, module};

const MODULE: Module = module!("softmax");

/// A buffer on the device, its type, and where its rows are.
type Operand<'a> = (DeviceSlice<'a>, ScalarType, Rows);

pub(super) fn forward(form: Form, seen: Seen, x: Operand<'_>, y: &mut Out<'_>) -> Result<Ran> {
    let Some(name) = float_name(x.1) else { return Ok(Ran::Composed(Why::Dtype("x"))) };
    launch((form, seen), "forward", name, None, x, y)
}

pub(super) fn backward(
    form: Form,
    seen: Seen,
    dy: Operand<'_>,
    y: Operand<'_>,
    dx: &mut Out<'_>,
) -> Result<Ran> {
    match float_name(y.1) {
        Some(name) if dy.1 == y.1 => {
            launch((form, seen), "backward", &format!("{name}_{name}"), Some(dy), y, dx)
        }
        _ => Ok(Ran::Composed(Why::Dtype("dy"))),
    }
}

fn launch(
    (form, seen): (Form, Seen),
    what: &str,
    types: &str,
    dy: Option<Operand<'_>>,
    (x, of, rows): Operand<'_>,
    out: &mut Out<'_>,
) -> Result<Ran> {
    let Some(narrow) = narrow(of, out.scalar_type()) else {
        return Ok(Ran::Composed(Why::Dtype("the result")));
    };
    let Some(out) = on_device_mut(out) else { return Ok(Ran::Composed(Why::Device)) };
    let holder = Holder::of(rows.width);
    let (band, first) = match seen {
        Seen::Whole => (0, 0),
        Seen::Causal { rows, first } => (rows as u64, first as u64),
    };
    let args: [u64; 10] = [
        dy.map_or(0, |(dy, ..)| dy.address()),
        x.address(),
        out.address(),
        rows.count as u64,
        rows.width as u64,
        rows.pitch as u64,
        dy.map_or(0, |(_, _, rows)| rows.pitch as u64),
        narrow | u64::from(form == Form::LogSoftmax) << 32,
        band,
        first,
    ];
    let kernel = Kernel::load(x.gpu(), MODULE, &format!("softmax_{what}_{}_{types}", holder.name()))?;
    // SAFETY: `args` is `SoftmaxArgs`. `x` and `dy` have the rows that `In` was checked for, and the result as many elements,
    // as the caller compared; all are alive in the order of the stream.
    unsafe { kernel.launch(holder.blocks(rows.count), &args) }?;
    Ok(Ran::Kernel("softmax, CUDA"))
}
