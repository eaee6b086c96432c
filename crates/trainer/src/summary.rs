//! What a model is made of, and what its training keeps in memory: a table of layers.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use candle_core::Tensor;

use crate::Parameters;
use crate::table::{aligned, bytes, count};

/// One line of a [`ModelSummary`]: the parameters that share a prefix of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerSummary {
    /// The prefix: `"h.0"` of `h.0.attn.weight`.
    pub name: String,
    /// How many numbers its parameters and buffers hold.
    pub parameters: usize,
    /// The bytes of these, in the dtype that they are stored in.
    pub parameter_bytes: u64,
    /// The bytes of the gradients: as many as the parameters that have one take.
    pub gradient_bytes: u64,
    /// The bytes of the optimizers' state: moments, and master weights where parameters have 16 bits.
    pub optimizer_bytes: u64,
}

/// The layers of a model, the parameters of each, and the bytes that training keeps for them at its precision.
///
/// Activations, and the 16-bit copies of parameters that a mixed precision makes for a step, are not in it: they depend on the
/// batch. [`PrintModelSummary`](crate::callbacks::PrintModelSummary) prints it when a fit starts.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// use trainer::{ModelSummary, Trainer};
///
/// let trainer = Trainer::builder().precision("bf16-true").accelerator("cpu").build()?;
/// let (_, parameters) = trainer.init_module(|vb| Ok(trainer::autocast::nn::linear(8, 2, vb.pp("head"))?))?;
/// let summary = ModelSummary::new(&parameters);
/// assert_eq!(summary.total().parameters, 18);
/// assert_eq!(summary.total().parameter_bytes, 36);
/// println!("{summary}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ModelSummary {
    depth: usize,
    tensors: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    name: String,
    elements: usize,
    bytes: u64,
    gradient: u64,
    optimizer: u64,
}

impl ModelSummary {
    /// The summary of a model. Every parameter counts as trained, except a BatchNorm's running statistics; the optimizers'
    /// state is not known, and 0.
    #[must_use]
    pub fn new(parameters: &Parameters) -> Self {
        let entry = |(name, var): (&str, &candle_core::Var)| {
            let bytes = (var.elem_count() * var.dtype().size_in_bytes()) as u64;
            let is_buffer = name.ends_with("running_mean") || name.ends_with("running_var");
            Entry {
                name: name.to_string(),
                elements: var.elem_count(),
                bytes,
                gradient: if is_buffer { 0 } else { bytes },
                optimizer: 0,
            }
        };
        Self { depth: 2, tensors: parameters.iter().map(entry).collect() }
    }

    /// Adds an optimizer's state, as its `state_dict` gives it.
    #[must_use]
    pub fn with_optimizer_state(mut self, state: &HashMap<String, Tensor>) -> Self {
        for entry in &mut self.tensors {
            let of_this = |name: &str| {
                name.strip_prefix(&entry.name)
                    .is_some_and(|what| what.starts_with('.') && !what[1..].contains('.'))
            };
            let tensors = state.iter().filter(|(name, _)| of_this(name)).map(|(_, tensor)| tensor);
            entry.optimizer += tensors
                .map(|tensor| (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64)
                .sum::<u64>();
        }
        self
    }

    /// Goes `depth` names deep, 2 by default: `h.0.attn` and `h.0.mlp` are one line, `h.0`.
    #[must_use]
    pub fn with_depth(mut self, depth: usize) -> Self {
        self.depth = depth.max(1);
        self
    }

    /// The layers, in the order of their names.
    #[must_use]
    pub fn layers(&self) -> Vec<LayerSummary> {
        let mut layers: BTreeMap<&str, LayerSummary> = BTreeMap::new();
        for entry in &self.tensors {
            let name = prefix(&entry.name, self.depth);
            let layer = layers
                .entry(name)
                .or_insert_with(|| LayerSummary { name: name.into(), ..Default::default() });
            layer.add(entry);
        }
        layers.into_values().collect()
    }

    /// All layers together, under the name `total`.
    #[must_use]
    pub fn total(&self) -> LayerSummary {
        let mut total = LayerSummary { name: "total".to_string(), ..Default::default() };
        self.tensors.iter().for_each(|entry| total.add(entry));
        total
    }
}

impl LayerSummary {
    fn add(&mut self, entry: &Entry) {
        self.parameters += entry.elements;
        self.parameter_bytes += entry.bytes;
        self.gradient_bytes += entry.gradient;
        self.optimizer_bytes += entry.optimizer;
    }

