//! From an accelerator's name to a device of this machine.

use candle_core::Device;
use precision_types::Accelerator;

use crate::{Error, Result};

/// Which accelerator to train on: one by name, or the best that this machine has.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// use trainer::{Accelerator, IntoAcceleratorChoice};
///
/// let (accelerator, device) = "cpu".into_accelerator_choice()?.open()?;
/// assert!(accelerator == Accelerator::Cpu && device.is_cpu());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AcceleratorChoice {
    /// A GPU if one is available, else the CPU.
    #[default]
    Auto,
    /// This one, or an error.
    Exactly(Accelerator),
}

impl AcceleratorChoice {
    /// The accelerator and the device that the choice means on this machine.
    ///
    /// # Errors
    /// When the accelerator is not available.
    pub fn open(self) -> Result<(Accelerator, Device)> {
        match self {
            Self::Auto => {
                Self::Exactly(Accelerator::Gpu).open().or_else(|_| Self::Exactly(Accelerator::Cpu).open())
            }
            Self::Exactly(Accelerator::Cpu) => Ok((Accelerator::Cpu, Device::Cpu)),
            Self::Exactly(Accelerator::Gpu) => Ok((Accelerator::Gpu, open_gpu()?)),
            Self::Exactly(accelerator) => Err(Error::Unavailable {
                accelerator,
                reason: "no TPU runtime is available here".to_string(),
                advice: "use cpu, gpu or auto",
            }),
        }
    }
}

fn open_gpu() -> Result<Device> {
    let unavailable =
        |reason: String, advice| Error::Unavailable { accelerator: Accelerator::Gpu, reason, advice };
    if !candle_core::utils::cuda_is_available() {
        return Err(unavailable(
            "no GPU is available here: this program was built without the `cuda` feature".to_string(),
            "build with `--features cuda`, or use the cpu",
        ));
    }
    Device::new_cuda(0).map_err(|error| {
        let reason = error.to_string().lines().next().unwrap_or_default().to_string();
        unavailable(
            format!("no GPU is available here: {reason}"),
            "check the NVIDIA driver with nvidia-smi, or use the cpu",
        )
    })
}

/// What `Trainer::builder().accelerator(..)` takes: `"auto"`, an accelerator's name, or an `Accelerator`.
pub trait IntoAcceleratorChoice {
    /// The choice.
    ///
    /// # Errors
    /// When the name is none that exists.
    fn into_accelerator_choice(self) -> Result<AcceleratorChoice>;
}

impl IntoAcceleratorChoice for AcceleratorChoice {
    fn into_accelerator_choice(self) -> Result<AcceleratorChoice> {
        Ok(self)
    }
}

impl IntoAcceleratorChoice for Accelerator {
    fn into_accelerator_choice(self) -> Result<AcceleratorChoice> {
        Ok(AcceleratorChoice::Exactly(self))
    }
}

impl IntoAcceleratorChoice for &str {
    fn into_accelerator_choice(self) -> Result<AcceleratorChoice> {
        match self {
            "auto" => Ok(AcceleratorChoice::Auto),
            name => match name.parse() {
                Ok(accelerator) => Ok(AcceleratorChoice::Exactly(accelerator)),
                Err(_) => Err(Error::UnknownAccelerator { got: name.to_string() }),
            },
        }
    }
}

impl IntoAcceleratorChoice for String {
    fn into_accelerator_choice(self) -> Result<AcceleratorChoice> {
        self.as_str().into_accelerator_choice()
    }
}
