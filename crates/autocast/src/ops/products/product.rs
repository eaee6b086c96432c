//! The one matrix product under `linear`, `matmul` and their relatives.
//!
//! Against candle's own: f16 on a CPU is multiplied in f32 (candle's accumulates in f16: 4096 ones give 2048), operands in
//! a layout that candle refuses are copied, and the backward makes only the gradients that are wanted.

use candle_core::{D, DType, Tensor};

use crate::Result;
use crate::graph::{Attribute, Backward, Op, Value, record};
use crate::ops::shape::empty::without_gradient;
use crate::ops::shape::size::check_size;

/// `a · b` for matrices `(m, k)`, `(k, n)` or stacks of them `(b, m, k)`, `(b, k, n)`, whose sizes fit.
pub(crate) fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    multiply(a, b, Rhs::AsIs)
}

/// `a · bᵀ` for `(m, k)`, `(n, k)` or stacks of them; the gradient of `b` comes in the layout of `b`.
pub(crate) fn product_transposed(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    multiply(a, b, Rhs::Transposed)
}

#[derive(Clone, Copy)]
enum Rhs {
    AsIs,
    Transposed,
}

fn multiply(a: &Tensor, b: &Tensor, rhs: Rhs) -> Result<Tensor> {
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
    let [x, y] = [readable(&a.detach())?, readable(&b.detach())?];
    let value = match rhs {
        Rhs::AsIs => plain(&x, &y)?,
        Rhs::Transposed => plain(&x, &y.transpose(D::Minus1, D::Minus2)?)?,
    };
    let op = Product { rhs, a: b.track_op().then_some(x), b: a.track_op().then_some(y) };
    record(op, &[a, b], Value::fresh(value))
}

/// `t`, copied unless each of its matrices is stored without gaps, by rows or by columns.
pub(crate) fn readable(t: &Tensor) -> Result<Tensor> {
    Ok(if is_gapless(t.dims(), t.stride()) { t.clone() } else { t.contiguous()? })
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

/// What the gradients are products with: each is the other's factor.
struct Product {
    rhs: Rhs,
    a: Option<Tensor>,
    b: Option<Tensor>,
}

impl Op for Product {
    fn name(&self) -> &'static str {
        "matrix product"
    }

    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        let rhs = match self.rhs {
            Rhs::AsIs => "as it is",
            Rhs::Transposed => "transposed",
        };
        vec![("rhs", Attribute::Word(rhs))]
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let grad = cx.grad();
        let (da, db) = match self.rhs {
            Rhs::AsIs => (
                self.b.as_ref().map(|b| product_transposed(grad, b)),
                self.a.as_ref().map(|a| product(&a.transpose(D::Minus1, D::Minus2)?, grad)),
            ),
            Rhs::Transposed => (
                self.b.as_ref().map(|b| product(grad, b)),
                self.a.as_ref().map(|a| product(&grad.transpose(D::Minus1, D::Minus2)?, a)),
            ),
        };
        Ok(vec![da.transpose()?, db.transpose()?])
    }
}

/// The product of untracked matrices or stacks of them in layouts that candle reads, none of them empty.
fn plain(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (dtype, k) = (a.dtype(), a.dim(D::Minus1)?);
    let narrow = dtype.size_in_bytes() == 2 && a.device().is_cpu();
    if narrow && (dtype == DType::F16 || k > LONGEST) {
        return Ok(in_blocks(&to_f32(a)?, &to_f32(b)?)?.to_dtype(dtype)?);
    }
    in_blocks(a, b)
}

/// The most terms that one product adds one after another. More are halved, and the halves added.
const LONGEST: usize = 1024;

/// The product over the `terms` of the inner dimension. candle and cuBLAS add them in their order in f32, in which millions
/// of equal terms would stand still; halves that are added keep the error to that of one block and the logarithm of their
/// number. 16-bit operands on a device stay whole, since their halves would be rounded.
fn in_blocks(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let terms = a.dim(D::Minus1)?;
    let part = |from: usize, len: usize| -> Result<(Tensor, Tensor)> {
        Ok((a.narrow(D::Minus1, from, len)?, b.narrow(D::Minus2, from, len)?))
    };
    let halves = terms > LONGEST && a.dtype().size_in_bytes() > 2 && {
        // candle's product reads any strides on a CPU; cuBLAS reads matrices without gaps.
        let (a, b) = part(0, LONGEST)?;
        a.device().is_cpu() || [a, b].iter().all(|t| is_gapless(t.dims(), t.stride()))
    };
    if !halves {
        return Ok(a.matmul(b)?);
    }
    let middle = (terms / LONGEST).div_ceil(2) * LONGEST;
    let ((a_head, b_head), (a_tail, b_tail)) = (part(0, middle)?, part(middle, terms - middle)?);
    Ok((in_blocks(&a_head, &b_head)? + in_blocks(&a_tail, &b_tail)?)?)
}

/// `t` in f32, by columns if it was.
fn to_f32(t: &Tensor) -> Result<Tensor> {
    let turned = t.transpose(D::Minus1, D::Minus2)?;
    if turned.is_contiguous() {
        return Ok(turned.to_dtype(DType::F32)?.transpose(D::Minus1, D::Minus2)?);
    }
    Ok(t.to_dtype(DType::F32)?)
}
