//! The launches: one kernel forward, two backward, of a module for each dtype and width.

#![expect(unsafe_code, reason = "launching a kernel")]

use super::checks::Sizes;
use super::modules::{Blocks, Kernels};
use super::{Attention, Dropout, GradientsOut, Inputs, Mask, OP, Order, Saved};
use crate::buffer::{In, Out, Place, PlaceMut, Ran, Why};
use crate::cuda::{DeviceSlice, Kernel, Launch, Module, capability, device};
use crate::{Error, Result};
use candle_core::CudaDevice;

const FORWARD: &str = "attention_forward";
const BACKWARD: [&str; 2] = ["attention_backward_query", "attention_backward_key"];

/// Bytes of keys and values that the blocks of a group read, so that they stay in the second-level cache.
const GROUP_BYTES: usize = 16 << 20;

/// Launches the forward pass. The caller has checked shapes, dtypes and strides.
pub(super) fn forward(
    attention: Attention,
    sizes: Sizes,
    inputs: Inputs<'_>,
    order: Order,
    out: &mut Out<'_>,
    lse: &mut Out<'_>,
) -> Result<Ran> {
    let bytes = inputs.query.scalar_type().bytes();
    let (Some(query), Some(key), Some(value)) =
        (rows_of(inputs.query), rows_of(inputs.key), rows_of(inputs.value))
    else {
        return Ok(Ran::Composed(Why::Layout("an input")));
    };
    let gpu = query.slice.gpu();
    let Some(kernels) = Kernels::of(attention, sizes, inputs, capability(gpu)?) else {
        return Ok(Ran::Composed(Why::Shape("the query")));
    };
    let (out, lse) = (written(out)?, written(lse)?);
    same_device(&[query.slice, key.slice, value.slice, out, lse])?;
    let out = Operand { slice: out, offset: 0, strides: strides(sizes, order, sizes.queries) };
    if !out.is_aligned() {
        return Ok(Ran::Composed(Why::Layout("out")));
    }
    let mut args = [0; 24];
    for (words, operand) in args.chunks_exact_mut(4).zip([query, key, value, out]) {
        words.copy_from_slice(&operand.words());
    }
    args[16] = lse.address();
    args[17..].copy_from_slice(&words(attention, sizes, bytes));
    let kernel = Loaded::new(gpu, kernels.module, FORWARD, kernels.forward)?;
    // SAFETY: `args` is `ForwardArgs`. The operands are on one device with the shapes and dtype that `super` checked, their
    // rows are aligned as `rows_of` and `is_aligned` checked, and `lse` holds one f32 for each row of the query: the kernel
    // indexes within those. They are borrowed until it is launched, and freed in the order of the stream.
    unsafe { kernel.launch((sizes.batch * sizes.heads, sizes.queries), &args, key_in(attention, 17)) }?;
    Ok(Ran::Kernel(FORWARD))
}

