//! Calls of kernels with candle's tensors: their storage is opened here, once per call, and stays locked until the kernel
//! has returned (on a GPU, has been launched; from there on the stream keeps the order).
//!
//! Inputs are handed over as they lie, strides and all. A kernel that cannot take the strides says so; the function over
//! tensors beside it copies what is not in rows with [`in_rows`] before it calls.

#[cfg(feature = "cuda")]
use candle_core::cuda_backend::CudaStorage;
use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Shape, Storage, Tensor};
use std::cell::Cell;

use super::storage::{allocate, scalar_type, slice, slice_mut};
use super::{candle, hear};
use crate::buffer::{In, Out, Ran, Why, rows};
#[cfg(feature = "cuda")]
use crate::cuda::memory;
use crate::{Error, Result};

/// What came of a call.
#[derive(Clone, Debug)]
pub enum Call<T> {
    /// A kernel ran.
    Ran(T),
    /// None takes such a call.
    Composed(Why),
}

impl<T> Call<T> {
    /// What the kernel returned, if one ran.
    pub fn ran(self) -> Option<T> {
        match self {
            Self::Ran(value) => Some(value),
            Self::Composed(_) => None,
        }
    }
}

/// Runs `f` on `inputs` and on fresh memory for `outputs`, which become tensors that are part of no graph and whose storage
/// nobody else holds.
///
/// # Errors
///
/// [`Error::Operand`] for inputs on different devices, what `f` returns, and [`Error::Device`].
pub fn run(
    op: &'static str,
    inputs: &[&Tensor],
    outputs: &[(Shape, DType)],
    f: impl FnOnce(&[In<'_>], &mut [Out<'_>]) -> Result<Ran>,
) -> Result<Call<Vec<Tensor>>> {
    let device = one_device(op, inputs)?;
    let guards: Vec<_> = inputs.iter().map(|tensor| tensor.storage_and_layout()).collect();
    let guards: Vec<(&Storage, &Layout)> =
        guards.iter().map(|(storage, layout)| (&**storage, *layout)).collect();
    let mut fresh = Vec::with_capacity(outputs.len());
    for (shape, dtype) in outputs {
        let Some(of) = scalar_type(*dtype) else { return Ok(Call::Composed(Why::Dtype("an output"))) };
        let Some(storage) = allocate(op, device, of, shape.elem_count())? else {
            return Ok(Call::Composed(Why::Device));
        };
        fresh.push(storage);
    }
    let written = fresh.iter_mut().zip(outputs);
    let written = written.filter_map(|(storage, (shape, _))| Some((Written::of(storage)?, 0, shape.dims())));
    let ran = open(op, device, &guards, written.collect(), f)?;
    hear(op, &ran);
    Ok(match ran {
        Ran::Composed(why) => Call::Composed(why),
        Ran::Kernel(_) => Call::Ran(
            fresh
                .into_iter()
                .zip(outputs)
                .map(|(storage, (shape, _))| Tensor::from_storage(storage, shape, BackpropOp::none(), false))
                .collect(),
        ),
    })
}

