//! Convolution layers: [`ops`](crate::ops)' convolutions with their weight and bias. The configs are candle-nn's; their
//! `cudnn_fwd_algo` is not read.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Conv1dConfig, Conv2dConfig, ConvTranspose1dConfig, ConvTranspose2dConfig, Init, VarBuilder};

use crate::Error;
use crate::ops::shape::size::check_size;
use crate::ops::{self, ConvOptions, ConvTransposeOptions};

/// A convolution layer: its parameters, their accessors, and its forward.
macro_rules! convolution {
    ($(#[$doc:meta])* $layer:ident, $config:ident, $op:ident, |$c:ident| $options:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $layer {
            weight: Tensor,
            bias: Option<Tensor>,
            config: $config,
        }

        impl $layer {
            /// A layer from its parameters.
            pub fn new(weight: Tensor, bias: Option<Tensor>, config: $config) -> Self {
                Self { weight, bias, config }
            }

            /// How the kernel moves.
            pub fn config(&self) -> &$config {
                &self.config
            }

            /// The kernels.
            pub fn weight(&self) -> &Tensor {
                &self.weight
            }

            /// One value per output channel.
            pub fn bias(&self) -> Option<&Tensor> {
                self.bias.as_ref()
            }
        }

        impl Module for $layer {
            fn forward(&self, input: &Tensor) -> Result<Tensor> {
                let $c = &self.config;
                Ok(ops::$op(input, &self.weight, self.bias.as_ref(), &$options)?)
            }
        }
    };
}

convolution!(
    /// [`ops::conv1d`] as a layer; the weight is `(out, in / groups, taps)`.
    Conv1d,
    Conv1dConfig,
    conv1d,
    |c| ConvOptions { padding: c.padding, stride: c.stride, dilation: c.dilation, groups: c.groups }
);

convolution!(
    /// [`ops::conv2d`] as a layer; the weight is `(out, in / groups, taps, taps)`.
    Conv2d,
    Conv2dConfig,
    conv2d,
    |c| ConvOptions { padding: c.padding, stride: c.stride, dilation: c.dilation, groups: c.groups }
);

convolution!(
    /// [`ops::conv_transpose1d`] as a layer; the weight is `(in, out / groups, taps)`.
    ConvTranspose1d,
    ConvTranspose1dConfig,
    conv_transpose1d,
    |c| ConvTransposeOptions {
        padding: c.padding,
        output_padding: c.output_padding,
        stride: c.stride,
        dilation: c.dilation,
        groups: c.groups,
    }
);

convolution!(
    /// [`ops::conv_transpose2d`] as a layer, without groups; the weight is `(in, out, taps, taps)`.
    ConvTranspose2d,
    ConvTranspose2dConfig,
    conv_transpose2d,
    |c| ConvTransposeOptions {
        padding: c.padding,
        output_padding: c.output_padding,
        stride: c.stride,
        dilation: c.dilation,
        groups: 1,
    }
);

/// `channels / groups`, if the groups divide them.
fn per_group(layer: &str, channels: usize, groups: usize) -> Result<usize> {
    match channels.checked_div(groups) {
        Some(share) if share * groups == channels => Ok(share),
        _ => Err(Error::argument(layer, "groups", groups, format!("a divisor of {channels}")).into()),
    }
}

