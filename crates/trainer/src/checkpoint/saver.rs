//! Writing checkpoints while training goes on: the state is copied at once, and written by a thread.

use std::path::PathBuf;
use std::thread::JoinHandle;

use serde_json::{Map, Value};
use tracing::info_span;

use super::top::{Change, Kept};
use super::{Last, ModelCheckpoint};
use crate::{Error, Metrics, Position, Result, TrainingState};

/// The key of what it remembers, among the callbacks.
const NAME: &str = "model_checkpoint";

/// The file that the next fit goes on from.
const LAST: &str = "last.safetensors";

/// When a state may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Step,
    Validation,
    Epoch,
    End,
}

/// Writes what a [`ModelCheckpoint`] asks for.
pub(crate) struct Saver {
    settings: ModelCheckpoint,
    kept: Kept,
    writing: Option<JoinHandle<Result<()>>>,
    /// Where the last one was written.
    written: Option<Position>,
}

impl Saver {
    /// Makes the folder, so that one that cannot be written to is found before training.
    ///
    /// # Errors
    /// Where the folder cannot be made; a list of checkpoints that is none.
    pub(crate) fn new(settings: &ModelCheckpoint, states: &Map<String, Value>) -> Result<Self> {
        let failed = |source| Error::Io { path: settings.folder.clone(), source };
        std::fs::create_dir_all(&settings.folder).map_err(failed)?;
        let kept = states.get(NAME).map(Kept::load).transpose()?.unwrap_or_default();
        Ok(Self { settings: settings.clone(), kept, writing: None, written: None })
    }

    /// Writes a state if this is a moment for it: `state` copies it.
    ///
    /// # Errors
    /// Those of the writing before; where the state cannot be copied.
    pub(crate) fn at(
        &mut self,
        moment: Moment,
        at: Position,
        metrics: &Metrics,
        state: impl FnOnce() -> Result<TrainingState>,
    ) -> Result<()> {
        if self.writing.as_ref().is_some_and(JoinHandle::is_finished) {
            self.wait()?;
        }
        let last = self.settings.last == Last::Written && self.is_due(moment, at);
        let change = match (moment, &self.settings.top) {
            (Moment::Validation, Some(top)) => self.kept.offer(top, metrics, at)?,
            _ => Change::default(),
        };
        if !last && change == Change::default() {
            return Ok(());
        }
        let span = info_span!("checkpoint", step = at.step);
        let mut state = span.in_scope(state)?;
        state.callbacks.insert(NAME.to_string(), self.kept.state());
        let write = change.write.into_iter().chain(last.then(|| LAST.to_string()));
        let write: Vec<PathBuf> = write.map(|file| self.settings.folder.join(file)).collect();
        let remove: Vec<PathBuf> =
            change.remove.into_iter().map(|file| self.settings.folder.join(file)).collect();
        self.wait()?;
        if last {
            self.written = Some(at);
        }
        self.writing = Some(std::thread::spawn(move || {
            let _span = info_span!(parent: &span, "write").entered();
            write.iter().try_for_each(|path| state.save(path))?;
            // One that is gone already needs no removal.
            remove.iter().for_each(|path| drop(std::fs::remove_file(path)));
            Ok(())
        }));
        Ok(())
    }

    fn is_due(&self, moment: Moment, at: Position) -> bool {
        match moment {
            _ if self.written == Some(at) => false,
            Moment::Step => self.settings.every_n_steps.is_some_and(|n| at.step.is_multiple_of(n)),
            Moment::Validation | Moment::Epoch | Moment::End => true,
        }
    }

    /// Waits until what is being written is.
    ///
    /// # Errors
    /// Those of the writing.
    pub(crate) fn wait(&mut self) -> Result<()> {
        match self.writing.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(Error::Other("the thread that writes checkpoints panicked".into())),
        }
    }
}
