//! How a norm looks at its input.

use candle_core::{DType, Tensor};

use crate::{Error, Result};

/// What is subtracted from a row before it is scaled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Centre {
    Mean,
    Zero,
}

/// How a norm looks at its (contiguous) input.
#[derive(Clone)]
pub(crate) struct View {
    /// `[rows, length]`: statistics are one per row.
    pub(super) rows: [usize; 2],
    /// The shape in which weight and bias are applied, and theirs in it.
    pub(super) affine: Vec<usize>,
    pub(super) weight: Vec<usize>,
    /// The shape that weight and bias come in.
    pub(super) weight_dims: Vec<usize>,
}

impl View {
    /// Rows are the trailing dimensions `dims`.
    pub(crate) fn trailing(op: &str, x: &Tensor, dims: &[usize]) -> Result<Self> {
        if dims.is_empty() || !x.dims().ends_with(dims) {
            return Err(Error::shape(op, "x", x.dims(), format!("one that ends in {dims:?}")));
        }
        let length: usize = dims.iter().product();
        let rows = x.dims()[..x.rank() - dims.len()].iter().product();
        let (affine, weight) = (vec![rows, length], vec![1, length]);
        Ok(Self { rows: [rows, length], affine, weight, weight_dims: dims.to_vec() })
    }

    pub(super) fn check(
        &self,
        op: &str,
        name: &str,
        x: DType,
        parameter: &Tensor,
        dtype: DType,
    ) -> Result<()> {
        if parameter.dims() != self.weight_dims {
            return Err(Error::shape(op, name, parameter.dims(), format!("{:?}", self.weight_dims)));
        }
        let widened = dtype == DType::F32 && x.size_in_bytes() == 2;
        if dtype != x && !widened {
            return Err(Error::dtypes_differ(op, (name, dtype), ("x", x)));
        }
        Ok(())
    }

    /// Groups of a sample, channels and positions, where weight and bias have an element for each channel of samples that lie one after
    /// another.
    pub(super) fn groups(&self) -> Option<[usize; 3]> {
        match (&self.affine[..], &self.weight[..]) {
            (&[samples, channels, positions], &[1, of, 1]) if of == channels && samples > 0 => {
                Some([self.rows[0] / samples, channels, positions])
            }
            _ => None,
        }
    }

    /// Whether each row has the whole weight.
    pub(super) fn is_of_rows(&self) -> bool {
        self.affine == self.rows && self.weight == [1, self.rows[1]]
    }
}
