//! Numbers for the loggers that the loop does not log by itself.

use std::time::Instant;

use candle_core::Device;

use super::checked_every;
use crate::memory::Memory;
use crate::{Callback, Control, FitStart, Result, Step};

/// Logs the learning rate as `learning_rate`, or that of each of several optimizers as `learning_rate/<name>`.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches, folder};
/// use trainer::callbacks::{LearningRateMonitor, ThroughputMonitor};
/// use trainer::{CsvLogger, Trainer};
///
/// # let folder = folder("monitors");
/// # let file = folder.join("metrics.csv");
/// let trainer = Trainer::builder()
///     .accelerator("cpu")
///     .max_steps(4)
///     .callback(LearningRateMonitor::new(2)?)
///     .callback(ThroughputMonitor::new(2)?)
///     .logger(CsvLogger::new(&file))
///     .build()?;
/// trainer.fit(&Line, &batches(3)?)?;
/// let table = std::fs::read_to_string(&file).unwrap();
/// assert!(table.contains("learning_rate") && table.contains("samples_per_second"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LearningRateMonitor {
    every: usize,
}

impl LearningRateMonitor {
    /// Logs every `every_n_steps` steps.
    ///
    /// # Errors
    /// When that is 0.
    pub fn new(every_n_steps: usize) -> Result<Self> {
        Ok(Self { every: checked_every(every_n_steps)? })
    }
}

impl Callback for LearningRateMonitor {
    fn name(&self) -> &'static str {
        "learning_rate_monitor"
    }

    fn on_train_step(&mut self, step: &Step<'_>) -> Result<Control> {
        if step.position().step.is_multiple_of(self.every) {
            let rates: Vec<(&str, f64)> = step.learning_rates().collect();
            match rates[..] {
                [(_, rate)] => step.log("learning_rate", rate),
                _ => rates.iter().for_each(|(name, rate)| step.log(format!("learning_rate/{name}"), *rate)),
            }
        }
        Ok(Control::Continue)
    }
}

/// Logs `samples_per_second` and `steps_per_second` since the step that was logged before, and in bytes `memory` and
/// `peak_memory`: of the process on a CPU, where the peak is the most at any of the steps that are logged, and of all tensors on a GPU,
/// where it is the most at a time since the fit began. The first step of a fit sets things up, and is not measured.
///
/// On a GPU a step is counted when its work is handed to the device, which is as fast as the device works once its queue is
/// full.
#[derive(Clone, Debug)]
pub struct ThroughputMonitor {
    every: usize,
    device: Device,
    memory: Memory,
    /// Since when steps and samples are counted.
    since: Option<Instant>,
    steps: usize,
    samples: usize,
}

impl ThroughputMonitor {
    /// Logs every `every_n_steps` steps.
    ///
    /// # Errors
    /// When that is 0.
    pub fn new(every_n_steps: usize) -> Result<Self> {
        let every = checked_every(every_n_steps)?;
        Ok(Self { every, device: Device::Cpu, memory: Memory::default(), since: None, steps: 0, samples: 0 })
    }

    /// Steps and samples a second until now, since the last time.
    fn rates(&mut self) -> Option<(f64, f64)> {
        let seconds = self.since?.elapsed().as_secs_f64();
        let (steps, samples) = (self.steps as f64, self.samples as f64);
        (self.since, self.steps, self.samples) = (Some(Instant::now()), 0, 0);
        (steps > 0. && seconds > 0.).then(|| (steps / seconds, samples / seconds))
    }
}

impl Callback for ThroughputMonitor {
    fn name(&self) -> &'static str {
        "throughput_monitor"
    }

    fn on_fit_start(&mut self, fit: &FitStart<'_>) -> Result<()> {
        *self = Self { device: fit.device.clone(), ..Self::new(self.every)? };
        Ok(autocast::reset_peak_memory(&self.device)?)
    }

    fn on_train_step(&mut self, step: &Step<'_>) -> Result<Control> {
        match self.since {
            None => self.since = Some(Instant::now()),
            Some(_) => (self.steps, self.samples) = (self.steps + 1, self.samples + step.samples()),
        }
        if !step.position().step.is_multiple_of(self.every) {
            return Ok(Control::Continue);
        }
        if let Some((steps, samples)) = self.rates() {
            step.log("samples_per_second", samples);
            step.log("steps_per_second", steps);
        }
        if let Some(memory) = self.memory.seen(&self.device) {
            self.memory = memory;
            step.log("memory", memory.now as f64);
            step.log("peak_memory", memory.peak as f64);
        }
        Ok(Control::Continue)
    }
}
