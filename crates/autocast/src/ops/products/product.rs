//! The one matrix product under `linear`, `matmul` and their relatives.
//!
//! On a CPU it is `backends`' kernel, on a GPU candle's, for which operands in a layout that it refuses are copied. The
//! backward makes only the gradients that are wanted.

use backends::buffer::Ran;
use backends::kernels::add::{Among, add_into};
use backends::kernels::product::{RUN, product_of};
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

/// `t`, copied on a GPU unless each of its matrices is stored without gaps, by rows or by columns.
fn readable(t: &Tensor) -> Result<Tensor> {
    let as_it_is = t.device().is_cpu() || is_gapless(t.dims(), t.stride());
    Ok(if as_it_is { t.clone() } else { t.contiguous()? })
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
    let narrow = a.dtype().size_in_bytes() == 2;
    if !a.device().is_cpu() {
        // Halves of 16 bits would be rounded.
        return if narrow { Ok(a.matmul(b)?) } else { in_blocks(a, b, a.dtype()) };
    }
    match narrow {
        false => in_blocks(a, b, a.dtype()),
        // What rounds to 16 bits loses more than a few runs do.
        true if a.dim(D::Minus1)? <= 16 * RUN => one(a, b, a.dtype()),
        true => Ok(in_blocks(a, b, DType::F32)?.to_dtype(a.dtype())?),
    }
}

/// The product in `dtype` over the terms of the inner dimension, of which no more than [`RUN`] are added one after another,
/// in f32: millions of equal terms would stand still. Halves that are added keep the error to that of one block and the
/// logarithm of their number.
fn in_blocks(a: &Tensor, b: &Tensor, dtype: DType) -> Result<Tensor> {
    let terms = a.dim(D::Minus1)?;
    let part = |from: usize, len: usize| -> Result<(Tensor, Tensor)> {
        Ok((a.narrow(D::Minus1, from, len)?, b.narrow(D::Minus2, from, len)?))
    };
    let halves = terms > RUN && {
        // The kernel of a CPU reads any strides; cuBLAS reads matrices without gaps.
        let (a, b) = part(0, RUN)?;
        a.device().is_cpu() || [a, b].iter().all(|t| is_gapless(t.dims(), t.stride()))
    };
    if !halves {
        return one(a, b, dtype);
    }
    let middle = (terms / RUN).div_ceil(2) * RUN;
    let ((a_head, b_head), (a_tail, b_tail)) = (part(0, middle)?, part(middle, terms - middle)?);
    let [head, tail] = [in_blocks(&a_head, &b_head, dtype)?, in_blocks(&a_tail, &b_tail, dtype)?];
    // The product of the first half is nobody else's.
    match add_into(&head, &tail, &Among::whole(head.dims()))? {
        Ran::Kernel(_) => Ok(head),
        Ran::Composed(_) => Ok((head + tail)?),
    }
}

/// The product in `dtype`, by the kernel or candle's.
fn one(a: &Tensor, b: &Tensor, dtype: DType) -> Result<Tensor> {
    let product = product_of(a, b, dtype)?.ran();
    product.map_or_else(|| Ok(a.matmul(b)?.to_dtype(dtype)?), Ok)
}
