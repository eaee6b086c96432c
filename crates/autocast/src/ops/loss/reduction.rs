//! What becomes of the losses of single elements.

use backends::kernels::sum::Term;
use candle_core::Tensor;

use crate::Result;
use crate::total::{quotient_of, total_f64};

/// What becomes of the losses of single elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// They are returned.
    None,
    /// Their mean: NaN over nothing, as in PyTorch.
    #[default]
    Mean,
    /// Their sum: 0 over nothing.
    Sum,
    /// Their sum divided by the size of the first dimension. This is the divergence of the distributions of a batch in
    /// [`kl_div`](crate::ops::kl_div), whose mean over elements is that divided by the number of classes.
    BatchMean,
}

impl Reduction {
    /// Reduces widened element losses.
    pub(super) fn apply(self, losses: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::None => losses.clone(),
            // Divided in f64, where the sum of large losses is finite.
            Self::Sum | Self::Mean | Self::BatchMean => {
                let all: Vec<usize> = (0..losses.rank()).collect();
                let sum = total_f64(losses, &all, Term::Value)?.reshape(())?;
                quotient_of(&sum, self.divisor(losses.dims()))?.to_dtype(losses.dtype())?
            }
        })
    }

    /// The gradient of each of the elements of shape `dims`, from that of the reduced loss.
    pub(super) fn spread(self, grad: &Tensor, dims: &[usize]) -> Result<Tensor> {
        Ok(match self {
            Self::None => grad.clone(),
            Self::Sum => grad.broadcast_as(dims)?,
            Self::Mean | Self::BatchMean => (grad / self.divisor(dims))?.broadcast_as(dims)?,
        })
    }

    /// What the sum of losses of shape `dims` is divided by, where they weigh the same.
    pub(super) fn divisor(self, dims: &[usize]) -> f64 {
        match self {
            Self::None | Self::Sum => 1.,
            Self::Mean => dims.iter().product::<usize>() as f64,
            Self::BatchMean => dims.first().map_or(1., |&batch| batch as f64),
        }
    }
}
