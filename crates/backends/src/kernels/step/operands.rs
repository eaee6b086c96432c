//! What a step is given: parameters, their gradients and their states, as tensors on any device.

use super::WriteBack;
use crate::{Error, Result};
use candle_core::{DType, Device, Storage, Tensor};

pub(super) const OP: &str = "step";

/// What an optimizer remembers of a parameter between steps, where the parameter is. Steps write to it in place.
#[derive(Clone, Debug)]
pub struct State {
    /// As many as the rule has: f32, or f64 for f64 weights.
    pub moments: Vec<Tensor>,
    /// What the weights' type cannot hold: an f32 master, a compensation in the weights' own type, or the seed of chance.
    pub write_back: WriteBack<Tensor, Tensor>,
}

/// One parameter that has a gradient. All tensors are contiguous and on the optimizer's device.
#[derive(Clone, Copy, Debug)]
pub struct Parameter<'a> {
    /// The parameter's index in the optimizer: below the number of slots, and in the list once.
    pub slot: usize,
    /// The index of its settings.
    pub group: usize,
    /// The parameter itself: f16, bf16, f32 or f64. It shares its memory with no other tensor of the step.
    pub weights: &'a Tensor,
    /// Its gradient, of any of these types.
    pub grad: &'a Tensor,
    /// What is kept of it.
    pub state: &'a State,
}

/// The devices that this build has kernels for, in words.
pub const SUPPORTED_DEVICES: &str =
    if cfg!(feature = "cuda") { "the CPU and CUDA devices" } else { "the CPU" };

/// Whether this build has kernels for a device.
pub fn is_supported(device: &Device) -> bool {
    device.is_cpu() || cfg!(feature = "cuda") && device.is_cuda()
}

/// Whether weights and gradients may be of this type.
pub fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
}

/// Where a tensor's storage lives: equal for two tensors that share it.
pub fn storage_address(tensor: &Tensor) -> usize {
    let (storage, _) = tensor.storage_and_layout();
    std::ptr::from_ref::<Storage>(&storage).addr()
}

/// The type that arithmetic on weights runs in: `compute_t` in `multi_tensor.cuh`.
pub fn arithmetic(weights: DType) -> DType {
    if weights == DType::F64 { DType::F64 } else { DType::F32 }
}

/// Refuses what does not fit, before anything is changed.
pub(super) fn check(
    parameters: &[Parameter<'_>],
    on: &Device,
    slots: usize,
    groups: usize,
    moments: usize,
) -> Result<()> {
    let mut seen = vec![false; slots];
    for p in parameters {
        take_slot(&mut seen, p.slot)?;
        if p.group >= groups {
            return Err(operand("a group", format!("below {groups}"), p.group));
        }
        check_tensors(p, on, moments)?;
    }
    Ok(())
}

/// Refuses a slot that is not there, or that was taken before.
pub(super) fn take_slot(seen: &mut [bool], slot: usize) -> Result<()> {
    let slots = seen.len();
    let Some(free) = seen.get_mut(slot).filter(|taken| !**taken) else {
        return Err(operand("a slot", format!("below {slots} and in the list once"), slot));
    };
    *free = true;
    Ok(())
}

fn check_tensors(p: &Parameter<'_>, on: &Device, moments: usize) -> Result<()> {
    let dtype = p.weights.dtype();
    let arithmetic = arithmetic(dtype);
    let fits = |argument, tensor: &Tensor, wanted: Option<DType>| {
        let (expected, got) = (p.weights.elem_count(), tensor.elem_count());
        if expected != got {
            return Err(Error::LengthMismatch { op: OP, argument, expected, got });
        }
        if !tensor.device().same_device(on) {
            let at = |device: &Device| format!("on {:?}", device.location());
            return Err(operand(argument, at(on), at(tensor.device())));
        }
        if !tensor.is_contiguous() {
            return Err(operand(argument, "contiguous".into(), format!("strided as {:?}", tensor.stride())));
        }
        let fits = wanted.map_or(is_float(tensor.dtype()), |wanted| wanted == tensor.dtype());
        let wanted = wanted.map_or("f16, bf16, f32 or f64", |wanted| wanted.as_str());
        if fits { Ok(()) } else { Err(operand(argument, wanted.into(), tensor.dtype().as_str())) }
    };
    fits("the weights", p.weights, None)?;
    fits("a gradient", p.grad, None)?;
    if p.state.moments.len() != moments {
        return Err(operand("the moments", moments.to_string(), p.state.moments.len()));
    }
    p.state.moments.iter().try_for_each(|moment| fits("a moment", moment, Some(arithmetic)))?;
    match &p.state.write_back {
        WriteBack::Nearest => Ok(()),
        _ if dtype == arithmetic => {
            let expected = "Nearest for weights that hold every bit".into();
            Err(operand("the write-back", expected, format!("another one for {}", dtype.as_str())))
        }
        WriteBack::Master(master) => fits("a master", master, Some(arithmetic)),
        WriteBack::Kahan(lost) => fits("a compensation", lost, Some(dtype)),
        WriteBack::Stochastic { .. } => Ok(()),
    }
}

pub(super) fn operand(argument: &'static str, expected: String, got: impl ToString) -> Error {
    Error::Operand { op: OP, argument, expected, got: got.to_string() }
}
