//! What an optimizer remembers about a parameter between steps: tensors where the parameter is.

use crate::{Error, Parameter, Result};
use backends::kernels::step::{self, State, arithmetic, is_float, random_bits};
use candle_core::{Device, Tensor};

/// Where the part of a 16-bit parameter goes that its dtype cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WriteBack {
    /// An f32 master behind each parameter: 4 bytes more each, and nothing is lost. Setting the variable from outside
    /// resets its master.
    #[default]
    MasterWeights,
    /// A compensation of the parameter's own dtype: 2 bytes more. Parameter and compensation together hold 16 bits of
    /// mantissa in bf16 and 22 in f16.
    Kahan,
    /// Nothing more to store: updates below the last bit happen with the probability that makes them right on average.
    /// The same seed gives the same run.
    StochasticRounding {
        /// Where the randomness starts, together with [`Optimizer::set_seed`](crate::Optimizer::set_seed).
        seed: u64,
    },
}

impl WriteBack {
    /// The same under the seed of a run, of which 0 changes nothing.
    pub(crate) fn under(self, run: u64) -> Self {
        match self {
            Self::StochasticRounding { seed } if run != 0 => {
                let word = |nth| u64::from(random_bits(run, nth));
                Self::StochasticRounding { seed: seed ^ (word(1) << 32 | word(2)) }
            }
            other => other,
        }
    }
}

/// A parameter's place in the optimizer.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    /// Which of the optimizer's groups it is in.
    pub(crate) group: usize,
    pub(crate) state: State,
}

/// Zero moments, and masters equal to the parameter.
pub(crate) fn fresh(parameter: &Parameter, moments: usize, write_back: WriteBack) -> Result<State> {
    let Parameter { name, var } = parameter;
    if !is_float(var.dtype()) {
        let problem = "only f16, bf16, f32 and f64 can be trained; leave it out";
        return Err(Error::BadParameter { name: name.clone(), problem });
    }
    let wide = arithmetic(var.dtype());
    let zeros = |dtype| Tensor::zeros(var.shape(), dtype, var.device());
    let moments = (0..moments).map(|_| zeros(wide)).collect::<candle_core::Result<_>>()?;
    let write_back = match write_back {
        _ if var.dtype() == wide => step::WriteBack::Nearest,
        WriteBack::MasterWeights => step::WriteBack::Master(var.detach().to_dtype(wide)?),
        WriteBack::Kahan => step::WriteBack::Kahan(zeros(var.dtype())?),
        WriteBack::StochasticRounding { seed } => step::WriteBack::Stochastic { key: seed },
    };
    Ok(State { moments, write_back })
}

/// A contiguous copy on `device`, which nobody else writes to.
pub(crate) fn own(tensor: &Tensor, device: &Device) -> Result<Tensor> {
    let there = tensor.detach().to_device(device)?;
    Ok(if there.is_contiguous() { there.copy()? } else { there.contiguous()? })
}
