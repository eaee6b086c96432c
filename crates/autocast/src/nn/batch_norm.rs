//! BatchNorm, by candle-nn's names. Its running statistics stay f32 and are no parameters: they are buffers, read from
//! and written next to the weights.

use backends::kernels::batch_norm::moved_of;
use candle_core::{ModuleT, Result, Tensor, Var};
use candle_nn::{Init, VarBuilder};

use crate::dtypes::accumulation_dtype as wide;
use crate::ops::BatchNormOutput;
use crate::ops::norm::batch_norm::{train, train_then_relu};
use crate::ops::norm::view::Centre;
use crate::{Error, Mode, buffers, mode, ops};

const OP: &str = "batch_norm";

/// The options of [`batch_norm()`]; an `eps` alone converts into it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNormConfig {
    /// Added to the variance.
    pub eps: f64,
    /// Whether values are centred while training.
    pub remove_mean: bool,
    /// Whether there are a weight and a bias.
    pub affine: bool,
    /// The weight of a new batch in the running statistics.
    pub momentum: f64,
}

impl Default for BatchNormConfig {
    fn default() -> Self {
        Self { eps: 1e-5, remove_mean: true, affine: true, momentum: 0.1 }
    }
}

impl From<f64> for BatchNormConfig {
    fn from(eps: f64) -> Self {
        Self { eps, ..Self::default() }
    }
}

/// Normalises each channel: over the batch while training, with running statistics in evaluation.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    running_mean: Var,
    running_var: Var,
    weight_and_bias: Option<(Tensor, Tensor)>,
    centre: Centre,
    eps: f64,
    momentum: f64,
}

impl BatchNorm {
    /// A batch norm of these statistics and parameters, one per channel, with momentum 0.1.
    ///
    /// # Errors
    ///
    /// Tensors of another length, an `eps` below 0.
    pub fn new(
        num_features: usize,
        running_mean: Tensor,
        running_var: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: f64,
    ) -> Result<Self> {
        let parameters = Some((weight, bias));
        Self::from_parts(num_features, [running_mean, running_var], parameters, eps.into())
    }

