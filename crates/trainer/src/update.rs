//! From losses to changed parameters: scale, backward, accumulate, unscale, step, and the scale's own update.

use autocast::BufferUpdate;
use candle_core::Tensor;
use candle_core::backprop::GradStore;
use grad_scaler::{Diagnostics, StepOutcome};
use optim::Optimizer;

use crate::optimization::{Entry, Turns};
use crate::precision_plugin::PrecisionPlugin;
use crate::trainer::read;
use crate::{Error, OnNonFinite, Optimization, Parameters, Result, Trainer};

/// The part of training that changes state.
pub(crate) struct Update {
    pub(crate) optimizers: Vec<Stepping>,
    pub(crate) plugin: PrecisionPlugin,
    on_non_finite: OnNonFinite,
    /// How many batches a step is made of.
    pub(crate) accumulate: usize,
}

/// An optimizer, and what has come for its next step.
pub(crate) struct Stepping {
    pub(crate) name: String,
    pub(crate) optimizer: Box<dyn Optimizer + Send + Sync>,
    turns: Option<Turns>,
    /// The parameters whose gradients the first backward pass has yet to be checked for.
    unchecked: Option<Parameters>,
    /// Gradients under the loss scale.
    pub(crate) grads: Option<GradStore>,
}

/// What [`OnNonFinite::Stop`] has to know before a step: how many were skipped, and the scale.
type Before = Option<(u64, f32)>;

impl Update {
    pub(crate) fn new(trainer: &Trainer, optimization: Optimization, trained: &Parameters) -> Result<Self> {
        let settings = &trainer.settings;
        let several = optimization.entries.len() > 1;
        let mut optimizers: Vec<Stepping> = Vec::new();
        for Entry { name, mut optimizer, schedule, turns } in optimization.entries {
            if optimizers.iter().any(|other| other.name == name) {
                return Err(Error::DuplicateName { what: "optimizers", name });
            }
            optimizer.set_seed(trainer.seed());
            if schedule.is_some() {
                optimizer.set_schedule(schedule);
            }
            if let Some(clip) = settings.steps.clip()? {
                optimizer.set_clip(Some(clip));
            }
            let unchecked = match several {
                true => {
                    trained.filter(|parameter| optimizer.parameters().iter().any(|p| p.name == parameter))
                }
                false => trained.clone(),
            };
            optimizers.push(Stepping { name, optimizer, turns, unchecked: Some(unchecked), grads: None });
        }
        Ok(Self {
            optimizers,
            plugin: PrecisionPlugin::new(trainer)?,
            on_non_finite: settings.on_non_finite,
            accumulate: settings.steps.accumulate,
        })
    }

    /// Whether it is an optimizer's turn at a step, which counts from 0.
    pub(crate) fn has_turn(&self, index: usize, step: usize) -> bool {
        self.optimizers[index].turns.as_ref().is_none_or(|turns| turns(step))
    }

    /// The gradients of a batch's loss, scaled. The loss is taken by value, so that its graph is gone when this returns.
    pub(crate) fn gradients(&self, loss: Tensor) -> Result<GradStore> {
        // In f32 where the loss is f16, whose share might vanish.
        let mut scaled = self.plugin.scaler.scale(&loss)?;
        drop(loss);
        if self.accumulate > 1 {
            scaled = autocast::ops::mul_scalar(&scaled, 1. / self.accumulate as f64)?;
        }
        Ok(autocast::narrow_gradients(scaled)?)
    }

    /// Adds the gradients of a batch to those for the next step of an optimizer.
    pub(crate) fn add(&mut self, index: usize, grads: GradStore) -> Result<()> {
        let stepping = &mut self.optimizers[index];
        if let Some(trained) = stepping.unchecked.take() {
            check_gradients(&trained, &grads)?;
        }
        stepping.grads = Some(match (stepping.grads.take(), self.accumulate) {
            (None, 1) => grads,
            (before, _) => {
                let mut sum = before.unwrap_or_default();
                optim::accumulate(stepping.optimizer.parameters(), &mut sum, &grads)?;
                sum
            }
        });
        Ok(())
    }

