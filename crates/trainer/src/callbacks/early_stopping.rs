//! Ends a fit whose validation gets no better.

use serde::{Deserialize, Serialize};

use super::not_a_state;
use crate::progress::number;
use crate::{Best, Callback, Control, Error, FitStart, Metrics, Position, Result};

/// When [`EarlyStopping`] ends a fit.
#[derive(Clone, Debug, PartialEq)]
pub struct EarlyStoppingConfig {
    /// The metric of a validation that is watched: `"val_loss"` by default.
    pub monitor: String,
    /// Which of its values is better.
    pub best: Best,
    /// By how much it must get better to count as better: 0 by default, at least 0.
    pub min_delta: f64,
    /// After how many validations in a row without anything better the fit ends: 3 by default, at least 1.
    pub patience: usize,
    /// A value that is good enough: a better one ends the fit.
    pub stopping_threshold: Option<f64>,
    /// A value that is past hope: a worse one ends the fit.
    pub divergence_threshold: Option<f64>,
}

impl Default for EarlyStoppingConfig {
    fn default() -> Self {
        Self {
            monitor: "val_loss".to_string(),
            best: Best::Lowest,
            min_delta: 0.,
            patience: 3,
            stopping_threshold: None,
            divergence_threshold: None,
        }
    }
}

/// Ends a fit when a metric of its validations gets no better, is good enough, or has diverged. A metric that is not a finite
/// number has diverged.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches};
/// use trainer::callbacks::{EarlyStopping, EarlyStoppingConfig};
/// use trainer::{EndReason, Trainer};
///
/// let config = EarlyStoppingConfig { stopping_threshold: Some(0.05), ..Default::default() };
/// let trainer = Trainer::builder().accelerator("cpu").max_epochs(200).callback(EarlyStopping::new(config)?);
/// let fit = trainer.build()?.fit_validated(&Line, &batches(6)?, &batches(2)?)?;
/// assert!(matches!(fit.reason, EndReason::Stopped(_)));
/// # Ok(())
/// # }
/// ```
///
/// # Source
/// `lightning/pytorch/callbacks/early_stopping.py`.
#[derive(Clone, Debug)]
pub struct EarlyStopping {
    config: EarlyStoppingConfig,
    state: State,
}

/// What a checkpoint remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct State {
    best: Option<f64>,
    /// Validations since the best.
    waited: usize,
}

impl EarlyStopping {
    /// Watches as `config` says.
    ///
    /// # Errors
    /// A setting out of its range.
    pub fn new(config: EarlyStoppingConfig) -> Result<Self> {
        let refused = |setting, got: String, expected| Err(Error::Setting { setting, got, expected });
        if config.patience == 0 {
            return refused("patience", "0".into(), "wait for at least one validation");
        }
        if !(config.min_delta >= 0. && config.min_delta.is_finite()) {
            return refused(
                "min_delta",
                config.min_delta.to_string(),
                "a finite number that is not negative",
            );
        }
        for (setting, threshold) in [
            ("stopping_threshold", config.stopping_threshold),
            ("divergence_threshold", config.divergence_threshold),
        ] {
            if threshold.is_some_and(f64::is_nan) {
                return refused(setting, "NaN".into(), "a number, which NaN is not");
            }
        }
        Ok(Self { config, state: State::default() })
    }

    /// The best value so far.
    #[must_use]
    pub fn best(&self) -> Option<f64> {
        self.state.best
    }

    /// Why the fit is to end after a validation gave `value`.
    fn verdict(&mut self, value: f64) -> Option<String> {
        let &EarlyStoppingConfig { ref monitor, best: way, min_delta, patience, .. } = &self.config;
        if !value.is_finite() {
            return Some(format!("{monitor} is {value}, which is no finite number"));
        }
        if let Some(threshold) =
            self.config.stopping_threshold.filter(|&limit| is_better(way, value, limit, 0.))
        {
            return Some(format!(
                "{monitor} is {}, better than the {threshold} that is good enough",
                number(value)
            ));
        }
        if let Some(threshold) =
            self.config.divergence_threshold.filter(|&limit| is_better(way, limit, value, 0.))
        {
            return Some(format!(
                "{monitor} is {}, worse than the {threshold} that is past hope",
                number(value)
            ));
        }
        match self.state.best {
            Some(best) if !is_better(way, value, best, min_delta) => {
                self.state.waited += 1;
                (self.state.waited >= patience).then(|| {
                    format!(
                        "{monitor} got no better than {} in {} validations",
                        number(best),
                        self.state.waited
                    )
                })
            }
            _ => {
                self.state = State { best: Some(value), waited: 0 };
                None
            }
        }
    }
}

