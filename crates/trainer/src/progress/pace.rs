//! When to look at a fit, and how fast it goes. Time is given, so that tests need no clock.

use std::time::{Duration, Instant};

/// Looks no more often than once an interval, and measures samples and steps from look to look.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    interval: Duration,
    looked_at: Instant,
    /// Steps and samples since then.
    steps: usize,
    samples: usize,
    rates: Option<Rates>,
}

/// What is done in a second, smoothed over the last looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rates {
    pub(crate) steps: f64,
    pub(crate) samples: f64,
}

impl Pace {
    /// A pace that begins `now`; the first step is always looked at, and not measured: it sets up more than later ones.
    pub(crate) fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, looked_at: now, steps: 0, samples: 0, rates: None }
    }

    /// Counts a step that is done `now`; whether to look at it.
    pub(crate) fn step(&mut self, samples: usize, now: Instant) -> Look {
        const KEEP: f64 = 0.7;
        let first = self.steps == 0 && self.rates.is_none();
        if first {
            self.rates = Some(Rates { steps: 0., samples: 0. });
            self.looked_at = now;
            return Look::Due;
        }
        self.steps += 1;
        self.samples += samples;
        let passed = now.saturating_duration_since(self.looked_at);
        if passed < self.interval {
            return Look::NotYet;
        }
        let seconds = passed.as_secs_f64().max(1e-9);
        let new = Rates { steps: self.steps as f64 / seconds, samples: self.samples as f64 / seconds };
        let mix = |before: f64, new: f64| if before == 0. { new } else { KEEP * before + (1. - KEEP) * new };
        let before = self.rates.unwrap_or(new);
        self.rates =
            Some(Rates { steps: mix(before.steps, new.steps), samples: mix(before.samples, new.samples) });
        (self.steps, self.samples, self.looked_at) = (0, 0, now);
        Look::Due
    }

    /// How fast it goes, once more than the first step was done.
    pub(crate) fn rates(&self) -> Option<Rates> {
        self.rates.filter(|rates| rates.steps > 0.)
    }
}

/// Whether a step is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Due,
    NotYet,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_an_interval_apart_and_measure_what_lies_between() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut pace = Pace::new(Duration::from_millis(250), start);
        // The first step takes two seconds, which no rate remembers.
        assert_eq!(pace.step(8, at(2000)), Look::Due);
        assert_eq!(pace.rates(), None);
        for step in 1..=4 {
            let due = if step == 3 { Look::Due } else { Look::NotYet };
            assert_eq!(pace.step(8, at(2000 + 100 * step)), due, "{step}");
        }
        assert_eq!(pace.rates().map(|rates| rates.steps.round()), Some(10.));
        assert_eq!(pace.rates().map(|rates| rates.samples.round()), Some(80.));
        // Twice as slow: the rate follows, smoothed.
        assert_eq!(pace.step(8, at(2500)), Look::NotYet);
        assert_eq!(pace.step(0, at(2900)), Look::Due);
        let slower = pace.rates().unwrap().steps;
        assert!(slower < 10. && slower > 6., "{slower}");
    }
}
