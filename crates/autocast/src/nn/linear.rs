//! [`Linear`]: [`ops::linear`](crate::ops::linear) with its weight and bias.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::ops;
use crate::ops::shape::size::check_size;

/// A product with a weight matrix and an optional bias.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// A layer from a weight of shape `(out, in)` and a bias of shape `(out)`.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// `residual + forward(input)`, computed as one product: see [`ops::linear_add`](crate::ops::linear_add).
    ///
    /// # Errors
    ///
    /// As `linear_add`.
    pub fn forward_add(&self, input: &Tensor, residual: &Tensor) -> Result<Tensor> {
        Ok(ops::linear_add(input, &self.weight, self.bias.as_ref(), residual)?)
    }

    /// The weight, `(out, in)`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias, `(out)`.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
}

impl Module for Linear {
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        Ok(ops::linear(input, &self.weight, self.bias.as_ref())?)
    }
}

/// A layer with a bias, its parameters named `weight` and `bias`.
///
/// # Errors
///
/// What `vb` reports: a missing parameter or a wrong shape.
pub fn linear(in_dim: usize, out_dim: usize, vb: VarBuilder) -> Result<Linear> {
    check_size("linear", &[out_dim, in_dim], vb.dtype())?;
    let weight = vb.get_with_hints((out_dim, in_dim), "weight", candle_nn::init::DEFAULT_KAIMING_NORMAL)?;
    let bound = 1. / (in_dim as f64).sqrt();
    let bias = vb.get_with_hints(out_dim, "bias", Init::Uniform { lo: -bound, up: bound })?;
    Ok(Linear::new(weight, Some(bias)))
}

/// A layer without a bias.
///
/// # Errors
///
/// As [`linear`].
pub fn linear_no_bias(in_dim: usize, out_dim: usize, vb: VarBuilder) -> Result<Linear> {
    check_size("linear", &[out_dim, in_dim], vb.dtype())?;
    let weight = vb.get_with_hints((out_dim, in_dim), "weight", candle_nn::init::DEFAULT_KAIMING_NORMAL)?;
    Ok(Linear::new(weight, None))
}

/// [`linear`] or [`linear_no_bias`], as candle-nn's function of this name.
///
/// # Errors
///
/// As [`linear`].
pub fn linear_b(in_dim: usize, out_dim: usize, bias: bool, vb: VarBuilder) -> Result<Linear> {
    if bias { linear(in_dim, out_dim, vb) } else { linear_no_bias(in_dim, out_dim, vb) }
}
