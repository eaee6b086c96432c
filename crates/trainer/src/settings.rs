//! The settings of the loop: how long, on how much of the data, how often validated, and what a step is made of.

use std::time::Duration;

use autocast::AlgorithmChoice;
use optim::Clip;

use crate::matmul::{MatmulPrecision, Products};
use crate::{CudaGraph, Error, Result};

/// How much of the data.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// # use trainer::doc_example::{Line, batches};
/// use trainer::Trainer;
///
/// let steps = |trainer: trainer::TrainerBuilder| {
///     Ok::<_, trainer::Error>(trainer.max_epochs(1).build()?.fit(&Line, &batches(8)?)?.losses.len())
/// };
/// let builder = || Trainer::builder().accelerator("cpu");
/// assert_eq!(steps(builder().limit_train_batches(3))?, 3);
/// assert_eq!(steps(builder().limit_train_batches(0.25))?, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Limit {
    /// All of them.
    #[default]
    All,
    /// So many batches.
    Batches(usize),
    /// A share of an epoch, from 0 to 1, of data that know their length.
    Share(f64),
}

impl From<usize> for Limit {
    fn from(batches: usize) -> Self {
        Self::Batches(batches)
    }
}

/// So many batches; all of them where it is negative.
impl From<i32> for Limit {
    fn from(batches: i32) -> Self {
        usize::try_from(batches).map_or(Self::All, Self::Batches)
    }
}

impl From<f64> for Limit {
    fn from(share: f64) -> Self {
        Self::Share(share)
    }
}

impl Limit {
    /// The same in batches, of data of that length; `None` where there is no limit.
    pub(crate) fn of(self, len: Option<usize>, setting: &'static str) -> Result<Option<usize>> {
        match self {
            Self::All => Ok(len),
            Self::Batches(batches) => Ok(Some(len.map_or(batches, |len| len.min(batches)))),
            Self::Share(1.) => Ok(len),
            Self::Share(share) => {
                let len = len.ok_or(Error::Data { setting, needs: "know their length" })?;
                Ok(Some((share * len as f64).floor() as usize))
            }
        }
    }

    fn check(self, setting: &'static str) -> Result<()> {
        match self {
            Self::Share(share) if !(0. ..=1.).contains(&share) => Err(Error::Setting {
                setting,
                got: share.to_string(),
                expected: "a number of batches, or a share of them from 0.0 to 1.0",
            }),
            _ => Ok(()),
        }
    }
}

/// How gradients are clipped by `gradient_clip_val`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ClipBy {
    #[default]
    Norm,
    Value,
}

/// What becomes of a fit when the user interrupts the program, by Ctrl-C or SIGTERM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnInterrupt {
    /// The fit ends after the batch at hand, in good order and with a last checkpoint. A second interruption ends the
    /// program.
    #[default]
    Stop,
    /// Whatever the program does without the trainer.
    Ignore,
}

/// Whether the first step is computed twice, to see that it comes out the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Determinism {
    #[default]
    Assumed,
    Checked,
}

/// Whether the first NaN is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Anomalies {
    #[default]
    LetPass,
    Detected,
}

/// How long a fit is, on how much of the data, and how often it is validated.
#[derive(Debug, Default)]
pub(crate) struct LoopSettings {
    pub(crate) max_steps: Option<usize>,
    pub(crate) max_epochs: Option<usize>,
    pub(crate) max_time: Option<Duration>,
    pub(crate) limit_train: Limit,
    pub(crate) limit_val: Limit,
    pub(crate) limit_test: Limit,
    pub(crate) limit_predict: Limit,
    /// Batches between validations; once an epoch where it is all.
    pub(crate) val_check_interval: Limit,
    pub(crate) check_val_every_n_epoch: Option<usize>,
    pub(crate) sanity_batches: Option<usize>,
    pub(crate) overfit: Option<usize>,
    /// Batches of each kind, where the fit only tries the code.
    pub(crate) fast_dev_run: Option<usize>,
    pub(crate) log_every_n_steps: Option<usize>,
    pub(crate) on_interrupt: OnInterrupt,
}

/// What a step is made of.
#[derive(Debug)]
pub(crate) struct StepSettings {
    pub(crate) accumulate: usize,
    pub(crate) clip_val: Option<f64>,
    pub(crate) clip_by: Result<ClipBy>,
    /// As it was set, or not.
    pub(crate) matmul: Result<Option<MatmulPrecision>>,
    /// Of the algorithms of products and convolutions, where that was set.
    pub(crate) choice: Option<AlgorithmChoice>,
    pub(crate) determinism: Determinism,
    pub(crate) anomalies: Anomalies,
    pub(crate) graph: CudaGraph,
}

