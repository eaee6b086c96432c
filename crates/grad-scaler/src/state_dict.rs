//! A scaler's settings and state as a flat map, under PyTorch's key names where PyTorch has one.

use crate::config::{check_config, check_scale};
use crate::{Error, LoadReport, Refill, Result, ScaleState, ScalerConfig, Strictness};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// One value of a [`StateDict`]. Serializes as itself: a number, a word, `true`, or `null`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StateValue {
    /// Whether a setting is on.
    Bool(bool),
    /// A count.
    Int(i64),
    /// A scale or factor.
    Float(f64),
    /// A choice by name.
    Text(String),
    /// A setting that is off.
    Null,
}

/// What [`GradScaler::state_dict`](crate::GradScaler::state_dict) gives; empty for a disabled scaler.
///
/// PyTorch's keys: `scale`, `growth_factor`, `backoff_factor`, `growth_interval`, `_growth_tracker`. Ours: `init_scale`,
/// `min_scale`, `max_scale`, `hysteresis`, `hysteresis_refill`, `_hysteresis_left`, `static`.
pub type StateDict = BTreeMap<String, StateValue>;

const ON_GROWTH: &str = "on_growth";
const ON_CLEAN_STEP: &str = "on_clean_step";

pub(crate) fn save(config: &ScalerConfig, state: &ScaleState) -> StateDict {
    let optional = |scale: Option<f64>| scale.map_or(StateValue::Null, StateValue::Float);
    let refill = match config.refill {
        Refill::OnGrowth => ON_GROWTH,
        Refill::OnCleanStep => ON_CLEAN_STEP,
    };
    let entries = [
        ("scale", StateValue::Float(f64::from(state.scale))),
        ("growth_factor", StateValue::Float(config.growth_factor)),
        ("backoff_factor", StateValue::Float(config.backoff_factor)),
        ("growth_interval", StateValue::Int(i64::from(config.growth_interval))),
        ("_growth_tracker", StateValue::Int(i64::from(state.growth_tracker))),
        ("init_scale", StateValue::Float(config.init_scale)),
        ("min_scale", optional(config.min_scale)),
        ("max_scale", optional(config.max_scale)),
        ("hysteresis", StateValue::Int(i64::from(config.hysteresis))),
        ("hysteresis_refill", StateValue::Text(refill.to_string())),
        ("_hysteresis_left", StateValue::Int(i64::from(state.hysteresis_left))),
        ("static", StateValue::Bool(config.is_static)),
    ];
    entries.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
}

/// The settings and state that `saved` holds, the `present` ones where it may lack an entry.
pub(crate) fn load(
    saved: &StateDict,
    (config, state): (&ScalerConfig, &ScaleState),
    strictness: Strictness,
) -> Result<(ScalerConfig, ScaleState, LoadReport)> {
    if saved.is_empty() && strictness == Strictness::Strict {
        return Err(Error::EmptyState);
    }
    let of_pytorch = !saved.keys().any(|key| is_ours(key));
    let mut reader = Reader {
        saved,
        present: save(config, state),
        may_lack: match (strictness, of_pytorch) {
            (Strictness::Lenient, _) => |_| true,
            (Strictness::Strict, true) => is_ours,
            (Strictness::Strict, false) => |_| false,
        },
        read: HashSet::new(),
        report: LoadReport::default(),
    };
    let config = reader.config()?;
    let state = reader.state(&config)?;
    let mut unused = saved.keys().filter(|key| !reader.read.contains(key.as_str()));
    let mut report = reader.report;
    match strictness {
        Strictness::Strict => {
            if let Some(key) = unused.next() {
                return Err(Error::UnexpectedKey { key: key.clone() });
            }
        }
        Strictness::Lenient => report.unused.extend(unused.cloned()),
    }
    Ok((config, state, report.sorted()))
}

/// Whether PyTorch's scaler knows no such entry.
fn is_ours(key: &str) -> bool {
    let ours = [
        "init_scale",
        "min_scale",
        "max_scale",
        "hysteresis",
        "hysteresis_refill",
        "_hysteresis_left",
        "static",
    ];
    ours.contains(&key)
}

