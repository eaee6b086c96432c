//! One convolution as the library describes it, and the engine that runs it.

use super::descriptor::{Descriptor, Refused};
use super::sys::{Api, Raw, attribute, kind, note, value};
use super::{Convolution, Operand, WORKSPACE, Way};
use crate::buffer::ScalarType;

/// Sums of products and not their reverse, as all of PyTorch's convolutions.
const CROSS_CORRELATION: i32 = 1;
const ADDITION: i32 = 0;
/// The heuristic that PyTorch asks, and the list of what runs everything.
const MODES: [i32; 2] = [3, 2];
/// More notes than there are.
const NOTES: usize = 16;

/// The numbers by which a plan knows its operands: image, kernel, values, bias.
pub(super) const IDS: [i64; 4] = [1, 2, 3, 4];
/// The same of sums that a bias is added to, which are nowhere in memory.
const SUMS: i64 = 5;

/// An engine that is ready to run.
pub(super) struct Engine {
    pub(super) plan: Descriptor,
    /// Bytes of scratch memory.
    pub(super) workspace: usize,
    _config: Descriptor,
}

/// Engines for one convolution, and what they were made of.
pub(super) struct Engines {
    pub(super) all: Vec<Engine>,
    _of: Option<Described>,
}

impl Engines {
    /// The first that the heuristic names and that add as this crate promises, at most so many.
    pub(super) fn new(
        api: &'static Api,
        handle: Raw,
        of: &Convolution,
        most: usize,
    ) -> Result<Self, Refused> {
        let described =
            data_type(of.of).and_then(|data_type| Described::new(api, handle, of, data_type).ok());
        // A description that the library does not take is one that it has no engine for.
        let Some(described) = described else { return Ok(Self { all: Vec::new(), _of: None }) };
        let mut all = Vec::new();
        for mode in MODES {
            for config in configs(api, &described.graph, mode).unwrap_or_default() {
                if all.len() < most && adds_as_promised(of, &config)? {
                    all.extend(ready(api, handle, config)?);
                }
            }
        }
        Ok(Self { all, _of: Some(described) })
    }

    /// Leaves the one at `place`.
    pub(super) fn keep(&mut self, place: usize) {
        if place < self.all.len() {
            self.all.swap(0, place);
        }
        self.all.truncate(1);
    }
}

fn data_type(of: ScalarType) -> Option<i32> {
    match of {
        ScalarType::F32 => Some(0),
        ScalarType::F64 => Some(1),
        ScalarType::F16 => Some(2),
        ScalarType::Bf16 => Some(9),
        _ => None,
    }
}

/// A graph: the convolution, and what is added to its values.
pub(super) struct Described {
    graph: Descriptor,
    _parts: Vec<Descriptor>,
}

impl Described {
    fn new(api: &'static Api, handle: Raw, of: &Convolution, data_type: i32) -> Result<Self, Refused> {
        let tensor = |id: i64, operand: &Operand| -> Result<Descriptor, Refused> {
            tensor(api, id, operand, data_type)?.finalize()
        };
        let mut parts =
            vec![tensor(IDS[0], &of.image)?, tensor(IDS[1], &of.kernel)?, tensor(IDS[2], &of.values)?];
        let wide = of.of == ScalarType::F64;
        let computes_in = i32::from(wide);
        if let Some(aligned) = of.bias {
            let out = of.values.dims[1];
            let bias = Operand { dims: [1, out, 1, 1], strides: [out, 1, out, out], aligned };
            let sums = self::tensor(api, SUMS, &of.values, computes_in)?;
            sums.set(attribute::TENSOR_IS_VIRTUAL, &[true])?;
            parts.extend([tensor(IDS[3], &bias)?, sums.finalize()?]);
        }
        let convolution = moves(api, of, computes_in)?;
        let (kind, first) = match of.way {
            Way::Values => (kind::FORWARD, attribute::FORWARD),
            Way::Image => (kind::BACKWARD_DATA, attribute::BACKWARD_DATA),
            Way::Kernel => (kind::BACKWARD_FILTER, attribute::BACKWARD_FILTER),
        };
        let operation = Descriptor::new(api, kind)?;
        if wide {
            operation.set(first, &[1f64])?;
            operation.set(first + 1, &[0f64])?;
        } else {
            operation.set(first, &[1f32])?;
            operation.set(first + 1, &[0f32])?;
        }
        operation.set_parts(first + 2, &[&convolution])?;
        // Kernel, image, and the values or what they are before the bias.
        for (at, tensor) in [&parts[1], &parts[0], parts.last().unwrap_or(&parts[2])].into_iter().enumerate()
        {
            operation.set_parts(first + 3 + at as i32, &[tensor])?;
        }
        let mut operations = vec![operation.finalize()?];
        if let [_, _, values, bias, sums] = &parts[..] {
            let addition = Descriptor::new(api, kind::POINTWISE)?;
            addition.set_word(attribute::POINTWISE_MODE, value::POINTWISE_MODE, ADDITION)?;
            addition.set_word(attribute::POINTWISE_COMPUTES_IN, value::DATA_TYPE, computes_in)?;
            let addition = addition.finalize()?;
            let added = Descriptor::new(api, kind::POINTWISE_OPERATION)?;
            let named = [&addition, sums, bias, values];
            for (at, part) in named.into_iter().enumerate() {
                added.set_parts(attribute::POINTWISE_OPERATION + at as i32, &[part])?;
            }
            operations.push(added.finalize()?);
            parts.push(addition);
        }
        let graph = Descriptor::new(api, kind::GRAPH)?;
        graph.set_handle(attribute::GRAPH_HANDLE, handle)?;
        graph.set_parts(attribute::GRAPH_OPERATIONS, &operations.iter().collect::<Vec<_>>())?;
        let graph = graph.finalize()?;
        parts.push(convolution);
        parts.extend(operations);
        Ok(Self { graph, _parts: parts })
    }
}

