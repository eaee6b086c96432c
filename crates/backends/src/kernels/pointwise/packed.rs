//! The launches of `sixteen.cu` and `single.cu`: the functions that networks are made of, in f32, on elements of 16 bits and f32.

#![expect(unsafe_code, reason = "launching a kernel")]

use super::Function;
use crate::bridge;
use crate::buffer::{In, Out, Place, PlaceMut, Ran, ScalarType, Why};
use crate::cuda::{BLOCK, Kernel, Module, module};
use crate::{Error, Result};
use candle_core::{DType, Tensor};

const OP: &str = "pointwise";
/// By the elements: the module, what its kernels' names begin with, and how many a thread takes.
const SIXTEEN: (Module, &str, u64) = (module!("sixteen"), "sixteen", 8);
const SINGLE: (Module, &str, u64) = (module!("single"), "single", 4);

/// Blocks of a launch; more elements are walked by these.
const GRID: u64 = 1 << 16;

/// The function of `x`, or the gradient of `x`; `None` where no kernel takes it.
pub(super) fn launch(function: Function, x: &Tensor, grad: Option<&Tensor>) -> Result<Option<Tensor>> {
    let elements = match x.dtype() {
        DType::F16 | DType::BF16 => SIXTEEN,
        DType::F32 => SINGLE,
        _ => return Ok(None),
    };
    if grad.is_some_and(|grad| grad.dtype() != x.dtype()) {
        return Ok(None);
    }
    let Some((name, setting)) = kernel(function) else { return Ok(None) };
    if let Some(got) = grad.map(Tensor::elem_count).filter(|&got| got != x.elem_count()) {
        return Err(Error::LengthMismatch { op: OP, argument: "grad", expected: x.elem_count(), got });
    }
    let x = bridge::in_rows(OP, x, x.elem_count())?;
    let grad = grad.map(|grad| bridge::in_rows(OP, grad, grad.elem_count())).transpose()?;
    let inputs: Vec<&Tensor> = std::iter::once(&x).chain(&grad).collect();
    let output = (x.shape().clone(), x.dtype());
    Ok(bridge::run_one(OP, &inputs, output, |ins, out| run(elements, name, setting, ins, out))?.ran())
}

/// The name in both files, and the setting.
fn kernel(function: Function) -> Option<(&'static str, f32)> {
    Some(match function {
        Function::Relu => ("relu", 0.),
        Function::Gelu => ("gelu", 0.),
        Function::GeluTanh => ("gelu_tanh", 0.),
        Function::Silu => ("silu", 0.),
        Function::Sigmoid => ("sigmoid", 0.),
        Function::Tanh => ("tanh", 0.),
        Function::Scale { factor } => ("scale", factor as f32),
        Function::Square => ("square", 0.),
        _ => return None,
    })
}

fn run(
    (module, elements, each): (Module, &'static str, u64),
    name: &str,
    setting: f32,
    ins: &[In<'_>],
    out: &mut Out<'_>,
) -> Result<Ran> {
    if !ins.iter().all(In::is_contiguous) {
        return Ok(Ran::Composed(Why::Layout("x")));
    }
    let address = |input: Option<&In<'_>>| match input.map(In::place) {
        Some(Place::Device(slice)) => slice.address(),
        _ => 0,
    };
    let len = out.count() as u64;
    let bf16 = u64::from(out.scalar_type() == ScalarType::Bf16);
    let PlaceMut::Device(to) = out.place() else { return Ok(Ran::Composed(Why::Device)) };
    let setting = u64::from(setting.to_bits()) | bf16 << 32;
    let args: [u64; 5] = [address(ins.first()), address(ins.get(1)), to.address(), len, setting];
    let name = format!("{elements}_{name}{}", if ins.len() == 1 { "" } else { "_gradient" });
    let blocks = len.div_ceil(each * u64::from(BLOCK)).min(GRID);
    // SAFETY: `args` is `PackedArgs`. The inputs and the result are contiguous buffers on one device of `len` elements of the
    // type that the kernel is of, which `bf16` tells of 16 bits, as checked, and are freed in the order of the stream.
    unsafe { Kernel::load(to.gpu(), module, &name)?.launch(blocks, &args) }?;
    Ok(Ran::Kernel(elements))
}
