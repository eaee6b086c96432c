//! The named parameters of a model, and the store that creates them: the same seed gives the same values at every
//! precision, since each is drawn in f64 from a stream of its own name and then rounded. Updating is left to `optim`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use autocast::random::{Stream, key};
use candle_core::{DType, Device, Shape, Tensor, Var};
use candle_nn::init::NormalOrUniform;
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use rand_distr::{Distribution, StandardNormal, Uniform};

use crate::atomic::replace_file;
use crate::weights::Initial;
use crate::{Error, Result};

/// The parameters of a model by name, in the order of their names.
///
/// Cloning is cheap: clones share the values.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// use trainer::Trainer;
/// use trainer::autocast::nn;
///
/// let trainer = Trainer::builder().accelerator("cpu").build()?;
/// let (_, parameters) = trainer.init_module(|vb| Ok(nn::linear(3, 2, vb.pp("head"))?))?;
/// assert_eq!(parameters.element_count(), 8);
/// assert_eq!(parameters.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["head.bias", "head.weight"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    vars: BTreeMap<String, Var>,
}

impl Parameters {
    /// The number of parameter tensors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.vars.len()
    }

    /// Whether there is no parameter at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vars.is_empty()
    }

    /// The number of scalars in all parameters together.
    #[must_use]
    pub fn element_count(&self) -> usize {
        self.vars.values().map(|var| var.elem_count()).sum()
    }

    /// The parameter called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Var> {
        self.vars.get(name)
    }

    /// Names and variables in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.vars.iter().map(|(name, var)| (name.as_str(), var))
    }

    /// Names and variables, as the optimizers' constructors take them.
    #[must_use]
    pub fn to_named(&self) -> Vec<(String, Var)> {
        self.vars.iter().map(|(name, var)| (name.clone(), var.clone())).collect()
    }

    /// Writes the parameters to a safetensors file, as candle and PyTorch load it. The file appears whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let tensors = self.iter().map(|(name, var)| (name, var.as_tensor()));
        let bytes = safetensors::serialize(tensors, None).map_err(|error| Error::Other(error.into()))?;
        replace_file(path.as_ref(), &bytes)
    }

    /// Copies of the values on the CPU, which later steps leave alone.
    pub(crate) fn values(&self) -> Result<HashMap<String, Tensor>> {
        let copy = |(name, var): (&str, &Var)| {
            Ok((name.to_string(), var.as_tensor().to_device(&Device::Cpu)?.copy()?))
        };
        self.iter().map(copy).collect()
    }

    /// Those parameters for which `keep` holds.
    pub(crate) fn filter(&self, keep: impl Fn(&str) -> bool) -> Self {
        let vars = self.vars.iter().filter(|(name, _)| keep(name)).map(|(n, v)| (n.clone(), v.clone()));
        Self { vars: vars.collect() }
    }
}

/// Creates parameters as a model asks for them.
#[derive(Clone)]
pub(crate) struct ParameterStore {
    seed: u64,
    initial: Arc<Initial>,
    created: Arc<Mutex<Parameters>>,
}

impl ParameterStore {
    pub(crate) fn new(seed: u64, initial: Initial) -> Self {
        Self { seed, initial: Arc::new(initial), created: Arc::default() }
    }

    pub(crate) fn builder(&self, dtype: DType, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), dtype, device.clone())
    }

    /// What the model has asked for so far.
    pub(crate) fn parameters(&self) -> Parameters {
        self.created.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The initial values that no parameter took.
    pub(crate) fn unused_initial_values(&self) -> Vec<String> {
        let created = self.parameters();
        let names = self.initial.names().into_iter();
        let mut unused: Vec<_> = names.filter(|name| created.get(name).is_none()).cloned().collect();
        unused.sort();
        unused
    }

    /// Whether there are initial values at all.
    pub(crate) fn is_given(&self) -> bool {
        !self.initial.names().is_empty()
    }

    /// The parameters without an initial value, which were drawn from the seed.
    pub(crate) fn drawn(&self) -> Vec<String> {
        let names = self.parameters().vars.into_keys();
        names.filter(|name| !self.initial.has(name)).collect()
    }

    fn initial_value(&self, shape: &Shape, name: &str, init: Init) -> candle_core::Result<Tensor> {
        if let Some(value) = self.initial.get(name).map_err(candle_core::Error::wrap)? {
            if value.shape() != shape {
                candle_core::bail!(
                    "the initial value of parameter {name} has shape {:?}, the model asks for {shape:?}",
                    value.shape()
                )
            }
            return Ok(value);
        }
        let values = draw(init, shape, Stream::new(key(&[self.seed, fnv1a(name)])));
        Tensor::from_vec(values, shape, &Device::Cpu)
    }
}