/// A tensor that is not finalized.
fn tensor(api: &'static Api, id: i64, operand: &Operand, data_type: i32) -> Result<Descriptor, Refused> {
    let tensor = Descriptor::new(api, kind::TENSOR)?;
    tensor.set_word(attribute::TENSOR_TYPE, value::DATA_TYPE, data_type)?;
    tensor.set(attribute::TENSOR_DIMENSIONS, &operand.dims)?;
    tensor.set(attribute::TENSOR_STRIDES, &operand.strides)?;
    tensor.set(attribute::TENSOR_ID, &[id])?;
    tensor.set(attribute::TENSOR_ALIGNMENT, &[operand.aligned])?;
    Ok(tensor)
}

/// How the kernel moves.
fn moves(api: &'static Api, of: &Convolution, computes_in: i32) -> Result<Descriptor, Refused> {
    let convolution = Descriptor::new(api, kind::CONVOLUTION)?;
    convolution.set_word(attribute::CONVOLUTION_COMPUTES_IN, value::DATA_TYPE, computes_in)?;
    let mode = (attribute::CONVOLUTION_MODE, value::CONVOLUTION_MODE);
    convolution.set_word(mode.0, mode.1, CROSS_CORRELATION)?;
    convolution.set(attribute::CONVOLUTION_SPATIAL_DIMS, &[2i64])?;
    convolution.set(attribute::CONVOLUTION_DILATIONS, &of.dilation)?;
    convolution.set(attribute::CONVOLUTION_STRIDES, &of.stride)?;
    convolution.set(attribute::CONVOLUTION_PRE_PADDINGS, &of.padding)?;
    convolution.set(attribute::CONVOLUTION_POST_PADDINGS, &of.padding)?;
    convolution.finalize()
}

/// What a heuristic names, the best first.
fn configs(api: &'static Api, graph: &Descriptor, mode: i32) -> Result<Vec<Descriptor>, Refused> {
    let heuristic = Descriptor::new(api, kind::HEURISTIC)?;
    heuristic.set_parts(attribute::HEURISTIC_GRAPH, &[graph])?;
    heuristic.set_word(attribute::HEURISTIC_MODE, value::HEURISTIC_MODE, mode)?;
    let heuristic = heuristic.finalize()?;
    let count = heuristic.count(attribute::HEURISTIC_RESULTS, value::DESCRIPTOR)?;
    heuristic.parts(attribute::HEURISTIC_RESULTS, kind::ENGINE_CONFIG, count)
}

/// Whether the engine adds products in f32 or wider, one after another, in an order that is always the same.
fn adds_as_promised(of: &Convolution, config: &Descriptor) -> Result<bool, Refused> {
    let Some(engine) = config.parts(attribute::CONFIG_ENGINE, kind::ENGINE, 1)?.pop() else {
        return Ok(false);
    };
    let mut notes = [0i32; NOTES];
    let count = engine.read(attribute::ENGINE_NOTES, value::NUMERICAL_NOTE, &mut notes)?;
    let strict = of.of == ScalarType::F32 && !of.tf32;
    Ok(notes[..count].iter().all(|&noted| match noted {
        note::TENSOR_CORE | note::DOWN_CONVERTS => !strict,
        note::NARROW_SUMS | note::FFT | note::NONDETERMINISTIC => false,
        note::WINOGRAD..=note::WINOGRAD_13X13 => false,
        _ => true,
    }))
}

/// An engine, unless it does not run here or takes too much memory.
fn ready(api: &'static Api, handle: Raw, config: Descriptor) -> Result<Option<Engine>, Refused> {
    let plan = Descriptor::new(api, kind::PLAN)?;
    plan.set_handle(attribute::PLAN_HANDLE, handle)?;
    plan.set_parts(attribute::PLAN_CONFIG, &[&config])?;
    let Ok(plan) = plan.finalize() else { return Ok(None) };
    let mut bytes = [0i64];
    plan.read(attribute::PLAN_WORKSPACE, value::INT64, &mut bytes)?;
    let workspace = usize::try_from(bytes[0]).ok().filter(|&bytes| bytes <= WORKSPACE);
    Ok(workspace.map(|workspace| Engine { plan, workspace, _config: config }))
}
