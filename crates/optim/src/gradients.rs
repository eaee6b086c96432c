//! The gradients of an optimizer's parameters: the one place where they are looked up, checked and laid out.

use crate::{Error, Parameter, Result};
use backends::kernels::step::{is_float, storage_address};
use candle_core::Tensor;
use candle_core::backprop::GradStore;
use std::collections::HashSet;

/// The gradients that `parameters` have in the store, each with the index of its parameter, as kernels take them: of the
/// parameter's shape, in any float dtype, contiguous, and in memory that is not a parameter's, which is written to while
/// they are read.
///
/// # Errors
///
/// [`Error::BadGradient`] for one that does not fit its parameter.
pub fn gradients(parameters: &[Parameter], grads: &GradStore) -> Result<Vec<(usize, Tensor)>> {
    let taken: HashSet<usize> = parameters.iter().map(|p| storage_address(&p.var)).collect();
    let mut present = Vec::with_capacity(parameters.len());
    for (slot, parameter) in parameters.iter().enumerate() {
        if let Some(grad) = grads.get(&parameter.var) {
            check_gradient(parameter, grad)?;
            let grad = grad.contiguous()?;
            present.push((slot, if taken.contains(&storage_address(&grad)) { grad.copy()? } else { grad }));
        }
    }
    Ok(present)
}

/// The same, borrowed.
pub(crate) fn by_slot(grads: &[(usize, Tensor)]) -> Vec<(usize, &Tensor)> {
    grads.iter().map(|(slot, grad)| (*slot, grad)).collect()
}

fn check_gradient(parameter: &Parameter, grad: &Tensor) -> Result<()> {
    let Parameter { name, var } = parameter;
    let (expected, got) = if grad.shape() != var.shape() {
        (format!("the shape {:?}", var.dims()), format!("{:?}", grad.dims()))
    } else if !is_float(grad.dtype()) {
        ("f16, bf16, f32 or f64".into(), grad.dtype().as_str().into())
    } else if !grad.device().same_device(var.device()) {
        let on = |tensor: &Tensor| format!("{:?}", tensor.device().location());
        (format!("a tensor on {}, as the parameter is", on(var)), on(grad))
    } else {
        return Ok(());
    };
    Err(Error::BadGradient { name: name.clone(), expected, got })
}
