//! Class indices: checking them, and the rows that they leave out.

use candle_core::{DType, Device, Tensor};

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
        if !targets.dtype().is_int() {
            return Err(Error::dtype(op, targets.dtype(), &[DType::U8, DType::U32, DType::I64]));
        }
        let targets = targets.detach().to_dtype(DType::I64)?.contiguous()?.flatten_all()?;
        if let Device::Cpu = targets.device() {
            let valid = |&t: &i64| t == ignore_index || (0..classes as i64).contains(&t);
            if let Some(bad) = targets.to_vec1::<i64>()?.iter().find(|&t| !valid(t)) {
                let expected = format!("a class below {classes}, or ignore_index {ignore_index}");
                return Err(Error::argument(op, "target", bad, expected));
            }
        }
        let device = targets.device();
        let rows = targets.elem_count();
        let one = Tensor::ones(rows, dtype, device)?;
        let ignored = targets.eq(ignore_index)?;
        let outside = (targets.lt(0i64)? + targets.ge(classes as i64)?)?;
        let index = (&ignored + &outside)?.where_cond(&targets.zeros_like()?, &targets)?;
        let class_weight = match class_weight {
            Some(weight) => weight.detach().to_dtype(dtype)?.index_select(&index, 0)?,
            None => one.clone(),
        };
        let nan = (&one * f64::NAN)?;
        let weight = outside.where_cond(&nan, &class_weight)?;
        let weight = ignored.where_cond(&one.zeros_like()?, &weight)?;
        let counted = targets.ne(ignore_index)?;
        let [index, weight, counted] = [index, weight, counted].map(|t| t.reshape((rows, 1)));
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
        [] => return Err(Error::shape(op, "an input with a class dimension", dims)),
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
        return Err(Error::shape(op, format!("class weights of shape [{classes}]"), weight.dims()));
    }
    check_constant(op, "weight", weight)
}

/// An error if `tensor` waits for a gradient that `op` does not define.
pub(super) fn check_constant(op: &str, argument: &str, tensor: &Tensor) -> Result<()> {
    match tensor.track_op() {
        true => Err(Error::argument(op, argument, "a tensor in a graph", "a constant: detach it")),
        false => Ok(()),
    }
}
