//! The one matrix product under `linear`, `matmul` and their relatives.
//!
//! Against candle's own: f16 on a CPU is multiplied in f32 (candle's accumulates in f16: 4096 ones give 2048), operands in
//! a layout that candle refuses are copied, and the backward makes only the gradients that are wanted.

use std::ops::Range;

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::{D, DType, DeviceLocation, Layout, Result, Shape, Tensor};

use super::empty::without_gradient;
use super::node::{DeviceStorage, Op, View, apply};
use super::size::check_size;

/// `a · b` for matrices `(m, k)`, `(k, n)` or stacks of them `(b, m, k)`, `(b, k, n)`, whose sizes fit.
pub(super) fn product(a: &Tensor, b: &Tensor) -> crate::Result<Tensor> {
    multiply(a, b, Rhs::AsIs)
}

/// `a · bᵀ` for `(m, k)`, `(n, k)` or stacks of them; the gradient of `b` comes in the layout of `b`.
pub(super) fn product_transposed(a: &Tensor, b: &Tensor) -> crate::Result<Tensor> {
    multiply(a, b, Rhs::Transposed)
}

#[derive(Clone, Copy)]
enum Rhs {
    AsIs,
    Transposed,
}

fn multiply(a: &Tensor, b: &Tensor, rhs: Rhs) -> crate::Result<Tensor> {
    let columns = match rhs {
        Rhs::AsIs => b.dim(D::Minus1)?,
        Rhs::Transposed => b.dim(D::Minus2)?,
    };
    let dims = [&a.dims()[..a.rank() - 1], &[columns]].concat();
    check_size("matrix product", &dims, a.dtype())?;
    if a.elem_count() == 0 || b.elem_count() == 0 {
        // Sums over nothing, or no sums at all.
        return without_gradient("matrix product", &[a, b], Tensor::zeros(dims, a.dtype(), a.device())?);
    }
    Ok(apply(Product { rhs }, [&readable(a)?, &readable(b)?])?)
}

/// `t`, copied unless each of its matrices is stored without gaps, by rows or by columns.
pub(super) fn readable(t: &Tensor) -> Result<Tensor> {
    if is_gapless(t.dims(), t.stride()) { Ok(t.clone()) } else { t.contiguous() }
}

/// Whether the matrices of a layout are stored without gaps, by rows or by columns.
fn is_gapless(dims: &[usize], stride: &[usize]) -> bool {
    match (dims, stride) {
        (&[.., rows, columns], &[.., row, column]) => {
            (column == 1 && row == columns) || (row == 1 && column == rows)
        }
        _ => false,
    }
}

struct Product {
    rhs: Rhs,
}

impl Op<2> for Product {
    fn name(&self) -> &'static str {
        "matrix product"
    }

    fn forward<S: DeviceStorage>(&self, [(a, a_l), (b, b_l)]: [View<S>; 2]) -> Result<(S, Shape)> {
        let last = b_l.dims().len() - 1;
        match self.rhs {
            Rhs::AsIs => storage_product((a, a_l), (b, b_l)),
            Rhs::Transposed => storage_product((a, a_l), (b, &b_l.transpose(last - 1, last)?)),
        }
    }

    fn backward(
        &self,
        [a, b]: [&Tensor; 2],
        _: &Tensor,
        grad: &Tensor,
        wanted: [bool; 2],
    ) -> Result<[Option<Tensor>; 2]> {
        match self.rhs {
            Rhs::AsIs => Ok([
                wanted[0].then(|| product_transposed(grad, b)).transpose()?,
                wanted[1].then(|| product(&a.t()?, grad)).transpose()?,
            ]),
            Rhs::Transposed => Ok([
                wanted[0].then(|| product(grad, b)).transpose()?,
                wanted[1].then(|| product(&grad.t()?, a)).transpose()?,
            ]),
        }
    }
}

/// The product of matrices or stacks of them in layouts that candle reads, none of them empty.
pub(super) fn storage_product<S: BackendStorage>((a, a_l): View<S>, (b, b_l): View<S>) -> Result<(S, Shape)> {
    let last = a_l.dims().len() - 1;
    let (k, n) = (a_l.dims()[last], b_l.dims()[last]);
    let mut dims = a_l.dims().to_vec();
    dims[last] = n;
    let dtype = a.dtype();
    let narrow = dtype.size_in_bytes() == 2 && matches!(a.device().location(), DeviceLocation::Cpu);
    let product = if narrow && (dtype == DType::F16 || k > LONGEST) {
        let ((a, a_l), (b, b_l)) = (to_f32(a, a_l)?, to_f32(b, b_l)?);
        in_blocks((&a, &a_l), (&b, &b_l), 0..k)?.to_dtype(&Layout::contiguous(dims.as_slice()), dtype)?
    } else {
        in_blocks((a, a_l), (b, b_l), 0..k)?
    };
    Ok((product, dims.into()))
}

/// The most terms that one product adds one after another. More are halved, and the halves added.
const LONGEST: usize = 1024;

/// The product over the `terms` of the inner dimension. candle and cuBLAS add them in their order in f32, in which millions
/// of equal terms would stand still; halves that are added keep the error to that of one block and the logarithm of their
/// number. 16-bit operands on a device stay whole, since their halves would be rounded.
fn in_blocks<S: BackendStorage>((a, a_l): View<S>, (b, b_l): View<S>, terms: Range<usize>) -> Result<S> {
    let last = a_l.dims().len() - 1;
    let (m, n) = (a_l.dims()[last - 1], b_l.dims()[last]);
    let batch: usize = a_l.dims()[..last - 1].iter().product();
    let (from, len) = (terms.start, terms.len());
    let part = |len: usize, from: usize| -> Result<(Layout, Layout)> {
        Ok((a_l.narrow(last, from, len)?, b_l.narrow(last - 1, from, len)?))
    };
    let halves = len > LONGEST && a.dtype().size_in_bytes() > 2 && {
        // candle's product reads any strides on a CPU; cuBLAS reads matrices without gaps.
        let (a_part, b_part) = part(LONGEST, from)?;
        let anything = matches!(a.device().location(), DeviceLocation::Cpu);
        anything || (is_gapless(a_part.dims(), a_part.stride()) && is_gapless(b_part.dims(), b_part.stride()))
    };
    if !halves {
        let (a_l, b_l) = part(len, from)?;
        return a.matmul(b, (batch, m, n, len), &a_l, &b_l);
    }
    let middle = from + (len / LONGEST).div_ceil(2) * LONGEST;
    let head = in_blocks((a, a_l), (b, b_l), from..middle)?;
    let tail = in_blocks((a, a_l), (b, b_l), middle..terms.end)?;
    let flat = Layout::contiguous(batch * m * n);
    head.binary_impl::<candle_core::op::Add>(&tail, &flat, &flat)
}

/// A storage in f32 and its layout, which stays by columns if it was.
fn to_f32<S: BackendStorage>(storage: &S, layout: &Layout) -> Result<(S, Layout)> {
    let last = layout.dims().len() - 1;
    let turned = layout.transpose(last - 1, last)?;
    if turned.is_contiguous() {
        let wide = storage.to_dtype(&turned, DType::F32)?;
        return Ok((wide, Layout::contiguous(turned.shape()).transpose(last - 1, last)?));
    }
    Ok((storage.to_dtype(layout, DType::F32)?, Layout::contiguous(layout.shape())))
}
