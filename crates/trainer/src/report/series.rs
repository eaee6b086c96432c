//! Numbers over steps in bounded memory, however long a fit is.

use serde::{Deserialize, Serialize};

use super::chart::Points;

/// The most points that are kept: as many as a chart has pixels.
const MOST: usize = 1000;

/// Points of a step and a number, thinned out as they become many. `None` stands for what is not finite, which a checkpoint's
/// JSON has no word for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Series {
    points: Vec<(usize, Option<f64>)>,
    /// Of so many points that come, one is kept.
    every: usize,
    came: usize,
}

impl Series {
    /// Adds a point. Steps do not go down.
    pub(super) fn push(&mut self, step: usize, value: f64) {
        self.every = self.every.max(1);
        self.came += 1;
        if !(self.came - 1).is_multiple_of(self.every) {
            return;
        }
        self.points.push((step, Some(value).filter(|value| value.is_finite())));
        if self.points.len() > MOST {
            let mut index = 0;
            self.points.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.every *= 2;
        }
    }

    /// Adds every value of the steps from `first` on, as means of as many as make a point each.
    pub(super) fn extend_with_means(&mut self, first: usize, values: &[f64]) {
        self.points.retain(|&(step, _)| step < first);
        let each = values.len().div_ceil(MOST).max(1);
        for (index, chunk) in values.chunks(each).enumerate() {
            let mean = chunk.iter().sum::<f64>() / chunk.len() as f64;
            self.points.push((first + index * each, Some(mean).filter(|mean| mean.is_finite())));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    pub(super) fn last(&self) -> Option<f64> {
        self.points.last().map(|&(_, value)| value.unwrap_or(f64::NAN))
    }

    pub(super) fn finite(&self) -> impl Iterator<Item = f64> {
        self.points.iter().filter_map(|&(_, value)| value)
    }

    pub(super) fn points(&self) -> Points {
        self.points.iter().map(|&(step, value)| (step as f64, value.unwrap_or(f64::NAN))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_series_stays_small_and_covers_all_steps() {
        let mut series = Series::default();
        for step in 1..=1_000_000 {
            series.push(step, step as f64);
        }
        assert!(series.points.len() <= MOST && series.points.len() >= MOST / 2);
        assert_eq!(series.points[0].0, 1);
        assert!(series.points.last().unwrap().0 > 990_000);
        let steps: Vec<usize> = series.points.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert!(steps.iter().all(|&step| step == steps[0]), "{steps:?}");
    }

    #[test]
    fn a_checkpoint_holds_what_is_no_number() {
        let mut series = Series::default();
        for (step, value) in [(1, 0.5), (2, f64::NAN), (3, f64::INFINITY)] {
            series.push(step, value);
        }
        let json = serde_json::json!(series);
        assert_eq!(Series::deserialize(&json).unwrap(), series);
        assert_eq!(series.finite().collect::<Vec<_>>(), [0.5]);
        assert!(series.last().unwrap().is_nan());
    }

    #[test]
    fn all_values_take_the_place_of_samples() {
        let mut series = Series::default();
        for step in [5, 10, 15] {
            series.push(step, 9.);
        }
        series.extend_with_means(11, &[1., 2., 3.]);
        assert_eq!(series.points(), [(5., 9.), (10., 9.), (11., 1.), (12., 2.), (13., 3.)]);
        series.extend_with_means(1, &vec![2.; 100_000]);
        assert!(series.points.len() <= MOST && series.finite().all(|mean| mean == 2.));
    }
}
