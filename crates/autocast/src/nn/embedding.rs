//! [`Embedding`]: [`ops::embedding`](crate::ops::embedding) with its table.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::ops;
use crate::ops::shape::size::check_size;

/// A table whose rows are looked up by index.
#[derive(Debug, Clone)]
pub struct Embedding {
    embeddings: Tensor,
    hidden_size: usize,
}

impl Embedding {
    /// A layer from a table of shape `(rows, hidden_size)`.
    pub fn new(embeddings: Tensor, hidden_size: usize) -> Self {
        Self { embeddings, hidden_size }
    }

    /// The table, `(rows, hidden_size)`.
    pub fn embeddings(&self) -> &Tensor {
        &self.embeddings
    }

    /// The width of a row.
    pub fn hidden_size(&self) -> usize {
        self.hidden_size
    }
}

impl Module for Embedding {
    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        Ok(ops::embedding(ids, &self.embeddings)?)
    }
}

/// A table of `in_size` rows of width `out_size`, named `weight`.
///
/// # Errors
///
/// What `vb` reports: a missing parameter or a wrong shape.
pub fn embedding(in_size: usize, out_size: usize, vb: VarBuilder) -> Result<Embedding> {
    check_size("embedding", &[in_size, out_size], vb.dtype())?;
    let table = vb.get_with_hints((in_size, out_size), "weight", Init::Randn { mean: 0., stdev: 1. })?;
    Ok(Embedding::new(table, out_size))
}
