//! The gradients of an optimizer's parameters, checked and laid out as kernels take them.

use crate::{Error, Parameter, Result};
use candle_core::backprop::GradStore;
use candle_core::{DType, Storage, Tensor};
use std::collections::HashSet;

/// The gradient of each parameter, as the kernels take it: contiguous, of the parameter's shape, and in memory that is
/// not a parameter's, which is written to while it is read.
pub(crate) fn gradients(parameters: &[Parameter], grads: &GradStore) -> Result<Vec<Option<Tensor>>> {
    let taken: HashSet<usize> = parameters.iter().map(|p| address(&p.var)).collect();
    let prepare = |parameter: &Parameter| {
        let Some(grad) = grads.get(&parameter.var) else { return Ok(None) };
        check_gradient(parameter, grad)?;
        let own = if taken.contains(&address(grad)) { grad.copy()? } else { grad.contiguous()? };
        Ok(Some(own))
    };
    parameters.iter().map(prepare).collect()
}

/// Where a tensor's storage lives: equal for two tensors that share it.
pub(crate) fn address(tensor: &Tensor) -> usize {
    let (storage, _) = tensor.storage_and_layout();
    std::ptr::from_ref::<Storage>(&storage).addr()
}

fn check_gradient(parameter: &Parameter, grad: &Tensor) -> Result<()> {
    let Parameter { name, var } = parameter;
    let float = matches!(grad.dtype(), DType::F16 | DType::BF16 | DType::F32 | DType::F64);
    let (expected, got) = if grad.shape() != var.shape() {
        (format!("the shape {:?}", var.dims()), format!("{:?}", grad.dims()))
    } else if !float {
        ("f16, bf16, f32 or f64".into(), grad.dtype().as_str().into())
    } else if !grad.device().same_device(var.device()) {
        let on = |tensor: &Tensor| format!("{:?}", tensor.device().location());
        (format!("a tensor on {}, as the parameter is", on(var)), on(grad))
    } else {
        return Ok(());
    };
    Err(Error::BadGradient { name: name.clone(), expected, got })
}