struct Reader<'a> {
    saved: &'a StateDict,
    present: StateDict,
    may_lack: fn(&str) -> bool,
    read: HashSet<&'static str>,
    report: LoadReport,
}

impl Reader<'_> {
    /// A saved setting is checked as a new one is.
    fn config(&mut self) -> Result<ScalerConfig> {
        let refill = match self.get("hysteresis_refill")? {
            StateValue::Text(text) if text == ON_GROWTH => Refill::OnGrowth,
            StateValue::Text(text) if text == ON_CLEAN_STEP => Refill::OnCleanStep,
            other => {
                return Err(ill_typed("hysteresis_refill", "\"on_growth\" or \"on_clean_step\"", &other));
            }
        };
        let is_static = match self.get("static")? {
            StateValue::Bool(is_static) => is_static,
            other => return Err(ill_typed("static", "true or false", &other)),
        };
        let config = ScalerConfig {
            init_scale: self.float("init_scale")?,
            growth_factor: self.float("growth_factor")?,
            backoff_factor: self.float("backoff_factor")?,
            growth_interval: self.count("growth_interval", "a count from 1 to 2147483647")?,
            min_scale: self.optional_float("min_scale")?,
            max_scale: self.optional_float("max_scale")?,
            hysteresis: self.count("hysteresis", "a count of 1 or more")?,
            refill,
            is_static,
        };
        check_config(&config)?;
        Ok(config)
    }

    fn state(&mut self, config: &ScalerConfig) -> Result<ScaleState> {
        let scale = self.float("scale")?;
        check_scale("scale", scale)?;
        // A static scale is a setting: a state that does not know of settings does not move it.
        let kept = if config.is_static { config.init_scale } else { scale };
        if kept as f32 != scale as f32 {
            self.report.unused.push("scale".to_string());
        }
        let allowed = "a count below growth_interval";
        let tracker = self.count_up_to("_growth_tracker", allowed, config.growth_interval - 1)?;
        let allowed = "a count up to hysteresis";
        let hysteresis_left = self.count_up_to("_hysteresis_left", allowed, config.hysteresis)?;
        Ok(ScaleState { scale: kept as f32, growth_tracker: tracker as i32, hysteresis_left })
    }

    fn get(&mut self, key: &'static str) -> Result<StateValue> {
        self.read.insert(key);
        if let Some(value) = self.saved.get(key) {
            return Ok(value.clone());
        }
        let present = self.present.get(key).filter(|_| (self.may_lack)(key));
        let value = present.cloned().ok_or(Error::MissingKey { key })?;
        self.report.missing.push(key.to_string());
        Ok(value)
    }

    fn float(&mut self, key: &'static str) -> Result<f64> {
        self.optional_float(key)?.ok_or_else(|| ill_typed(key, "a number", &StateValue::Null))
    }

    fn optional_float(&mut self, key: &'static str) -> Result<Option<f64>> {
        match self.get(key)? {
            StateValue::Float(value) => Ok(Some(value)),
            // A writer of JSON may leave the point out of 65536.0.
            StateValue::Int(value) => Ok(Some(value as f64)),
            StateValue::Null => Ok(None),
            other => Err(ill_typed(key, "a number", &other)),
        }
    }

    fn count(&mut self, key: &'static str, expected: &'static str) -> Result<u32> {
        let value = self.get(key)?;
        let StateValue::Int(count) = value else { return Err(ill_typed(key, expected, &value)) };
        u32::try_from(count).map_err(|_| ill_typed(key, expected, &value))
    }

    /// A count of the saved state must fit its settings; a present one is cut to them.
    fn count_up_to(&mut self, key: &'static str, allowed: &'static str, most: u32) -> Result<u32> {
        let count = self.count(key, allowed)?;
        if self.saved.contains_key(key) && count > most {
            let (op, argument, got) = ("load_state_dict", key, count.into());
            return Err(Error::InvalidSetting { op, argument, expected: allowed, got });
        }
        Ok(count.min(most))
    }
}

fn ill_typed(key: &'static str, expected: &'static str, got: &StateValue) -> Error {
    Error::IllTypedValue { key, expected, got: got.clone() }
}