    fn cells(&self) -> Vec<String> {
        let all = self.parameter_bytes + self.gradient_bytes + self.optimizer_bytes;
        let sizes = [self.parameter_bytes, self.gradient_bytes, self.optimizer_bytes, all].map(bytes);
        [self.name.clone(), count(self.parameters)].into_iter().chain(sizes).collect()
    }
}

/// The first `depth` names of a parameter's, without its own.
fn prefix(name: &str, depth: usize) -> &str {
    let layer = name.rfind('.').map_or(name, |dot| &name[..dot]);
    layer.match_indices('.').nth(depth - 1).map_or(layer, |(dot, _)| &layer[..dot])
}

impl fmt::Display for ModelSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = ["layer", "parameters", "weights", "gradients", "optimizer", "together"];
        let mut rows: Vec<_> = self.layers().iter().map(LayerSummary::cells).collect();
        rows.push(self.total().cells());
        f.write_str(&aligned(&header, &rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn model(dtype: DType) -> Parameters {
        let shapes = [
            ("h.0.attn.weight", vec![4, 4]),
            ("h.0.mlp.bias", vec![4]),
            ("h.10.attn.weight", vec![2, 2]),
            ("bn.running_mean", vec![3]),
            ("scale", vec![1]),
        ];
        let store = crate::parameters::ParameterStore::new(0, crate::weights::Initial::Given(HashMap::new()));
        let vb = store.builder(dtype, &Device::Cpu);
        for (name, shape) in shapes {
            vb.get(shape, name).unwrap();
        }
        store.parameters()
    }

    #[test]
    fn layers_are_prefixes_of_names() {
        let names = |depth| -> Vec<String> {
            ModelSummary::new(&model(DType::F32))
                .with_depth(depth)
                .layers()
                .into_iter()
                .map(|l| l.name)
                .collect()
        };
        assert_eq!(names(1), ["bn", "h", "scale"]);
        assert_eq!(names(2), ["bn", "h.0", "h.10", "scale"]);
        assert_eq!(names(9), ["bn", "h.0.attn", "h.0.mlp", "h.10.attn", "scale"]);
    }

    #[test]
    fn bytes_are_those_of_the_dtype_and_buffers_have_no_gradient() {
        for (dtype, size) in [(DType::BF16, 2), (DType::F32, 4), (DType::F64, 8)] {
            let total = ModelSummary::new(&model(dtype)).total();
            assert_eq!(
                (total.parameters, total.parameter_bytes, total.gradient_bytes),
                (28, 28 * size, 25 * size)
            );
        }
    }

    #[test]
    fn an_optimizers_state_is_added_to_its_parameters() {
        let f32s = |count: usize| Tensor::zeros(count, DType::F32, &Device::Cpu).unwrap();
        let state = HashMap::from([
            ("scale.exp_avg".to_string(), f32s(1)),
            ("h.0.attn.weight.exp_avg".to_string(), f32s(16)),
            ("h.0.attn.weight.master".to_string(), f32s(16)),
            ("applied_steps".to_string(), f32s(1)),
        ]);
        let summary = ModelSummary::new(&model(DType::BF16)).with_optimizer_state(&state);
        assert_eq!(summary.total().optimizer_bytes, 4 * 33);
        let table = summary.to_string();
        let line = table.lines().find(|line| line.starts_with("h.0 ")).unwrap();
        let cells: Vec<_> = line.split_whitespace().collect();
        assert_eq!(cells, ["h.0", "20", "40", "B", "40", "B", "128", "B", "208", "B"]);
    }
}
