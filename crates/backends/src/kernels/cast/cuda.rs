//! The launch.

#![expect(unsafe_code, reason = "launching a kernel")]

use crate::cuda::{BLOCK, Kernel, Module, read_address, write_address};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};

const OP: &str = "cast";
const MODULE: Module =
    Module { name: "mixed_precision_cast", ptx: include_str!(concat!(env!("OUT_DIR"), "/cast.ptx")) };

/// Writes `src`, cast to the dtype of `dst`, over `dst`: one of the two is f32 and the other 16 bits wide.
///
/// # Errors
///
/// [`Error::Operand`] for other dtypes, another device than CUDA, or a tensor that is not contiguous;
/// [`Error::LengthMismatch`].
pub fn cast(src: &Tensor, dst: &Tensor) -> Result<()> {
    let name = match (src.dtype(), dst.dtype()) {
        (DType::F32, DType::F16) => "cast_f32_f16",
        (DType::F32, DType::BF16) => "cast_f32_bf16",
        (DType::F16, DType::F32) => "cast_f16_f32",
        (DType::BF16, DType::F32) => "cast_bf16_f32",
        (from, to) => {
            let got = format!("{} to {}", from.as_str(), to.as_str());
            return Err(Error::Operand {
                op: OP,
                argument: "the dtypes",
                expected: "f32 and a 16-bit one".into(),
                got,
            });
        }
    };
    let (expected, got) = (src.elem_count(), dst.elem_count());
    if expected != got {
        return Err(Error::LengthMismatch { op: OP, argument: "dst", expected, got });
    }
    let Device::Cuda(candle) = src.device() else {
        let got = format!("{:?}", src.device().location());
        return Err(Error::Operand { op: OP, argument: "src", expected: "on a CUDA device".into(), got });
    };
    let args =
        [read_address(OP, "src", candle, src)?, write_address(OP, "dst", candle, dst)?, expected as u64];
    let blocks = (expected as u64).div_ceil(4 * u64::from(BLOCK)).min(1 << 16);
    // SAFETY: the kernel's parameters are passed one by one as these three words, both tensors are contiguous on this
    // device with `expected` elements, and what frees them does so in the order of the stream.
    unsafe { Kernel::load(candle, MODULE, name)?.launch_each(blocks, &args) }
}
