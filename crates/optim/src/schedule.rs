//! Learning-rate schedules: pure functions of the number of applied steps.
//!
//! A skipped step does not move a schedule, because it does not count as applied. An optimizer that is given its schedule
//! looks its rate up at each step, on a CUDA device by the device's own count:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use candle_core::{DType, Device, Var};
//! # use optim::{Sgd, SgdConfig};
//! use optim::{Optimizer, Schedule};
//!
//! # let weight = Var::ones(3, DType::F32, &Device::Cpu)?;
//! # let mut optimizer = Sgd::new([("weight", weight.clone())], SgdConfig::default())?;
//! let schedule = Schedule::cosine(1e-3, 900)?.with_warmup(100);
//! optimizer.set_schedule(Some(schedule));
//! assert_eq!(optimizer.learning_rate(), 1e-5);
//! # Ok(())
//! # }
//! ```

use crate::Result;
use crate::error::{check, check_non_negative};
use std::f64::consts::PI;

/// A learning rate for each applied step. Steps past a schedule's end keep its last rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    shape: Shape,
    warmup: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Constant { lr: f64 },
    Cosine { lr: f64, min_lr: f64, steps: u64 },
    Step { lr: f64, every: u64, factor: f64 },
    OneCycle { max_lr: f64, steps: u64 },
}

/// The part of a one-cycle schedule that rises, and how far below its top it begins and ends: PyTorch's defaults.
const RISING: f64 = 0.3;
const BEGINS_BELOW: f64 = 25.0;
const ENDS_BELOW: f64 = 1e4;

impl Schedule {
    /// The same rate at every step.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](crate::Error::InvalidSetting) where the rate is negative or not finite.
    pub fn constant(lr: f64) -> Result<Self> {
        check_non_negative("Schedule::constant", "lr", lr)?;
        Ok(Self::of(Shape::Constant { lr }))
    }

    /// Rises in a line to `lr` over `warmup` steps, and stays.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](crate::Error::InvalidSetting) where the rate is negative or not finite.
    pub fn linear_warmup(lr: f64, warmup: u64) -> Result<Self> {
        Ok(Self::constant(lr)?.with_warmup(warmup))
    }

    /// Falls from `lr` to 0, or to [`with_min_lr`](Self::with_min_lr), along half a cosine of `steps` steps (PyTorch's
    /// `CosineAnnealingLR`).
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](crate::Error::InvalidSetting) where the rate is negative or not finite, or `steps` is 0.
    pub fn cosine(lr: f64, steps: u64) -> Result<Self> {
        check_non_negative("Schedule::cosine", "lr", lr)?;
        check_steps("Schedule::cosine", "steps", steps)?;
        Ok(Self::of(Shape::Cosine { lr, min_lr: 0.0, steps }))
    }

    /// Multiplies by `factor` after every `every` steps (PyTorch's `StepLR`).
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](crate::Error::InvalidSetting) where the rate is negative or not finite, `every` is 0, or
    /// `factor` is not between 0 and 1.
    pub fn step(lr: f64, every: u64, factor: f64) -> Result<Self> {
        check_non_negative("Schedule::step", "lr", lr)?;
        check_steps("Schedule::step", "every", every)?;
        check("Schedule::step", "factor", "0 to 1", factor, (0.0..=1.0).contains(&factor))?;
        Ok(Self::of(Shape::Step { lr, every, factor }))
    }

    /// Rises from `max_lr / 25` to `max_lr` over the first 30% of `steps`, then falls to a ten-thousandth of where it
    /// began, both along cosines (PyTorch's `OneCycleLR`).
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](crate::Error::InvalidSetting) where the rate is negative or not finite, or `steps` is 0.
    pub fn one_cycle(max_lr: f64, steps: u64) -> Result<Self> {
        check_non_negative("Schedule::one_cycle", "max_lr", max_lr)?;
        check_steps("Schedule::one_cycle", "steps", steps)?;
        Ok(Self::of(Shape::OneCycle { max_lr, steps }))
    }

    fn of(shape: Shape) -> Self {
        Self { shape, warmup: 0 }
    }

    /// Puts `warmup` steps before the schedule, over which the rate rises in a line to the schedule's first. The first
    /// step has `1 / warmup` of it, so that no step is wasted on a rate of 0.
    #[must_use]
    pub fn with_warmup(self, warmup: u64) -> Self {
        Self { warmup, ..self }
    }

    /// Where a cosine ends; other schedules have no use for it.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](crate::Error::InvalidSetting) unless it is between 0 and the cosine's first rate.
    pub fn with_min_lr(self, min_lr: f64) -> Result<Self> {
        let Shape::Cosine { lr, steps, .. } = self.shape else {
            return check("Schedule::with_min_lr", "min_lr", "on a cosine schedule only", min_lr, false)
                .map(|()| self);
        };
        check(
            "Schedule::with_min_lr",
            "min_lr",
            "0 to the schedule's first rate",
            min_lr,
            (0.0..=lr).contains(&min_lr),
        )?;
        Ok(Self { shape: Shape::Cosine { lr, min_lr, steps }, ..self })
    }

    /// The rate of the step that comes after `applied_steps` others.
    pub fn lr(&self, applied_steps: u64) -> f64 {
        match applied_steps.checked_sub(self.warmup) {
            Some(step) => self.shape.lr(step),
            None => self.shape.lr(0) * ((applied_steps + 1) as f64 / self.warmup as f64),
        }
    }
}

fn check_steps(op: &'static str, argument: &'static str, steps: u64) -> Result<()> {
    check(op, argument, "1 or more", steps as f64, steps > 0)
}

impl Shape {
    fn lr(self, step: u64) -> f64 {
        match self {
            Shape::Constant { lr } => lr,
            Shape::Cosine { lr, min_lr, steps } => along_cosine(lr, min_lr, step as f64 / steps as f64),
            Shape::Step { lr, every, factor } => lr * factor.powf((step / every) as f64),
            Shape::OneCycle { max_lr, steps } => {
                let first = max_lr / BEGINS_BELOW;
                let top = (RISING * steps as f64 - 1.0).max(0.0);
                let end = steps as f64 - 1.0;
                let at = (step as f64).min(end);
                if at < top {
                    along_cosine(first, max_lr, at / top)
                } else if end > top {
                    along_cosine(max_lr, first / ENDS_BELOW, (at - top) / (end - top))
                } else {
                    max_lr
                }
            }
        }
    }
}

/// From `start` to `end` along half a cosine; `part` past 1 is the end.
fn along_cosine(start: f64, end: f64, part: f64) -> f64 {
    if part >= 1.0 { end } else { end + (start - end) * (1.0 + (PI * part).cos()) / 2.0 }
}
