//! A precision alone, for a loop that is written by hand: what a trainer does around a forward pass, a backward pass and a
//! step.

use autocast::{Autocast, BufferUpdate, defer_buffers_after};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};
use grad_scaler::{GradScaler, StateDict, StepOutcome};
use optim::{Clip, ScaledOptimizer};
use precision_types::Precision;

use crate::builder::Settings;
use crate::effects::default_loss_scaling;
use crate::matmul::{Products, multiplying};
use crate::{Batch, OnNonFinite, Result, Trainer};

/// The region, the loss scale and the casts of a precision. Made by [`Trainer::precision_plugin`].
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// use autocast::{nn, ops};
/// use candle_core::{Device, Module, Tensor};
/// use optim::{Sgd, SgdConfig};
/// use trainer::Trainer;
///
/// let trainer = Trainer::builder().precision("bf16-mixed").accelerator("cpu").build()?;
/// let mut plugin = trainer.precision_plugin()?;
/// let (line, parameters) = trainer.init_module(|vb| Ok(nn::linear(1, 1, vb)?))?;
/// let mut optimizer = Sgd::new(parameters.to_named(), SgdConfig { lr: 0.1, ..Default::default() })?;
///
/// let x = Tensor::new(&[[0f32], [1.], [2.]], &Device::Cpu)?;
/// let (x, y) = plugin.convert_input((x.clone(), (x * 2.)?))?;
/// for _ in 0..10 {
///     let loss = plugin.forward(|| ops::mse_loss(&line.forward(&x)?, &y, ops::Reduction::Mean))?;
///     let grads = plugin.backward(loss)?;
///     plugin.step(&mut optimizer, &grads)?;
/// }
/// # Ok(())
/// # }
/// ```
pub struct PrecisionPlugin {
    precision: Precision,
    param_dtype: DType,
    device: Device,
    /// The autocast region of a mixed precision; a true precision has none.
    region: Option<Autocast>,
    /// How products are asked for.
    products: Products,
    pub(crate) scaler: GradScaler,
    /// Whether losses are scaled.
    pub(crate) scales: bool,
    /// What forward passes since the last step want to write.
    buffers: Vec<BufferUpdate>,
}

impl PrecisionPlugin {
    pub(crate) fn new(trainer: &Trainer) -> Result<Self> {
        let (precision, device) = (trainer.precision, trainer.device.clone());
        let scales = precision.needs_loss_scaling();
        let Settings { on_non_finite, loss_scaling, diagnostics, .. } = trainer.settings;
        let loss_scaling = loss_scaling.unwrap_or_else(|| default_loss_scaling(trainer.param_dtype()));
        let scaler = match (scales, on_non_finite) {
            (true, _) => GradScaler::new(loss_scaling, &device)?,
            (false, OnNonFinite::Skip | OnNonFinite::Stop) => GradScaler::skipping(&device)?,
            (false, OnNonFinite::Apply) => GradScaler::disabled(),
        };
        let scaler = match diagnostics.filter(|_| scales) {
            Some(config) => scaler.with_diagnostics(config)?,
            None => scaler,
        };
        let (region, products) = (trainer.region.clone(), trainer.settings.steps.products());
        let (param_dtype, buffers) = (trainer.param_dtype(), Vec::new());
        Ok(Self { precision, param_dtype, device, region, products, scaler, scales, buffers })
    }