impl Default for StepSettings {
    fn default() -> Self {
        Self {
            accumulate: 1,
            clip_val: None,
            clip_by: Ok(ClipBy::default()),
            matmul: Ok(None),
            choice: None,
            determinism: Determinism::default(),
            anomalies: Anomalies::default(),
            graph: CudaGraph::default(),
        }
    }
}

impl StepSettings {
    /// How products are asked for.
    pub(crate) fn products(&self) -> Products {
        let choice = self.choice.filter(|_| self.determinism == Determinism::default());
        Products { precision: self.matmul.as_ref().copied().unwrap_or_default(), choice }
    }

    /// What the optimizers are given, if anything.
    pub(crate) fn clip(&self) -> Result<Option<Clip>> {
        let by = self.clip_by.as_ref().copied().unwrap_or_default();
        let clip = self.clip_val.map(|limit| match by {
            ClipBy::Norm => Clip::norm(limit),
            ClipBy::Value => Clip::value(limit),
        });
        Ok(clip.transpose()?)
    }
}

/// Batches of a sanity validation, unless told otherwise.
const SANITY_BATCHES: usize = 2;

/// Steps between two entries of a log, unless told otherwise.
const LOG_EVERY: usize = 50;

impl LoopSettings {
    /// Steps where nothing says how long a fit is.
    pub(crate) const STEPS: usize = 1_000;

    /// The most steps. Without any bound there is one.
    pub(crate) fn steps(&self) -> Option<usize> {
        match (self.fast_dev_run, self.max_steps, self.max_epochs, self.max_time) {
            (Some(batches), ..) => Some(batches),
            (None, None, None, None) => Some(Self::STEPS),
            (None, steps, ..) => steps,
        }
    }

    pub(crate) fn epochs(&self) -> Option<usize> {
        if self.fast_dev_run.is_some() { Some(1) } else { self.max_epochs }
    }

    pub(crate) fn sanity_batches(&self) -> usize {
        match self.fast_dev_run {
            Some(_) => 0,
            None => self.sanity_batches.unwrap_or(SANITY_BATCHES),
        }
    }

    pub(crate) fn log_every(&self) -> usize {
        self.log_every_n_steps.unwrap_or(LOG_EVERY)
    }

    /// The limit on batches, where a fit that only tries the code has its own.
    pub(crate) fn limit(&self, limit: Limit) -> Limit {
        self.fast_dev_run.map_or(limit, Limit::Batches)
    }

    pub(crate) fn check(&self) -> Result<()> {
        let at_least_one = [
            ("max_steps", self.max_steps, "train for at least one step"),
            ("max_epochs", self.max_epochs, "train for at least one epoch"),
            ("fast_dev_run", self.fast_dev_run, "try at least one batch"),
            ("overfit_batches", self.overfit, "train on at least one batch"),
            ("log_every_n_steps", self.log_every_n_steps, "1 or more"),
            ("check_val_every_n_epoch", self.check_val_every_n_epoch, "1 or more"),
        ];
        for (setting, value, expected) in at_least_one {
            if value == Some(0) {
                return Err(Error::Setting { setting, got: "0".to_string(), expected });
            }
        }
        for (setting, limit) in [
            ("limit_train_batches", self.limit_train),
            ("limit_val_batches", self.limit_val),
            ("limit_test_batches", self.limit_test),
            ("limit_predict_batches", self.limit_predict),
            ("val_check_interval", self.val_check_interval),
        ] {
            limit.check(setting)?;
        }
        for (setting, limit) in
            [("limit_train_batches", self.limit_train), ("val_check_interval", self.val_check_interval)]
        {
            if matches!(limit, Limit::Batches(0) | Limit::Share(0.)) {
                let expected = "more than none";
                return Err(Error::Setting { setting, got: "0".to_string(), expected });
            }
        }
        Ok(())
    }
}

impl StepSettings {
    pub(crate) fn check(&mut self) -> Result<()> {
        let by = std::mem::replace(&mut self.clip_by, Ok(ClipBy::default()))?;
        self.clip_by = Ok(by);
        let matmul = std::mem::replace(&mut self.matmul, Ok(None))?;
        self.matmul = Ok(matmul);
        if self.accumulate == 0 {
            return Err(Error::Setting {
                setting: "accumulate_grad_batches",
                got: "0".to_string(),
                expected: "1 or more batches a step",
            });
        }
        self.clip().map(drop)
    }
}