/// candle-nn's initial bias of a convolution.
fn bias_init(in_channels: usize) -> Init {
    let bound = 1. / (in_channels as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}

/// candle-nn's initial values of a transposed convolution.
fn transpose_init(out_channels: usize, taps: usize) -> Init {
    let bound = 1. / (out_channels as f64 * taps as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}

/// A layer with a bias, its parameters named `weight` and `bias`.
///
/// # Errors
///
/// [`Error::InvalidArgument`] if the groups do not divide the channels, else what `vb` reports.
pub fn conv1d(
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    cfg: Conv1dConfig,
    vb: VarBuilder,
) -> Result<Conv1d> {
    let dims = (out_channels, per_group("conv1d", in_channels, cfg.groups)?, kernel_size);
    check_size("conv1d", &[dims.0, dims.1, dims.2], vb.dtype())?;
    let weight = vb.get_with_hints(dims, "weight", candle_nn::init::DEFAULT_KAIMING_NORMAL)?;
    let bias = vb.get_with_hints(out_channels, "bias", bias_init(in_channels))?;
    Ok(Conv1d::new(weight, Some(bias), cfg))
}

/// [`conv1d`] without a bias.
///
/// # Errors
///
/// As [`conv1d`].
pub fn conv1d_no_bias(
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    cfg: Conv1dConfig,
    vb: VarBuilder,
) -> Result<Conv1d> {
    let dims = (out_channels, per_group("conv1d", in_channels, cfg.groups)?, kernel_size);
    check_size("conv1d", &[dims.0, dims.1, dims.2], vb.dtype())?;
    let weight = vb.get_with_hints(dims, "weight", candle_nn::init::DEFAULT_KAIMING_NORMAL)?;
    Ok(Conv1d::new(weight, None, cfg))
}

/// A layer with a bias, its parameters named `weight` and `bias`.
///
/// # Errors
///
/// [`Error::InvalidArgument`] if the groups do not divide the channels, else what `vb` reports.
pub fn conv2d(
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    cfg: Conv2dConfig,
    vb: VarBuilder,
) -> Result<Conv2d> {
    let dims = (out_channels, per_group("conv2d", in_channels, cfg.groups)?, kernel_size, kernel_size);
    check_size("conv2d", &[dims.0, dims.1, dims.2, dims.3], vb.dtype())?;
    let weight = vb.get_with_hints(dims, "weight", candle_nn::init::DEFAULT_KAIMING_NORMAL)?;
    let bias = vb.get_with_hints(out_channels, "bias", bias_init(in_channels))?;
    Ok(Conv2d::new(weight, Some(bias), cfg))
}

/// [`conv2d`] without a bias.
///
/// # Errors
///
/// As [`conv2d`].
pub fn conv2d_no_bias(
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    cfg: Conv2dConfig,
    vb: VarBuilder,
) -> Result<Conv2d> {
    let dims = (out_channels, per_group("conv2d", in_channels, cfg.groups)?, kernel_size, kernel_size);
    check_size("conv2d", &[dims.0, dims.1, dims.2, dims.3], vb.dtype())?;
    let weight = vb.get_with_hints(dims, "weight", candle_nn::init::DEFAULT_KAIMING_NORMAL)?;
    Ok(Conv2d::new(weight, None, cfg))
}

/// A layer with a bias, its parameters named `weight` and `bias`.
///
/// # Errors
///
/// [`Error::InvalidArgument`] if the groups do not divide the channels, else what `vb` reports.
pub fn conv_transpose1d(
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    cfg: ConvTranspose1dConfig,
    vb: VarBuilder,
) -> Result<ConvTranspose1d> {
    let dims = (in_channels, per_group("conv_transpose1d", out_channels, cfg.groups)?, kernel_size);
    check_size("conv_transpose1d", &[dims.0, dims.1, dims.2], vb.dtype())?;
    let init = transpose_init(out_channels, kernel_size);
    let weight = vb.get_with_hints(dims, "weight", init)?;
    let bias = vb.get_with_hints(out_channels, "bias", init)?;
    Ok(ConvTranspose1d::new(weight, Some(bias), cfg))
}

/// [`conv_transpose1d`] without a bias.
///
/// # Errors
///
/// As [`conv_transpose1d`].
pub fn conv_transpose1d_no_bias(
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    cfg: ConvTranspose1dConfig,
    vb: VarBuilder,
) -> Result<ConvTranspose1d> {
    let dims = (in_channels, per_group("conv_transpose1d", out_channels, cfg.groups)?, kernel_size);
    check_size("conv_transpose1d", &[dims.0, dims.1, dims.2], vb.dtype())?;
    let init = transpose_init(out_channels, kernel_size);
    let weight = vb.get_with_hints(dims, "weight", init)?;
    Ok(ConvTranspose1d::new(weight, None, cfg))
}

/// A layer with a bias, its parameters named `weight` and `bias`.
///
/// # Errors
///
/// [`Error::InvalidArgument`] if the groups do not divide the channels, else what `vb` reports.
pub fn conv_transpose2d(
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    cfg: ConvTranspose2dConfig,
    vb: VarBuilder,
) -> Result<ConvTranspose2d> {
    let dims = (in_channels, out_channels, kernel_size, kernel_size);
    check_size("conv_transpose2d", &[dims.0, dims.1, dims.2, dims.3], vb.dtype())?;
    let init = transpose_init(out_channels, kernel_size * kernel_size);
    let weight = vb.get_with_hints(dims, "weight", init)?;
    let bias = vb.get_with_hints(out_channels, "bias", init)?;
    Ok(ConvTranspose2d::new(weight, Some(bias), cfg))
}

/// [`conv_transpose2d`] without a bias.
///
/// # Errors
///
/// As [`conv_transpose2d`].
pub fn conv_transpose2d_no_bias(
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    cfg: ConvTranspose2dConfig,
    vb: VarBuilder,
) -> Result<ConvTranspose2d> {
    let dims = (in_channels, out_channels, kernel_size, kernel_size);
    check_size("conv_transpose2d", &[dims.0, dims.1, dims.2, dims.3], vb.dtype())?;
    let init = transpose_init(out_channels, kernel_size * kernel_size);
    let weight = vb.get_with_hints(dims, "weight", init)?;
    Ok(ConvTranspose2d::new(weight, None, cfg))
}