    /// The precision.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Moves a batch to the device and its floats to the parameters' dtype, rounded once. Integers stay integers.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn convert_input<B: Batch>(&self, batch: B) -> Result<B> {
        convert(batch, &self.device, self.param_dtype)
    }

    /// Runs `forward` in the precision's region. What its layers want to write to buffers, such as running statistics, waits
    /// for the next [`step`](Self::step), and is written if that is taken.
    pub fn forward<T>(&mut self, forward: impl FnOnce() -> T) -> T {
        let held = std::mem::take(&mut self.buffers);
        let forward = || defer_buffers_after(held, || run(self.region.as_ref(), forward));
        let (output, buffers) = multiplying(self.products, forward);
        self.buffers = buffers;
        output
    }

    /// The gradients of `loss`, which carry the loss scale where there is one.
    ///
    /// # Errors
    /// Where an op of the graph has no gradient.
    pub fn backward(&self, loss: Tensor) -> Result<GradStore> {
        let scaled = self.scaler.scale(&loss)?;
        drop(loss);
        Ok(multiplying(self.products, || autocast::constant_gradients(scaled))?)
    }

    /// Takes the loss scale out of `grads` and clips them; gives their norm before. Waits for a CUDA device: an optimizer
    /// that clips inside its step does not.
    ///
    /// # Errors
    /// Gradients that do not fit the optimizer's parameters, or that were unscaled before.
    pub fn clip_gradients<O>(&mut self, optimizer: &O, grads: &mut GradStore, clip: Clip) -> Result<f64>
    where
        O: ScaledOptimizer + ?Sized,
    {
        self.scaler.unscale_(optimizer, grads)?;
        Ok(clip.apply(optimizer.parameters(), grads)?)
    }

    /// Takes a step, or skips it where a gradient is not finite, and moves the loss scale.
    ///
    /// # Errors
    /// Gradients that do not fit the optimizer's parameters.
    pub fn step<O>(&mut self, optimizer: &mut O, grads: &GradStore) -> Result<StepOutcome>
    where
        O: ScaledOptimizer + ?Sized,
    {
        let buffers = std::mem::take(&mut self.buffers);
        let outcome = self.step_of_several(optimizer, grads, buffers)?;
        self.scaler.update()?;
        Ok(outcome)
    }

    /// A step of one of several optimizers, after all of which the scale is updated.
    pub(crate) fn step_of_several<O>(
        &mut self,
        optimizer: &mut O,
        grads: &GradStore,
        buffers: Vec<BufferUpdate>,
    ) -> Result<StepOutcome>
    where
        O: ScaledOptimizer + ?Sized,
    {
        let outcome = self.scaler.step(optimizer, grads)?;
        self.scaler.commit(&outcome, buffers)?;
        autocast::parameters_changed();
        Ok(outcome)
    }

    /// The loss scaler, to be looked at.
    #[must_use]
    pub fn scaler(&self) -> &GradScaler {
        &self.scaler
    }

    /// The state of the loss scale; empty at the precisions that have none. Waits for a CUDA device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn state_dict(&self) -> Result<StateDict> {
        Ok(if self.scales { self.scaler.state_dict()? } else { StateDict::default() })
    }

    /// Restores what [`state_dict`](Self::state_dict) gave.
    ///
    /// # Errors
    /// Where entries are missing or out of range.
    pub fn load_state_dict(&mut self, state: &StateDict) -> Result<()> {
        Ok(self.scaler.load_state_dict(state)?)
    }
}

impl Trainer {
    /// This trainer's precision alone, for a loop that is written by hand.
    ///
    /// # Errors
    /// Loss scaling settings that are out of range.
    pub fn precision_plugin(&self) -> Result<PrecisionPlugin> {
        PrecisionPlugin::new(self)
    }
}

/// Runs `forward` in `region`, where there is one.
pub(crate) fn run<T>(region: Option<&Autocast>, forward: impl FnOnce() -> T) -> T {
    match region {
        Some(region) => region.run(forward),
        None => forward(),
    }
}

/// A batch on `device`, its floats in the parameters' dtype.
pub(crate) fn convert<B: Batch>(batch: B, device: &Device, param_dtype: DType) -> Result<B> {
    batch.map_tensors(&mut |tensor| {
        let floats = tensor.dtype().is_float();
        let tensor = autocast::to_device(&tensor, device)?;
        Ok(if floats { autocast::cast_to(&tensor, param_dtype)? } else { tensor })
    })
}
