//! What a report knows of a run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::series::Series;
use crate::FitStart;
use crate::table::count;

/// The numbers of a run, as a checkpoint keeps them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) loss: Series,
    /// By the metric's name.
    pub(super) validation: BTreeMap<String, Series>,
    pub(super) learning_rate: Series,
    pub(super) loss_scale: Series,
    pub(super) skipped: Series,
    pub(super) memory: Series,
    pub(super) samples: usize,
    /// The run's time before it was resumed.
    pub(super) seconds_before: f64,
    #[serde(skip)]
    pub(super) settings: Vec<(String, String)>,
    #[serde(skip)]
    pub(super) user_settings: Vec<(String, String)>,
    #[serde(skip)]
    pub(super) notices: Vec<String>,
    #[serde(skip)]
    pub(super) tables: Vec<Table>,
    #[serde(skip)]
    pub(super) steps: usize,
    #[serde(skip)]
    pub(super) skipped_steps: usize,
    /// Why the run ended, once it has.
    #[serde(skip)]
    pub(super) ended: Option<String>,
}

/// A table of the user's.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) title: String,
    pub(super) header: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Record {
    /// Forgets an earlier run that was not resumed.
    pub(super) fn forget_run(&mut self) {
        let Self { user_settings, tables, .. } = std::mem::take(self);
        *self = Self { user_settings, tables, ..Self::default() };
    }

    pub(super) fn start(&mut self, fit: &FitStart<'_>) {
        self.ended = None;
        self.settings = fit.settings.to_vec();
        let mut add = |name: &str, value: String| {
            if !self.settings.iter().any(|(known, _)| known == name) {
                self.settings.push((name.to_string(), value));
            }
        };
        add("precision", fit.precision.to_string());
        add("accelerator", fit.accelerator.to_string());
        add("parameters", count(fit.parameters.element_count()));
        if fit.resumed_at.step > 0 {
            add("resumed at step", count(fit.resumed_at.step));
        }
    }
}