    /// Takes a step with the gradients that have come. Buffers are written if the step is taken.
    pub(crate) fn step(&mut self, index: usize, buffers: Vec<BufferUpdate>) -> Result<Option<StepOutcome>> {
        let stepping = &mut self.optimizers[index];
        let Some(grads) = stepping.grads.take() else { return Ok(None) };
        self.plugin.step_of_several(stepping.optimizer.as_mut(), &grads, buffers).map(Some)
    }

    /// What has to be known before the first optimizer's step.
    pub(crate) fn watch(&self) -> Result<Before> {
        let scaler = &self.plugin.scaler;
        Ok(match self.on_non_finite {
            OnNonFinite::Stop => Some((scaler.wait_for_steps()?.skipped, scaler.get_scale()?)),
            OnNonFinite::Skip | OnNonFinite::Apply => None,
        })
    }

    /// Moves the scale after every optimizer's step.
    pub(crate) fn finish(
        &mut self,
        before: Before,
        outcomes: &[StepOutcome],
        losses: &[Tensor],
    ) -> Result<()> {
        self.plugin.scaler.update()?;
        match before {
            Some(before) => self.stop_if_skipped(before, outcomes, losses),
            None => Ok(()),
        }
    }

    fn stop_if_skipped(
        &self,
        (skipped, scale): (u64, f32),
        outcomes: &[StepOutcome],
        losses: &[Tensor],
    ) -> Result<()> {
        let scaler = &self.plugin.scaler;
        if scaler.wait_for_steps()?.skipped == skipped {
            return Ok(());
        }
        let losses = losses.iter().map(read).collect::<Result<Vec<f64>>>()?;
        let odd = losses.iter().copied().find(|loss| !loss.is_finite());
        if self.plugin.scales && odd.is_none() && scaler.get_scale()? < scale {
            return Ok(());
        }
        let overflowed = outcomes.iter().find_map(|outcome| match outcome {
            StepOutcome::Skipped { overflowed } => Some(overflowed.clone()),
            _ => None,
        });
        let loss = odd.or(losses.last().copied()).unwrap_or(f64::NAN);
        Err(Error::NonFinite { loss, parameters: overflowed.unwrap_or_default() })
    }

    /// The learning rate that the first optimizer's last step was taken with. Waits for the device where a schedule follows
    /// what it decided.
    pub(crate) fn learning_rate(&self) -> f64 {
        self.optimizers
            .first()
            .and_then(|first| first.optimizer.last_learning_rate().ok())
            .unwrap_or(f64::NAN)
    }

    /// The norm of the first optimizer's last unscaled gradients. Waits for the device.
    pub(crate) fn grad_norm(&self) -> Option<f64> {
        self.optimizers.first()?.optimizer.last_grad_norm().ok().flatten()
    }

    pub(crate) fn loss_scale(&self) -> f32 {
        self.plugin.scaler.get_scale().unwrap_or(f32::NAN)
    }

    pub(crate) fn diagnostics(&self) -> Option<&Diagnostics> {
        self.plugin.scaler.diagnostics()
    }

    /// Whether an optimizer draws from the seed.
    pub(crate) fn draws(&self) -> bool {
        self.optimizers.iter().any(|stepping| stepping.optimizer.draws())
    }

    pub(crate) fn skipped_steps(&self) -> usize {
        self.plugin.scaler.steps().map_or(0, |steps| steps.skipped as usize)
    }
}

fn check_gradients(trained: &Parameters, grads: &GradStore) -> Result<()> {
    let names = trained.iter().filter(|(_, var)| grads.get(var).is_none()).map(|(name, _)| name.to_string());
    match names.collect::<Vec<_>>() {
        names if names.is_empty() => Ok(()),
        names => {
            let norms = norms(trained, &names);
            Err(Error::MissingGradient { names, norms })
        }
    }
}

/// The layers among these parameters' that are norms by the shape of their weights, and their constructors in `autocast::nn`.
fn norms(trained: &Parameters, names: &[String]) -> Vec<(String, &'static str)> {
    let norm = |name: &String| {
        let layer = name.strip_suffix("weight").filter(|layer| layer.is_empty() || layer.ends_with('.'))?;
        let is_row = trained.get(name).is_some_and(|weight| weight.rank() == 1);
        let instead = match trained.get(&format!("{layer}bias")) {
            Some(_) => "layer_norm",
            None => "rms_norm",
        };
        is_row.then(|| (layer.trim_end_matches('.').to_string(), instead))
    };
    names.iter().filter_map(norm).collect()
}
