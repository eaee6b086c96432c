//! The best checkpoints so far.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Best, Top};
use crate::{Error, Metrics, Position, Result};

/// What is kept, the best first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    file: String,
    /// Of the metric, since JSON has no infinities.
    bits: u64,
}

/// What is to be done for a new checkpoint.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Change {
    pub(super) write: Option<String>,
    pub(super) remove: Vec<String>,
}

impl Kept {
    pub(super) fn state(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    pub(super) fn load(state: &Value) -> Result<Self> {
        let kept = Self::deserialize(state);
        kept.map_err(|error| Error::StateMismatch { what: format!("a list of checkpoints ({error})") })
    }

    /// Takes a checkpoint in, if it is among the best. NaN is worse than every number.
    pub(super) fn offer(&mut self, top: &Top, metrics: &Metrics, at: Position) -> Result<Change> {
        let Some(value) = metrics.get(&top.monitor) else {
            return Err(Error::Monitor {
                name: top.monitor.clone(),
                known: metrics.iter().map(|(name, _)| name.to_string()).collect(),
            });
        };
        let Position { step, epoch, .. } = at;
        let file = format!("epoch={epoch}-step={step}-{}={value:.4}.safetensors", safe(&top.monitor));
        // A validation of the same place was resumed.
        self.0.retain(|entry| entry.file != file);
        let place = self.0.partition_point(|entry| {
            compare(top.best, f64::from_bits(entry.bits), value) != Ordering::Greater
        });
        self.0.insert(place, Entry { file: file.clone(), bits: value.to_bits() });
        let worst = self.0.split_off(top.count.min(self.0.len()));
        let mut change = Change { write: Some(file), remove: Vec::new() };
        for entry in worst {
            match change.write == Some(entry.file.clone()) {
                true => change.write = None,
                false => change.remove.push(entry.file),
            }
        }
        Ok(change)
    }
}

/// Less is better.
fn compare(best: Best, a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) if best == Best::Lowest => a.total_cmp(&b),
        (false, false) => b.total_cmp(&a),
    }
}

/// A metric's name as a part of a file's.
fn safe(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(kept: &mut Kept, best: Best, step: usize, value: f64) -> Change {
        let top = Top { count: 2, monitor: "val/loss".to_string(), best };
        let metrics = [("val/loss".to_string(), value)].into_iter().collect();
        kept.offer(&top, &metrics, Position { step, epoch: 1, batch: 0 }).unwrap()
    }

    fn file(step: usize, value: &str) -> String {
        format!("epoch=1-step={step}-val_loss={value}.safetensors")
    }

    #[test]
    fn the_best_stay_and_a_worse_one_is_not_written() {
        for (best, sign) in [(Best::Lowest, 1.), (Best::Highest, -1.)] {
            let mut kept = Kept::default();
            let mut offer = |step, value: f64| offer(&mut kept, best, step, sign * value);
            let first = offer(1, f64::NAN);
            assert_eq!(first.remove, [""; 0]);
            assert_eq!(offer(2, 3.).remove, [""; 0]);
            assert_eq!(offer(3, 2.).remove, [first.write.unwrap()]);
            assert_eq!(offer(4, 5.), Change::default());
            let name = |value: f64| format!("{:.4}", sign * value);
            assert_eq!(
                offer(5, 1.),
                Change { write: Some(file(5, &name(1.))), remove: vec![file(2, &name(3.))] }
            );
        }
    }

    #[test]
    fn a_list_comes_back_as_it_was() {
        let mut kept = Kept::default();
        offer(&mut kept, Best::Lowest, 1, f64::INFINITY);
        offer(&mut kept, Best::Lowest, 2, 0.1);
        assert_eq!(Kept::load(&kept.state()).unwrap(), kept);
        assert!(Kept::load(&serde_json::json!([{"file": 3}])).is_err());
    }

    #[test]
    fn a_metric_that_is_not_there_is_named_with_those_that_are() {
        let top = Top { count: 1, monitor: "accuracy".to_string(), best: Best::Highest };
        let metrics = [("val_loss".to_string(), 1.)].into_iter().collect();
        let error = Kept::default().offer(&top, &metrics, Position::default()).unwrap_err().to_string();
        assert!(error.contains("accuracy") && error.contains("val_loss"), "{error}");
    }
}
