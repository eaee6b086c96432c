//! The one matrix product under `linear`, `matmul` and their relatives.
//!
//! It is `backends`' kernel, for which operands in a layout that it does not read are copied. The backward makes only the
//! gradients that are wanted.

use backends::buffer::Ran;
use backends::kernels::add::{Among, add_into, add_row};
use backends::kernels::product::{RUN, product_of, product_onto_of, product_plus_of};
use candle_core::{D, DType, Tensor};

use crate::Result;
use crate::dtypes::accumulation_dtype;
use crate::graph::{Attribute, Backward, Op, Value, record};
use crate::ops::shape::empty::without_gradient;
use crate::ops::shape::size::check_size;

/// Terms that a CPU's kernel adds up whole.
const WHOLE: usize = 16 * RUN;

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

/// `a · b` of untracked matrices that have elements, in f32 (f64 for f64), for whoever adds to it.
pub(crate) fn product_wide(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    plain_in(&readable(a)?, &readable(b)?, accumulation_dtype(a.dtype()))
}

/// `a · b + row` for untracked matrices `(m, k)`, `(k, n)` that have elements, and a row of `n`. Each element is rounded once; where
/// no kernel adds the row, the product is, and then the sum.
pub(crate) fn product_plus_row(a: &Tensor, b: &Tensor, row: &Tensor) -> Result<Tensor> {
    if let Some(value) = product_plus(a, b, Some(row), None)? {
        return Ok(value);
    }
    let value = product(a, b)?;
    // The product is nobody else's.
    Ok(match add_row(&value, row)? {
        Ran::Kernel(_) => value,
        Ran::Composed(_) => value.broadcast_add(&row.contiguous()?)?,
    })
}

/// `a · b + row + matrix`, of which one is given, in their dtype and rounded once, where a kernel does so.
pub(crate) fn product_plus(
    a: &Tensor,
    b: &Tensor,
    row: Option<&Tensor>,
    matrix: Option<&Tensor>,
) -> Result<Option<Tensor>> {
    if !is_whole(a)? {
        return Ok(None);
    }
    Ok(product_plus_of(&readable(a)?, &readable(b)?, row, matrix)?.ran())
}

/// Whether a kernel adds up all terms of a product with the left operand `a`.
fn is_whole(a: &Tensor) -> Result<bool> {
    Ok(!a.device().is_cpu() || a.dim(D::Minus1)? <= WHOLE)
}

/// `t`, copied on a GPU unless each of its matrices is stored by rows or by columns.
fn readable(t: &Tensor) -> Result<Tensor> {
    let as_it_is = t.device().is_cpu() || is_pitched(t.dims(), t.stride());
    Ok(if as_it_is { t.clone() } else { t.contiguous()? })
}

/// Whether the matrices of a layout are stored by rows or by columns, with or without gaps between these.
fn is_pitched(dims: &[usize], stride: &[usize]) -> bool {
    match (dims, stride) {
        (&[.., rows, columns], &[.., row, column]) => {
            (column == 1 && (row >= columns || rows == 1)) || (row == 1 && (column >= rows || columns == 1))
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

/// The product of untracked matrices or stacks of them, [`readable`] and none of them empty.
fn plain(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    plain_in(a, b, a.dtype())
}

/// The same in another dtype.
fn plain_in(a: &Tensor, b: &Tensor, dtype: DType) -> Result<Tensor> {
    let narrow = dtype.size_in_bytes() == 2;
    match is_whole(a)? {
        true => one(a, b, dtype),
        false if narrow => Ok(in_blocks(a, b, DType::F32)?.to_dtype(dtype)?),
        false => in_blocks(a, b, dtype),
    }
}

/// The product in `dtype` over the terms of the inner dimension on a CPU, of which a kernel adds no more than [`WHOLE`], in
/// runs that it adds one after another: millions of equal terms would stand still. Halves that are added keep the error to that of
/// one block and the logarithm of their number.
fn in_blocks(a: &Tensor, b: &Tensor, dtype: DType) -> Result<Tensor> {
    let terms = a.dim(D::Minus1)?;
    if terms <= WHOLE {
        return one(a, b, dtype);
    }
    let part = |from: usize, len: usize| -> Result<Tensor> {
        in_blocks(&a.narrow(D::Minus1, from, len)?, &b.narrow(D::Minus2, from, len)?, dtype)
    };
    let middle = (terms / WHOLE).div_ceil(2) * WHOLE;
    let (head, tail) = (part(0, middle)?, part(middle, terms - middle)?);
    plus(head, &tail)
}

/// `sum + a · b`, where nobody else holds `sum`, for what [`product_wide`] takes.
pub(crate) fn product_onto(sum: Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if is_whole(a)?
        && let Ran::Kernel(_) = product_onto_of(&sum, &readable(a)?, &readable(b)?)?
    {
        return Ok(sum);
    }
    plus(sum, &product_wide(a, b)?)
}

/// `sum + part`, where nobody else holds `sum`.
pub(crate) fn plus(sum: Tensor, part: &Tensor) -> Result<Tensor> {
    Ok(match add_into(&sum, part, &Among::whole(part.dims()))? {
        Ran::Kernel(_) => sum,
        Ran::Composed(_) => (sum + part)?,
    })
}

/// The product in `dtype`, by the kernel or candle's, which reads no gaps.
fn one(a: &Tensor, b: &Tensor, dtype: DType) -> Result<Tensor> {
    match product_of(a, b, dtype)?.ran() {
        Some(product) => Ok(product),
        None => Ok(a.contiguous()?.matmul(&b.contiguous()?)?.to_dtype(dtype)?),
    }
}
