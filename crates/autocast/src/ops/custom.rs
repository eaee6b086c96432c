//! Ops with a backward of our own. candle differentiates by walking its own ops; where that is wrong, wasteful, or
//! sums in 16 bits, an op is written here as one call on candle's storage (the same code on every device) and a
//! backward composed from tensor ops. What each op computes is in the file of the op.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Result, Shape, Tensor};

/// A differentiable function of two tensors.
pub(crate) trait Op2: Send + Sync + 'static {
    /// The name in candle's error messages.
    const NAME: &'static str;

    /// The value, from storages of one device.
    fn forward<S: BackendStorage>(&self, a: &S, a_l: &Layout, b: &S, b_l: &Layout) -> Result<(S, Shape)>;

    /// The gradients of `a` and `b` from the contiguous gradient of the value, `None` where none is wanted. All tensors
    /// come detached, so that gradients do not hold the graph.
    fn backward(&self, a: &Tensor, b: &Tensor, grad: &Tensor, wanted: Wanted) -> Result<[Option<Tensor>; 2]>;
}

/// Which of the two arguments lead to a variable.
pub(crate) struct Wanted(pub(crate) bool, pub(crate) bool);

/// Applies `op` and records it for the backward pass.
pub(crate) fn apply2<T: Op2>(op: T, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.apply_op2(b, Adapter(op))
}

struct Adapter<T>(T);

impl<T: Op2> CustomOp2 for Adapter<T> {
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
        self.0.forward(a, a_l, b, b_l)
    }

    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        a_l: &Layout,
        b: &CudaStorage,
        b_l: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.0.forward(a, a_l, b, b_l)
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _value: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let wanted = Wanted(a.track_op(), b.track_op());
        let [a_grad, b_grad] =
            self.0.backward(&a.detach(), &b.detach(), &grad.detach().contiguous()?, wanted)?;
        Ok((a_grad, b_grad))
    }
}
