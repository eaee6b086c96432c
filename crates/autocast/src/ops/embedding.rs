//! `embedding`: rows of a table by index.

use backends::bridge::{self, Call};
use backends::kernels::lookup::lookup_of;
use backends::kernels::row_sums::{RowSums, row_sums as kernel, row_sums_of};
use candle_core::{DType, Device, Tensor};

use crate::dtypes::accumulation_dtype;
use crate::graph::{Attribute, Backward, Keep, Op, Value, composed, record};
use crate::ops::shape::empty::without_gradient;
use crate::ops::shape::index::Range;
use crate::ops::shape::size::check_size;
use crate::region::{cast_inputs, cast_to};
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
/// [`Error::InvalidArgument`] if `weight` is no matrix, for other ids, and on a CPU for an id that is no row. On a GPU,
/// where looking would make the host wait, the result of such an id is NaN and gives the table no gradient: the step is
/// reported as non-finite, or skipped by a scaler.
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

const OP: &str = "embedding";

fn lookup(ids: &Tensor, weight: &Tensor, padding: Option<usize>) -> Result<Tensor> {
    const IDS: [DType; 3] = [DType::U8, DType::U32, DType::I64];
    let [weight] = cast_inputs(OP, [weight])?;
    let &[rows, width] = weight.dims() else {
        return Err(Error::shape(OP, "weight", weight.dims(), "(rows, width)"));
    };
    if !IDS.contains(&ids.dtype()) {
        return Err(Error::dtype(OP, "ids", ids.dtype(), &IDS));
    }
    if let Some(row) = padding.filter(|&row| row >= rows) {
        return Err(Error::argument(OP, "padding", row, format!("a row below {rows}")));
    }
    if rows == 0 && ids.elem_count() > 0 {
        return Err(Error::shape(OP, "weight", weight.dims(), "at least one row"));
    }
    let dims = [ids.dims(), &[width]].concat();
    check_size(OP, &dims, DType::F64)?;
    // On a GPU one kernel makes NaN of ids that are no row, and the sums of gradients leave those out.
    if !weight.device().is_cpu()
        && let Some(picked) = by_kernel(ids, &weight, padding, &dims)?
    {
        return Ok(picked);
    }
    let ids = Range { op: OP, argument: "id", things: "rows", count: rows, except: None }.check(ids)?;
    if dims.contains(&0) {
        return without_gradient(OP, &[&weight], Tensor::zeros(dims, weight.dtype(), weight.device())?);
    }
    if weight.device().is_cpu()
        && let Some(picked) = by_kernel(&ids.valid, &weight, padding, &dims)?
    {
        return Ok(picked);
    }
    let picked = weight.detach().contiguous()?.index_select(&ids.valid, 0)?.reshape(dims)?;
    let picked = record(Lookup { padding, ids: ids.valid, rows, width }, &[&weight], Value::fresh(picked))?;
    match ids.outside {
        None => Ok(picked),
        Some(outside) => poisoned(&picked, &outside),
    }
}

/// The rows where a kernel takes the call.
fn by_kernel(
    ids: &Tensor,
    weight: &Tensor,
    padding: Option<usize>,
    dims: &[usize],
) -> Result<Option<Tensor>> {
    let Some(picked) = lookup_of(&ids.detach(), &weight.detach())?.ran() else { return Ok(None) };
    let &[rows, width] = weight.dims() else { return Ok(None) };
    let ids = ids.detach().flatten_all()?.to_dtype(DType::I64)?;
    let value = Value::fresh(picked.reshape(dims)?);
    record(Lookup { padding, ids, rows, width }, &[weight], value).map(Some)
}

/// `picked` with NaN in the rows of ids that are no row; those pass no gradient on to the row that stood in for theirs.
fn poisoned(picked: &Tensor, outside: &Tensor) -> Result<Tensor> {
    let mut column = picked.dims().to_vec();
    column[picked.rank() - 1] = 1;
    let outside = outside.reshape(column)?.broadcast_as(picked.shape())?.contiguous()?;
    let nan = Tensor::full(f32::NAN, picked.shape(), picked.device())?.to_dtype(picked.dtype())?;
    let value = outside.where_cond(&nan, &picked.detach())?;
    composed(OP, [picked], value, Keep::Nothing, move |grad, _, _| {
        Ok([outside.where_cond(&grad.zeros_like()?, grad)?])
    })
}

struct Lookup {
    padding: Option<usize>,
    ids: Tensor,
    rows: usize,
    width: usize,
}

impl Op for Lookup {
    fn name(&self) -> &'static str {
        OP
    }

    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        self.padding.map(|row| ("padding", Attribute::Integer(row as i64))).into_iter().collect()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let grad = cx.grad().reshape(((), self.width))?;
        if grad.device().is_cpu() {
            let sums = self.on_cpu(&grad)?;
            return Ok(vec![Some(cast_to(&sums, cx.grad().dtype())?)]);
        }
        let sums = row_sums(&self.ids, &grad, (self.rows, self.width))?;
        // Choosing instead of leaving out: the padding row is zeroed where its sum is, whatever that is.
        let sums = match self.padding {
            None => sums,
            Some(row) => {
                let rows = Tensor::arange(0, self.rows as u32, sums.device())?;
                let kept = rows.ne(row as u32)?.unsqueeze(1)?.broadcast_as(sums.shape())?;
                kept.where_cond(&sums, &sums.zeros_like()?)?
            }
        };
        Ok(vec![Some(cast_to(&sums, cx.grad().dtype())?)])
    }
}

impl Lookup {
    /// [`row_sums`] on a CPU; the padding row's id is none there.
    fn on_cpu(&self, grad: &Tensor) -> Result<Tensor> {
        let (rows, width) = (self.rows, self.width);
        let mut ids = self.ids.to_vec1::<i64>()?;
        if let Some(padding) = self.padding {
            ids.iter_mut().filter(|id| **id == padding as i64).for_each(|id| *id = -1);
        }
        let sums = bridge::with_floats("row_sums", [grad], |[grad]| kernel(&ids, grad, rows, width));
        Ok(match sums.and_then(|sums| sums)? {
            RowSums::F32(sums) => Tensor::from_vec(sums, (rows, width), &Device::Cpu)?,
            RowSums::F64(sums) => Tensor::from_vec(sums, (rows, width), &Device::Cpu)?,
        })
    }
}

/// The rows of `grad` on a GPU added up by their id, in f32 (f64 for f64): a row that is looked up a million times has the sum of a
/// million gradients, so they are added in f64.
fn row_sums(ids: &Tensor, grad: &Tensor, (rows, width): (usize, usize)) -> Result<Tensor> {
    if let Call::Ran(sums) = row_sums_of(ids, grad, rows)? {
        return Ok(sums);
    }
    let wide = accumulation_dtype(grad.dtype());
    let sums = Tensor::zeros((rows, width), DType::F64, grad.device())?;
    Ok(sums.index_add(ids, &grad.to_dtype(DType::F64)?, 0)?.to_dtype(wide)?)
}
