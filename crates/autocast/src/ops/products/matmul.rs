//! Matrix products: `matmul` and its relatives. All accumulate in f32 (f64 for f64), and so do the sums in their
//! gradients.

use candle_core::{D, Tensor};

use super::product::product;
use crate::dtypes::{same_dtype, unnamed};
use crate::ops::shape::broadcast::{broadcast_dims, expand};
use crate::region::{cast_inputs, cast_slice, promoted_slice};
use crate::{Error, Result};

/// The product of two tensors with PyTorch's rules: vectors are taken as a row on the left and a column on the right,
/// leading dimensions broadcast.
///
/// # Shapes
///
/// `(.., m, k)` with `(.., k, n)` gives `(.., m, n)`; a vector operand loses its dimension in the result.
///
/// # Errors
///
/// [`Error::InvalidArgument`] where these do not fit or the dtypes differ after the region's rule was applied. The same holds for every function of this file.
///
/// # Source
///
/// `torch.matmul`.
pub fn matmul(lhs: &Tensor, rhs: &Tensor) -> Result<Tensor> {
    const OP: &str = "matmul";
    let [lhs, rhs] = prepared(OP, [("lhs", lhs), ("rhs", rhs)])?;
    broadcast_product(OP, &lhs, &rhs)
}

/// The product of two matrices.
///
/// # Errors
///
/// As [`matmul`].
pub fn mm(lhs: &Tensor, rhs: &Tensor) -> Result<Tensor> {
    let operands = prepared("mm", [("lhs", lhs), ("rhs", rhs)])?;
    ranked_product("mm", operands, 2, 2)
}

/// The products of two stacks of matrices, `(b, m, k)` with `(b, k, n)`.
///
/// # Errors
///
/// As [`matmul`].
pub fn bmm(lhs: &Tensor, rhs: &Tensor) -> Result<Tensor> {
    let operands = prepared("bmm", [("lhs", lhs), ("rhs", rhs)])?;
    stacked_product("bmm", operands)
}

/// The product of a matrix and a vector.
///
/// # Errors
///
/// As [`matmul`].
pub fn mv(matrix: &Tensor, vector: &Tensor) -> Result<Tensor> {
    let operands = prepared("mv", [("matrix", matrix), ("vector", vector)])?;
    ranked_product("mv", operands, 2, 1)
}

/// The inner product of two vectors.
///
/// # Errors
///
/// As [`matmul`].
pub fn dot(lhs: &Tensor, rhs: &Tensor) -> Result<Tensor> {
    let operands = prepared("dot", [("lhs", lhs), ("rhs", rhs)])?;
    ranked_product("dot", operands, 1, 1)
}

/// The outer product of two vectors, `(m)` with `(n)` to `(m, n)`. Mixed dtypes are promoted.
///
/// # Errors
///
/// As [`matmul`].
pub fn outer(lhs: &Tensor, rhs: &Tensor) -> Result<Tensor> {
    let operands = promoted("outer", [lhs, rhs])?;
    outer_product("outer", operands)
}

/// The inner products along `dim` of two tensors that broadcast to each other.
///
/// # Errors
///
/// As [`matmul`]; [`Error::InvalidArgument`] if there is no dimension `dim`.
pub fn linalg_vecdot(lhs: &Tensor, rhs: &Tensor, dim: usize) -> Result<Tensor> {
    const OP: &str = "linalg_vecdot";
    let [lhs, rhs] = prepared(OP, [("lhs", lhs), ("rhs", rhs)])?;
    let dims = broadcast_dims(OP, lhs.dims(), rhs.dims())?;
    if dim >= dims.len() {
        return Err(Error::argument(OP, "dim", dim, format!("a dimension below {}", dims.len())));
    }
    let size = dims[dim];
    let aligned = |t: &Tensor| -> Result<Tensor> { Ok(expand(t, &dims)?.transpose(dim, dims.len() - 1)?) };
    let mut out = dims.clone();
    out.swap(dim, dims.len() - 1);
    out.pop();
    let count = out.iter().product::<usize>();
    let rows = aligned(&lhs)?.reshape((count, 1, size))?;
    let columns = aligned(&rhs)?.reshape((count, size, 1))?;
    // The dimension that came to stand where `dim` was goes back to the end.
    let mut order = (0..out.len()).filter(|&i| i != dim).collect::<Vec<_>>();
    if dim < out.len() {
        order.push(dim);
    }
    Ok(product(&rows, &columns)?.reshape(out)?.permute(order)?)
}

/// The product of a chain of matrices, from left to right.
///
/// # Errors
///
/// As [`matmul`]; [`Error::InvalidArgument`] for an empty chain.
pub fn chain_matmul(matrices: &[&Tensor]) -> Result<Tensor> {
    const OP: &str = "chain_matmul";
    let matrices = cast_slice(OP, matrices)?;
    same_dtype(OP, unnamed(&matrices))?;
    let Some((first, rest)) = matrices.split_first() else {
        return Err(Error::argument(OP, "matrices", "empty", "at least one matrix"));
    };
    if first.rank() != 2 {
        return Err(Error::shape(OP, "the first matrix", first.dims(), "two dimensions"));
    }
    rest.iter().try_fold(first.clone(), |chain, next| ranked_product(OP, [chain, next.clone()], 2, 2))
}