impl Callback for EarlyStopping {
    fn name(&self) -> &'static str {
        "early_stopping"
    }

    fn on_fit_start(&mut self, fit: &FitStart<'_>) -> Result<()> {
        if fit.resumed_at.step == 0 {
            self.state = State::default();
        }
        Ok(())
    }

    fn on_validation_end(&mut self, metrics: &Metrics, _: &Position) -> Result<Control> {
        let Some(value) = metrics.get(&self.config.monitor) else {
            let known: Vec<&str> = metrics.iter().map(|(name, _)| name).collect();
            return Err(Error::NoSuchMetric {
                monitor: self.config.monitor.clone(),
                known: known.join(", "),
            });
        };
        Ok(match self.verdict(value) {
            Some(reason) => Control::Stop { reason },
            None => Control::Continue,
        })
    }

    fn state(&self) -> serde_json::Value {
        serde_json::json!(self.state)
    }

    fn load_state(&mut self, state: &serde_json::Value) -> Result<()> {
        self.state = State::deserialize(state).map_err(|error| not_a_state(self.name(), error))?;
        Ok(())
    }
}

/// Whether a value is better than another by more than so much.
fn is_better(best: Best, new: f64, old: f64, by_more_than: f64) -> bool {
    match best {
        Best::Lowest => new < old - by_more_than,
        Best::Highest => new > old + by_more_than,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopping(config: EarlyStoppingConfig) -> EarlyStopping {
        EarlyStopping::new(config).unwrap()
    }

    fn validate(callback: &mut EarlyStopping, value: f64) -> Option<String> {
        let metrics = [("val_loss".to_string(), value), ("val_accuracy".to_string(), value)];
        match callback.on_validation_end(&metrics.into_iter().collect(), &Position::default()).unwrap() {
            Control::Continue => None,
            Control::Stop { reason } => Some(reason),
        }
    }

    fn stops_at(config: EarlyStoppingConfig, values: &[f64]) -> Option<usize> {
        let mut callback = stopping(config);
        values.iter().position(|&value| validate(&mut callback, value).is_some())
    }

    #[test]
    fn a_fit_ends_after_patience_without_anything_better() {
        let config = EarlyStoppingConfig { patience: 2, ..Default::default() };
        assert_eq!(stops_at(config.clone(), &[3., 2., 2.5, 1.5, 1.5, 1.6]), Some(5));
        let picky = EarlyStoppingConfig { min_delta: 0.5, ..config.clone() };
        assert_eq!(stops_at(picky, &[3., 2.6, 2.4, 2.3, 2.2]), Some(4));
        let upwards = EarlyStoppingConfig { monitor: "val_accuracy".into(), best: Best::Highest, ..config };
        assert_eq!(stops_at(upwards, &[0.5, 0.6, 0.6, 0.55]), Some(3));
    }

    #[test]
    fn thresholds_and_numbers_that_are_none_end_a_fit_at_once() {
        let config = EarlyStoppingConfig {
            stopping_threshold: Some(0.1),
            divergence_threshold: Some(10.),
            ..Default::default()
        };
        assert_eq!(stops_at(config.clone(), &[1., 0.1, 0.09]), Some(2));
        assert_eq!(stops_at(config.clone(), &[1., 10., 11.]), Some(2));
        for bad in [f64::NAN, f64::INFINITY] {
            assert_eq!(stops_at(config.clone(), &[1., bad]), Some(1));
        }
    }

    #[test]
    fn a_resumed_fit_waits_no_longer_than_an_uninterrupted_one() {
        let config = EarlyStoppingConfig { patience: 2, ..Default::default() };
        let mut before = stopping(config.clone());
        assert_eq!(validate(&mut before, 1.), None);
        assert_eq!(validate(&mut before, 2.), None);
        let mut after = stopping(config);
        after.load_state(&before.state()).unwrap();
        assert_eq!(after.best(), Some(1.));
        assert!(validate(&mut after, 2.).unwrap().contains("no better than 1.0000 in 2 validations"));
        let error = after.load_state(&serde_json::json!({"best": "x"})).unwrap_err().to_string();
        assert!(error.contains("early_stopping"), "{error}");
    }

    #[test]
    fn a_metric_that_no_validation_has_is_named() {
        let mut callback = stopping(EarlyStoppingConfig { monitor: "val_f1".into(), ..Default::default() });
        let metrics = [("val_loss".to_string(), 1.)].into_iter().collect();
        let error = callback.on_validation_end(&metrics, &Position::default()).unwrap_err().to_string();
        assert!(error.contains("val_f1") && error.contains("val_loss"), "{error}");
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let default = EarlyStoppingConfig::default();
        for bad in [
            EarlyStoppingConfig { patience: 0, ..default.clone() },
            EarlyStoppingConfig { min_delta: -1., ..default.clone() },
            EarlyStoppingConfig { min_delta: f64::NAN, ..default.clone() },
            EarlyStoppingConfig { stopping_threshold: Some(f64::NAN), ..default.clone() },
        ] {
            assert!(EarlyStopping::new(bad.clone()).is_err(), "{bad:?}");
        }
    }
}
