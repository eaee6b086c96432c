//! The builder's settings of the loop, under PyTorch Lightning's names.

use std::time::Duration;

use autocast::AlgorithmChoice;

use crate::matmul::MatmulPrecision;
use crate::settings::{Anomalies, ClipBy, Determinism};
use crate::{Error, Limit, OnInterrupt, TrainerBuilder};

impl TrainerBuilder {
    /// The most steps; those before a [`resume`](Self::resume) count. A step is one for each accumulated batch. Without any of
    /// `max_steps`, [`max_epochs`](Self::max_epochs) and [`max_time`](Self::max_time) there are 1,000.
    pub fn max_steps(mut self, max_steps: usize) -> Self {
        self.settings.run.max_steps = Some(max_steps);
        self
    }

    /// The most epochs; those before a [`resume`](Self::resume) count.
    pub fn max_epochs(mut self, max_epochs: usize) -> Self {
        self.settings.run.max_epochs = Some(max_epochs);
        self
    }

    /// How long a fit may take. It ends after the batch at which the time is over.
    pub fn max_time(mut self, max_time: Duration) -> Self {
        self.settings.run.max_time = Some(max_time);
        self
    }

    /// How much of an epoch is trained on: a number of batches, or a share such as `0.1` of data that know their length.
    pub fn limit_train_batches(mut self, limit: impl Into<Limit>) -> Self {
        self.settings.run.limit_train = limit.into();
        self
    }

    /// How much a validation sees; `0` turns validation off.
    pub fn limit_val_batches(mut self, limit: impl Into<Limit>) -> Self {
        self.settings.run.limit_val = limit.into();
        self
    }

    /// How much a test sees.
    pub fn limit_test_batches(mut self, limit: impl Into<Limit>) -> Self {
        self.settings.run.limit_test = limit.into();
        self
    }

    /// How much is predicted.
    pub fn limit_predict_batches(mut self, limit: impl Into<Limit>) -> Self {
        self.settings.run.limit_predict = limit.into();
        self
    }

    /// Validates within an epoch: after so many batches, or after each share of an epoch. The default validates at each
    /// epoch's end.
    pub fn val_check_interval(mut self, interval: impl Into<Limit>) -> Self {
        self.settings.run.val_check_interval = interval.into();
        self
    }

    /// Validates in every `n`-th epoch. The default is every epoch.
    pub fn check_val_every_n_epoch(mut self, n: usize) -> Self {
        self.settings.run.check_val_every_n_epoch = Some(n);
        self
    }

    /// Batches that are validated on before training, so that a mistake there is found at once and not after an epoch. The
    /// default is 2; its numbers go nowhere.
    pub fn num_sanity_val_steps(mut self, batches: usize) -> Self {
        self.settings.run.sanity_batches = Some(batches);
        self
    }

    /// Makes each step of so many batches: the loss of each counts as its share, and there are one unscale, one clip, one step
    /// and one update of the scale. The last step of an epoch may be of fewer batches. The default is 1.
    pub fn accumulate_grad_batches(mut self, batches: usize) -> Self {
        self.settings.steps.accumulate = batches;
        self
    }

    /// Clips the unscaled gradients inside each step, in place of any clip that the optimizers have:
    /// [by norm](Self::gradient_clip_algorithm), unless told otherwise.
    pub fn gradient_clip_val(mut self, limit: f64) -> Self {
        self.settings.steps.clip_val = Some(limit);
        self
    }

    /// How [`gradient_clip_val`](Self::gradient_clip_val) clips: `"norm"`, the default, scales all gradients of an optimizer down
    /// together; `"value"` moves each element into the limits.
    pub fn gradient_clip_algorithm(mut self, algorithm: &str) -> Self {
        self.settings.steps.clip_by = match algorithm {
            "norm" => Ok(ClipBy::Norm),
            "value" => Ok(ClipBy::Value),
            other => Err(Error::Setting {
                setting: "gradient_clip_algorithm",
                got: format!("{other:?}"),
                expected: "\"norm\" or \"value\"",
            }),
        };
        self
    }

    /// Trains and validates on the first so many batches of the first epoch, again and again, to see whether the model can
    /// learn them by heart.
    pub fn overfit_batches(mut self, batches: usize) -> Self {
        self.settings.run.overfit = Some(batches);
        self
    }

    /// Tries the code: so many batches of training, validation and test, without a checkpoint and without loggers.
    pub fn fast_dev_run(mut self, batches: usize) -> Self {
        self.settings.run.fast_dev_run = Some(batches);
        self
    }

    /// Computes the first step twice and ends the fit with [`Error::NotDeterministic`] unless both give the same gradients, to
    /// the bit. The crates' own ops always do; what a module draws or sums itself may not.
    pub fn deterministic(mut self) -> Self {
        self.settings.steps.determinism = Determinism::Checked;
        self
    }

    /// Ends the fit at the first NaN, forward or backward, with [`Error::Anomaly`], which names the op and the parameters near
    /// it. Slow: every op then waits for its device.
    pub fn detect_anomaly(mut self) -> Self {
        self.settings.steps.anomalies = Anomalies::Detected;
        self
    }

    /// In what a GPU multiplies f32 while this trainer trains or evaluates, as `torch.set_float32_matmul_precision` names it:
    /// `"highest"` in f32, `"high"` and `"medium"` in TF32, which rounds what is multiplied to 10 bits of mantissa and keeps f32's
    /// range and sums. Without it, candle's `set_gemm_reduced_precision_f32` decides, which is off; either way it is then as it
    /// was. It is a switch of the process: of fits that run at once on several threads, the last that began decides.
    ///
    /// Products of 16 bits and of f64 are what they are. On a CPU it has no effect, which is told: f32 is multiplied in f32.
    pub fn matmul_precision(mut self, precision: &str) -> Self {
        self.settings.steps.matmul = MatmulPrecision::parse(precision).map(Some);
        self
    }

    /// Has a GPU's algorithm for each product and convolution chosen by the clock, once for each shape, out of those that the library
    /// names first; the first batches take longer. The default is the one that it names first, with which two processes compute the
    /// same to the bit. Without effect beside [`deterministic`](Self::deterministic), which promises that.
    pub fn benchmark(mut self) -> Self {
        self.settings.steps.choice = Some(AlgorithmChoice::Timed);
        self
    }

    /// Steps between two entries of the loggers. Reading the numbers waits for the device. The default is 50.
    pub fn log_every_n_steps(mut self, n: usize) -> Self {
        self.settings.run.log_every_n_steps = Some(n);
        self
    }

    /// What becomes of a fit when the user interrupts the program. The default ends it in good order.
    pub fn on_interrupt(mut self, on_interrupt: OnInterrupt) -> Self {
        self.settings.run.on_interrupt = on_interrupt;
        self
    }
}
