//! The gradients of an optimizer's parameters, looked at and unscaled in the store.

use crate::active::Mode;
use crate::{Error, Parameter, Result};
use backends::bridge::with_list_of_floats;
use backends::kernels::grad_stats::{GradStats, grad_stats};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};

/// Says whether there are kernels for `device`.
pub(crate) fn check_device(op: &'static str, what: &str, device: &Device) -> Result<()> {
    let (supported, known) = if cfg!(feature = "cuda") {
        ("the CPU and CUDA devices", device.is_cpu() || device.is_cuda())
    } else {
        ("the CPU", device.is_cpu())
    };
    if known { Ok(()) } else { Err(unsupported(op, what, device, supported)) }
}

fn unsupported(op: &'static str, what: &str, device: &Device, supported: &'static str) -> Error {
    Error::UnsupportedDevice {
        op,
        what: what.to_string(),
        got: format!("{:?}", device.location()),
        supported,
    }
}

/// The gradients that `parameters` have in the store, each with the index of its parameter, contiguous and on `device`.
pub(crate) fn present(
    op: &'static str,
    mode: Mode,
    parameters: &[Parameter],
    grads: &GradStore,
    device: &Device,
) -> Result<Vec<(usize, Tensor)>> {
    let mut present = Vec::new();
    for (index, parameter) in parameters.iter().enumerate() {
        if let Some(grad) = grads.get(&parameter.var) {
            check_dtype(op, mode, &parameter.name, grad.dtype())?;
            if !grad.device().same_device(device) {
                return Err(unsupported(op, &parameter.name, grad.device(), "the scaler's own device"));
            }
            present.push((index, grad.contiguous()?));
        }
    }
    if present.is_empty() {
        return Err(Error::NoGradients { op, parameters: parameters.len() });
    }
    Ok(present)
}

/// The statistics of every gradient that `parameters` have in the store, with the index of its parameter.
pub(crate) fn stats(
    op: &'static str,
    mode: Mode,
    parameters: &[Parameter],
    grads: &GradStore,
    inv_scale: f32,
) -> Result<Vec<(usize, GradStats)>> {
    let present = present(op, mode, parameters, grads, &Device::Cpu)?;
    let tensors: Vec<&Tensor> = present.iter().map(|(_, grad)| grad).collect();
    let stats = with_list_of_floats(op, &tensors, |slices| grad_stats(slices, inv_scale))?;
    Ok(present.iter().map(|(index, _)| *index).zip(stats).collect())
}

/// Multiplies the gradients by `inv_scale`, 16-bit ones widened to f32 first.
pub(crate) fn unscale(parameters: &[Parameter], grads: &mut GradStore, inv_scale: f32) -> Result<()> {
    for parameter in parameters {
        if let Some(grad) = grads.get(&parameter.var) {
            let unscaled = unscaled(grad, inv_scale)?;
            grads.insert(&parameter.var, unscaled);
        }
    }
    Ok(())
}

/// One gradient, widened and unscaled.
pub(crate) fn unscaled(grad: &Tensor, inv_scale: f32) -> Result<Tensor> {
    let wide = if grad.dtype() == DType::F64 { grad.clone() } else { grad.to_dtype(DType::F32)? };
    Ok(wide.affine(f64::from(inv_scale), 0.0)?)
}

fn check_dtype(op: &'static str, mode: Mode, name: &str, dtype: DType) -> Result<()> {
    let what = || format!("the gradient of '{name}'");
    match dtype {
        DType::F16 | DType::F32 | DType::F64 => Ok(()),
        DType::BF16 if mode == Mode::Skipping => Ok(()),
        DType::BF16 => Err(Error::Bf16 { op, what: what() }),
        other => Err(Error::NotAFloat { op, what: what(), got: other.as_str() }),
    }
}
