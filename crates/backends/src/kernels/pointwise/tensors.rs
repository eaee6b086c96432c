//! The same for candle's tensors, on the CPU and, with feature `cuda`, on CUDA devices.

use candle_core::{Device, Tensor};

use super::{Function, Pair, gradients, pair_gradients, pair_values, values};
use crate::{Error, Floats, Result, bridge};

const OP: &str = "pointwise";

/// Runs `$body` with `$x` as the slice of floats that it is, whatever its type.
macro_rules! typed {
    ($floats:expr, $x:ident => $body:expr) => {
        match $floats {
            Floats::F16($x) => $body,
            Floats::Bf16($x) => $body,
            Floats::F32($x) => $body,
            Floats::F64($x) => $body,
        }
    };
}

fn tensor<T: candle_core::WithDType>(values: Vec<T>, like: &Tensor) -> Result<Tensor> {
    let failed = |error: candle_core::Error| Error::Device { op: OP.to_string(), message: error.to_string() };
    Tensor::from_vec(values, like.shape(), &Device::Cpu).map_err(failed)
}

/// `function` of every element, in `x`'s dtype.
///
/// # Errors
///
/// [`Error::Operand`] for a tensor on another device, or no float.
pub fn value_of(function: Function, x: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return super::cuda::value(function, x);
    }
    bridge::with_floats(OP, [x], |[floats]| typed!(floats, slice => tensor(values(function, slice), x)))?
}

/// The gradient of `x` in `x`'s dtype, from that of `function`'s value in any.
///
/// # Errors
///
/// As [`value_of`], and [`Error::LengthMismatch`].
pub fn gradient_of(function: Function, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return super::cuda::gradient(function, x, grad);
    }
    bridge::with_floats(
        OP,
        [x, grad],
        |[floats, grad]| typed!(floats, slice => tensor(gradients(function, slice, grad)?, x)),
    )?
}

/// `pair` of the elements of two tensors of one shape, in `a`'s dtype.
///
/// # Errors
///
/// As [`gradient_of`].
pub fn value_of_pair(pair: Pair, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if a.device().is_cuda() {
        return super::cuda::value_of_pair(pair, a, b);
    }
    bridge::with_floats(
        OP,
        [a, b],
        |[floats, b]| typed!(floats, slice => tensor(pair_values(pair, slice, b)?, a)),
    )?
}

/// The gradients of both, in `a`'s dtype.
///
/// # Errors
///
/// As [`gradient_of`].
pub fn gradients_of_pair(pair: Pair, a: &Tensor, b: &Tensor, grad: &Tensor) -> Result<[Tensor; 2]> {
    #[cfg(feature = "cuda")]
    if a.device().is_cuda() {
        return super::cuda::gradients_of_pair(pair, a, b, grad);
    }
    bridge::with_floats(OP, [a, b, grad], |[floats, b, grad]| {
        typed!(floats, slice => {
            let [first, second] = pair_gradients(pair, slice, b, grad)?;
            Ok([tensor(first, a)?, tensor(second, a)?])
        })
    })?
}
