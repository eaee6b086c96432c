//! `embedding`: rows of a table by index.

use candle_core::{DType, Shape, Tensor};

use super::node::{DeviceStorage, Op, View, apply};
use crate::prepare::{accumulation_dtype, cast_inputs};
use crate::{Error, Result};

/// The rows of `weight` that `ids` name.
///
/// The gradient of a row is the sum over its uses, accumulated in f32 for 16-bit tables.
///
/// # Shapes
///
/// `ids` is any shape of u8, u32 or i64, `weight` is `(rows, width)`; the result is `ids.dims() + [width]`.
///
/// # Errors
///
/// [`Error::ShapeMismatch`] if `weight` is no matrix, [`Error::UnsupportedDType`] for other ids. An id that is no row is
/// candle's error on a CPU; on a GPU candle does not look, so check ids that you do not trust before they are sent there.
///
/// # Source
///
/// `torch.nn.functional.embedding`.
pub fn embedding(ids: &Tensor, weight: &Tensor) -> Result<Tensor> {
    lookup(ids, weight, None)
}

/// [`embedding`] whose row `padding` gets no gradient.
///
/// # Errors
///
/// As [`embedding`]; [`Error::InvalidArgument`] if there is no row `padding`.
pub fn embedding_with_padding(ids: &Tensor, weight: &Tensor, padding: usize) -> Result<Tensor> {
    lookup(ids, weight, Some(padding))
}

fn lookup(ids: &Tensor, weight: &Tensor, padding: Option<usize>) -> Result<Tensor> {
    const OP: &str = "embedding";
    const IDS: [DType; 3] = [DType::U8, DType::U32, DType::I64];
    let [weight] = cast_inputs(OP, [weight])?;
    let &[rows, width] = weight.dims() else {
        return Err(Error::shape(OP, "a weight of shape (rows, width)", weight.dims()));
    };
    if !IDS.contains(&ids.dtype()) {
        return Err(Error::dtype(OP, ids.dtype(), &IDS));
    }
    if let Some(row) = padding.filter(|&row| row >= rows) {
        return Err(Error::argument(OP, "padding", row, format!("a row below {rows}")));
    }
    if rows == 0 && ids.elem_count() > 0 {
        return Err(Error::shape(OP, "a weight with at least one row", weight.dims()));
    }
    let mut dims = ids.dims().to_vec();
    dims.push(width);
    // i64, because candle takes the largest u8 and u32 for "no row" and gives zeros.
    let flat = ids.flatten_all()?.to_dtype(DType::I64)?.contiguous()?;
    let picked = if flat.elem_count() == 0 || width == 0 {
        // No row is used, yet the (zero) gradient stays in the graph.
        weight.narrow(0, 0, 0)?.reshape((0, width))?.reshape(dims.as_slice())?
    } else {
        apply(Lookup { padding }, [&weight.contiguous()?, &flat])?.reshape(dims)?
    };
    Ok(picked)
}

struct Lookup {
    padding: Option<usize>,
}

impl Op<2> for Lookup {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn forward<S: DeviceStorage>(
        &self,
        [(weight, weight_l), (ids, ids_l)]: [View<S>; 2],
    ) -> candle_core::Result<(S, Shape)> {
        let shape = (ids_l.dims()[0], weight_l.dims()[1]);
        Ok((weight.index_select(ids, weight_l, ids_l, 0)?, shape.into()))
    }

    fn backward(
        &self,
        [weight, ids]: [&Tensor; 2],
        _: &Tensor,
        grad: &Tensor,
        _: [bool; 2],
    ) -> candle_core::Result<[Option<Tensor>; 2]> {
        let wide = accumulation_dtype(grad.dtype());
        let grad = grad.to_dtype(wide)?;
        let grad = match self.padding {
            None => grad,
            Some(row) => {
                let used = ids.ne(row as i64)?.unsqueeze(1)?;
                used.broadcast_as(grad.shape())?.where_cond(&grad, &grad.zeros_like()?)?
            }
        };
        let sums = Tensor::zeros(weight.dims(), wide, weight.device())?.index_add(ids, &grad, 0)?;
        Ok([Some(sums.to_dtype(weight.dtype())?), None])
    }
}
