//! An op as one node of candle's graph, with a backward of its own. candle differentiates by walking the ops that a value
//! was composed from: it keeps all their results, runs a few passes for each, sums in 16 bits, and gets some of them
//! wrong. Everything in this crate that has a gradient formula enters the graph here.
//!
//! A node's value comes from its inputs' storages, by the same code on every device. An op that one call on a storage
//! computes is such a node itself: products, biases, lookups. One that takes several tensor ops computes its value off the
//! graph and has it [recorded](super::record). The formulas are in the files of the ops.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, MetalStorage, Result, Shape, Storage,
    Tensor,
};

/// A storage and its layout.
pub(super) type View<'a, S> = (&'a S, &'a Layout);

/// The storage of one kind of device.
pub(super) trait DeviceStorage: BackendStorage {
    /// A tensor's storage, if it is of this kind.
    fn of(storage: &Storage) -> Option<&Self>;
}

/// A differentiable function of `N` tensors, one to three.
pub(super) trait Op<const N: usize>: Send + Sync + 'static {
    /// The name in candle's error messages.
    fn name(&self) -> &'static str;

    /// The value, contiguous, from storages of one device.
    fn forward<S: DeviceStorage>(&self, inputs: [View<S>; N]) -> Result<(S, Shape)>;

    /// The gradients of the inputs, in their shapes and dtypes, from the value and its contiguous gradient. One that is
    /// not `wanted` may be left out. All tensors come detached, so that gradients do not hold the graph.
    fn backward(
        &self,
        inputs: [&Tensor; N],
        value: &Tensor,
        grad: &Tensor,
        wanted: [bool; N],
    ) -> Result<[Option<Tensor>; N]>;
}

/// Applies `op` and records it for the backward pass.
pub(super) fn apply<const N: usize, T: Op<N>>(op: T, inputs: [&Tensor; N]) -> Result<Tensor> {
    const { assert!(N >= 1 && N <= 3, "candle's graph has nodes of one to three inputs") };
    let node = Node::<T, N>(op);
    match inputs.as_slice() {
        [a] => a.apply_op1(node),
        [a, b] => a.apply_op2(b, node),
        [a, b, c] => a.apply_op3(b, c, node),
        _ => unreachable!("one to three inputs"),
    }
}

struct Node<T, const N: usize>(T);

const ARITY: &str = "a node keeps the number of its inputs";

impl<T: Op<N>, const N: usize> Node<T, N> {
    fn forward<S: DeviceStorage>(&self, inputs: &[View<S>]) -> Result<(S, Shape)> {
        self.0.forward(inputs.try_into().expect(ARITY))
    }

    fn backward<const M: usize>(
        &self,
        inputs: [&Tensor; M],
        value: &Tensor,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; M]> {
        let inputs: [&Tensor; N] = inputs.as_slice().try_into().expect(ARITY);
        let wanted = inputs.map(Tensor::track_op);
        let detached = inputs.map(Tensor::detach);
        let grad = grad.detach().contiguous()?;
        let grads = self.0.backward(detached.each_ref(), &value.detach(), &grad, wanted)?;
        Ok(Vec::from(grads).try_into().expect(ARITY))
    }
}

macro_rules! device_storages {
    ($($kind:ident $storage:ident,)+) => {$(
        impl DeviceStorage for $storage {
            fn of(storage: &Storage) -> Option<&Self> {
                match storage {
                    Storage::$kind(storage) => Some(storage),
                    _ => None,
                }
            }
        }
    )+};
}

device_storages! { Cpu CpuStorage, Cuda CudaStorage, Metal MetalStorage, }

/// The name and the forward passes of a candle custom op.
macro_rules! forwards {
    ($($x:ident $layout:ident),+) => {
        fn name(&self) -> &'static str {
            self.0.name()
        }
        fn cpu_fwd(&self, $($x: &CpuStorage, $layout: &Layout),+) -> Result<(CpuStorage, Shape)> {
            self.forward(&[$(($x, $layout)),+])
        }
        fn cuda_fwd(&self, $($x: &CudaStorage, $layout: &Layout),+) -> Result<(CudaStorage, Shape)> {
            self.forward(&[$(($x, $layout)),+])
        }
        fn metal_fwd(&self, $($x: &MetalStorage, $layout: &Layout),+) -> Result<(MetalStorage, Shape)> {
            self.forward(&[$(($x, $layout)),+])
        }
    };
}

impl<T: Op<N>, const N: usize> CustomOp1 for Node<T, N> {
    forwards!(a a_l);

    fn bwd(&self, a: &Tensor, value: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [a] = self.backward([a], value, grad)?;
        Ok(a)
    }
}

impl<T: Op<N>, const N: usize> CustomOp2 for Node<T, N> {
    forwards!(a a_l, b b_l);

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        value: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [a, b] = self.backward([a, b], value, grad)?;
        Ok((a, b))
    }
}

impl<T: Op<N>, const N: usize> CustomOp3 for Node<T, N> {
    forwards!(a a_l, b b_l, c c_l);

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        value: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [a, b, c] = self.backward([a, b, c], value, grad)?;
        Ok((a, b, c))
    }
}
