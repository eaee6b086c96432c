//! Ctrl-C and SIGTERM while a fit runs: the first asks it to end in good order, the second ends the program as it would have
//! without the trainer. Outside of fits nothing is different.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_default};

use crate::{Error, Result};

/// While it exists, an interruption asks for an end.
pub(crate) struct Interrupt {
    handlers: &'static Handlers,
}

/// Registered once for the process.
struct Handlers {
    /// Whether a signal does what it does by default: outside of fits, and from the second one on.
    deadly: Arc<AtomicBool>,
    asked: Arc<AtomicBool>,
    fits: Mutex<usize>,
}

impl Interrupt {
    /// # Errors
    /// Where the system does not let a handler be registered.
    pub(crate) fn watch() -> Result<Self> {
        static HANDLERS: OnceLock<std::result::Result<Handlers, String>> = OnceLock::new();
        let handlers = HANDLERS.get_or_init(|| Handlers::register().map_err(|error| error.to_string()));
        let handlers = handlers.as_ref().map_err(|error| Error::Other(error.clone().into()))?;
        let mut fits = handlers.fits.lock().unwrap_or_else(PoisonError::into_inner);
        if *fits == 0 {
            handlers.asked.store(false, Ordering::SeqCst);
            handlers.deadly.store(false, Ordering::SeqCst);
        }
        *fits += 1;
        Ok(Self { handlers })
    }

    /// Whether the user asked for an end.
    pub(crate) fn is_asked(&self) -> bool {
        self.handlers.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        let mut fits = self.handlers.fits.lock().unwrap_or_else(PoisonError::into_inner);
        *fits -= 1;
        if *fits == 0 {
            self.handlers.deadly.store(true, Ordering::SeqCst);
        }
    }
}

impl Handlers {
    fn register() -> std::io::Result<Self> {
        let (deadly, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the second signal meets what the first has set.
            register_conditional_default(signal, deadly.clone())?;
            register(signal, asked.clone())?;
            register(signal, deadly.clone())?;
        }
        Ok(Self { deadly, asked, fits: Mutex::new(0) })
    }
}
