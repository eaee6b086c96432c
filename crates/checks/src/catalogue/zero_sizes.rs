//! Every op of [`OPS`] on inputs of no elements: a value and gradients, or an error of ours; no panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use autocast::{Autocast, Error, Result, backward, ops};
use candle_core::{DType, Device, Tensor, Var};
use precision_types::Accelerator;

use super::op_calls::OPS;

/// What went wrong, a line each.
pub fn zero_sizes(device: &Device) -> Vec<String> {
    let mut wrong = Vec::new();
    for &(op, shapes, run) in OPS {
        for shapes in emptied(shapes) {
            for dtype in [DType::F32, DType::F64, DType::BF16] {
                let case = || differentiate(&shapes, dtype, device, &run);
                report(&mut wrong, format!("{op} of {shapes:?} in {dtype:?}"), case);
            }
            let case = || {
                let accelerator = if device.is_cpu() { Accelerator::Cpu } else { Accelerator::Gpu };
                let region = Autocast::new(accelerator, DType::BF16)?;
                differentiate(&shapes, DType::F32, device, &|x| region.run(|| run(x)))
            };
            report(&mut wrong, format!("{op} of {shapes:?} in a region"), case);
        }
    }
    wrong
}

/// The shapes with each size in turn replaced by 0: wherever it stands among the inputs, and in each input alone.
fn emptied(shapes: &[&[usize]]) -> Vec<Vec<Vec<usize>>> {
    let all: Vec<Vec<usize>> = shapes.iter().map(|shape| shape.to_vec()).collect();
    let mut sizes: Vec<usize> = all.concat();
    sizes.sort_unstable();
    sizes.dedup();
    let mut cases: Vec<Vec<Vec<usize>>> = Vec::new();
    for size in sizes {
        let zero =
            |shape: &Vec<usize>| shape.iter().map(|&s| if s == size { 0 } else { s }).collect::<Vec<_>>();
        cases.push(all.iter().map(zero).collect());
    }
    for (at, shape) in all.iter().enumerate() {
        for dim in 0..shape.len() {
            let mut one = all.clone();
            one[at][dim] = 0;
            cases.push(one);
        }
    }
    cases.sort();
    cases.dedup();
    cases
}

fn differentiate(
    shapes: &[Vec<usize>],
    dtype: DType,
    device: &Device,
    run: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<Option<String>> {
    // Made on the CPU: a device fills nothing.
    let make = |shape: &Vec<usize>| {
        Var::from_tensor(&Tensor::ones(shape.as_slice(), dtype, &Device::Cpu)?.to_device(device)?)
    };
    let vars = shapes.iter().map(make).collect::<candle_core::Result<Vec<_>>>()?;
    let inputs: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let value = run(&inputs)?;
    if !value.dtype().is_float() {
        return Ok(None);
    }
    let grads = backward(ops::sum_all(&value)?)?;
    for (var, shape) in vars.iter().zip(shapes) {
        match grads.get(var) {
            Some(grad) if grad.dims() == shape => {}
            Some(grad) => return Ok(Some(format!("a gradient of shape {:?} for {shape:?}", grad.dims()))),
            None => return Ok(Some(format!("no gradient for the input of shape {shape:?}"))),
        }
    }
    Ok(None)
}

fn report(wrong: &mut Vec<String>, case: String, run: impl FnOnce() -> Result<Option<String>>) {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(None)) => {}
        Ok(Ok(Some(what))) => wrong.push(format!("{case}: {what}")),
        // candle's words for a size, or a device's for an empty launch, are not ours.
        Ok(Err(Error::Candle(error))) => {
            let text = error.to_string();
            wrong.push(format!("{case}: candle: {}", text.lines().next().unwrap_or_default()));
        }
        Ok(Err(_)) => {}
        Err(_) => wrong.push(format!("{case}: a panic")),
    }
}
