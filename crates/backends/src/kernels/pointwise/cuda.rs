//! The launch: one kernel for every function, value and gradient.

#![expect(unsafe_code, reason = "launching a kernel")]

use super::{Function, Pair, packed};
use crate::cuda::{BLOCK, Kernel, Module, device, dtype_code, module, read_address, write_address};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};

const OP: &str = "pointwise";
const MODULE: Module = module!("pointwise");

/// Blocks of a launch; more elements are walked by these.
const GRID: u64 = 1 << 16;

pub(super) fn value(function: Function, x: &Tensor) -> Result<Tensor> {
    if let Some(value) = packed::launch(function, x, None)? {
        return Ok(value);
    }
    launch(function.words(x.dtype()), x, None, None)
}

pub(super) fn gradient(function: Function, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
    if let Some(gradient) = packed::launch(function, x, Some(grad))? {
        return Ok(gradient);
    }
    launch(function.words(x.dtype()), x, None, Some((grad, 0)))
}

pub(super) fn value_of_pair(Pair::Power: Pair, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    launch([0; 3], a, Some(b), None)
}

pub(super) fn gradients_of_pair(
    Pair::Power: Pair,
    a: &Tensor,
    b: &Tensor,
    grad: &Tensor,
) -> Result<[Tensor; 2]> {
    Ok([launch([0; 3], a, Some(b), Some((grad, 0)))?, launch([0; 3], a, Some(b), Some((grad, 1)))?])
}

/// `[first setting, second setting, code]`; the gradient is for the operand of the given number.
fn launch(
    [first, second, function]: [u64; 3],
    x: &Tensor,
    y: Option<&Tensor>,
    grad: Option<(&Tensor, u64)>,
) -> Result<Tensor> {
    let contiguous = |t: &Tensor| t.detach().contiguous().map_err(device(OP));
    let x = contiguous(x)?;
    let y = y.map(contiguous).transpose()?;
    let grad = grad.map(|(grad, wrt)| Ok((contiguous(grad)?, wrt))).transpose()?;
    let len = x.elem_count();
    for (argument, other) in [("b", y.as_ref()), ("grad", grad.as_ref().map(|(grad, _)| grad))] {
        if let Some(got) = other.map(Tensor::elem_count).filter(|&got| got != len) {
            return Err(Error::LengthMismatch { op: OP, argument, expected: len, got });
        }
    }
    let Device::Cuda(candle) = x.device() else {
        let got = format!("{:?}", x.device().location());
        return Err(Error::Operand { op: OP, argument: "x", expected: "on a CUDA device".into(), got });
    };
    let out = crate::bridge::fresh_like(OP, &x)?;
    if len == 0 {
        return Ok(out);
    }
    let read = |argument, t: &Tensor| read_address(OP, argument, candle, t);
    let code = |t: Option<&Tensor>| t.map_or(Ok(0), |t| dtype_code(OP, t.dtype()));
    let (grad, wrt) = (grad.as_ref().map(|(grad, _)| grad), grad.as_ref().map_or(0, |(_, wrt)| *wrt));
    let dtypes = code(Some(&x))? | code(y.as_ref())? << 8 | code(grad)? << 16 | wrt << 24;
    let args: [u64; 8] = [
        read("x", &x)?,
        y.as_ref().map_or(Ok(0), |y| read("b", y))?,
        grad.map_or(Ok(0), |grad| read("grad", grad))?,
        write_address(OP, "the result", candle, &out)?,
        len as u64,
        first,
        second,
        dtypes | function << 32,
    ];
    // SAFETY: `args` is `PointwiseArgs`. Every tensor is contiguous on this device with `len` elements of the dtype given
    // beside it, as checked, and is freed in the order of the stream.
    unsafe {
        Kernel::load(candle, MODULE, "pointwise")?
            .launch((len as u64).div_ceil(BLOCK.into()).min(GRID), &args)
    }?;
    crate::bridge::hear(OP, &crate::buffer::Ran::Kernel(OP));
    Ok(out)
}

impl Function {
    /// The settings as elements of `dtype` meet them, and the function's place in the kernel's list.
    fn words(self, dtype: DType) -> [u64; 3] {
        let rounded = match dtype {
            DType::F16 => self.rounded::<f16>(),
            DType::BF16 => self.rounded::<bf16>(),
            DType::F64 => self.rounded::<f64>(),
            _ => self.rounded::<f32>(),
        };
        let (first, second) = match rounded {
            Self::Add { term: only }
            | Self::Divide { divisor: only }
            | Self::Elu { alpha: only }
            | Self::LeakyRelu { slope: only }
            | Self::Power { exponent: only }
            | Self::Scale { factor: only } => (only, 0.),
            Self::Clamp { low, high } | Self::Hardtanh { low, high } => (low, high),
            _ => (0., 0.),
        };
        [first.to_bits(), second.to_bits(), self.code()]
    }

    /// `Function` in `pointwise.cu`.
    fn code(self) -> u64 {
        match self {
            Self::Abs => 0,
            Self::Acos => 1,
            Self::Add { .. } => 2,
            Self::Asin => 3,
            Self::Atan => 4,
            Self::Clamp { .. } => 5,
            Self::Cos => 6,
            Self::Cosh => 7,
            Self::Divide { .. } => 8,
            Self::Elu { .. } => 9,
            Self::Erf => 10,
            Self::Erfinv => 11,
            Self::Exp => 12,
            Self::Expm1 => 13,
            Self::Gelu => 14,
            Self::GeluTanh => 15,
            Self::Hardsigmoid => 16,
            Self::Hardswish => 17,
            Self::Hardtanh { .. } => 18,
            Self::LeakyRelu { .. } => 19,
            Self::Log => 20,
            Self::Log10 => 21,
            Self::Log1p => 22,
            Self::Log2 => 23,
            Self::Mish => 24,
            Self::Neg => 25,
            Self::Power { .. } => 26,
            Self::Reciprocal => 27,
            Self::Relu => 28,
            Self::Rsqrt => 29,
            Self::Scale { .. } => 30,
            Self::Sigmoid => 31,
            Self::Silu => 32,
            Self::Sin => 33,
            Self::Sinh => 34,
            Self::Softplus => 35,
            Self::Sqrt => 36,
            Self::Square => 37,
            Self::Tan => 38,
            Self::Tanh => 39,
        }
    }
}
