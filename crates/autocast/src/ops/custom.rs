//! Ops with a backward of our own. candle differentiates by walking its own ops; where that is wrong, wasteful, or
//! sums in 16 bits, an op is written here as calls on candle's storage (the same code on every device, and no copy of the
//! value, which [`record`](super::record) needs) and a backward composed from tensor ops. What each op computes is in the
//! file of the op.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

/// A storage and its layout.
pub(crate) type View<'a, S> = (&'a S, &'a Layout);

/// A differentiable function of `N` tensors, two or three.
pub(crate) trait Op<const N: usize>: Send + Sync + 'static {
    /// The name in candle's error messages.
    const NAME: &'static str;

    /// The value, from storages of one device.
    fn forward<S: BackendStorage>(&self, inputs: [View<S>; N]) -> Result<(S, Shape)>;

    /// The gradients of the inputs from the contiguous gradient of the value, `None` where it is not `wanted`. All tensors
    /// come detached, so that gradients do not hold the graph.
    fn backward(&self, inputs: [&Tensor; N], grad: &Tensor, wanted: [bool; N])
    -> Result<[Option<Tensor>; N]>;
}

/// Applies `op` and records it for the backward pass.
pub(crate) fn apply2<T: Op<2>>(op: T, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.apply_op2(b, Node(op))
}

/// [`apply2`] for three tensors.
pub(crate) fn apply3<T: Op<3>>(op: T, a: &Tensor, b: &Tensor, c: &Tensor) -> Result<Tensor> {
    a.apply_op3(b, c, Node(op))
}

struct Node<T>(T);

impl<T> Node<T> {
    fn gradients<const N: usize>(&self, inputs: [&Tensor; N], grad: &Tensor) -> Result<[Option<Tensor>; N]>
    where
        T: Op<N>,
    {
        let wanted = inputs.map(Tensor::track_op);
        let detached = inputs.map(Tensor::detach);
        self.0.backward(detached.each_ref(), &grad.detach().contiguous()?, wanted)
    }
}

impl<T: Op<2>> CustomOp2 for Node<T> {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_l: &Layout,
        b: &CpuStorage,
        b_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.0.forward([(a, a_l), (b, b_l)])
    }

    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        a_l: &Layout,
        b: &CudaStorage,
        b_l: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.0.forward([(a, a_l), (b, b_l)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _value: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [a, b] = self.gradients([a, b], grad)?;
        Ok((a, b))
    }
}

impl<T: Op<3>> CustomOp3 for Node<T> {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_l: &Layout,
        b: &CpuStorage,
        b_l: &Layout,
        c: &CpuStorage,
        c_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.0.forward([(a, a_l), (b, b_l), (c, c_l)])
    }

    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        a_l: &Layout,
        b: &CudaStorage,
        b_l: &Layout,
        c: &CudaStorage,
        c_l: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.0.forward([(a, a_l), (b, b_l), (c, c_l)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        _value: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [a, b, c] = self.gradients([a, b, c], grad)?;
        Ok((a, b, c))
    }
}