/// Launches the backward pass. The caller has checked shapes, dtypes and strides.
pub(super) fn backward(
    attention: Attention,
    sizes: Sizes,
    inputs: Inputs<'_>,
    saved: Saved<'_>,
    grads: GradientsOut<'_, '_>,
    rows: &mut Out<'_>,
) -> Result<Ran> {
    let bytes = inputs.query.scalar_type().bytes();
    let read = [inputs.query, inputs.key, inputs.value, saved.out, saved.grad].map(rows_of);
    let [Some(query), Some(key), Some(value), Some(out), Some(grad)] = read else {
        return Ok(Ran::Composed(Why::Layout("an input")));
    };
    let gpu = query.slice.gpu();
    let Some(kernels) = Kernels::of(attention, sizes, inputs, capability(gpu)?) else {
        return Ok(Ran::Composed(Why::Shape("the query")));
    };
    let Place::Device(lse) = saved.lse.place() else { return Err(elsewhere()) };
    let rows = written(rows)?;
    let [query_grad, key_grad, value_grad] = gradients(sizes, grads, bytes)?;
    let operands = [query, key, value, out, grad, query_grad, key_grad, value_grad];
    same_device(&operands.map(|operand| operand.slice))?;
    same_device(&[query.slice, lse, rows])?;
    if !operands.iter().all(|operand| operand.is_aligned()) || !rows.address().is_multiple_of(8) {
        return Ok(Ran::Composed(Why::Layout("a gradient")));
    }
    let mut args = [0; 41];
    for (words, operand) in args.chunks_exact_mut(4).zip(operands) {
        words.copy_from_slice(&operand.words());
    }
    args[32] = lse.address();
    args[33] = rows.address();
    args[34..].copy_from_slice(&words(attention, sizes, bytes));
    let (heads, key) = (sizes.batch * sizes.heads, key_in(attention, 34));
    let first = Loaded::new(gpu, kernels.module, BACKWARD[0], kernels.backward_query)?;
    let second = Loaded::new(gpu, kernels.module, BACKWARD[1], kernels.backward_key)?;
    // SAFETY: `args` is `BackwardArgs`. The operands are on one device with the shapes and dtype that `super` checked, their
    // rows are aligned as `is_aligned` checked, the gradients are as long as `gradients` strides them, and `lse` and `rows`
    // hold one and two f32 for each row of the query: the kernel indexes within those. They are borrowed until it is
    // launched, and freed in the order of the stream.
    unsafe { first.launch((heads, sizes.queries), &args, key) }?;
    // SAFETY: as above; what it reads of `rows` the first kernel has written for every query.
    unsafe { second.launch((heads, sizes.keys), &args, key) }?;
    Ok(Ran::Kernel("attention_backward"))
}

/// The three gradients in the buffers that they are written to, of elements of so many bytes.
fn gradients<'b>(sizes: Sizes, grads: GradientsOut<'_, 'b>, bytes: usize) -> Result<[Operand<'b>; 3]> {
    let Sizes { heads, queries, keys, width, .. } = sizes;
    Ok(match grads {
        GradientsOut::Packed(out) => {
            let slice = written(out)?;
            let strides = [queries * 3 * heads * width, width, 3 * heads * width];
            [0, 1, 2].map(|part| Operand { slice, offset: part * heads * width * bytes, strides })
        }
        GradientsOut::Each(order, [query, key, value]) => [
            Operand { slice: written(query)?, offset: 0, strides: strides(sizes, order, queries) },
            Operand { slice: written(key)?, offset: 0, strides: strides(sizes, order, keys) },
            Operand { slice: written(value)?, offset: 0, strides: strides(sizes, order, keys) },
        ],
    })
}

/// From a batch element, a head and a row of a result to the next, in elements.
fn strides(sizes: Sizes, order: Order, rows: usize) -> [usize; 3] {
    let batch = sizes.heads * rows * sizes.width;
    match order {
        Order::HeadsFirst => [batch, rows * sizes.width, sizes.width],
        Order::RowsFirst => [batch, sizes.width, sizes.heads * sizes.width],
    }
}

/// `Operand` in `tiles.cuh`.
#[derive(Clone, Copy)]
struct Operand<'a> {
    slice: DeviceSlice<'a>,
    /// Of the first element, in bytes.
    offset: usize,
    /// From a batch element, a head and a row to the next.
    strides: [usize; 3],
}

impl Operand<'_> {
    fn address(&self) -> u64 {
        self.slice.address() + self.offset as u64
    }

    fn is_aligned(&self) -> bool {
        self.address().is_multiple_of(16)
    }

    fn words(self) -> [u64; 4] {
        let [batch, head, row] = self.strides.map(|stride| stride as u64);
        [self.address(), batch, head, row]
    }
}

