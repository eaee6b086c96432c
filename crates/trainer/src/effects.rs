//! Settings that contradict each other or have no effect: the first are errors, the second are told.

use candle_core::DType;
use grad_scaler::ScalerConfig;
use precision_types::{Accelerator, Precision};

use crate::builder::Settings;
use crate::matmul::MatmulPrecision;
use crate::settings::{Anomalies, Determinism};
use crate::storage::Storage;
use crate::{CudaGraph, Error, Notice, OnNonFinite, Result};

impl Settings {
    /// # Errors
    /// The first setting that is out of range.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.run.check()?;
        self.steps.check()?;
        let taken = self.resume.as_ref().map(|state| state.position);
        if let (Some(taken), Some(max)) = (taken, self.run.steps())
            && taken.step > max
        {
            return Err(Error::Setting {
                setting: "max_steps",
                got: format!("{max} where {} were taken before", taken.step),
                expected: "at least as many as were taken before: it counts them, too",
            });
        }
        if let (Some(taken), Some(max)) = (taken, self.run.epochs())
            && taken.epoch > max
        {
            return Err(Error::Setting {
                setting: "max_epochs",
                got: format!("{max} where {} are complete", taken.epoch),
                expected: "at least as many as are complete: it counts them, too",
            });
        }
        match &self.checkpoint {
            Some(checkpoint) => checkpoint.check(),
            None => Ok(()),
        }
    }

    /// The settings that change nothing at `precision` on `accelerator`.
    pub(crate) fn no_effect(&self, precision: Precision, accelerator: Accelerator) -> Vec<Notice> {
        let scales = precision.needs_loss_scaling();
        let not_scaled = format!("{precision} does not scale its loss");
        let settings = [
            ("loss_scaling", self.loss_scaling.is_some() && !scales, not_scaled.clone()),
            ("diagnostics", self.diagnostics.is_some() && !scales, not_scaled),
            (
                "on_non_finite(Apply)",
                self.on_non_finite == OnNonFinite::Apply && scales,
                format!("the loss scaler of {precision} skips steps that are not finite"),
            ),
            (
                "matmul_precision",
                self.steps.products().precision == Some(MatmulPrecision::Reduced)
                    && accelerator == Accelerator::Cpu,
                "a CPU multiplies f32 in f32".to_string(),
            ),
            (
                "benchmark",
                self.steps.choice.is_some() && accelerator == Accelerator::Cpu,
                "a CPU has one algorithm for a shape".to_string(),
            ),
            (
                "benchmark",
                self.steps.choice.is_some() && self.steps.determinism == Determinism::Checked,
                "deterministic asks for the same sums in every process".to_string(),
            ),
            (
                "cuda_graph",
                self.steps.graph == CudaGraph::Passes && accelerator == Accelerator::Cpu,
                "it is for GPUs".to_string(),
            ),
            (
                "cuda_graph",
                self.steps.graph == CudaGraph::Passes && self.steps.anomalies == Anomalies::Detected,
                "detect_anomaly reads what every op gives".to_string(),
            ),
            (
                "parameters_in_compute_dtype",
                self.storage == Storage::InComputeDtype && !precision.is_mixed(),
                format!("at {precision} parameters are in the dtype that is computed in"),
            ),
            (
                "initial_values",
                self.resume.is_some() && !self.initial_values.is_empty(),
                "the resumed state has the parameters".to_string(),
            ),
        ];
        let in_vain = settings.into_iter().filter(|(_, in_vain, _)| *in_vain);
        in_vain.map(|(setting, _, why)| Notice::NoEffect { setting, why }).collect()
    }
}

/// How the loss of a model with parameters of `dtype` is scaled where the user does not say it.
pub(crate) fn default_loss_scaling(dtype: DType) -> ScalerConfig {
    let recommended = ScalerConfig::recommended();
    match dtype {
        DType::F16 => ScalerConfig { init_scale: 32_768., ..recommended },
        _ => recommended,
    }
}
