//! Attention as one kernel each way, which makes no tensor of queries times keys.

use backends::bridge::Call;
use backends::kernels::attention::{
    Attended, Attention, Dropout, GradientOrder, Gradients, Mask, Order, Tensors, gradients_of, value_of,
};
use candle_core::{Shape, Tensor};

use super::mask::{AttentionDropout, AttentionMask, AttentionOptions, OP};
use crate::dtypes::accumulation_dtype;
use crate::graph::{Attribute, Backward, Op, Value, record};
use crate::region::retyped;
use crate::{Error, Result};

/// The value, where a kernel takes the call: `(.., T, out)` for checked inputs of one dtype.
pub(super) fn value(inputs: [&Tensor; 3], scale: f64, options: &AttentionOptions) -> Result<Option<Tensor>> {
    let mask = match options.mask {
        AttentionMask::Causal => Mask::Causal,
        _ => Mask::Full,
    };
    if inputs.iter().any(|input| input.rank() < 2) || !takes(&options.mask, inputs[0]) {
        return Ok(None);
    }
    let dropout = options.dropout.filter(|dropout| dropout.p != 0.);
    let dropout = dropout.map(|dropout| dropout.checked()).transpose()?;
    let dropout = dropout.map(|AttentionDropout { p, seed }| Dropout { p, key: seed.draw(p).key });
    let attention = Attention { scale, mask, dropout };
    let plain = inputs.map(|input| in_heads(&input.detach()));
    let [query, key, value] = plain;
    let (query, key, value) = (query?, key?, value?);
    let bias = bias(&options.mask, &query, &key, inputs[0])?;
    let read = Tensors { query, key, value, bias };
    // With the heads of a row side by side, whoever merges them looks at the value as it lies.
    let Call::Ran(Attended { out, lse }) = value_of(attention, &read, Order::RowsFirst)? else {
        return Ok(None);
    };
    let (leading, last) = inputs[0].dims().split_at(inputs[0].rank() - 2);
    let dims = [leading, &last[..1], &inputs[2].dims()[inputs[2].rank() - 1..]].concat();
    let shapes = inputs.map(|input| input.dims().to_vec());
    let saved = Fused { attention, read, lse, shapes };
    let by_rows = record(saved, &inputs, Value::fresh(out.transpose(1, 2)?))?;
    let by_heads = by_rows.transpose(1, 2)?;
    Ok(Some(if by_heads.dims() == dims { by_heads } else { by_heads.reshape(dims)? }))
}

/// Whether a kernel may take the mask: only a CPU's adds one to scores, reads it where it lies, and gives it no gradient.
fn takes(mask: &AttentionMask, query: &Tensor) -> bool {
    let reads = query.device().is_cpu() && query.rank() <= 4;
    match mask {
        AttentionMask::None | AttentionMask::Causal => true,
        AttentionMask::Boolean(_) => reads,
        AttentionMask::Additive(mask) => reads && !mask.track_op(),
    }
}

/// What the mask of a call on `whole` queries adds to scores, `(batch, heads, queries, keys)`, where the caller gave one.
fn bias(mask: &AttentionMask, query: &Tensor, key: &Tensor, whole: &Tensor) -> Result<Option<Tensor>> {
    let mask = match mask {
        AttentionMask::None | AttentionMask::Causal => return Ok(None),
        AttentionMask::Boolean(mask) => mask.clone(),
        AttentionMask::Additive(mask) => retyped(&mask.detach(), accumulation_dtype(query.dtype()))?,
    };
    let (leading, _) = whole.dims().split_at(whole.rank() - 2);
    let of_scores = mask.broadcast_as([leading, &[query.dim(2)?, key.dim(2)?]].concat())?;
    // As `in_heads`, which would copy what is repeated.
    Ok(Some(match leading {
        [] => of_scores.unsqueeze(0)?.unsqueeze(0)?,
        [_] => of_scores.unsqueeze(1)?,
        _ => of_scores,
    }))
}

/// `(.., rows, width)` as `(batch, heads, rows, width)`.
fn in_heads(x: &Tensor) -> Result<Tensor> {
    Ok(match x.dims() {
        [_, _, _, _] => x.clone(),
        [leading @ .., rows, width] => x.reshape((leading.iter().product::<usize>(), 1, *rows, *width))?,
        _ => x.clone(),
    })
}

/// Of `(batch, heads, rows, width)` each. Its value is `(batch, rows, heads, width)`.
struct Fused {
    attention: Attention,
    read: Tensors,
    lse: Tensor,
    /// Of the inputs.
    shapes: [Vec<usize>; 3],
}

/// Whether queries, keys and values of these dimensions are the parts, in this order, of one `(batch, rows, 3, heads, width)`.
pub(super) fn are_packed(cx: &Backward<'_>, of: &Shape) -> bool {
    let (Some([query, key, value]), Ok((_, heads, rows, width))) = (cx.views_of_one([0, 1, 2]), of.dims4())
    else {
        return false;
    };
    let step = heads * width;
    let strides = [3 * rows * step, width, 3 * step, 1];
    let alike = |view: &candle_core::Layout, part: usize| {
        view.dims() == of.dims() && view.stride() == strides && view.start_offset() == part * step
    };
    alike(query, 0) && alike(key, 1) && alike(value, 2)
}

impl Op for Fused {
    fn name(&self) -> &'static str {
        OP
    }

    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        let mask = match (self.attention.mask, &self.read.bias) {
            (_, Some(_)) => "given",
            (Mask::Full, None) => "none",
            (Mask::Causal, None) => "causal",
        };
        vec![("scale", Attribute::Number(self.attention.scale)), ("mask", Attribute::Word(mask))]
    }

    fn keeps_value(&self) -> bool {
        true
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let Self { attention, read, lse, shapes } = self;
        let Tensors { query, key, value, .. } = read;
        let refused = || Error::refused(OP);
        let out = cx.value().ok_or_else(refused)?.transpose(1, 2)?;
        let attended = Attended { out, lse: lse.clone() };
        let grad = cx.grad().transpose(1, 2)?;
        let packed = are_packed(cx, query.shape());
        // As the inputs lie: where they are variables, nothing is copied to give their gradients their layout.
        let by_heads = [query, key, value].iter().all(|input| input.is_contiguous());
        let order = match (packed, by_heads) {
            (true, _) => GradientOrder::Packed,
            (false, true) => GradientOrder::Each(Order::HeadsFirst),
            (false, false) => GradientOrder::Each(Order::RowsFirst),
        };
        let grads = gradients_of(*attention, read, &attended, &grad, order)?;
        match grads.ran().ok_or_else(refused)? {
            Gradients::Packed(grad) => {
                cx.give_behind(0, grad)?;
                Ok(vec![None, None, None])
            }
            Gradients::Each(grads) => {
                let shaped = grads.into_iter().zip(shapes).map(|(grad, shape)| {
                    Ok(Some(if grad.dims() == shape { grad } else { grad.reshape(shape.as_slice())? }))
                });
                shaped.collect()
            }
        }
    }
}
