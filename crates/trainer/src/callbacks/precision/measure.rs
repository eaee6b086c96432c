//! What is measured of a layer's numbers, on the host.

use precision_types::FloatFormat;

/// How one layer's gradients fit the format that they pass through, and its update the format that it is stored in.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct LayerPrecision {
    /// The layer: a parameter's name without its last part.
    pub layer: String,
    /// The elements of the gradients.
    pub elements: usize,
    /// The share of them that is exactly 0: too small for the format, or 0 by right.
    pub zeros: f64,
    /// The share of them that is not 0, but below the format's smallest normal number, under the loss scale: they have lost
    /// digits.
    pub underflow: f64,
    /// The share of them that is infinite, NaN, or under the loss scale beyond the format's largest number.
    pub overflow: f64,
    /// The root mean square of the step's change over that of the weights; `None` where nothing was to change (the step was
    /// skipped, the learning rate or all gradients were 0), or all weights were 0.
    pub update_to_weight: Option<f64>,
}

/// Counts of a layer while it is gone through.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    elements: usize,
    zeros: usize,
    underflow: usize,
    overflow: usize,
    /// Those that are infinite or NaN: a step with any of them is skipped.
    not_finite: usize,
}

impl Counts {
    /// Counts unscaled gradients, which pass through `format` times `scale`.
    pub(super) fn add(&mut self, gradients: impl IntoIterator<Item = f64>, scale: f64, format: FloatFormat) {
        for gradient in gradients {
            self.elements += 1;
            self.not_finite += usize::from(!gradient.is_finite());
            match (gradient * scale).abs() {
                0. => self.zeros += 1,
                scaled if scaled < format.min_normal() => self.underflow += 1,
                scaled if scaled <= format.max() => {}
                _ => self.overflow += 1,
            }
        }
    }

    pub(super) fn all_finite(self) -> bool {
        self.not_finite == 0
    }

    pub(super) fn to_layer(self, layer: &str) -> LayerPrecision {
        let share = |count: usize| count as f64 / self.elements.max(1) as f64;
        LayerPrecision {
            layer: layer.to_string(),
            elements: self.elements,
            zeros: share(self.zeros),
            underflow: share(self.underflow),
            overflow: share(self.overflow),
            update_to_weight: None,
        }
    }
}

/// Squares of a layer's weights before a step and of their changes by it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Change {
    weights: f64,
    updates: f64,
}

impl Change {
    pub(super) fn add(&mut self, before: &[f64], after: &[f64]) {
        for (before, after) in before.iter().zip(after) {
            self.weights += before * before;
            self.updates += (after - before) * (after - before);
        }
    }

    pub(super) fn ratio(self) -> Option<f64> {
        (self.weights > 0.).then(|| (self.updates / self.weights).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_counted_as_they_pass_through_the_format() {
        let smallest_normal = 2f64.powi(-14);
        let gradients =
            [0., 1., smallest_normal, smallest_normal / 2., 65504., 65536., f64::NAN, f64::INFINITY];
        let mut counts = Counts::default();
        counts.add(gradients, 1., FloatFormat::F16);
        let layer = counts.to_layer("h.0");
        let shares = (layer.zeros, layer.underflow, layer.overflow);
        assert!(!counts.all_finite());
        assert_eq!((layer.elements, shares), (8, (1. / 8., 1. / 8., 3. / 8.)));

        let mut scaled = Counts::default();
        scaled.add([smallest_normal / 2., 65504.], 2., FloatFormat::F16);
        assert!(scaled.all_finite());
        let layer = scaled.to_layer("h.0");
        assert_eq!((layer.underflow, layer.overflow), (0., 0.5));
    }

    #[test]
    fn a_change_is_relative_to_the_weights() {
        let mut change = Change::default();
        change.add(&[3., 0.], &[3.3, 0.4]);
        change.add(&[-4.], &[-4.]);
        assert!((change.ratio().unwrap() - 0.1).abs() < 1e-12);
        assert_eq!(Change::default().ratio(), None);
    }
}
