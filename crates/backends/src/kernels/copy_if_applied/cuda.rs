//! The launch, for all tensors together.

#![expect(unsafe_code, reason = "launching a kernel")]

use crate::cuda::{Kernel, Module, Table, device, module, read_address, slice_address, write_address};
use crate::kernels::step::launch::Launched;
use crate::{Error, Result};
use candle_core::{CudaDevice, Device, Tensor, Var};

const OP: &str = "copy_if_applied";
const MODULE: Module = module!("copy_if_applied");
/// Blocks that share one tensor.
const BLOCKS_PER_COPY: u64 = 4;

#[derive(Debug)]
pub(super) struct OnDevice {
    candle: CudaDevice,
    copies: Table,
    kernel: Kernel,
}

impl OnDevice {
    pub(super) fn new(on: &Device) -> Result<Self> {
        let candle = on.as_cuda_device().map_err(device(OP))?;
        let kernel = Kernel::load(candle, MODULE, "copy_if_applied")?;
        Ok(Self { candle: candle.clone(), copies: Table::new(candle), kernel })
    }

    pub(super) fn copy(&mut self, step: &Launched, pairs: &[(Var, Tensor)]) -> Result<()> {
        let mut words = Vec::with_capacity(3 * pairs.len());
        for (dst, src) in pairs {
            let (expected, got) = (dst.elem_count(), src.elem_count());
            if expected != got {
                return Err(Error::LengthMismatch { op: OP, argument: "the new value", expected, got });
            }
            if dst.dtype() != src.dtype() {
                let (expected, got) = (dst.dtype().as_str().into(), src.dtype().as_str().into());
                return Err(Error::Operand { op: OP, argument: "the new value", expected, got });
            }
            words.push(read_address(OP, "the new value", &self.candle, src)?);
            words.push(write_address(OP, "the old value", &self.candle, dst)?);
            words.push((expected * dst.dtype().size_in_bytes() / 2) as u64);
        }
        let (state, serial) = step.decision();
        let args: [u64; 3] = [
            self.copies.upload(&words)?,
            slice_address(state, &self.candle.cuda_stream()),
            u64::from(serial) | BLOCKS_PER_COPY << 32,
        ];
        // SAFETY: `args` is `CopyArgs`. The table holds addresses of pairs of contiguous tensors on this device of as many
        // bytes as it says, and a block for each quarter of a pair is launched; the decision is kept alive by `step`. What
        // frees any of them does so in the order of the stream.
        unsafe { self.kernel.launch(pairs.len() as u64 * BLOCKS_PER_COPY, &args) }
    }
}
