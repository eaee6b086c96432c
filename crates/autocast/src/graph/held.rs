//! Gradients that meet: one that nobody else holds is added to where it lies.

use backends::buffer::Ran;
use backends::kernels::add::{Among, Sign, add_into, sum_of};
use candle_core::Tensor;

use crate::Result;

/// A gradient, and whether it may be changed.
pub(super) enum Held {
    /// An op may have returned it for two inputs, or hold it itself.
    Shared(Tensor),
    /// Contiguous, and nobody else's.
    Own(Tensor),
}

impl Held {
    pub(super) fn tensor(&self) -> &Tensor {
        match self {
            Self::Shared(grad) | Self::Own(grad) => grad,
        }
    }

    pub(super) fn into_tensor(self) -> Tensor {
        match self {
            Self::Shared(grad) | Self::Own(grad) => grad,
        }
    }

    pub(super) fn into_own(self) -> Result<Tensor> {
        match self {
            Self::Shared(grad) => Ok(grad.force_contiguous()?),
            Self::Own(grad) => Ok(grad),
        }
    }

    /// The sum of both, of one shape.
    pub(super) fn plus(self, grad: &Tensor) -> Result<Self> {
        match self {
            Self::Own(sum) => match add_into(&sum, grad, &Among::whole(grad.dims()))? {
                Ran::Kernel(_) => Ok(Self::Own(sum)),
                Ran::Composed(_) => Ok(Self::Own((sum + grad)?)),
            },
            Self::Shared(before) => match sum_of(&before, grad, Sign::Plus, before.dtype())?.ran() {
                Some(sum) => Ok(Self::Own(sum)),
                None => Ok(Self::Own((before + grad)?)),
            },
        }
    }
}