/// The inputs, each with its name, as the region wants them, and of one dtype.
pub(crate) fn prepared<const N: usize>(op: &str, inputs: [(&str, &Tensor); N]) -> Result<[Tensor; N]> {
    let cast = cast_inputs(op, inputs.map(|(_, input)| input))?;
    same_dtype(op, inputs.iter().map(|(name, _)| *name).zip(&cast))?;
    Ok(cast)
}

/// The inputs in the dtype that they promote to.
pub(crate) fn promoted<const N: usize>(op: &str, inputs: [&Tensor; N]) -> Result<[Tensor; N]> {
    let inputs = promoted_slice(op, &inputs)?;
    Ok(inputs.try_into().expect("as many tensors come out as went in"))
}

/// The product of operands that must have these ranks, each 1 or 2.
pub(crate) fn ranked_product(
    op: &str,
    [lhs, rhs]: [Tensor; 2],
    lhs_rank: usize,
    rhs_rank: usize,
) -> Result<Tensor> {
    for (name, operand, rank) in [("lhs", &lhs, lhs_rank), ("rhs", &rhs, rhs_rank)] {
        if operand.rank() != rank {
            let kind = if rank == 1 { "a vector" } else { "a matrix" };
            return Err(Error::shape(op, name, operand.dims(), kind));
        }
    }
    broadcast_product(op, &lhs, &rhs)
}

pub(crate) fn stack_sizes(op: &str, lhs: &Tensor, rhs: &Tensor) -> Result<(usize, usize, usize, usize)> {
    match (lhs.dims(), rhs.dims()) {
        (&[b, m, k], &[rhs_b, rhs_k, n]) if (b, k) == (rhs_b, rhs_k) => Ok((b, m, k, n)),
        (lhs, rhs) => {
            Err(Error::shape(op, "rhs", rhs, format!("(b, k, n) to follow lhs (b, m, k), which is {lhs:?}")))
        }
    }
}

pub(crate) fn stacked_product(op: &str, [lhs, rhs]: [Tensor; 2]) -> Result<Tensor> {
    stack_sizes(op, &lhs, &rhs)?;
    product(&lhs, &rhs)
}

pub(crate) fn outer_product(op: &str, [lhs, rhs]: [Tensor; 2]) -> Result<Tensor> {
    match (lhs.dims(), rhs.dims()) {
        ([_], [_]) => Ok(product(&lhs.unsqueeze(1)?, &rhs.unsqueeze(0)?)?),
        ([_], rhs) => Err(Error::shape(op, "rhs", rhs, "a vector")),
        (lhs, _) => Err(Error::shape(op, "lhs", lhs, "a vector")),
    }
}

fn broadcast_product(op: &str, lhs: &Tensor, rhs: &Tensor) -> Result<Tensor> {
    let mismatch = || {
        let expected = format!("(.., k, n) to follow lhs (.., m, k), which is {:?}", lhs.dims());
        Error::shape(op, "rhs", rhs.dims(), expected)
    };
    if lhs.rank() == 0 || rhs.rank() == 0 {
        return Err(mismatch());
    }
    let row = if lhs.rank() == 1 { lhs.unsqueeze(0)? } else { lhs.clone() };
    let column = if rhs.rank() == 1 { rhs.unsqueeze(1)? } else { rhs.clone() };
    let (m, k) = (row.dim(D::Minus2)?, row.dim(D::Minus1)?);
    let (rhs_k, n) = (column.dim(D::Minus2)?, column.dim(D::Minus1)?);
    if k != rhs_k {
        return Err(mismatch());
    }
    let leading = |t: &Tensor| t.dims()[..t.rank() - 2].to_vec();
    let (row_leading, column_leading) = (leading(&row), leading(&column));
    let mut dims = broadcast_dims(op, &row_leading, &column_leading).map_err(|_| mismatch())?;
    let out = if column_leading.is_empty() {
        // One matrix for all of them: a single product, with no sum over copies in the gradient.
        let rows = row_leading.iter().product::<usize>() * m;
        product(&row.reshape((rows, k))?, &column)?
    } else {
        let batch = dims.iter().product::<usize>();
        let spread = |t: &Tensor, own: &[usize], a: usize, b: usize| -> Result<Tensor> {
            if own == dims {
                return Ok(t.clone());
            }
            let mut full = dims.clone();
            full.extend([a, b]);
            Ok(expand(t, &full)?.reshape((batch, a, b))?)
        };
        let (row, column) = (spread(&row, &row_leading, m, k)?, spread(&column, &column_leading, k, n)?);
        product(&stacked(&row, batch)?, &stacked(&column, batch)?)?
    };
    if lhs.rank() > 1 {
        dims.push(m);
    }
    if rhs.rank() > 1 {
        dims.push(n);
    }
    Ok(out.reshape(dims)?)
}

/// `t` as `(batch, a, b)`, without a copy where the layout allows it.
fn stacked(t: &Tensor, batch: usize) -> Result<Tensor> {
    if t.rank() == 3 {
        return Ok(t.clone());
    }
    let (a, b) = (t.dim(D::Minus2)?, t.dim(D::Minus1)?);
    if t.transpose(D::Minus2, D::Minus1)?.is_contiguous() {
        // A transposed view stays one: products read both orders.
        let flat = t.transpose(D::Minus2, D::Minus1)?.reshape((batch, b, a))?;
        return Ok(flat.transpose(1, 2)?);
    }
    Ok(t.reshape((batch, a, b))?)
}