impl SimpleBackend for ParameterStore {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let mut created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(var) = created.vars.get(name) {
            if var.shape() != &shape {
                candle_core::bail!(
                    "parameter {name} has shape {:?}, and is asked for again as {shape:?}",
                    var.shape()
                )
            }
            if var.dtype() != dtype {
                candle_core::bail!(
                    "parameter {name} has dtype {:?}, and is asked for again as {dtype:?}",
                    var.dtype()
                )
            }
            return Ok(var.as_tensor().clone());
        }
        let value = autocast::cast_to(&self.initial_value(&shape, name, init)?, dtype)?.to_device(device)?;
        let var = Var::from_tensor(&value)?;
        let tensor = var.as_tensor().clone();
        created.vars.insert(name.to_string(), var);
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        candle_core::bail!("parameter {name} is asked for without a shape: use `get` or `get_with_hints`")
    }

    /// Whether `get` would find a value: a parameter can always be created.
    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// Draws the values of one parameter.
///
/// # Source
/// The distributions are `candle_nn::Init`'s, which are PyTorch's `torch/nn/init.py`.
fn draw(init: Init, shape: &Shape, rng: Stream) -> Vec<f64> {
    let count = shape.elem_count();
    match init {
        Init::Const(value) => vec![value; count],
        Init::Randn { mean, stdev } => normal(mean, stdev, count, rng),
        Init::Uniform { lo, up } => uniform(lo, up, count, rng),
        Init::Kaiming { dist, fan, non_linearity } => {
            let stdev = non_linearity.gain() / (fan.for_shape(shape).max(1) as f64).sqrt();
            match dist {
                NormalOrUniform::Normal => normal(0., stdev, count, rng),
                NormalOrUniform::Uniform => {
                    let bound = 3f64.sqrt() * stdev;
                    uniform(-bound, bound, count, rng)
                }
            }
        }
    }
}

fn normal(mean: f64, stdev: f64, count: usize, rng: Stream) -> Vec<f64> {
    let standard = StandardNormal.sample_iter(rng).take(count);
    standard.map(|z: f64| mean + stdev * z).collect()
}

fn uniform(low: f64, high: f64, count: usize, rng: Stream) -> Vec<f64> {
    match Uniform::new(low, high) {
        Ok(distribution) => distribution.sample_iter(rng).take(count).collect(),
        // An empty range, such as a bound of 0, holds one value.
        Err(_) => vec![low; count],
    }
}

/// FNV-1a of a name: a hash that is the same in every build and on every machine.
fn fnv1a(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(seed: u64) -> ParameterStore {
        ParameterStore::new(seed, Initial::Given(HashMap::new()))
    }

    fn values(store: &ParameterStore, dtype: DType, name: &str) -> Vec<f64> {
        let vb = store.builder(dtype, &Device::Cpu);
        let tensor = vb.get_with_hints((3, 4), name, Init::Randn { mean: 0., stdev: 1. }).unwrap();
        tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn every_precision_starts_from_the_same_values() {
        let of = |dtype| values(&drawn(7), dtype, "w");
        let exact = of(DType::F64);
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            for (rounded, exact) in of(dtype).iter().zip(&exact) {
                assert!((rounded - exact).abs() <= exact.abs() / 256., "{dtype:?}: {rounded} for {exact}");
            }
        }
    }

    #[test]
    fn values_are_rounded_once() {
        // By way of an f32 these would become a tie, and go to 1.
        let above = |tie: f64| 1. + tie + 2f64.powi(-40);
        for (dtype, tie) in [(DType::F16, 2f64.powi(-11)), (DType::BF16, 2f64.powi(-8))] {
            let given = Tensor::new(&[above(tie)], &Device::Cpu).unwrap();
            let store = ParameterStore::new(0, Initial::Given([("given".to_string(), given)].into()));
            let vb = store.builder(dtype, &Device::Cpu);
            let drawn = vb.get_with_hints(1, "drawn", Init::Const(above(tie))).unwrap();
            for value in [vb.get(1, "given").unwrap(), drawn] {
                let value = value.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
                assert_eq!(value, [1. + 2. * tie], "{dtype:?}");
            }
        }
    }

    #[test]
    fn names_and_seeds_have_streams_of_their_own() {
        let store = drawn(7);
        assert_ne!(values(&store, DType::F64, "a"), values(&store, DType::F64, "b"));
        let other = drawn(8);
        assert_ne!(values(&store, DType::F64, "a"), values(&other, DType::F64, "a"));
    }

    #[test]
    fn a_second_request_shares_the_variable_or_says_why_not() {
        let vb = drawn(0).builder(DType::F32, &Device::Cpu);
        let first = vb.get((2, 2), "tied").unwrap();
        assert_eq!(vb.get((2, 2), "tied").unwrap().id(), first.id());
        let error = vb.get((2, 3), "tied").unwrap_err().to_string();
        assert!(error.contains("tied") && error.contains("[2, 3]"), "{error}");
    }
}
