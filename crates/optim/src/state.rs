//! What an optimizer remembers about a parameter between steps.

use crate::rule::Rule;
use crate::saved::{Kept, Loaded};
use crate::{Error, Parameter, Result};
use backends::kernels::fused_step;
use backends::{Real, Store};
use candle_core::{DType, Tensor, WithDType};
use half::{bf16, f16};

/// Where the part of a 16-bit parameter goes that its dtype cannot hold. f32 and f64 parameters hold everything.
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
                let word = |nth| u64::from(fused_step::random_bits(run, nth));
                Self::StochasticRounding { seed: seed ^ (word(1) << 32 | word(2)) }
            }
            other => other,
        }
    }
}

/// The moments and write-back buffers of one parameter: on the CPU by its dtype, else where the parameter is.
#[derive(Clone, Debug)]
pub(crate) enum State {
    F16(Buffers<f16, f32>),
    Bf16(Buffers<bf16, f32>),
    F32(Buffers<f32, f32>),
    F64(Buffers<f64, f64>),
    #[cfg(feature = "cuda")]
    Cuda(crate::cuda::Buffers),
}

#[derive(Clone, Debug)]
pub(crate) struct Buffers<T, A> {
    pub(crate) moments: [Vec<A>; 2],
    pub(crate) extra: Extra<T, A>,
}

#[derive(Clone, Debug)]
pub(crate) enum Extra<T, A> {
    Nothing,
    Master(Vec<A>),
    Kahan(Vec<T>),
    Seed(u64),
}

impl State {
    /// Zero moments, and masters equal to the parameter.
    pub(crate) fn new(parameter: &Parameter, moments: usize, write_back: WriteBack) -> Result<Self> {
        let Parameter { name, var } = parameter;
        #[cfg(feature = "cuda")]
        if var.device().is_cuda() && matches!(var.dtype(), DType::F16 | DType::BF16 | DType::F32 | DType::F64)
        {
            return Ok(Self::Cuda(crate::cuda::Buffers::new(var, moments, write_back)?));
        }
        let flat = var.flatten_all()?;
        let len = var.elem_count();
        Ok(match var.dtype() {
            DType::F16 => {
                let extra = Extra::new(write_back, len, || flat.to_dtype(DType::F32)?.to_vec1())?;
                Self::F16(Buffers::new(moments, len, extra))
            }
            DType::BF16 => {
                let extra = Extra::new(write_back, len, || flat.to_dtype(DType::F32)?.to_vec1())?;
                Self::Bf16(Buffers::new(moments, len, extra))
            }
            DType::F32 => Self::F32(Buffers::new(moments, len, Extra::Nothing)),
            DType::F64 => Self::F64(Buffers::new(moments, len, Extra::Nothing)),
            _ => {
                let problem = "only f16, bf16, f32 and f64 can be trained; leave it out";
                return Err(Error::BadParameter { name: name.clone(), problem });
            }
        })
    }
}

impl State {
    /// Where what the parameter cannot hold is kept.
    pub(crate) fn kept(&self) -> Kept {
        match self {
            Self::F16(Buffers { extra, .. }) => extra.kept(),
            Self::Bf16(Buffers { extra, .. }) => extra.kept(),
            Self::F32(_) | Self::F64(_) => Kept::Nowhere,
            #[cfg(feature = "cuda")]
            Self::Cuda(buffers) => buffers.kept(),
        }
    }

    /// The same with what was loaded for `var`.
    pub(crate) fn with(&self, loaded: Loaded, var: &Tensor) -> Result<Self> {
        let _ = var;
        Ok(match self {
            Self::F16(buffers) => Self::F16(buffers.with(loaded)?),
            Self::Bf16(buffers) => Self::Bf16(buffers.with(loaded)?),
            Self::F32(buffers) => Self::F32(buffers.with(loaded)?),
            Self::F64(buffers) => Self::F64(buffers.with(loaded)?),
            #[cfg(feature = "cuda")]
            Self::Cuda(buffers) => Self::Cuda(buffers.with(loaded, var)?),
        })
    }

