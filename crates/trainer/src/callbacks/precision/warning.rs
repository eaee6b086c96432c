//! What a precision monitor warns of, in words.

use std::fmt;

use precision_types::FloatFormat;

use super::LayerPrecision;

/// A layer that does not fit its precision.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PrecisionWarning {
    /// Many gradients are below the format's normal numbers.
    Underflow {
        /// The layer.
        layer: String,
        /// The share of its gradients.
        share: f64,
        /// The format.
        format: FloatFormat,
    },
    /// Many gradients are beyond the format's largest number, or no numbers.
    Overflow {
        /// The layer.
        layer: String,
        /// The share of its gradients.
        share: f64,
        /// The format.
        format: FloatFormat,
    },
    /// A step's change is lost when it is added to the weights.
    LostUpdate {
        /// The layer.
        layer: String,
        /// The size of the change over that of the weights.
        update_to_weight: f64,
        /// The format that the weights are updated in.
        format: FloatFormat,
    },
}

impl PrecisionWarning {
    /// Kind and layer: what is warned of once.
    pub(super) fn key(&self) -> String {
        let (kind, layer) = match self {
            Self::Underflow { layer, .. } => ("underflow", layer),
            Self::Overflow { layer, .. } => ("overflow", layer),
            Self::LostUpdate { layer, .. } => ("lost_update", layer),
        };
        format!("{kind} {layer}")
    }
}

impl fmt::Display for PrecisionWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Underflow { layer, share, format } => write!(
                f,
                "{:.0}% of the gradients of {layer} underflow {format} (below {:.1e} under the loss scale): they lose digits or \
                 become 0. Start from a larger loss scale, or train at a bf16 precision",
                100. * share,
                format.min_normal()
            ),
            Self::Overflow { layer, share, format } => write!(
                f,
                "{:.0}% of the gradients of {layer} overflow {format} (above {:.1e} under the loss scale) or are no numbers. \
                 Lower the learning rate, clip, or train at a bf16 precision",
                100. * share,
                format.max()
            ),
            Self::LostUpdate { layer, update_to_weight, format } => write!(
                f,
                "a step changes {layer} by {update_to_weight:.1e} of its weights, below half of {format}'s epsilon \
                 ({:.1e}): most of it is lost. Raise the learning rate, or train at a wider precision",
                format.epsilon()
            ),
        }
    }
}

/// What there is to warn of in a layer, whose gradients pass through `format` and whose weights are updated in `arithmetic`.
pub(super) fn of(
    measured: &LayerPrecision,
    format: FloatFormat,
    arithmetic: FloatFormat,
    tolerated: f64,
) -> Vec<PrecisionWarning> {
    let layer = || measured.layer.clone();
    let mut warnings = Vec::new();
    if measured.underflow > tolerated {
        warnings.push(PrecisionWarning::Underflow { layer: layer(), share: measured.underflow, format });
    }
    if measured.overflow > tolerated {
        warnings.push(PrecisionWarning::Overflow { layer: layer(), share: measured.overflow, format });
    }
    if let Some(ratio) = measured.update_to_weight.filter(|&ratio| ratio < arithmetic.epsilon() / 2.) {
        warnings.push(PrecisionWarning::LostUpdate {
            layer: layer(),
            update_to_weight: ratio,
            format: arithmetic,
        });
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_bounds_is_warned_of_by_name() {
        let measured = |underflow, overflow, update: f64| LayerPrecision {
            layer: "h.3.mlp".to_string(),
            underflow,
            overflow,
            update_to_weight: Some(update),
            ..Default::default()
        };
        let of = |measured| of(&measured, FloatFormat::F16, FloatFormat::F32, 0.1);
        assert_eq!(of(measured(0.1, 0.1, 1e-3)), []);
        let all = of(measured(0.25, 0.5, 1e-8));
        let texts: Vec<String> = all.iter().map(ToString::to_string).collect();
        assert!(
            texts[0].starts_with("25% of the gradients of h.3.mlp underflow f16 (below 6.1e-5"),
            "{texts:?}"
        );
        assert!(
            texts[1].starts_with("50% of the gradients of h.3.mlp overflow f16 (above 6.6e4"),
            "{texts:?}"
        );
        assert!(
            texts[2].starts_with("a step changes h.3.mlp by 1.0e-8 of its weights, below half of f32's"),
            "{texts:?}"
        );
    }
}
