//! layer_norm, rms_norm and group_norm: each row is centred (not for rms_norm), divided by its root mean square, then
//! scaled and shifted.

use candle_core::Tensor;

use super::normalize::normalize;
use super::view::{Centre, View};
use crate::{Error, Result};

/// Normalises over the trailing dimensions `normalized_shape`, each row to mean 0 and variance 1.
///
/// # Shapes
///
/// `weight` and `bias` have the shape `normalized_shape`. They are of `x`'s dtype, or f32 beside a 16-bit `x`.
///
/// # Errors
///
/// `x` does not end in `normalized_shape`, a weight or bias does not have it, or dtypes that do not go together.
///
/// # Source
///
/// Ba, Kiros and Hinton, 2016; `torch.nn.functional.layer_norm`.
pub fn layer_norm(
    x: &Tensor,
    normalized_shape: &[usize],
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let view = View::trailing("layer_norm", x, normalized_shape)?;
    normalize("layer_norm", x, &view, Centre::Mean, weight, bias, eps)
}

/// Divides by the root mean square over the trailing dimensions `normalized_shape`.
///
/// # Shapes
///
/// As [`layer_norm`].
///
/// # Errors
///
/// As [`layer_norm`].
///
/// # Source
///
/// Zhang and Sennrich, 2019; `torch.nn.functional.rms_norm`.
pub fn rms_norm(x: &Tensor, normalized_shape: &[usize], weight: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    let view = View::trailing("rms_norm", x, normalized_shape)?;
    normalize("rms_norm", x, &view, Centre::Zero, weight, None, eps)
}

/// Normalises each of `groups` equal runs of channels of each sample.
///
/// # Shapes
///
/// `x` is `(N, C, …)`, `weight` and `bias` are `(C)`.
///
/// # Errors
///
/// `x` has no channels, `groups` does not divide them, or dtypes that do not go together.
///
/// # Source
///
/// Wu and He, 2018; `torch.nn.functional.group_norm`.
pub fn group_norm(
    x: &Tensor,
    groups: usize,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let &[samples, channels, ref rest @ ..] = x.dims() else {
        return Err(Error::shape("group_norm", "x", x.dims(), "at least two dimensions, (N, C, …)"));
    };
    if groups == 0 || groups > channels.max(1) || !channels.is_multiple_of(groups) {
        let expected = format!("a divisor of the {channels} channels");
        return Err(Error::argument("group_norm", "groups", groups, expected));
    }
    let positions: usize = rest.iter().product();
    let view = View {
        rows: [samples * groups, channels / groups * positions],
        affine: vec![samples, channels, positions],
        weight: vec![1, channels, 1],
        weight_dims: vec![channels],
    };
    normalize("group_norm", x, &view, Centre::Mean, weight, bias, eps)
}
