//! `report.html` of one run: its curves, settings and notices on a page that needs no network. [`HtmlReport`] follows a fit
//! and keeps the numbers, `page` lays them out, [`chart`] draws. [`html`] and [`aligned`] are for reports of one's own.

pub mod chart;
pub mod html;
mod page;
mod record;
mod series;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::Device;
use serde::Deserialize;

use crate::memory::Memory;
use crate::progress::ended;
use crate::recommend::HEADER;
use crate::{
    Callback, Control, Error, FitEnd, FitStart, Metrics, Position, Recommendation, Result, Step, files,
};
use record::Record;

pub use crate::table::aligned;

/// How often the page is written anew while a fit goes on.
const WRITE: Duration = Duration::from_secs(30);

/// Writes a page on a run: losses, learning rate, loss scale, skipped steps and memory over the steps, the settings, what came
/// up, and tables of the user's.
///
/// The page is one file that needs nothing else. It is written anew every half minute and at the end, whatever the end, so that
/// a killed run leaves one as well. A fit that is resumed goes on with the page's curves.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches, folder};
/// use trainer::{HtmlReport, Trainer};
///
/// # let folder = folder("report");
/// # let file = folder.join("report.html");
/// let report = HtmlReport::new(&file).every_n_steps(5)?.with_title("A line").with_setting("samples", 12);
/// let trainer = Trainer::builder().accelerator("cpu").max_steps(20).callback(report).build()?;
/// trainer.fit(&Line, &batches(3)?)?;
/// assert!(std::fs::read_to_string(&file).unwrap().contains("<svg"));
/// # Ok(())
/// # }
/// ```
pub struct HtmlReport {
    path: PathBuf,
    every: usize,
    title: String,
    record: Record,
    device: Device,
    written: Instant,
    /// The time since the fit or its resumption began.
    started: Instant,
}

impl fmt::Debug for HtmlReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HtmlReport")
            .field("path", &self.path)
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}

impl HtmlReport {
    /// Writes to `path`. Every 50th step is looked at, which waits for the device; the losses of all steps come at the end.
    #[must_use]
    pub fn new(path: impl AsRef<Path>) -> Self {
        let now = Instant::now();
        Self {
            path: path.as_ref().to_path_buf(),
            every: 50,
            title: "Training run".to_string(),
            record: Record::default(),
            device: Device::Cpu,
            written: now,
            started: now,
        }
    }

    /// Looks at every `n`th step.
    ///
    /// # Errors
    /// When that is 0.
    pub fn every_n_steps(mut self, n: usize) -> Result<Self> {
        if n == 0 {
            let expected = "look at every step, 1, or at fewer";
            return Err(Error::Setting { setting: "every_n_steps", got: "0".into(), expected });
        }
        self.every = n;
        Ok(self)
    }

    /// The page's title.
    #[must_use]
    pub fn with_title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Shows a setting of the user's among those of the fit.
    #[must_use]
    pub fn with_setting(mut self, name: impl Into<String>, value: impl fmt::Display) -> Self {
        self.record.user_settings.push((name.into(), value.to_string()));
        self
    }

    /// Adds a table, such as where each precision stands: its title, the columns' titles, and the rows.
    #[must_use]
    pub fn with_table(mut self, title: impl Into<String>, header: &[&str], rows: &[Vec<String>]) -> Self {
        let header = header.iter().map(|title| (*title).to_string()).collect();
        self.record.tables.push(record::Table { title: title.into(), header, rows: rows.to_vec() });
        self
    }

    /// Shows where each precision stands.
    #[must_use]
    pub fn with_recommendation(self, recommendation: &Recommendation) -> Self {
        let accelerator = recommendation.accelerator.to_string().to_uppercase();
        let title = format!("Where each precision stands, on the {accelerator}");
        self.with_table(title, &HEADER, &recommendation.cells())
    }

    fn write(&mut self) -> Result<()> {
        self.written = Instant::now();
        let page = page::html(
            &self.title,
            &self.record,
            self.record.seconds_before + self.started.elapsed().as_secs_f64(),
        )?;
        files::replace(&self.path, page.as_bytes())
    }
}

impl Callback for HtmlReport {
    fn name(&self) -> &'static str {
        "html_report"
    }

    fn on_fit_start(&mut self, fit: &FitStart<'_>) -> Result<()> {
        if fit.resumed_at.step == 0 {
            self.record.forget_run();
        }
        (self.device, self.started) = (fit.device.clone(), Instant::now());
        self.record.start(fit);
        self.write()
    }

    fn on_train_step(&mut self, step: &Step<'_>) -> Result<Control> {
        self.record.samples += step.samples();
        let number = step.position().step;
        if number != 1 && !number.is_multiple_of(self.every) {
            return Ok(Control::Continue);
        }
        self.record.loss.push(number, step.loss()?);
        self.record.learning_rate.push(number, step.learning_rate());
        self.record.loss_scale.push(number, f64::from(step.loss_scale()));
        self.record.skipped.push(number, step.skipped_steps() as f64);
        if let Some(memory) = Memory::default().seen(&self.device) {
            self.record.memory.push(number, memory.now as f64);
        }
        if self.written.elapsed() >= WRITE {
            self.write()?;
        }
        Ok(Control::Continue)
    }

    fn on_validation_end(&mut self, metrics: &Metrics, at: &Position) -> Result<Control> {
        for (name, value) in metrics.iter() {
            self.record.validation.entry(name.to_string()).or_default().push(at.step, value);
        }
        Ok(Control::Continue)
    }

    fn on_fit_end(&mut self, end: &FitEnd<'_>) -> Result<()> {
        let first = (end.position.step + 1).saturating_sub(end.losses.len());
        self.record.loss.extend_with_means(first, end.losses);
        self.record.skipped_steps = end.skipped_steps;
        self.record.steps = end.position.step;
        self.record.notices = end.notices.iter().map(ToString::to_string).collect();
        self.record.ended = Some(ended(&end.reason));
        self.write()
    }

    fn state(&self) -> serde_json::Value {
        let seconds_before = self.record.seconds_before + self.started.elapsed().as_secs_f64();
        serde_json::json!(Record { seconds_before, ..self.record.clone() })
    }

    fn load_state(&mut self, state: &serde_json::Value) -> Result<()> {
        let record = Record::deserialize(state)
            .map_err(|error| Error::CallbackState { callback: self.name(), what: error.to_string() })?;
        let (user_settings, tables) = (self.record.user_settings.clone(), self.record.tables.clone());
        self.record = Record { user_settings, tables, ..record };
        Ok(())
    }
}
