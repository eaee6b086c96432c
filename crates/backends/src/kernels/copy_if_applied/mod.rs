//! Tensors that are copied over others if a step was applied, and left where it was skipped: what a forward pass wants to
//! remember, such as running statistics, of a step about which a device has yet to decide.
//!
//! Contract: bit-exact, a NaN's payload included.

#[cfg(feature = "cuda")]
mod cuda;

#[cfg(feature = "candle")]
pub use copies::CopyIfApplied;

#[cfg(feature = "candle")]
mod copies {
    #[cfg(feature = "cuda")]
    use super::cuda::OnDevice;
    use crate::kernels::step::Pending;
    use crate::{Error, Result};
    use candle_core::{Tensor, Var};

    /// Copies that wait for a step's outcome, on the step's device.
    #[derive(Debug, Default)]
    pub struct CopyIfApplied {
        #[cfg(feature = "cuda")]
        on_device: Option<OnDevice>,
    }

    impl CopyIfApplied {
        /// Writes the value of each pair over its variable, unless `step` is skipped. Does not wait for a device. There the
        /// step must be its optimizer's last one so far: else nothing is copied.
        ///
        /// # Errors
        ///
        /// [`Error::Operand`] for a tensor that is not contiguous, not on the step's device, or no float, or for two dtypes;
        /// [`Error::LengthMismatch`]; [`Error::Device`].
        pub fn copy(&mut self, step: &Pending, pairs: &[(Var, Tensor)]) -> Result<()> {
            #[cfg(feature = "cuda")]
            if let Some(launched) = step.as_launched() {
                let Some((first, _)) = pairs.first() else { return Ok(()) };
                let on_device = match &mut self.on_device {
                    Some(on_device) => on_device,
                    none => none.insert(OnDevice::new(first.device())?),
                };
                return on_device.copy(launched, pairs);
            }
            let applied = step.poll()?.is_some_and(|outcome| !outcome.found_inf);
            let set = |(var, value): &(Var, Tensor)| var.set(value);
            let copied = if applied { pairs.iter().try_for_each(set) } else { Ok(()) };
            copied.map_err(|error| Error::Device { op: "copy_if_applied".into(), message: error.to_string() })
        }
    }
}
