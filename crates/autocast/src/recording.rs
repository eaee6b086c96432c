//! Recording what a step queues on a GPU, to queue it again as one. The graph is `backends`'; here is what a step's randomness
//! has to do with it: masks are drawn from keys that differ from step to step.

use std::fmt::Display;

use backends::bridge::{self, StepGraph};
use candle_core::Device;

use crate::Result;
use crate::random::{Draw, Heard, hearing_draws};

/// What came of a recording.
pub enum Recording<T> {
    /// The step was recorded and queued once; and what the recorded code gave.
    Ready(RecordedStep, T),
    /// Why it was not.
    Refused(String),
}

/// A step that is queued as one. What the recorded code gave holds what the last of them has written.
pub struct RecordedStep {
    graph: StepGraph,
    /// For each of the graph's keys.
    draws: Vec<Draw>,
}

impl RecordedStep {
    /// Queues the step once more, drawing as [`random::with_seed`](crate::random::with_seed) has it in the step of this number.
    ///
    /// # Errors
    /// When the device fails.
    pub fn replay(&self, step: u64) -> Result<()> {
        let keys: Vec<u64> = self.draws.iter().map(|draw| draw.key_in(step)).collect();
        Ok(self.graph.launch(&keys)?)
    }
}

/// Runs `f` as a step is to be run once before it is recorded.
pub fn rehearse_step<R>(on: &Device, f: impl FnOnce() -> R) -> R {
    bridge::rehearse(on, f)
}

/// Records what `body` queues on a CUDA device, and queues it once. `step` is the number with which `body` calls
/// [`random::with_seed`](crate::random::with_seed).
///
/// What `body` does on the host it does once. It is refused where it waits for the device, reads from it, moves a tensor there that
/// is not what the same code has moved in [`rehearse_step`], frees what was allocated before, draws masks on the host or from a
/// seed that does not follow the step's, or fails; and on any other device.
///
/// # Errors
/// When the device had failed before.
pub fn record_step<T, E: Display>(
    on: &Device,
    step: u64,
    body: impl FnOnce() -> std::result::Result<T, E>,
) -> Result<Recording<T>> {
    let (recording, heard) = hearing_draws(|| bridge::record(on, body));
    Ok(match recording? {
        bridge::Recording::Refused(why) => Recording::Refused(why),
        bridge::Recording::Ready(graph, value) => match in_order(graph.keys(), &heard, step) {
            Ok(draws) => Recording::Ready(RecordedStep { graph, draws }, value),
            Err(why) => Recording::Refused(why.to_string()),
        },
    })
}

/// The draw of each key.
fn in_order(keys: &[u64], heard: &Heard, step: u64) -> std::result::Result<Vec<Draw>, &'static str> {
    if heard.used.iter().any(|draw| draw.key_in(step) != draw.key) {
        return Err("a dropout follows a step of its own");
    }
    if heard.used.iter().any(|draw| !keys.contains(&draw.key)) {
        return Err("the mask of a dropout is drawn on the host");
    }
    let of = |key: &u64| heard.used.iter().find(|draw| draw.key == *key).copied();
    let draws = keys.iter().map(of).collect::<Option<_>>().filter(|_| !heard.others);
    draws.ok_or("a dropout draws from a seed of its own")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::DropoutSeed;
    use crate::random::{next_seed, with_seed};

    fn two(step: u64) -> Heard {
        let draw = || [1, 2].map(|seed| next_seed(DropoutSeed::from(seed)).map(|seed| seed.draw(0.5)));
        hearing_draws(|| with_seed(4, step, draw)).1
    }

    #[test]
    fn each_key_has_its_draw_whatever_the_order() {
        let heard = two(3);
        let keys = [heard.used[1].key, heard.used[0].key];
        assert_eq!(in_order(&keys, &heard, 3).unwrap(), [heard.used[1], heard.used[0]]);
    }

    #[test]
    fn what_would_not_follow_the_step_is_refused() {
        let heard = two(3);
        let keys: Vec<u64> = heard.used.iter().map(|draw| draw.key).collect();
        let refused = |keys: &[u64], heard: &Heard, step, part: &str| {
            let why = in_order(keys, heard, step).unwrap_err();
            assert!(why.contains(part), "{why}");
        };
        refused(&keys, &heard, 4, "a step of its own");
        refused(&keys[..1], &heard, 3, "on the host");
        refused(&[keys[0], keys[1], 5], &heard, 3, "a seed of its own");
        let mut others = heard.clone();
        others.others = true;
        refused(&keys, &others, 3, "a seed of its own");
    }

    #[test]
    fn a_cpu_says_why_it_does_not_record() {
        let recording = record_step(&Device::Cpu, 0, || Ok::<_, crate::Error>(())).unwrap();
        assert!(matches!(recording, Recording::Refused(why) if why.contains("CUDA")));
    }
}
