//! Gradients that meet: one that nobody else holds is added to where it lies.

use backends::buffer::Ran;
use backends::kernels::add::{Among, Sign, add_into, sum_of};
use candle_core::{DType, Tensor};

use crate::Result;
use crate::dtypes::rounded;

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

    /// In the dtype of what it is the gradient of, contiguous, and nobody else's.
    pub(super) fn into_own(self, dtype: DType) -> Result<Tensor> {
        match self {
            Self::Own(grad) if grad.dtype() == dtype => Ok(grad),
            Self::Shared(grad) if grad.dtype() == dtype => Ok(grad.force_contiguous()?),
            Self::Own(narrow) | Self::Shared(narrow) => rounded(&narrow.contiguous()?, dtype),
        }
    }

    /// The sum of both, of one shape, in the dtype of what they are gradients of.
    pub(super) fn plus(self, grad: &Tensor, dtype: DType) -> Result<Self> {
        match self {
            Self::Own(sum) if sum.dtype() == dtype => match add_into(&sum, grad, &Among::whole(grad.dims()))?
            {
                Ran::Kernel(_) => Ok(Self::Own(sum)),
                Ran::Composed(_) => Ok(Self::Own((sum + rounded(grad, dtype)?)?)),
            },
            Self::Own(before) | Self::Shared(before) => match sum_of(&before, grad, Sign::Plus, dtype)?.ran()
            {
                Some(sum) => Ok(Self::Own(sum)),
                None => Ok(Self::Own((rounded(&before, dtype)? + rounded(grad, dtype)?)?)),
            },
        }
    }
}