    /// A batch norm that neither scales nor shifts.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn new_no_bias(
        num_features: usize,
        running_mean: Tensor,
        running_var: Tensor,
        eps: f64,
    ) -> Result<Self> {
        Self::from_parts(num_features, [running_mean, running_var], None, eps.into())
    }

    /// [`new`](Self::new) with a momentum.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and a momentum outside `0..=1`.
    pub fn new_with_momentum(
        num_features: usize,
        running_mean: Tensor,
        running_var: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: f64,
        momentum: f64,
    ) -> Result<Self> {
        let config = BatchNormConfig { eps, momentum, ..Default::default() };
        Self::from_parts(num_features, [running_mean, running_var], Some((weight, bias)), config)
    }

    fn from_parts(
        num_features: usize,
        statistics: [Tensor; 2],
        weight_and_bias: Option<(Tensor, Tensor)>,
        config: BatchNormConfig,
    ) -> Result<Self> {
        let parameters =
            weight_and_bias.iter().flat_map(|(weight, bias)| [("weight", weight), ("bias", bias)]);
        let running = ["running_mean", "running_var"].into_iter().zip(&statistics);
        if let Some((name, odd)) = running.chain(parameters).find(|(_, t)| t.dims() != [num_features]) {
            let expected = format!("[{num_features}], one per feature");
            return Err(Error::shape(OP, name, odd.dims(), expected).into());
        }
        if config.eps.is_nan() || config.eps < 0. {
            return Err(Error::argument(OP, "eps", config.eps, "0 or more").into());
        }
        if !(0. ..=1.).contains(&config.momentum) {
            return Err(Error::argument(OP, "momentum", config.momentum, "0 to 1").into());
        }
        // A variable stays itself, so that a model that is saved is saved with its statistics.
        let [running_mean, running_var] = statistics.map(|t| Var::from_tensor(&t.to_dtype(wide(t.dtype()))?));
        let (running_mean, running_var) = (running_mean?, running_var?);
        let centre = if config.remove_mean { Centre::Mean } else { Centre::Zero };
        let BatchNormConfig { eps, momentum, .. } = config;
        Ok(Self { running_mean, running_var, weight_and_bias, centre, eps, momentum })
    }

    /// The mean that evaluation subtracts.
    pub fn running_mean(&self) -> &Tensor {
        self.running_mean.as_tensor()
    }

    /// The variance that evaluation divides by the root of.
    pub fn running_var(&self) -> &Tensor {
        self.running_var.as_tensor()
    }

    /// What normalised values are multiplied by, and what is added then.
    pub fn weight_and_bias(&self) -> Option<(&Tensor, &Tensor)> {
        self.weight_and_bias.as_ref().map(|(weight, bias)| (weight, bias))
    }

    /// What is added to the variance.
    pub fn eps(&self) -> f64 {
        self.eps
    }

    /// The weight of a new batch in the running statistics.
    pub fn momentum(&self) -> f64 {
        self.momentum
    }

    /// [`forward_train`](Self::forward_train) in [`Mode::Train`], [`forward_eval`](Self::forward_eval) in
    /// [`Mode::Evaluate`].
    ///
    /// # Errors
    ///
    /// As these.
    pub fn forward_by_mode(&self, x: &Tensor) -> Result<Tensor> {
        match mode() {
            Mode::Train => self.forward_train(x),
            Mode::Evaluate => self.forward_eval(x),
        }
    }

    /// Normalises with the statistics of this batch, and in [`Mode::Train`] moves the running ones towards them: at once, or
    /// with the step that [`defer_buffers`](crate::defer_buffers) holds them back for. A channel whose mean or variance is
    /// not finite moves neither.
    ///
    /// # Errors
    ///
    /// As [`ops::batch_norm_train`].
    pub fn forward_train(&self, x: &Tensor) -> Result<Tensor> {
        self.check(x)?;
        let (weight, bias) = self.parameters();
        self.moved(train(x, self.centre, weight, bias, self.eps)?)
    }

    /// [`forward_by_mode`](Self::forward_by_mode), `residual` added where there is one, and a relu: in one pass on a GPU.
    ///
    /// # Errors
    ///
    /// As [`ops::batch_norm_add_relu`].
    pub fn forward_relu(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        if mode() == Mode::Train {
            self.check(x)?;
            let (weight, bias) = self.parameters();
            return self.moved(train_then_relu(x, residual, self.centre, weight, bias, self.eps)?);
        }
        let y = self.forward_eval(x)?;
        let y = residual.map_or(Ok(y.clone()), |residual| ops::add(&y, residual))?;
        Ok(ops::relu(&y)?)
    }

    fn parameters(&self) -> (Option<&Tensor>, Option<&Tensor>) {
        self.weight_and_bias.as_ref().map_or((None, None), |(weight, bias)| (Some(weight), Some(bias)))
    }

    /// Moves the running statistics towards a batch's.
    fn moved(&self, batch: BatchNormOutput) -> Result<Tensor> {
        let mean = (self.centre == Centre::Mean).then_some((&self.running_mean, &batch.mean, &batch.var));
        let pairs = mean.into_iter().chain([(&self.running_var, &batch.var, &batch.mean)]);
        if !batch.mean.device().is_cpu() {
            let mut composed = false;
            for (running, new, guard) in pairs.clone() {
                buffers::write(running, |old| {
                    let moved = moved_of(self.momentum, old, new, guard).map_err(Error::from)?.ran();
                    composed |= moved.is_none();
                    Ok(moved.unwrap_or_else(|| old.clone()))
                })?;
            }
            if !composed {
                return Ok(batch.output);
            }
        }
        // Infinities and NaN are what 0 times them is not 0: one would stay in a running statistic for good.
        let finite = ((&batch.mean * 0.)? + (&batch.var * 0.)?)?.eq(0.)?;
        for (running, new, _) in pairs {
            buffers::write(running, |old| {
                let new = new.to_dtype(old.dtype())?;
                let moved = ((old * (1. - self.momentum))? + (new * self.momentum)?)?;
                Ok(finite.where_cond(&moved, old)?)
            })?;
        }
        Ok(batch.output)
    }

    /// Normalises with the running statistics.
    ///
    /// # Errors
    ///
    /// As [`ops::batch_norm_eval`].
    pub fn forward_eval(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = self.parameters();
        let [mean, var] = [&self.running_mean, &self.running_var].map(candle_core::Var::as_detached_tensor);
        Ok(ops::batch_norm_eval(x, &mean, &var, weight, bias, self.eps)?)
    }

    fn check(&self, x: &Tensor) -> Result<()> {
        let channels = self.running_mean.dims();
        match x.dims() {
            [_, c, ..] if [*c] == channels => Ok(()),
            dims => Err(Error::shape(OP, "x", dims, format!("(N, {}, …)", channels[0])).into()),
        }
    }
}

impl ModuleT for BatchNorm {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        if train { self.forward_train(x) } else { self.forward_eval(x) }
    }
}

/// A [`BatchNorm`] with the buffers `running_mean` and `running_var` and, where the config is affine, the parameters
/// `weight` and `bias`.
///
/// # Errors
///
/// As [`BatchNorm::new`], and whatever the `VarBuilder` refuses.
pub fn batch_norm<C: Into<BatchNormConfig>>(
    num_features: usize,
    config: C,
    vb: VarBuilder,
) -> Result<BatchNorm> {
    let config = config.into();
    // Also among 16-bit parameters: a tenth of the difference to a new batch soon vanishes beside a 16-bit statistic.
    let statistic = |name, init| vb.get_with_hints_dtype(num_features, name, init, wide(vb.dtype()));
    let running_mean = statistic("running_mean", Init::Const(0.))?;
    let running_var = statistic("running_var", Init::Const(1.))?;
    let weight_and_bias = match config.affine {
        true => {
            let weight = vb.get_with_hints(num_features, "weight", Init::Const(1.))?;
            Some((weight, vb.get_with_hints(num_features, "bias", Init::Const(0.))?))
        }
        false => None,
    };
    BatchNorm::from_parts(num_features, [running_mean, running_var], weight_and_bias, config)
}
