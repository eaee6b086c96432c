//! LayerNorm, RmsNorm and GroupNorm, by candle-nn's names and with its parameter names.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::ops::norm::normalize::normalize;
use crate::ops::norm::view::{Centre, View};
use crate::{Error, ops};

/// The options of [`layer_norm()`]; an `eps` alone converts into it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerNormConfig {
    /// Added to the variance.
    pub eps: f64,
    /// Whether rows are centred; if not, this is an RMS norm.
    pub remove_mean: bool,
    /// Whether there is a bias beside the weight.
    pub affine: bool,
}

impl Default for LayerNormConfig {
    fn default() -> Self {
        Self { eps: 1e-5, remove_mean: true, affine: true }
    }
}

impl From<f64> for LayerNormConfig {
    fn from(eps: f64) -> Self {
        Self { eps, ..Self::default() }
    }
}

/// Normalises over the last dimension, then scales and shifts.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Option<Tensor>,
    centre: Centre,
    eps: f64,
}

impl LayerNorm {
    /// A layer norm of these parameters.
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self { weight, bias: Some(bias), centre: Centre::Mean, eps }
    }

    /// A layer norm that does not shift.
    pub fn new_no_bias(weight: Tensor, eps: f64) -> Self {
        Self { weight, bias: None, centre: Centre::Mean, eps }
    }

    /// A layer norm that neither centres nor shifts.
    pub fn rms_norm(weight: Tensor, eps: f64) -> Self {
        Self { weight, bias: None, centre: Centre::Zero, eps }
    }

    /// What normalised rows are multiplied by.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// What is added then.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// What is added to the variance.
    pub fn eps(&self) -> f64 {
        self.eps
    }

    /// Whether rows are centred.
    pub fn remove_mean(&self) -> bool {
        self.centre == Centre::Mean
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let op = match self.centre {
            Centre::Mean => "layer_norm",
            Centre::Zero => "rms_norm",
        };
        let view = View::trailing(op, x, self.weight.dims())?;
        Ok(normalize(op, x, &view, self.centre, Some(&self.weight), self.bias.as_ref(), self.eps)?)
    }
}

/// A [`LayerNorm`] over a last dimension of `size`, with parameters `weight` and, where the config is affine, `bias`.
/// The old names `gamma` and `beta` are read from a checkpoint that has them.
///
/// # Errors
///
/// Whatever the `VarBuilder` refuses.
pub fn layer_norm<C: Into<LayerNormConfig>>(size: usize, config: C, vb: VarBuilder) -> Result<LayerNorm> {
    let config = config.into();
    let name = |new: &'static str, old: &'static str| {
        if !vb.contains_tensor(new) && vb.contains_tensor(old) { old } else { new }
    };
    let weight = vb.get_with_hints(size, name("weight", "gamma"), Init::Const(1.))?;
    let bias = match config.affine {
        true => Some(vb.get_with_hints(size, name("bias", "beta"), Init::Const(0.))?),
        false => None,
    };
    let centre = if config.remove_mean { Centre::Mean } else { Centre::Zero };
    Ok(LayerNorm { weight, bias, centre, eps: config.eps })
}

/// A [`layer_norm()`] that does not shift.
///
/// # Errors
///
/// Whatever the `VarBuilder` refuses.
pub fn layer_norm_no_bias(size: usize, eps: f64, vb: VarBuilder) -> Result<LayerNorm> {
    layer_norm(size, LayerNormConfig { eps, affine: false, ..Default::default() }, vb)
}

/// Divides by the root mean square over the last dimension, then scales.
#[derive(Clone, Debug)]
pub struct RmsNorm(LayerNorm);

impl RmsNorm {
    /// An RMS norm of this weight.
    pub fn new(weight: Tensor, eps: f64) -> Self {
        Self(LayerNorm::rms_norm(weight, eps))
    }

    /// The layer norm that this is.
    pub fn into_inner(self) -> LayerNorm {
        self.0
    }

    /// What normalised rows are multiplied by.
    pub fn weight(&self) -> &Tensor {
        self.0.weight()
    }

    /// What is added to the mean square.
    pub fn eps(&self) -> f64 {
        self.0.eps()
    }
}

impl Module for RmsNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0.forward(x)
    }
}

/// An [`RmsNorm`] over a last dimension of `size`, with the parameter `weight`.
///
/// # Errors
///
/// Whatever the `VarBuilder` refuses.
pub fn rms_norm(size: usize, eps: f64, vb: VarBuilder) -> Result<RmsNorm> {
    let config = LayerNormConfig { eps, remove_mean: false, affine: false };
    Ok(RmsNorm(layer_norm(size, config, vb)?))
}

/// Normalises groups of channels of `(N, C, …)`, then scales and shifts each channel.
#[derive(Clone, Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    num_groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// A group norm of these parameters, one per channel.
    ///
    /// # Errors
    ///
    /// Groups that do not divide the channels, parameters of another length.
    pub fn new(
        weight: Tensor,
        bias: Tensor,
        num_channels: usize,
        num_groups: usize,
        eps: f64,
    ) -> Result<Self> {
        if num_groups == 0 || num_groups > num_channels || !num_channels.is_multiple_of(num_groups) {
            let expected = format!("a divisor of the {num_channels} channels");
            return Err(Error::argument("group_norm", "num_groups", num_groups, expected).into());
        }
        for (name, parameter) in [("weight", &weight), ("bias", &bias)] {
            if parameter.dims() != [num_channels] {
                let expected = format!("[{num_channels}], one per channel");
                return Err(Error::shape("group_norm", name, parameter.dims(), expected).into());
            }
        }
        Ok(Self { weight, bias, num_groups, eps })
    }
}

impl Module for GroupNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(ops::group_norm(x, self.num_groups, Some(&self.weight), Some(&self.bias), self.eps)?)
    }
}

/// A [`GroupNorm`] with parameters `weight` and `bias`.
///
/// # Errors
///
/// As [`GroupNorm::new`], and whatever the `VarBuilder` refuses.
pub fn group_norm(num_groups: usize, num_channels: usize, eps: f64, vb: VarBuilder) -> Result<GroupNorm> {
    let weight = vb.get_with_hints(num_channels, "weight", Init::Const(1.))?;
    let bias = vb.get_with_hints(num_channels, "bias", Init::Const(0.))?;
    GroupNorm::new(weight, bias, num_channels, num_groups, eps)
}