/// [`run`] for one output.
///
/// # Errors
///
/// As [`run`].
pub fn run_one(
    op: &'static str,
    inputs: &[&Tensor],
    output: (Shape, DType),
    f: impl FnOnce(&[In<'_>], &mut Out<'_>) -> Result<Ran>,
) -> Result<Call<Tensor>> {
    let call = run(op, inputs, &[output], |ins, outs| match outs {
        [out] => f(ins, out),
        _ => Ok(Ran::Composed(Why::Shape("the result"))),
    })?;
    Ok(match call {
        Call::Ran(mut made) => made.pop().map_or(Call::Composed(Why::Shape("the result")), Call::Ran),
        Call::Composed(why) => Call::Composed(why),
    })
}

/// Runs `f` on `inputs` and on `target`, which it changes in place: the only output, and it holds the old values.
///
/// # Errors
///
/// As [`run`], and [`Error::Operand`] for an input that shares `target`'s storage.
pub fn update(
    op: &'static str,
    target: &Tensor,
    inputs: &[&Tensor],
    f: impl FnOnce(&[In<'_>], &mut Out<'_>) -> Result<Ran>,
) -> Result<Ran> {
    let all: Vec<&Tensor> = std::iter::once(target).chain(inputs.iter().copied()).collect();
    let device = one_device(op, &all)?;
    if !target.is_contiguous() {
        return Ok(Ran::Composed(Why::Layout("the target")));
    }
    let guards: Vec<_> = inputs.iter().map(|tensor| tensor.storage_and_layout()).collect();
    let guards: Vec<(&Storage, &Layout)> =
        guards.iter().map(|(storage, layout)| (&**storage, *layout)).collect();
    // The guard is gone at the end of the statement; what is kept is compared, and not followed.
    let own = std::ptr::from_ref::<Storage>(&target.storage_and_layout().0);
    // Candle's lock on it is held by the input, and would be waited for below.
    if guards.iter().any(|(storage, _)| std::ptr::eq(*storage, own)) {
        let (expected, got) = ("in storage of its own".into(), "in the storage of an input".into());
        return Err(Error::Operand { op, argument: "the target", expected, got });
    }
    let result = Cell::new(None);
    let door = Door {
        op,
        f: Cell::new(Some(Box::new(|storage, layout| {
            let written = vec![(storage, layout.start_offset(), layout.dims())];
            result.set(Some(open(op, device, &guards, written, |ins, outs| match outs {
                [out] => f(ins, out),
                _ => Ok(Ran::Composed(Why::Shape("the target"))),
            })));
        }))),
    };
    target.inplace_op1(&door).map_err(candle(op))?;
    drop(door);
    let ran = result.take().unwrap_or(Ok(Ran::Composed(Why::Device)))?;
    hear(op, &ran);
    Ok(ran)
}

/// `x` as it is where its elements are [`rows`] of `width`; else a copy that is.
///
/// # Errors
///
/// [`Error::Device`].
pub fn in_rows(op: &'static str, x: &Tensor, width: usize) -> Result<Tensor> {
    let x = x.detach();
    match rows(x.dims(), x.stride(), width) {
        Some(_) => Ok(x),
        None => x.contiguous().map_err(candle(op)),
    }
}

/// Storage that is written.
enum Written<'a> {
    Cpu(&'a mut CpuStorage),
    #[cfg(feature = "cuda")]
    Cuda(&'a mut CudaStorage),
}

impl<'a> Written<'a> {
    fn of(storage: &'a mut Storage) -> Option<Self> {
        match storage {
            Storage::Cpu(storage) => Some(Self::Cpu(storage)),
            #[cfg(feature = "cuda")]
            Storage::Cuda(storage) => Some(Self::Cuda(storage)),
            _ => None,
        }
    }
}

type Opened<'a> = dyn FnOnce(Written<'_>, &Layout) + 'a;

/// Candle's door for changes in place, which refuses a tensor whose elements overlap.
struct Door<'a> {
    op: &'static str,
    f: Cell<Option<Box<Opened<'a>>>>,
}

impl InplaceOp1 for Door<'_> {
    fn name(&self) -> &'static str {
        self.op
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        if let Some(f) = self.f.take() {
            f(Written::Cpu(storage), layout);
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> candle_core::Result<()> {
        if let Some(f) = self.f.take() {
            f(Written::Cuda(storage), layout);
        }
        Ok(())
    }
}

/// Makes buffers of storage and runs `f` on them.
fn open(
    op: &'static str,
    device: &Device,
    read: &[(&Storage, &Layout)],
    written: Vec<(Written<'_>, usize, &[usize])>,
    f: impl FnOnce(&[In<'_>], &mut [Out<'_>]) -> Result<Ran>,
) -> Result<Ran> {
    match device {
        Device::Cpu => {
            let mut ins = Vec::with_capacity(read.len());
            for (storage, layout) in read {
                let Storage::Cpu(storage) = storage else { return Ok(Ran::Composed(Why::Device)) };
                let Some(slice) = slice(storage) else { return Ok(Ran::Composed(Why::Dtype("an input"))) };
                ins.push(In::host(op, slice.from(layout.start_offset()), layout.dims(), layout.stride())?);
            }
            let mut outs = Vec::with_capacity(written.len());
            for (storage, start, dims) in written {
                #[cfg_attr(
                    not(feature = "cuda"),
                    expect(irrefutable_let_patterns, reason = "the other is CUDA's")
                )]
                let Written::Cpu(storage) = storage else { return Ok(Ran::Composed(Why::Device)) };
                let Some(slice) = slice_mut(storage) else {
                    return Ok(Ran::Composed(Why::Dtype("an output")));
                };
                outs.push(Out::host(op, slice.from(start), dims)?);
            }
            f(&ins, &mut outs)
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(gpu) => {
            let stream = gpu.cuda_stream();
            // Dropped after the launch, in whose place on the stream they stand.
            let mut uses = Vec::with_capacity(read.len() + written.len());
            let mut ins = Vec::with_capacity(read.len());
            for (storage, layout) in read {
                let Storage::Cuda(storage) = storage else { return Ok(Ran::Composed(Why::Device)) };
                let opened = memory::read(storage, layout.start_offset(), &stream);
                let Some((of, slice, used)) = opened else {
                    return Ok(Ran::Composed(Why::Dtype("an input")));
                };
                uses.push(used);
                ins.push(In::device(op, of, slice, layout.dims(), layout.stride())?);
            }
            let mut outs = Vec::with_capacity(written.len());
            for (storage, start, dims) in written {
                let Written::Cuda(storage) = storage else { return Ok(Ran::Composed(Why::Device)) };
                let Some((of, slice, used)) = memory::write(storage, start, &stream) else {
                    return Ok(Ran::Composed(Why::Dtype("an output")));
                };
                uses.push(used);
                outs.push(Out::device(op, of, slice, dims)?);
            }
            f(&ins, &mut outs)
        }
        _ => Ok(Ran::Composed(Why::Device)),
    }
}

/// The device that all tensors are on.
fn one_device<'a>(op: &'static str, tensors: &[&'a Tensor]) -> Result<&'a Device> {
    let Some(first) = tensors.first().map(|tensor| tensor.device()) else {
        let (expected, got) = ("at least one".into(), "none".into());
        return Err(Error::Operand { op, argument: "the tensors", expected, got });
    };
    match tensors.iter().find(|tensor| !tensor.device().same_device(first)) {
        None => Ok(first),
        Some(other) => Err(Error::Operand {
            op,
            argument: "a tensor",
            expected: format!("on {:?}, as the first", first.location()),
            got: format!("on {:?}", other.device().location()),
        }),
    }
}
