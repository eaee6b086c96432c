//! One line on where a fit is, as bars and plain lines show it.

use std::fmt;
use std::time::Duration;

use crate::EndReason;

/// What is shown of a fit after a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Status {
    pub(crate) loss: f64,
    pub(crate) learning_rate: f64,
    /// 1 where the precision scales nothing.
    pub(crate) loss_scale: f32,
    pub(crate) skipped_steps: usize,
    pub(crate) samples_per_second: Option<f64>,
    /// The loss of the last validation.
    pub(crate) validation: Option<f64>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loss {}", number(self.loss))?;
        if let Some(loss) = self.validation {
            write!(f, "  val {}", number(loss))?;
        }
        write!(f, "  lr {:.2e}", self.learning_rate)?;
        if self.loss_scale != 1. {
            write!(f, "  scale {}", self.loss_scale)?;
        }
        if self.skipped_steps > 0 {
            write!(f, "  skipped {}", self.skipped_steps)?;
        }
        match self.samples_per_second {
            Some(rate) if rate >= 10. => write!(f, "  {rate:.0} samples/s"),
            Some(rate) => write!(f, "  {rate:.2} samples/s"),
            None => Ok(()),
        }
    }
}

/// A number in few characters: four digits after the point where that says something.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if value == 0. || (0.001..1e6).contains(&size) => format!("{value:.4}"),
        size if size.is_finite() => format!("{value:.3e}"),
        _ => value.to_string(),
    }
}

/// A time as a clock shows it: `1:02:03`, or `2:03`.
pub(crate) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// Why a fit ended, in words.
pub(crate) fn ended(reason: &EndReason) -> String {
    match reason {
        EndReason::MaxSteps => "all steps taken".to_string(),
        EndReason::MaxEpochs => "all epochs done".to_string(),
        EndReason::DataEnd => "the data ended".to_string(),
        EndReason::MaxTime => "the time is over".to_string(),
        EndReason::Stopped(reason) => format!("stopped: {reason}"),
        EndReason::Interrupted => "interrupted".to_string(),
        EndReason::Failed(error) => format!("failed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_something_is_shown() {
        let mut status = Status { loss: 0.5, learning_rate: 1e-3, loss_scale: 1., ..Default::default() };
        assert_eq!(status.to_string(), "loss 0.5000  lr 1.00e-3");
        status = Status {
            loss: f64::NAN,
            loss_scale: 65536.,
            skipped_steps: 2,
            samples_per_second: Some(1234.5),
            validation: Some(2e-5),
            ..status
        };
        let expected = "loss NaN  val 2.000e-5  lr 1.00e-3  scale 65536  skipped 2  1234 samples/s";
        assert_eq!(status.to_string(), expected);
    }

    #[test]
    fn times_read_as_on_a_clock() {
        let clocks = [0, 59, 60, 3599, 3600, 86_461].map(|seconds| clock(Duration::from_secs(seconds)));
        assert_eq!(clocks, ["0:00", "0:59", "1:00", "59:59", "1:00:00", "24:01:01"]);
    }

    #[test]
    fn numbers_of_any_size_stay_short() {
        let shown = [0., 12.34567, -0.0001, 1e9, f64::NEG_INFINITY].map(number);
        assert_eq!(shown, ["0.0000", "12.3457", "-1.000e-4", "1.000e9", "-inf"]);
    }
}