    /// Starts stochastic rounding from another seed; other write-backs have none.
    pub(crate) fn set_seed(&mut self, seed: u64) {
        match self {
            Self::F16(Buffers { extra: Extra::Seed(now), .. })
            | Self::Bf16(Buffers { extra: Extra::Seed(now), .. }) => *now = seed,
            #[cfg(feature = "cuda")]
            Self::Cuda(buffers) => buffers.set_seed(seed),
            _ => {}
        }
    }
}

impl<T: Store<A>, A: Real> Buffers<T, A> {
    fn new(moments: usize, len: usize, extra: Extra<T, A>) -> Self {
        let zeros = |nth: usize| vec![A::ZERO; if nth < moments { len } else { 0 }];
        Self { moments: [zeros(0), zeros(1)], extra }
    }
}

impl<T: WithDType + Store<A>, A: WithDType + Real> Buffers<T, A> {
    fn with(&self, loaded: Loaded) -> Result<Self> {
        let mut moments = [Vec::new(), Vec::new()];
        for (to, moment) in moments.iter_mut().zip(loaded.moments) {
            *to = moment.flatten_all()?.to_vec1()?;
        }
        let extra = match (&self.extra, loaded.kept) {
            (Extra::Master(_), Some(master)) => Extra::Master(master.flatten_all()?.to_vec1()?),
            (Extra::Kahan(_), Some(lost)) => Extra::Kahan(lost.flatten_all()?.to_vec1()?),
            (other, _) => other.clone(),
        };
        Ok(Self { moments, extra })
    }
}

impl<T: Store<A>, A: Real> Extra<T, A> {
    fn new(
        write_back: WriteBack,
        len: usize,
        master: impl FnOnce() -> candle_core::Result<Vec<A>>,
    ) -> Result<Self> {
        Ok(match write_back {
            WriteBack::MasterWeights => Self::Master(master()?),
            WriteBack::Kahan => Self::Kahan(vec![T::default(); len]),
            WriteBack::StochasticRounding { seed } => Self::Seed(seed),
        })
    }

    fn kept(&self) -> Kept {
        match self {
            Self::Nothing | Self::Seed(_) => Kept::Nowhere,
            Self::Master(_) => Kept::Master,
            Self::Kahan(_) => Kept::Compensation,
        }
    }

    /// The same for the kernel, at one step of one parameter.
    pub(crate) fn as_kernel(&mut self, index: usize, step: u64) -> fused_step::WriteBack<'_, T, A> {
        match self {
            Self::Nothing => fused_step::WriteBack::Nearest,
            Self::Master(master) => fused_step::WriteBack::Master(master),
            Self::Kahan(compensation) => fused_step::WriteBack::Kahan(compensation),
            Self::Seed(seed) => fused_step::WriteBack::Stochastic { key: key(*seed, index, step) },
        }
    }
}

/// A key of its own for every step of every parameter.
fn key(seed: u64, index: usize, step: u64) -> u64 {
    let first = u64::from(fused_step::random_bits(seed, index as u64));
    let second = u64::from(fused_step::random_bits(seed ^ (first << 32), step));
    (first << 32) | second
}

/// A parameter's place in the optimizer.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    /// Steps that changed the parameter. On a CUDA device it is the device that counts them, not this.
    pub(crate) step: u64,
    /// Which of the optimizer's groups it is in.
    pub(crate) group: usize,
    pub(crate) state: State,
}

impl Slot {
    pub(crate) fn new<R: Rule>(parameter: &Parameter, rule: &R, write_back: WriteBack) -> Result<Self> {
        let state = State::new(parameter, rule.moment_names().len(), write_back)?;
        Ok(Self { step: 0, group: 0, state })
    }
}
