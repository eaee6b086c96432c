//! What a region is made of.

use candle_core::{DType, Device, Tensor};
use precision_types::Accelerator;

use super::cache::CachePolicy;
use crate::Result;
use crate::table::{Input, OpTable};

/// The settings of an [`Autocast`](crate::Autocast).
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) accelerator: Accelerator,
    pub(super) fast_dtype: DType,
    pub(super) table: OpTable,
    pub(super) state: State,
    pub(super) cache: CachePolicy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Enabled,
    Disabled,
}

impl Settings {
    /// The dtypes in which `op` takes `inputs`.
    pub(super) fn dtypes(&self, op: &str, inputs: &[&Tensor]) -> Result<Vec<DType>> {
        let input = |t: &&Tensor| Input { dtype: t.dtype(), on_device: self.covers(t.device()) };
        self.table.cast_dtypes(op, self.fast_dtype, &inputs.iter().map(input).collect::<Vec<_>>())
    }

    /// Whether the region casts tensors on `device`.
    fn covers(&self, device: &Device) -> bool {
        match self.accelerator {
            Accelerator::Cpu => device.is_cpu(),
            Accelerator::Gpu => !device.is_cpu(),
            Accelerator::Tpu => false,
        }
    }
}
