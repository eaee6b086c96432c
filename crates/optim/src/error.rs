//! The crate's one error type.

/// What can go wrong in making, stepping, saving or loading an optimizer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting outside its range.
    #[error("{op}: {argument} is {got}; expected {expected}")]
    InvalidSetting {
        /// What is being set.
        op: &'static str,
        /// Which of its settings.
        argument: &'static str,
        /// What is allowed, in words.
        expected: &'static str,
        /// What came.
        got: f64,
    },
    /// An optimizer over no parameters, which would train nothing and say nothing.
    #[error(
        "the optimizer has no parameters; was its list taken before the model was built, or filtered empty?"
    )]
    NoParameters,
    /// A group that no parameter is in, so that its settings would have no effect.
    #[error(
        "no parameter belongs to the group of {call}(); its predicate is given names such as '{example}'"
    )]
    EmptyGroup {
        /// The call.
        call: &'static str,
        /// One of the optimizer's parameters.
        example: String,
    },
    /// Gradients that are infinite or NaN, where [`Clip::error_if_nonfinite`](crate::Clip::error_if_nonfinite) asks for an
    /// error. Nothing was changed.
    #[error(
        "the gradients' norm is {norm}, with infinities or NaNs in the gradients of {parameters:?}; look at the loss and the \
         batch, or skip such steps with grad_scaler::GradScaler::skipping()"
    )]
    NonFiniteGradients {
        /// The norm of all gradients together, unscaled.
        norm: f64,
        /// The parameters whose gradients are not finite; none where all are finite and only their squares' sum is not.
        parameters: Vec<String>,
    },
    /// A parameter that the optimizer cannot update.
    #[error("parameter '{name}': {problem}")]
    BadParameter {
        /// Its name.
        name: String,
        /// What is wrong, and what to do.
        problem: &'static str,
    },
    /// A gradient that does not belong to its parameter.
    #[error("gradient of '{name}': expected {expected}, got {got}")]
    BadGradient {
        /// The parameter's name.
        name: String,
        /// What fits.
        expected: String,
        /// What came.
        got: String,
    },
    /// A tensor on a device that this build has no kernels for.
    #[error("parameter '{name}' is on {got}; supported: {supported}")]
    UnsupportedDevice {
        /// The parameter's name.
        name: String,
        /// Where it is.
        got: String,
        /// What would have worked.
        supported: &'static str,
    },
    /// A setting that must be chosen before the first step.
    #[error("{setting} must be set before the first step, and {steps} were taken")]
    AlreadyStepped {
        /// The setting's name.
        setting: &'static str,
        /// The steps taken.
        steps: u64,
    },
    /// A saved state without an entry that this optimizer needs.
    #[error(
        "the saved state lacks '{key}'; was it saved from this optimizer over these parameters? load_state_dict_with() can be lenient"
    )]
    MissingState {
        /// The entry.
        key: String,
    },
    /// A saved state with an entry that this optimizer has no place for.
    #[error(
        "the saved state has '{key}', for which this optimizer has no place; load_state_dict_with() can be lenient"
    )]
    UnexpectedState {
        /// The entry.
        key: String,
    },
    /// A saved entry of the wrong dtype or shape.
    #[error("the saved '{key}' is {got}; expected {expected}")]
    StateMismatch {
        /// The entry.
        key: String,
        /// What fits.
        expected: String,
        /// What came.
        got: String,
    },
    /// candle failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// A kernel failed.
    #[error(transparent)]
    Backend(#[from] backends::Error),
}

impl Error {
    /// Gradients of this norm, of which those in `slots` are not finite.
    pub(crate) fn non_finite(norm: f64, slots: &[usize], parameters: &[crate::Parameter]) -> Self {
        let name = |&slot: &usize| parameters.get(slot).map(|parameter| parameter.name.clone());
        Self::NonFiniteGradients { norm, parameters: slots.iter().filter_map(name).collect() }
    }
}

/// `Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// `Ok` where `holds`.
pub(crate) fn check(
    op: &'static str,
    argument: &'static str,
    expected: &'static str,
    got: f64,
    holds: bool,
) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::InvalidSetting { op, argument, expected, got }) }
}

/// Learning rates, decays and the like.
pub(crate) fn check_non_negative(op: &'static str, argument: &'static str, got: f64) -> Result<()> {
    check(op, argument, "a finite number, 0 or above", got, got.is_finite() && got >= 0.0)
}
