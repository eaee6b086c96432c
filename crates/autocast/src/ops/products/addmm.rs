//! Scaled sums with a matrix product: `addmm` and its relatives. Sum and scaling run in f32 (f64 for f64).

use candle_core::{DType, Tensor};

use super::matmul::{outer_product, prepared, promoted, ranked_product, stack_sizes, stacked_product};
use super::product::product;
use crate::ops::shape::broadcast::broadcast_dims;
use crate::ops::shape::empty::of_no_elements;
use crate::region::widen;
use crate::{Error, Result};

/// `beta · input + alpha · lhs · rhs` for matrices; `input` broadcasts to the product, and is not read if `beta` is 0.
///
/// # Errors
///
/// As [`matmul`](super::matmul()).
pub fn addmm(input: &Tensor, lhs: &Tensor, rhs: &Tensor, beta: f64, alpha: f64) -> Result<Tensor> {
    let [input, lhs, rhs] = prepared("addmm", [("input", input), ("lhs", lhs), ("rhs", rhs)])?;
    blend("addmm", &input, &ranked_product("addmm", [lhs, rhs], 2, 2)?, beta, alpha)
}

/// `beta · input + alpha · matrix · vector`.
///
/// # Errors
///
/// As [`matmul`](super::matmul()).
pub fn addmv(input: &Tensor, matrix: &Tensor, vector: &Tensor, beta: f64, alpha: f64) -> Result<Tensor> {
    let [input, matrix, vector] =
        prepared("addmv", [("input", input), ("matrix", matrix), ("vector", vector)])?;
    blend("addmv", &input, &ranked_product("addmv", [matrix, vector], 2, 1)?, beta, alpha)
}

/// `beta · input + alpha · lhs ⊗ rhs` for vectors `lhs` and `rhs`. Mixed dtypes are promoted.
///
/// # Errors
///
/// As [`matmul`](super::matmul()).
pub fn addr(input: &Tensor, lhs: &Tensor, rhs: &Tensor, beta: f64, alpha: f64) -> Result<Tensor> {
    let [input, lhs, rhs] = promoted("addr", [input, lhs, rhs])?;
    blend("addr", &input, &outer_product("addr", [lhs, rhs])?, beta, alpha)
}

/// `beta · input + alpha · Σ lhs[i] · rhs[i]` over stacks of matrices.
///
/// # Errors
///
/// As [`matmul`](super::matmul()).
pub fn addbmm(input: &Tensor, lhs: &Tensor, rhs: &Tensor, beta: f64, alpha: f64) -> Result<Tensor> {
    const OP: &str = "addbmm";
    let [input, lhs, rhs] = prepared(OP, [("input", input), ("lhs", lhs), ("rhs", rhs)])?;
    let (b, m, k, n) = stack_sizes(OP, &lhs, &rhs)?;
    // One product over (batch, k) sums over the batch without rounding in between.
    let lhs = lhs.transpose(0, 1)?.reshape((m, b * k))?;
    let product = product(&lhs, &rhs.reshape((b * k, n))?)?;
    blend(OP, &input, &product, beta, alpha)
}

/// `beta · input + alpha · lhs · rhs` for stacks of matrices.
///
/// # Errors
///
/// As [`matmul`](super::matmul()).
pub fn baddbmm(input: &Tensor, lhs: &Tensor, rhs: &Tensor, beta: f64, alpha: f64) -> Result<Tensor> {
    let [input, lhs, rhs] = prepared("baddbmm", [("input", input), ("lhs", lhs), ("rhs", rhs)])?;
    blend("baddbmm", &input, &stacked_product("baddbmm", [lhs, rhs])?, beta, alpha)
}

/// `beta · input + alpha · product`, in the accumulation dtype.
fn blend(op: &'static str, input: &Tensor, product: &Tensor, beta: f64, alpha: f64) -> Result<Tensor> {
    if broadcast_dims(op, input.dims(), product.dims()).ok().as_deref() != Some(product.dims()) {
        let expected = format!("one that broadcasts to {:?}", product.dims());
        return Err(Error::shape(op, "input", input.dims(), expected));
    }
    if let Some(empty) = of_no_elements(op, &[input, product], product.dims(), product.dtype())? {
        return Ok(empty);
    }
    let scaled = |t: &Tensor, factor: f64| -> Result<Tensor> {
        let t = widen(t)?;
        if factor == 1. { Ok(t) } else { Ok(t.affine(factor, 0.)?) }
    };
    let scaled_product = scaled(product, alpha)?;
    let sum = if beta == 0. {
        // Not read, so that what it holds (NaN, say) cannot matter; its gradient is zero rather than absent.
        let input = widen(input)?.broadcast_as(product.dims())?;
        let never = Tensor::zeros(product.dims(), DType::U8, product.device())?;
        never.where_cond(&input, &scaled_product)?
    } else {
        scaled_product.broadcast_add(&scaled(input, beta)?)?
    };
    Ok(sum.to_dtype(product.dtype())?)
}
