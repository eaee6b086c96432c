//! The one matrix product under `linear`, `matmul` and their relatives.
//!
//! Against candle's own: f16 on a CPU is multiplied in f32 (candle's accumulates in f16: 4096 ones give 2048), operands in
//! a layout that candle refuses are copied, and the backward makes only the gradients that are wanted.

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::{D, DType, DeviceLocation, Layout, Result, Shape, Tensor};

use super::node::{DeviceStorage, Op, View, apply};

/// `a · b` for matrices `(m, k)`, `(k, n)` or stacks of them `(b, m, k)`, `(b, k, n)`, whose sizes fit.
pub(super) fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    multiply(a, b, Rhs::AsIs)
}

/// `a · bᵀ` for `(m, k)`, `(n, k)` or stacks of them; the gradient of `b` comes in the layout of `b`.
pub(super) fn product_transposed(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    multiply(a, b, Rhs::Transposed)
}

#[derive(Clone, Copy)]
enum Rhs {
    AsIs,
    Transposed,
}

fn multiply(a: &Tensor, b: &Tensor, rhs: Rhs) -> Result<Tensor> {
    if a.elem_count() == 0 || b.elem_count() == 0 {
        return match rhs {
            Rhs::AsIs => a.matmul(b),
            Rhs::Transposed => a.matmul(&b.t()?),
        };
    }
    apply(Product { rhs }, [&readable(a)?, &readable(b)?])
}

/// `t`, copied unless each of its matrices is stored without gaps, by rows or by columns.
pub(super) fn readable(t: &Tensor) -> Result<Tensor> {
    let (rows, columns) = (t.dim(D::Minus2)?, t.dim(D::Minus1)?);
    match *t.stride() {
        [.., row, 1] if row == columns => Ok(t.clone()),
        [.., 1, column] if column == rows => Ok(t.clone()),
        _ => t.contiguous(),
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
    let (m, k, n) = (a_l.dims()[last - 1], a_l.dims()[last], b_l.dims()[last]);
    let batch = a_l.dims()[..last - 1].iter().product();
    let mut dims = a_l.dims().to_vec();
    dims[last] = n;
    let sizes = (batch, m, n, k);
    let product = if a.dtype() == DType::F16 && matches!(a.device().location(), DeviceLocation::Cpu) {
        let ((a, a_l), (b, b_l)) = (to_f32(a, a_l)?, to_f32(b, b_l)?);
        a.matmul(&b, sizes, &a_l, &b_l)?.to_dtype(&Layout::contiguous(dims.as_slice()), DType::F16)?
    } else {
        a.matmul(b, sizes, a_l, b_l)?
    };
    Ok((product, dims.into()))
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
