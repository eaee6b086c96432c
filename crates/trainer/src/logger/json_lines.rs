//! Numbers over steps, one JSON object a line: the easiest to read from another program.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::files::{self, Appended};
use crate::{Error, Logger, Result};

/// Logs to a file of JSON lines: `{"step":50,"loss":0.5}` for each time that something is logged, and
/// `{"hyperparameters":{"seed":"7"}}` for the settings. JSON has no word for numbers that are not finite: they are the strings
/// `"NaN"`, `"inf"` and `"-inf"`.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches, folder};
/// use trainer::{JsonLinesLogger, Trainer};
///
/// # let folder = folder("JsonLinesLogger");
/// # let file = folder.join("metrics.jsonl");
/// let trainer = Trainer::builder().accelerator("cpu").max_steps(4).log_every_n_steps(2);
/// trainer.logger(JsonLinesLogger::new(&file)).build()?.fit(&Line, &batches(3)?)?;
/// assert_eq!(std::fs::read_to_string(&file).unwrap().matches("train_loss").count(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct JsonLinesLogger {
    path: PathBuf,
    file: Option<Appended>,
}

impl JsonLinesLogger {
    /// Logs to `path`. Nothing is written, and nothing there is touched, before the fit begins.
    #[must_use]
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_path_buf(), file: None }
    }

    fn append(&mut self, object: Map<String, Value>) -> Result<()> {
        if self.file.is_none() {
            self.start(0)?;
        }
        let line = format!("{}\n", Value::Object(object));
        self.file.as_mut().map_or(Ok(()), |file| file.append(line.as_bytes()))
    }

    /// The lines of a file that are not of a step after `last_step`.
    fn kept(&self, content: &[u8], last_step: usize) -> Result<Vec<u8>> {
        let mut kept = Vec::new();
        for line in files::whole_lines(content).split_inclusive(|&byte| byte == b'\n') {
            let object: Map<String, Value> = serde_json::from_slice(line).map_err(|error| {
                Error::NotALog { path: self.path.clone(), what: format!("a line is no JSON object: {error}") }
            })?;
            let step = object.get("step").and_then(Value::as_u64);
            if step.is_none_or(|step| step <= last_step as u64) {
                kept.extend_from_slice(line);
            }
        }
        Ok(kept)
    }
}

impl Logger for JsonLinesLogger {
    fn start(&mut self, step: usize) -> Result<()> {
        self.file = None;
        match files::content(&self.path)? {
            Some(content) if step > 0 => files::replace(&self.path, &self.kept(&content, step)?)?,
            _ => files::put_aside(&self.path)?,
        }
        self.file = Some(Appended::open(&self.path)?);
        Ok(())
    }

    fn log_hyperparameters(&mut self, values: &[(String, String)]) -> Result<()> {
        let values = values.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
        self.append(Map::from_iter([("hyperparameters".to_string(), Value::Object(values))]))
    }

    fn log_metrics(&mut self, step: usize, metrics: &[(String, f64)]) -> Result<()> {
        let mut object = Map::from_iter([("step".to_string(), Value::from(step))]);
        object.extend(metrics.iter().map(|(name, value)| (name.clone(), number(*value))));
        self.append(object)
    }

    fn flush(&mut self) -> Result<()> {
        self.file.as_ref().map_or(Ok(()), Appended::sync)
    }
}

fn number(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or_else(|| Value::from(format!("{value:?}")), Value::Number)
}
