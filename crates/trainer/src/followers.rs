//! The callbacks and loggers of a trainer, called in the order in which they were added.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;

use serde_json::{Map, Value};

use crate::{
    Callback, Control, Error, FitEnd, FitStart, Gradients, Logger, Metrics, Position, Result, Step, Trainer,
};

/// Whoever follows the fits of a trainer.
#[derive(Default)]
pub(crate) struct Followers {
    pub(crate) callbacks: Vec<Box<dyn Callback>>,
    pub(crate) loggers: Vec<Box<dyn Logger>>,
}

/// The followers of a trainer while a fit has them; they go back when it ends.
pub(crate) struct Lent<'a> {
    from: &'a Trainer,
    followers: Option<Followers>,
}

impl<'a> Lent<'a> {
    /// # Errors
    /// [`Error::Busy`] where another fit has them.
    pub(crate) fn by(trainer: &'a Trainer) -> Result<Self> {
        let mut followers = trainer.followers.lock().unwrap_or_else(PoisonError::into_inner);
        // Where there are none, fits need not wait for each other.
        let none = |followers: &Followers| followers.callbacks.is_empty() && followers.loggers.is_empty();
        let lent = match followers.as_ref().map(none) {
            Some(true) => Some(Followers::default()),
            Some(false) | None => followers.take(),
        };
        match lent {
            Some(lent) => Ok(Self { from: trainer, followers: Some(lent) }),
            None => Err(Error::Busy),
        }
    }
}

impl Deref for Lent<'_> {
    type Target = Followers;

    fn deref(&self) -> &Followers {
        self.followers.as_ref().expect("they go back when this is dropped")
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut Followers {
        self.followers.as_mut().expect("they go back when this is dropped")
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut followers = self.from.followers.lock().unwrap_or_else(PoisonError::into_inner);
        if followers.is_none() {
            *followers = self.followers.take();
        }
    }
}

impl fmt::Debug for Followers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.callbacks.iter().map(|callback| callback.name()).collect();
        f.debug_struct("Followers").field("callbacks", &names).field("loggers", &self.loggers.len()).finish()
    }
}

impl Followers {
    /// # Errors
    /// Two callbacks of one name.
    pub(crate) fn check(&self) -> Result<()> {
        for (index, callback) in self.callbacks.iter().enumerate() {
            let name = callback.name();
            if self.callbacks[..index].iter().any(|other| other.name() == name) {
                return Err(Error::DuplicateName { what: "callbacks", name: name.to_string() });
            }
        }
        Ok(())
    }

    /// What each callback remembers.
    pub(crate) fn states(&self) -> Map<String, Value> {
        let states = self.callbacks.iter().map(|callback| (callback.name().to_string(), callback.state()));
        states.filter(|(_, state)| !state.is_null()).collect()
    }

    /// Gives the callbacks what they remembered. One that was not there then begins anew.
    pub(crate) fn load(&mut self, states: &Map<String, Value>) -> Result<()> {
        for callback in &mut self.callbacks {
            if let Some(state) = states.get(callback.name()) {
                callback.load_state(state)?;
            }
        }
        Ok(())
    }

    /// The loggers are told of settings where there are any to be told.
    pub(crate) fn start(&mut self, fit: &FitStart<'_>, settings: Option<&[(String, String)]>) -> Result<()> {
        if let Some(settings) = settings {
            self.loggers.iter_mut().try_for_each(|logger| logger.start(fit.resumed_at.step))?;
            self.loggers.iter_mut().try_for_each(|logger| logger.log_hyperparameters(settings))?;
        }
        self.callbacks.iter_mut().try_for_each(|callback| callback.on_fit_start(fit))
    }

    pub(crate) fn want_gradients(&self, step: usize) -> bool {
        self.callbacks.iter().any(|callback| callback.wants_gradients(step))
    }

    pub(crate) fn gradients(&mut self, gradients: &Gradients<'_>) -> Result<()> {
        let wanting = self.callbacks.iter_mut().filter(|callback| callback.wants_gradients(gradients.step()));
        wanting.into_iter().try_for_each(|callback| callback.on_gradients(gradients))
    }

    /// Why the fit is to end, if any callback says so. All are asked.
    pub(crate) fn step(&mut self, step: &Step<'_>) -> Result<Option<String>> {
        ask(&mut self.callbacks, |callback| callback.on_train_step(step))
    }

    pub(crate) fn validated(&mut self, metrics: &Metrics, at: &Position) -> Result<Option<String>> {
        ask(&mut self.callbacks, |callback| callback.on_validation_end(metrics, at))
    }

    pub(crate) fn log(&mut self, step: usize, metrics: &[(String, f64)]) -> Result<()> {
        if metrics.is_empty() {
            return Ok(());
        }
        self.loggers.iter_mut().try_for_each(|logger| logger.log_metrics(step, metrics))
    }

    pub(crate) fn flush(&mut self) -> Result<()> {
        self.loggers.iter_mut().try_for_each(|logger| logger.flush())
    }

    /// Tells all, whatever one of them fails with; the first error.
    pub(crate) fn end(&mut self, end: &FitEnd<'_>) -> Result<()> {
        let told: Vec<Result<()>> =
            self.callbacks.iter_mut().map(|callback| callback.on_fit_end(end)).collect();
        let flushed: Vec<Result<()>> = self.loggers.iter_mut().map(|logger| logger.flush()).collect();
        told.into_iter().chain(flushed).collect()
    }
}

fn ask(
    callbacks: &mut [Box<dyn Callback>],
    mut ask: impl FnMut(&mut Box<dyn Callback>) -> Result<Control>,
) -> Result<Option<String>> {
    let mut stop = None;
    for callback in callbacks {
        if let Control::Stop { reason } = ask(callback)? {
            stop.get_or_insert(reason);
        }
    }
    Ok(stop)
}
