//! A table of numbers over steps, as CSV. A metric that comes up later gets a column then.

use std::path::{Path, PathBuf};

use crate::files::{self, Appended};
use crate::{Error, Logger, Result};

const STEP: &str = "step";

/// Logs to a CSV file: a row for each time that something is logged, with the step and a column for each metric. A cell is
/// empty where its metric was not logged.
///
/// Settings go to a file beside it: `run.hyperparameters.csv` for `run.csv`.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches, folder};
/// use trainer::{CsvLogger, Trainer};
///
/// # let folder = folder("CsvLogger");
/// # let file = folder.join("metrics.csv");
/// let trainer = Trainer::builder().accelerator("cpu").max_steps(4).log_every_n_steps(2);
/// trainer.logger(CsvLogger::new(&file)).build()?.fit(&Line, &batches(3)?)?;
/// assert!(std::fs::read_to_string(&file).unwrap().starts_with("step,epoch,train_loss"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CsvLogger {
    path: PathBuf,
    table: Option<Table>,
}

/// The file once a fit has begun.
#[derive(Debug)]
struct Table {
    /// The metrics, in the order of the columns after the step's.
    columns: Vec<String>,
    file: Appended,
}

impl CsvLogger {
    /// Logs to `path`. Nothing is written, and nothing there is touched, before the fit begins.
    #[must_use]
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_path_buf(), table: None }
    }

    /// The table, with a column for each of `metrics`.
    fn table(&mut self, metrics: &[(String, f64)]) -> Result<Table> {
        let table = match self.table.take() {
            Some(table) => table,
            None => self.begin(0)?,
        };
        let mut columns = table.columns.clone();
        for (name, _) in metrics {
            if !columns.contains(name) {
                columns.push(name.clone());
            }
        }
        if columns.len() == table.columns.len() {
            return Ok(table);
        }
        let rows = match files::content(&self.path)? {
            Some(content) => self.rows(&content, usize::MAX)?.1,
            None => Vec::new(),
        };
        self.write(columns, &rows)
    }

    fn begin(&self, step: usize) -> Result<Table> {
        match files::content(&self.path)? {
            Some(content) if step > 0 => {
                let (columns, rows) = self.rows(&content, step)?;
                self.write(columns, &rows)
            }
            _ => {
                files::put_aside(&self.path)?;
                self.write(Vec::new(), &[])
            }
        }
    }

    /// Writes the whole file anew.
    fn write(&self, columns: Vec<String>, rows: &[Vec<String>]) -> Result<Table> {
        let mut content = line(std::iter::once(STEP).chain(columns.iter().map(String::as_str)))?;
        for row in rows {
            let missing = (columns.len() + 1).saturating_sub(row.len());
            content.extend(line(row.iter().map(String::as_str).chain(std::iter::repeat_n("", missing)))?);
        }
        files::replace(&self.path, &content)?;
        Ok(Table { columns, file: Appended::open(&self.path)? })
    }

    /// The metrics' names, and the rows up to `last_step`, of what is in the file.
    fn rows(&self, content: &[u8], last_step: usize) -> Result<(Vec<String>, Vec<Vec<String>>)> {
        let mut reader = csv::Reader::from_reader(files::whole_lines(content));
        let header = reader.headers().map_err(|error| self.not_a_log(error))?.clone();
        let mut names = header.iter().map(String::from);
        if names.next().as_deref() != Some(STEP) {
            return Err(self.not_a_log(format!("its first column is not `{STEP}`")));
        }
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|error| self.not_a_log(error))?;
            let step = record.get(0).unwrap_or_default();
            let step: usize =
                step.parse().map_err(|_| self.not_a_log(format!("{step:?} is not the number of a step")))?;
            if step <= last_step {
                rows.push(record.iter().map(String::from).collect());
            }
        }
        Ok((names.collect(), rows))
    }

    fn not_a_log(&self, what: impl ToString) -> Error {
        Error::NotALog { path: self.path.clone(), what: what.to_string() }
    }
}

impl Logger for CsvLogger {
    fn start(&mut self, step: usize) -> Result<()> {
        self.table = None;
        self.table = Some(self.begin(step)?);
        Ok(())
    }

    fn log_hyperparameters(&mut self, values: &[(String, String)]) -> Result<()> {
        let mut content = line(["setting", "value"])?;
        for (setting, value) in values {
            content.extend(line([setting.as_str(), value])?);
        }
        files::replace(&files::beside(&self.path, "hyperparameters"), &content)
    }

    fn log_metrics(&mut self, step: usize, metrics: &[(String, f64)]) -> Result<()> {
        let mut table = self.table(metrics)?;
        let mut cells = vec![String::new(); table.columns.len() + 1];
        cells[0] = step.to_string();
        for (column, cell) in table.columns.iter().zip(&mut cells[1..]) {
            if let Some((_, value)) = metrics.iter().find(|(name, _)| name == column) {
                *cell = format!("{value:?}");
            }
        }
        let row = line(cells.iter().map(String::as_str))?;
        let appended = table.file.append(&row);
        self.table = Some(table);
        appended
    }

    fn flush(&mut self) -> Result<()> {
        self.table.as_ref().map_or(Ok(()), |table| table.file.sync())
    }
}

/// A row with its line's end.
fn line<'a>(cells: impl IntoIterator<Item = &'a str>) -> Result<Vec<u8>> {
    let failed = |error: csv::Error| Error::Other(error.into());
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(cells).map_err(failed)?;
    writer.into_inner().map_err(|error| Error::Other(error.to_string().into()))
}
