//! `Accelerator`: the kind of device a run uses. Whether one is present is for the trainer to find out.

use std::{fmt, str::FromStr};

use crate::{Error, Result};

/// A kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Accelerator {
    /// The host's own cores.
    Cpu,
    /// A CUDA GPU.
    Gpu,
    /// A TPU.
    Tpu,
}

impl Accelerator {
    /// Every accelerator, in the order of the support matrix's columns.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Gpu, Self::Tpu];

    /// The canonical string: `"cpu"`, `"gpu"` or `"tpu"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::Tpu => "tpu",
        }
    }

    /// The name as prose and tables write it: `CPU`, `GPU`, `TPU`.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Gpu => "GPU",
            Self::Tpu => "TPU",
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Reads `"cpu"`, `"gpu"` or `"tpu"`, and `"cuda"` as Lightning does, for the GPU. Nothing is trimmed and case counts.
impl FromStr for Accelerator {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "cpu" => Ok(Self::Cpu),
            "gpu" | "cuda" => Ok(Self::Gpu),
            "tpu" => Ok(Self::Tpu),
            "auto" => Err(Error::UnresolvedAccelerator),
            _ => Err(Error::UnknownAccelerator { got: name.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_strings_round_trip() {
        for accelerator in Accelerator::ALL {
            assert_eq!(accelerator.to_string().parse(), Ok(accelerator));
        }
        assert_eq!("cuda".parse(), Ok(Accelerator::Gpu));
    }

    #[test]
    fn anything_else_is_an_error_that_lists_the_accelerators() {
        for name in ["", "CPU", " cpu", "mps", "auto"] {
            let message = name.parse::<Accelerator>().unwrap_err().to_string();
            assert!(message.contains(&format!("accelerator {name:?}")), "{message}");
            assert!(message.contains("\"cpu\", \"gpu\", \"tpu\""), "{message}");
        }
    }
}
