//! How far a fit is: a bar where somebody watches, plain lines where the output goes to a file or a pipe.
//!
//! [`pace`] says when to look, [`status`] what to show; the bar itself is `indicatif`'s.

mod pace;
mod status;

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::ProgressStyle;

use crate::{Callback, Control, FitEnd, FitStart, Metrics, Position, Result, Step};
pub(crate) use pace::{Look, Pace};
pub(crate) use status::{Status, clock, ended, number};

/// How often a bar is looked at by its user: reading the loss waits for the device.
const BAR: Duration = Duration::from_millis(300);
/// How often a line is written where nobody may be watching.
const LINE: Duration = Duration::from_secs(10);

/// Shows how far a fit is: loss, learning rate, loss scale, skipped steps, samples a second and the time left.
///
/// On a terminal it is a bar, which reads the loss at most three times a second; elsewhere a line every ten seconds, and one
/// for the first and the last step. An output that cannot be written is no error: the fit goes on.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches};
/// use trainer::{ProgressBar, Trainer};
///
/// let trainer = Trainer::builder().accelerator("cpu").max_steps(20).callback(ProgressBar::new()).build()?;
/// trainer.fit(&Line, &batches(3)?)?;
/// # Ok(())
/// # }
/// ```
pub struct ProgressBar {
    output: Output,
    pace: Pace,
    skipped: usize,
    validation: Option<f64>,
    /// The steps when the fit ends, as far as that is known.
    steps: Option<usize>,
}

enum Output {
    Bar(indicatif::ProgressBar),
    Lines(Box<dyn Write + Send>),
}

impl Default for ProgressBar {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ProgressBar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgressBar").field("steps", &self.steps).finish_non_exhaustive()
    }
}

impl ProgressBar {
    /// Shows progress on the standard error.
    #[must_use]
    pub fn new() -> Self {
        match io::stderr().is_terminal() {
            true => Self::with_output(Output::Bar(indicatif::ProgressBar::no_length()), BAR),
            false => Self::lines_to(io::stderr()),
        }
    }

    /// Writes plain lines to `output`.
    #[must_use]
    pub fn lines_to(output: impl Write + Send + 'static) -> Self {
        Self::with_output(Output::Lines(Box::new(output)), LINE)
    }

    fn with_output(output: Output, interval: Duration) -> Self {
        let pace = Pace::new(interval, Instant::now());
        Self { output, pace, skipped: 0, validation: None, steps: None }
    }

    fn show(&mut self, step: &Step<'_>) -> Result<()> {
        let position = step.position();
        let status = Status {
            loss: step.loss()?,
            learning_rate: step.learning_rate(),
            loss_scale: step.loss_scale(),
            skipped_steps: self.skipped,
            samples_per_second: self.pace.rates().map(|rates| rates.samples),
            validation: self.validation,
        };
        match &mut self.output {
            Output::Bar(bar) => {
                bar.set_position(position.step as u64);
                bar.set_message(format!("epoch {}  {status}", position.epoch));
            }
            Output::Lines(_) => {
                let left = self.left(position.step);
                let line =
                    format!("step {}  epoch {}  {status}{left}", self.of(position.step), position.epoch);
                self.line(&line);
            }
        }
        Ok(())
    }

    /// `120/1000`, or `120` where the end is not known.
    fn of(&self, step: usize) -> String {
        self.steps.map_or_else(|| step.to_string(), |steps| format!("{step}/{steps}"))
    }

    /// The time until the end at the present rate.
    fn left(&self, step: usize) -> String {
        let (Some(steps), Some(rates)) = (self.steps, self.pace.rates()) else { return String::new() };
        let seconds = steps.saturating_sub(step) as f64 / rates.steps;
        let left = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        format!("  {} left", clock(left))
    }

    fn line(&mut self, line: &str) {
        if let Output::Lines(output) = &mut self.output {
            // A closed pipe must not end a fit.
            let _ = writeln!(output, "{line}").and_then(|()| output.flush());
        }
    }
}

impl Callback for ProgressBar {
    fn name(&self) -> &'static str {
        "progress_bar"
    }

    fn on_fit_start(&mut self, fit: &FitStart<'_>) -> Result<()> {
        let by_epochs = fit.max_epochs.zip(fit.steps_per_epoch).map(|(epochs, steps)| epochs * steps);
        self.steps = [fit.max_steps, by_epochs].into_iter().flatten().min();
        (self.skipped, self.validation) = (0, None);
        match &mut self.output {
            Output::Bar(bar) => {
                let (shown, steps) = match self.steps {
                    Some(steps) => ("{prefix} {wide_bar} {pos}/{len}  {msg}  {eta} left", steps as u64),
                    None => ("{prefix} {spinner} {pos}  {msg}  {elapsed}", 0),
                };
                *bar = indicatif::ProgressBar::new(steps).with_prefix(fit.precision.to_string());
                bar.set_position(fit.resumed_at.step as u64);
                bar.reset_eta();
                if let Ok(style) = ProgressStyle::with_template(shown) {
                    bar.set_style(style);
                }
                self.pace = Pace::new(BAR, Instant::now());
            }
            Output::Lines(_) => self.pace = Pace::new(LINE, Instant::now()),
        }
        Ok(())
    }

    fn on_train_step(&mut self, step: &Step<'_>) -> Result<Control> {
        self.skipped = step.skipped_steps();
        if self.pace.step(step.samples(), Instant::now()) == Look::Due {
            self.show(step)?;
        }
        Ok(Control::Continue)
    }

    fn on_validation_end(&mut self, metrics: &Metrics, _: &Position) -> Result<Control> {
        self.validation = metrics.get("val_loss");
        Ok(Control::Continue)
    }

    fn on_fit_end(&mut self, end: &FitEnd<'_>) -> Result<()> {
        let loss = end.losses.last().map(|&loss| format!("  loss {}", number(loss))).unwrap_or_default();
        let validation =
            end.metrics.get("val_loss").map(|loss| format!("  val {}", number(loss))).unwrap_or_default();
        let step = end.position.step;
        let skipped = match end.skipped_steps {
            0 => String::new(),
            skipped => format!("  skipped {skipped}"),
        };
        let line = format!("step {}{loss}{validation}{skipped}  {}", self.of(step), ended(&end.reason));
        if let Output::Bar(bar) = &self.output {
            bar.set_position(step as u64);
            bar.abandon_with_message(line);
        } else {
            self.line(&line);
        }
        Ok(())
    }
}
