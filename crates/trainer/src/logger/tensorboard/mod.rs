//! TensorBoard's event files: [`record`] frames records, [`messages`] says what is in them, this file writes and resumes.

mod messages;
mod record;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

use crate::files::{self, Appended, at};
use crate::{Logger, Result};
use messages::{Event, FILE_VERSION, START, SessionLog, Summary, Value, What};

/// Logs scalars to an event file in a folder, which `tensorboard --logdir` is given. Settings are a text, `hyperparameters`.
///
/// TensorBoard holds scalars in f32. A fit that goes on from a state takes what was logged after it out of the folder's event
/// files, and writes a new one that has a TensorBoard which is watching forget it, too. A fit that begins anew moves the event
/// files that it finds to a folder below, `earlier-1`, which TensorBoard shows as a run of its own.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches, folder};
/// use trainer::{TensorBoardLogger, Trainer};
///
/// # let folder = folder("tensorboard");
/// let trainer = Trainer::builder().accelerator("cpu").max_steps(4).log_every_n_steps(2);
/// trainer.logger(TensorBoardLogger::new(&folder)).build()?.fit(&Line, &batches(3)?)?;
/// assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TensorBoardLogger {
    folder: PathBuf,
    file: Option<Appended>,
}

impl TensorBoardLogger {
    /// Logs to `folder`. Nothing is written, and nothing there is touched, before the fit begins.
    #[must_use]
    pub fn new(folder: impl AsRef<Path>) -> Self {
        Self { folder: folder.as_ref().to_path_buf(), file: None }
    }

    fn write(&mut self, step: usize, what: What) -> Result<()> {
        if self.file.is_none() {
            self.start(0)?;
        }
        let event = Event { wall_time: now(), step: step as i64, what: Some(what) };
        self.file.as_mut().map_or(Ok(()), |file| file.append(&record::frame(&event.encode_to_vec())))
    }

    /// The folder's event files, the oldest first.
    fn event_files(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in at(&self.folder, fs::read_dir(&self.folder))? {
            let path = at(&self.folder, entry)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.contains("tfevents") && path.is_file() {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    fn put_aside(&self, earlier: &[PathBuf]) -> Result<()> {
        if earlier.is_empty() {
            return Ok(());
        }
        let folder = files::free(|number| self.folder.join(format!("earlier-{number}")));
        at(&folder, fs::create_dir(&folder))?;
        for path in earlier {
            at(path, fs::rename(path, folder.join(path.file_name().unwrap_or_default())))?;
        }
        Ok(())
    }
}

impl Logger for TensorBoardLogger {
    fn start(&mut self, step: usize) -> Result<()> {
        self.file = None;
        at(&self.folder, fs::create_dir_all(&self.folder))?;
        let mut earlier = self.event_files()?;
        if step == 0 {
            self.put_aside(&earlier)?;
            earlier.clear();
        }
        for path in &earlier {
            cut_after(path, step)?;
        }
        // TensorBoard reads a folder's files in the order of their names.
        let name = format!("events.out.tfevents.{:010}.{:03}", now() as u64, earlier.len());
        self.file = Some(Appended::open(&self.folder.join(name))?);
        self.write(0, What::FileVersion(FILE_VERSION.to_string()))?;
        match step {
            0 => Ok(()),
            _ => self.write(step + 1, What::SessionLog(SessionLog { status: START })),
        }
    }

    fn log_hyperparameters(&mut self, values: &[(String, String)]) -> Result<()> {
        let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
        let mut table = "| setting | value |\n|---|---|\n".to_string();
        for (setting, value) in values {
            table += &format!("| {} | {} |\n", cell(setting), cell(value));
        }
        self.write(0, What::Summary(Summary { value: vec![Value::text("hyperparameters", &table)] }))
    }

    fn log_metrics(&mut self, step: usize, metrics: &[(String, f64)]) -> Result<()> {
        let value = metrics.iter().map(|(name, value)| Value::scalar(name, *value)).collect();
        self.write(step, What::Summary(Summary { value }))
    }

    fn flush(&mut self) -> Result<()> {
        self.file.as_ref().map_or(Ok(()), Appended::sync)
    }
}

/// Cuts a file off before its first event of a later step than `step`, or before what a crash left of an event.
fn cut_after(path: &Path, step: usize) -> Result<()> {
    let Some(content) = files::content(path)? else { return Ok(()) };
    let is_kept =
        |record: &[u8]| Event::decode(record).is_ok_and(|event| event.step <= step as i64 || starts(&event));
    let kept = record::records(&content).take_while(|(_, record)| is_kept(record));
    let end = kept.last().map_or(0, |(at, record)| at + record::frame(record).len());
    if end == content.len() {
        return Ok(());
    }
    let file = at(path, fs::OpenOptions::new().write(true).open(path))?;
    at(path, file.set_len(end as u64))
}

/// Whether an event says from which step on readers forget.
fn starts(event: &Event) -> bool {
    matches!(event.what, Some(What::SessionLog(_)))
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0., |since| since.as_secs_f64())
}
