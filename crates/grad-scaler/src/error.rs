//! The crate's one error type.

/// What can go wrong in configuring or using a scaler.
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
    /// `unscale_` a second time, which would divide the gradients by the scale twice.
    #[error("unscale_() was already called on this optimizer since the last update(); call it once per step")]
    AlreadyUnscaled,
    /// `unscale_` after `step`, when there is nothing left to do with the gradients.
    #[error("unscale_() was called after step(); call it between backward() and step()")]
    UnscaleAfterStep,
    /// `step` a second time.
    #[error("step() was already called on this optimizer since the last update(); call update() in between")]
    AlreadyStepped,
    /// `update` when no gradient was looked at.
    #[error("update() found no inf checks recorded; call step() or unscale_() on an optimizer first")]
    NoInfChecks,
    /// An optimizer none of whose parameters has a gradient.
    #[error(
        "{op}: none of the optimizer's {parameters} parameters has a gradient; is the loss computed from them?"
    )]
    NoGradients {
        /// The call.
        op: &'static str,
        /// How many parameters the optimizer has.
        parameters: usize,
    },
    /// `commit` of a pending outcome where no step is pending.
    #[error(
        "commit() was given a pending outcome, but this scaler has launched no step; give it the outcome of its own last step()"
    )]
    NothingPending,
    /// A value that cannot be written over its variable.
    #[error("commit: the value of variable {index} is {got}; expected {expected}")]
    BadUpdate {
        /// Its place in the list.
        index: usize,
        /// What fits.
        expected: String,
        /// What came.
        got: String,
    },
    /// bf16 has the exponent range of f32: its gradients neither vanish nor overflow, and PyTorch refuses to scale them.
    #[error(
        "{op}: {what} is bf16, which needs no loss scaling; use GradScaler::skipping() or disabled() with bf16"
    )]
    Bf16 {
        /// The call.
        op: &'static str,
        /// The tensor.
        what: String,
    },
    /// A loss that is not a float.
    #[error("{op}: {what} has dtype {got}; expected a floating dtype")]
    NotAFloat {
        /// The call.
        op: &'static str,
        /// The tensor.
        what: String,
        /// Its dtype.
        got: &'static str,
    },
    /// A tensor on a device that this build has no kernels for.
    #[error("{op}: {what} is on {got}; supported: {supported}")]
    UnsupportedDevice {
        /// The call.
        op: &'static str,
        /// The tensor.
        what: String,
        /// Where it is.
        got: String,
        /// What would have worked.
        supported: &'static str,
    },
    /// A state of a disabled scaler, loaded into an enabled one.
    #[error(
        "the state is empty: it was saved from a disabled scaler; start an enabled one from its config instead"
    )]
    EmptyState,
    /// A state without an entry that a scaler needs.
    #[error("the scaler's state lacks '{key}'; load one that GradScaler::state_dict made")]
    MissingKey {
        /// The entry.
        key: &'static str,
    },
    /// A state with an entry that a scaler does not know.
    #[error(
        "the scaler's state has '{key}', which no scaler writes; load one that GradScaler::state_dict made"
    )]
    UnexpectedKey {
        /// The entry.
        key: String,
    },
    /// A state with a value of the wrong type.
    #[error("the scaler's state has {got:?} under '{key}'; expected {expected}")]
    IllTypedValue {
        /// The entry.
        key: &'static str,
        /// What belongs there.
        expected: &'static str,
        /// What was there.
        got: crate::StateValue,
    },
    /// An optimizer's own error.
    #[error(transparent)]
    Optimizer(#[from] optim::Error),
    /// candle failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// A kernel failed.
    #[error(transparent)]
    Backend(#[from] backends::Error),
}

/// `Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;
