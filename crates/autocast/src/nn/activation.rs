//! Activations as layers, by candle-nn's names.

use candle_core::{Module, Tensor};

use crate::ops;

/// An activation.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Activation {
    /// [`ops::gelu`].
    #[default]
    Gelu,
    /// [`ops::gelu_tanh`], by the name of GPT-2's implementation.
    NewGelu,
    /// [`ops::gelu_tanh`].
    GeluPytorchTanh,
    /// [`ops::relu`].
    Relu,
    /// The square of [`ops::relu`].
    Relu2,
    /// [`ops::hardtanh`] of 0 to 6.
    Relu6,
    /// [`ops::silu`].
    Silu,
    /// [`ops::silu`], by its other name.
    Swish,
    /// [`ops::swiglu`].
    Swiglu,
    /// [`ops::sigmoid`].
    Sigmoid,
    /// [`ops::tanh`].
    Tanh,
    /// [`ops::softplus`].
    Softplus,
    /// [`ops::mish`].
    Mish,
    /// [`ops::hardsigmoid`].
    HardSigmoid,
    /// [`ops::hardswish`].
    HardSwish,
    /// [`ops::elu`] of this alpha.
    Elu(f64),
    /// [`ops::leaky_relu`] of this slope.
    LeakyRelu(f64),
}

impl Module for Activation {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(match *self {
            Self::Gelu => ops::gelu(x)?,
            Self::NewGelu | Self::GeluPytorchTanh => ops::gelu_tanh(x)?,
            Self::Relu => ops::relu(x)?,
            Self::Relu2 => ops::square(&ops::relu(x)?)?,
            Self::Relu6 => ops::hardtanh(x, 0., 6.)?,
            Self::Silu | Self::Swish => ops::silu(x)?,
            Self::Swiglu => ops::swiglu(x)?,
            Self::Sigmoid => ops::sigmoid(x)?,
            Self::Tanh => ops::tanh(x)?,
            Self::Softplus => ops::softplus(x)?,
            Self::Mish => ops::mish(x)?,
            Self::HardSigmoid => ops::hardsigmoid(x)?,
            Self::HardSwish => ops::hardswish(x)?,
            Self::Elu(alpha) => ops::elu(x, alpha)?,
            Self::LeakyRelu(slope) => ops::leaky_relu(x, slope)?,
        })
    }
}
