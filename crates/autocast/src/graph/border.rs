//! What candle sees of a node: a custom op of one variable that is nobody's parameter, so that candle takes the value for
//! tracked, walks no further, and hands over the gradient that it brings.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, OnceLock};

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, DType, Device, DeviceLocation, Layout, MetalStorage, Result, Shape,
    Storage, Tensor, Var,
};

use super::node::Node;
use super::registry::{self, Entry};

thread_local! {
    /// What a walk of candle's has brought to borders, while one of ours is waiting for it.
    static ARRIVED: RefCell<Option<Arrivals>> = const { RefCell::new(None) };
}

/// Nodes, each with a part of its value's gradient.
pub(super) type Arrivals = Vec<(Arc<Node>, Tensor)>;

/// Runs a walk of candle's, and gives what it brought to our nodes.
pub(super) fn arrivals<R>(walk: impl FnOnce() -> Result<R>) -> Result<(R, Arrivals)> {
    let before = ARRIVED.replace(Some(Vec::new()));
    let result = walk();
    let arrived = ARRIVED.replace(before).unwrap_or_default();
    Ok((result?, arrived))
}

/// A value's storage as candle's graph shows it, under `shape`.
pub(super) fn show(node: &Arc<Node>, storage: Storage, shape: &Shape) -> Result<Tensor> {
    let stand_in = stand_in(&storage.device())?;
    let entry = Arc::new(OnceLock::new());
    let value = Mutex::new(Some((storage, shape.clone())));
    let shown = stand_in.apply_op1(Border { node: node.clone(), value, entry: entry.clone() })?;
    let _ = entry.set(registry::enter(&shown, node));
    Ok(shown)
}

thread_local! {
    /// One variable per device, which no loss has a gradient for.
    static STAND_INS: RefCell<Vec<(DeviceLocation, Var)>> = const { RefCell::new(Vec::new()) };
}

fn stand_in(device: &Device) -> Result<Var> {
    let location = device.location();
    STAND_INS.with_borrow_mut(|known| {
        if let Some((_, var)) = known.iter().find(|(at, _)| *at == location) {
            return Ok(var.clone());
        }
        let var = Var::zeros((), DType::F32, device)?;
        known.push((location, var.clone()));
        Ok(var)
    })
}

struct Border {
    node: Arc<Node>,
    /// Taken by the forward pass.
    value: Mutex<Option<(Storage, Shape)>>,
    entry: Arc<OnceLock<Entry>>,
}

impl Border {
    fn value(&self) -> Result<(Storage, Shape)> {
        let value = self.value.lock().ok().and_then(|mut value| value.take());
        value.ok_or_else(|| self.refusal("its value is computed once"))
    }

    fn refusal(&self, what: &str) -> candle_core::Error {
        candle_core::Error::Msg(format!("{}: {what}", self.node.name()))
    }
}

impl CustomOp1 for Border {
    fn name(&self) -> &'static str {
        self.node.name()
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        match self.value()? {
            (Storage::Cpu(storage), shape) => Ok((storage, shape)),
            _ => Err(self.refusal("inputs and value are on different devices")),
        }
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        match self.value()? {
            (Storage::Cuda(storage), shape) => Ok((storage, shape)),
            _ => Err(self.refusal("inputs and value are on different devices")),
        }
    }

    fn metal_fwd(&self, _: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        match self.value()? {
            (Storage::Metal(storage), shape) => Ok((storage, shape)),
            _ => Err(self.refusal("inputs and value are on different devices")),
        }
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        ARRIVED.with_borrow_mut(|arrived| match arrived {
            Some(arrived) => {
                arrived.push((self.node.clone(), grad.detach()));
                Ok(None)
            }
            None => Err(self.refusal(
                "candle's backward ends at this op, whose graph is autocast's: call autocast::backward(loss) \
                 instead of loss.backward()",
            )),
        })
    }
}

impl Drop for Border {
    fn drop(&mut self) {
        if let Some(&entry) = self.entry.get() {
            registry::remove(entry);
        }
    }
}