/// The operand, if its rows begin at multiples of 16 bytes: the caller has checked that of their distances.
fn rows_of<'a>(x: &In<'a>) -> Option<Operand<'a>> {
    let (Place::Device(slice), &[batch, head, row, _]) = (x.place(), x.strides()) else { return None };
    let operand = Operand { slice, offset: 0, strides: [batch, head, row] };
    operand.is_aligned().then_some(operand)
}

fn written<'b>(out: &mut Out<'b>) -> Result<DeviceSlice<'b>> {
    match out.place() {
        PlaceMut::Device(slice) => Ok(*slice),
        PlaceMut::Host(_) => Err(elsewhere()),
    }
}

fn same_device(slices: &[DeviceSlice<'_>]) -> Result<()> {
    let same = slices.windows(2).all(|pair| pair[0].gpu().id() == pair[1].gpu().id());
    if same { Ok(()) } else { Err(elsewhere()) }
}

fn elsewhere() -> Error {
    let (expected, got) = ("on the query's device".into(), "on another".into());
    Error::Operand { op: OP, argument: "a buffer", expected, got }
}

/// `Sizes` in `tiles.cuh`, for elements of so many bytes. Counts fit, as [`Kernels::of`] checked.
fn words(attention: Attention, sizes: Sizes, bytes: usize) -> [u64; 7] {
    let Sizes { batch, heads, queries, keys, width } = sizes;
    let all = batch * heads;
    let group = (GROUP_BYTES / (2 * keys * width * bytes).max(1)).clamp(1, all.max(1));
    let scale = attention.scale as f32;
    let sign = if scale == 0. { 0. } else { scale.signum() };
    let factor = if scale == 0. { 1. } else { attention.scale.abs() };
    let exponent = (factor * std::f64::consts::LOG2_E) as f32;
    let dropout = attention.dropout.unwrap_or(Dropout { p: 0., key: 0 });
    let pair = |low: u64, high: u64| low | high << 32;
    let bits = |x: f32| u64::from(x.to_bits());
    [
        pair(queries as u64, keys as u64),
        pair(heads as u64, all as u64),
        pair(group as u64, u64::from(attention.mask == Mask::Causal)),
        pair(bits(exponent), bits(sign)),
        pair(bits(scale), bits(dropout.factor() as f32)),
        dropout.key,
        // With a factor of 0 it does not matter that the last threshold does not fit.
        dropout.threshold().min(u64::from(u32::MAX)),
    ]
}

/// Where the key of the draws is in arguments whose [`words`] begin at `from`, if anything is drawn.
fn key_in(attention: Attention, from: usize) -> Option<usize> {
    attention.dropout.map(|_| from + 5)
}

/// A kernel that may use its shared memory.
struct Loaded {
    kernel: Kernel,
    blocks: Blocks,
}

impl Loaded {
    fn new(gpu: &CudaDevice, module: Module, name: &str, blocks: Blocks) -> Result<Self> {
        let kernel = Kernel::load(gpu, module, name)?;
        kernel.allow_shared(i32::try_from(blocks.shared).map_err(device(OP))?)?;
        Ok(Self { kernel, blocks })
    }

    /// Launches blocks for so many rows of each head.
    ///
    /// # Safety
    ///
    /// As for [`Kernel::launch_drawing`], with a key where there is one.
    unsafe fn launch<const N: usize>(
        &self,
        (heads, rows): (usize, usize),
        args: &[u64; N],
        key: Option<usize>,
    ) -> Result<()> {
        let Blocks { rows: of_block, threads, shared } = self.blocks;
        let count = u32::try_from(heads * rows.div_ceil(of_block)).map_err(device(OP))?;
        let shared_bytes = u32::try_from(shared).map_err(device(OP))?;
        let launch = Launch { grid: (count, 1, 1), block: threads, shared_bytes };
        // SAFETY: the caller's promise; the kernels are made for this many threads and this much shared memory.
        unsafe {
            match key {
                Some(key) => self.kernel.launch_drawing(launch, args, key),
                None => self.kernel.launch_as(launch, args),
            }
        }
    }
}
