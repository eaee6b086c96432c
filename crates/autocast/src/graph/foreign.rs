//! What lies between our nodes in candle's graph: views, and results of candle's own ops, which candle differentiates from
//! a seed of ours down to the next nodes and variables.

use std::sync::Arc;

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, DType, Layout, MetalStorage, Result, Shape, Tensor, TensorId,
};

use super::border::{self, Arrivals};
use super::node::Node;
use super::registry;

/// Whether `tensor`, which shares the storage of the value `id`, came from it by views alone.
///
/// Its storage's address is not enough: on another thread a value may be about to go whose storage went already, and lies
/// again under this tensor.
pub(super) fn is_view_of(tensor: &Tensor, id: TensorId) -> bool {
    tensor.sorted_nodes().iter().any(|node| node.id() == id)
}

/// The variable that `tensor` is a view of, if it came from one by views alone.
pub(super) fn viewed_variable(tensor: &Tensor) -> Option<Tensor> {
    let nodes = tensor.sorted_nodes();
    let (variable, views) = nodes.split_last()?;
    let address = registry::address(tensor);
    let views = variable.is_variable()
        && views.iter().all(|view| !view.is_variable())
        && nodes.iter().all(|node| registry::address(node) == address);
    views.then(|| (*variable).clone())
}

/// The nodes at whose values candle's graph of `result` ends.
pub(super) fn nodes(result: &Tensor) -> Vec<Arc<Node>> {
    registry::nodes(&result.sorted_nodes())
}

/// The variables at which candle's graph of `result` ends, and what stands in for variables at nodes.
pub(super) fn variables(result: &Tensor) -> Vec<Tensor> {
    result.sorted_nodes().into_iter().filter(|node| node.is_variable()).cloned().collect()
}

/// The number of the newest of its [`nodes`]; 0 where there is none.
pub(super) fn newest_below(result: &Tensor) -> u64 {
    nodes(result).iter().map(|node| node.number()).max().unwrap_or(0)
}

/// The gradients of variables, with what arrives at nodes, of results of candle's and their gradients.
pub(super) fn differentiate(results: &[(Tensor, Tensor)]) -> Result<(Vec<(Tensor, Tensor)>, Arrivals)> {
    let mut root: Option<Tensor> = None;
    for (result, grad) in results {
        let seeded = result.apply_op1(Seed(grad.clone()))?;
        root = Some(match root {
            None => seeded,
            Some(others) => (others + seeded)?,
        });
    }
    let Some(root) = root else { return Ok((Vec::new(), Vec::new())) };
    let (mut grads, arrivals) = border::arrivals(|| root.backward())?;
    let graded = variables(&root).into_iter().filter_map(|variable| {
        let grad = grads.remove(&variable)?.detach();
        Some((variable, grad))
    });
    Ok((graded.collect(), arrivals))
}

/// A number whose gradient with respect to its input is this tensor.
struct Seed(Tensor);

fn zero<S: BackendStorage>(storage: &S) -> Result<(S, Shape)>
where
    S::Device: BackendDevice<Storage = S>,
{
    let shape = Shape::from(());
    Ok((storage.device().zeros_impl(&shape, DType::F32)?, shape))
}

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        zero(storage)
    }

    fn cuda_fwd(&self, storage: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        zero(storage)
    }

    fn metal_fwd(&self, storage: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        zero(storage)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}
