//! How an op enters candle's graph: as one node, whose value was computed off the graph and whose backward is the op's
//! own formula. candle would otherwise differentiate each of the tensor ops that an op is composed from, keep all
//! their results alive, run a handful of passes per result, and get some of them wrong. It leaves the formulas to the
//! ops; forward and backward are tensor ops on either device.

use std::sync::Mutex;

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, MetalStorage, Shape, Storage, Tensor,
};

use crate::Result;
use crate::prepare::widen;

type Backward = Box<dyn Fn(&Tensor, &Tensor, &[&Tensor]) -> Result<Vec<Tensor>> + Send + Sync>;

/// `inputs` detached from the graph and widened to the dtype that sums are accumulated in.
pub(super) fn wide<const N: usize>(inputs: [&Tensor; N]) -> Result<[Tensor; N]> {
    let wide = inputs.iter().map(|t| widen(&t.detach())).collect::<Result<Vec<_>>>()?;
    Ok(wide.try_into().expect("as many tensors come out as went in"))
}

/// `value` as a function of `inputs` (one to three), with a gradient for each of them.
///
/// `backward` gets the gradient of the value, widened to f32 (f64 stays), the value, and the inputs as they came. It
/// returns one gradient per input, in the input's shape and any float dtype: narrowing is done here, once. Where no
/// input is tracked the value comes back as it is.
pub(super) fn record<const N: usize, F>(
    op: &'static str,
    inputs: [&Tensor; N],
    value: Tensor,
    backward: F,
) -> Result<Tensor>
where
    F: Fn(&Tensor, &Tensor, [&Tensor; N]) -> Result<[Tensor; N]> + Send + Sync + 'static,
{
    const { assert!(N >= 1 && N <= 3, "candle's graph has nodes of one to three inputs") };
    if !inputs.iter().any(|t| t.track_op()) {
        return Ok(value);
    }
    let value = match value.is_contiguous() && value.layout().start_offset() == 0 {
        true => value,
        false => value.force_contiguous()?,
    };
    let backward: Backward = Box::new(move |grad, value, inputs| {
        let inputs: [&Tensor; N] = inputs.try_into().expect("a node keeps the number of its inputs");
        Ok(backward(grad, value, inputs)?.into())
    });
    let node = Node { op, value: Mutex::new(Some(value)), backward };
    Ok(match inputs.as_slice() {
        [a] => a.apply_op1(node)?,
        [a, b] => a.apply_op2(b, node)?,
        [a, b, c] => a.apply_op3(b, c, node)?,
        _ => unreachable!("one to three inputs"),
    })
}

struct Node {
    op: &'static str,
    /// Taken by the forward pass, so that the graph does not keep it beside the copy that candle makes a tensor of.
    value: Mutex<Option<Tensor>>,
    backward: Backward,
}

impl Node {
    fn forward<S>(&self, copy: impl Fn(&Storage, &Layout) -> Option<candle_core::Result<S>>) -> Computed<S> {
        let value = self.value.lock().ok().and_then(|mut value| value.take());
        let Some(value) = value else { candle_core::bail!("{}: a node's value is computed once", self.op) };
        let (storage, layout) = value.storage_and_layout();
        match copy(&storage, layout) {
            Some(copied) => Ok((copied?, value.shape().clone())),
            None => candle_core::bail!("{}: inputs and value are on different devices", self.op),
        }
    }

    fn backward<const N: usize>(
        &self,
        inputs: [&Tensor; N],
        value: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; N]> {
        let mut out = [const { None }; N];
        // Nothing flows from or to a tensor without elements, and candle's reductions refuse them.
        if value.elem_count() == 0 || inputs.iter().all(|t| t.elem_count() == 0) {
            for (slot, input) in out.iter_mut().zip(inputs).filter(|(_, input)| input.track_op()) {
                *slot = Some(input.zeros_like()?);
            }
            return Ok(out);
        }
        let grads = (self.backward)(&widen(&grad.contiguous()?)?, value, &inputs)?;
        for ((slot, grad), input) in out.iter_mut().zip(grads).zip(inputs) {
            if input.track_op() {
                // Detached, so that a gradient never holds the graph that it was computed from.
                *slot = Some(grad.detach().to_dtype(input.dtype())?);
            }
        }
        Ok(out)
    }
}

type Computed<S> = candle_core::Result<(S, Shape)>;

fn cpu(storage: &Storage, _: &Layout) -> Option<candle_core::Result<CpuStorage>> {
    match storage {
        Storage::Cpu(s) => Some(Ok(s.clone())),
        _ => None,
    }
}

fn cuda(storage: &Storage, layout: &Layout) -> Option<candle_core::Result<CudaStorage>> {
    match storage {
        Storage::Cuda(s) => Some(s.try_clone(layout)),
        _ => None,
    }
}

fn metal(storage: &Storage, layout: &Layout) -> Option<candle_core::Result<MetalStorage>> {
    match storage {
        Storage::Metal(s) => Some(s.try_clone(layout)),
        _ => None,
    }
}

/// The forward passes of a candle custom op: its arguments are only what the node hangs on to.
macro_rules! forwards {
    ($($storage:ident $layout:ident),+) => {
        fn name(&self) -> &'static str {
            self.op
        }
        fn cpu_fwd(&self, $($storage: &CpuStorage, $layout: &Layout),+) -> Computed<CpuStorage> {
            self.forward(cpu)
        }
        fn cuda_fwd(&self, $($storage: &CudaStorage, $layout: &Layout),+) -> Computed<CudaStorage> {
            self.forward(cuda)
        }
        fn metal_fwd(&self, $($storage: &MetalStorage, $layout: &Layout),+) -> Computed<MetalStorage> {
            self.forward(metal)
        }
    };
}

impl CustomOp1 for Node {
    forwards!(_s _l);

    fn bwd(&self, a: &Tensor, value: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let [a] = self.backward([a], value, grad)?;
        Ok(a)
    }
}

impl CustomOp2 for Node {
    forwards!(_s1 _l1, _s2 _l2);

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        value: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let [a, b] = self.backward([a, b], value, grad)?;
        Ok((a, b))
    }
}

impl CustomOp3 for Node {
    forwards!(_s1 _l1, _s2 _l2, _s3 _l3);

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        value: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [a, b, c] = self.backward([a, b, c], value, grad)?;
        Ok((a, b, c))
    }
}
