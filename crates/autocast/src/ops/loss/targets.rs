//! Class indices: checking them, and the rows that they leave out.

use candle_core::{DType, Tensor};

use crate::dtypes::check_constant;
use crate::ops::shape::index::Range;
use crate::{Error, Result};

/// Class indices of a batch of rows, ready to gather with.
pub(super) struct Targets {
    /// `(rows, 1)` i64, 0 where a row is left out.
    pub(super) index: Tensor,
    /// `(rows, 1)`: the weight of each row in its loss: 0 where left out, 1 or its class's weight elsewhere.
    pub(super) weight: Tensor,
    /// `(rows, 1)` u8: 0 where a row is left out.
    pub(super) counted: Tensor,
}

impl Targets {
    /// Of at least one row.
    ///
    /// # Errors
    ///
    /// Targets that are not integers; on a CPU, one that is neither a class nor `ignore_index`. On a GPU, where looking
    /// would stall the stream, the weight of such a row is NaN, and so is its loss.
    pub(super) fn new(
        op: &str,
        targets: &Tensor,
        classes: usize,
        ignore_index: i64,
        class_weight: Option<&Tensor>,
        dtype: DType,
    ) -> Result<Self> {
        let except = Some(("ignore_index", ignore_index));
        let indices =
            Range { op, argument: "target", things: "classes", count: classes, except }.check(targets)?;
        let device = targets.device();
        let rows = targets.elem_count();
        let one = Tensor::ones(rows, dtype, device)?;
        let mut weight = match class_weight {
            Some(weight) => weight.detach().to_dtype(dtype)?.contiguous()?.index_select(&indices.valid, 0)?,
            None => one.clone(),
        };
        if let Some(outside) = &indices.outside {
            weight = outside.where_cond(&(&one * f64::NAN)?, &weight)?;
        }
        let mut counted = Tensor::ones(rows, DType::U8, device)?;
        if let Some(ignored) = &indices.excepted {
            weight = ignored.where_cond(&one.zeros_like()?, &weight)?;
            counted = ignored.eq(0u8)?;
        }
        let [index, weight, counted] = [indices.valid, weight, counted].map(|t| t.reshape((rows, 1)));
        Ok(Self { index: index?, weight: weight?, counted: counted? })
    }
}

/// `input` with its class dimension last, as rows, and the shape that the targets must have.
///
/// # Shapes
///
/// `(C)`, `(N, C)` or `(N, C, d₁, …)`, as in PyTorch.
pub(super) fn rows(op: &str, input: &Tensor) -> Result<(Tensor, Vec<usize>)> {
    let dims = input.dims();
    let (rows, targets) = match dims {
        [] => return Err(Error::shape(op, "input", dims, "a class dimension")),
        [_] => (input.unsqueeze(0)?, vec![]),
        [n, _] => (input.clone(), vec![*n]),
        [n, _, rest @ ..] => {
            let order: Vec<usize> = std::iter::once(0).chain(2..dims.len()).chain([1]).collect();
            (input.permute(order)?.contiguous()?, [&[*n], rest].concat())
        }
    };
    let classes = rows.dims()[rows.rank() - 1];
    let count = targets.iter().product::<usize>();
    Ok((rows.reshape((count, classes))?, targets))
}

/// An error unless the class weights are one constant per class.
pub(super) fn check_class_weight(op: &str, weight: Option<&Tensor>, classes: usize) -> Result<()> {
    let Some(weight) = weight else { return Ok(()) };
    if weight.dims() != [classes] {
        return Err(Error::shape(op, "weight", weight.dims(), format!("[{classes}], one per class")));
    }
    check_constant(op, "weight", weight)
}
