//! Parameters, and the identity of the optimizer that has them.

use candle_core::Var;
use candle_nn::VarMap;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

/// A variable and the name that messages, groups and saved states know it by.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// The name, unique within an optimizer.
    pub name: String,
    /// The variable.
    pub var: Var,
}

impl<S: Into<String>> From<(S, Var)> for Parameter {
    fn from((name, var): (S, Var)) -> Self {
        Self { name: name.into(), var }
    }
}

/// Every variable of a `VarMap` with its name, in the order of the names, so that a run can be repeated.
pub fn named_parameters(vars: &VarMap) -> Vec<Parameter> {
    // A poisoned lock still guards a whole map: insertions are atomic.
    let data = vars.data().lock().unwrap_or_else(PoisonError::into_inner);
    let mut parameters: Vec<Parameter> =
        data.iter().map(|(name, var)| Parameter { name: name.clone(), var: var.clone() }).collect();
    parameters.sort_by(|a, b| a.name.cmp(&b.name));
    parameters
}

/// Tells one optimizer from another for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OptimizerId(u64);

impl OptimizerId {
    /// An id that no other optimizer has.
    #[expect(clippy::new_without_default, reason = "a default that differs each time would surprise")]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}
