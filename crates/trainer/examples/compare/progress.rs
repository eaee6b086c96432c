//! How far a run is: a bar where somebody watches, plain lines where the output goes to a file or a pipe.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

const PLAIN_LINES: usize = 5;

/// Showing a loss waits for the device: it is shown every so many steps.
const EVERY: usize = 10;

/// The progress of one run.
pub(crate) struct Progress {
    label: String,
    steps: usize,
    /// Hidden where nobody watches.
    bar: ProgressBar,
}

impl Progress {
    pub(crate) fn new(label: String, steps: usize) -> Self {
        let bar =
            if std::io::stderr().is_terminal() { styled_bar(&label, steps) } else { ProgressBar::hidden() };
        Self { label, steps, bar }
    }

    /// Whether this step's loss is to be shown.
    pub(crate) fn wants(&self, step: usize) -> bool {
        step.is_multiple_of(EVERY)
    }

    /// Shows that `step` is done. Plain lines appear for some of the steps only.
    pub(crate) fn update(&self, step: usize, loss: f64) {
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("loss {loss:.4}"));
            self.bar.set_position(step as u64);
        } else if self.is_due(step) {
            eprintln!("{:<10}  step {step}/{}  loss {loss:.4}", self.label, self.steps);
        }
    }

    fn is_due(&self, step: usize) -> bool {
        let lines_before = |step: usize| step * PLAIN_LINES / self.steps;
        lines_before(step) > lines_before(step.saturating_sub(EVERY))
    }

    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
}

fn styled_bar(label: &str, steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64).with_prefix(label.to_string());
    match ProgressStyle::with_template("{prefix:<10} {bar:36} {pos}/{len}  {msg}  {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
