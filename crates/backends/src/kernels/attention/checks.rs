//! What the buffers of a call must be: what does not fit is refused, what no kernel takes is named.

use super::{Attention, Dropout, Inputs, OP, Order};
use crate::buffer::{In, Place, ScalarType, Why};
use crate::{Error, Result};

/// The sizes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) batch: usize,
    pub(super) heads: usize,
    pub(super) queries: usize,
    pub(super) keys: usize,
    pub(super) width: usize,
}

impl Sizes {
    pub(super) fn of(inputs: Inputs<'_>) -> Result<Self> {
        let Inputs { query, key, value, bias } = inputs;
        let &[batch, heads, queries, width] = query.dims() else {
            return Err(operand("the query", "(batch, heads, queries, width)".into(), query.dims()));
        };
        let &[key_batch, key_heads, keys, key_width] = key.dims() else {
            return Err(operand("the key", "(batch, heads, keys, width)".into(), key.dims()));
        };
        if (key_batch, key_heads, key_width) != (batch, heads, width) {
            return Err(operand("the key", format!("({batch}, {heads}, keys, {width})"), key.dims()));
        }
        if value.dims().len() != 4 || value.dims()[..3] != [batch, heads, keys] {
            return Err(operand("the value", format!("({batch}, {heads}, {keys}, width)"), value.dims()));
        }
        if let Some(bias) = bias
            && bias.dims() != [batch, heads, queries, keys]
        {
            return Err(operand("the bias", format!("({batch}, {heads}, {queries}, {keys})"), bias.dims()));
        }
        Ok(Self { batch, heads, queries, keys, width })
    }

    pub(super) fn out_dims(self, order: Order, rows: usize) -> [usize; 4] {
        match order {
            Order::HeadsFirst => [self.batch, self.heads, rows, self.width],
            Order::RowsFirst => [self.batch, rows, self.heads, self.width],
        }
    }
}

/// Why no kernel takes these inputs.
pub(super) fn untaken(sizes: Sizes, inputs: Inputs<'_>) -> Option<Why> {
    let of = inputs.query.scalar_type();
    if !matches!(of, ScalarType::F16 | ScalarType::Bf16 | ScalarType::F32 | ScalarType::F64) {
        return Some(Why::Dtype("the query"));
    }
    for (argument, x) in named(inputs) {
        if x.scalar_type() != of {
            return Some(Why::Dtype(argument));
        }
        if x.dims()[3] != sizes.width {
            return Some(Why::Shape(argument));
        }
    }
    if let Some(bias) = inputs.bias
        && ![ScalarType::U8, lse_type(of)].contains(&bias.scalar_type())
    {
        return Some(Why::Dtype("the bias"));
    }
    match inputs.query.place() {
        Place::Host(_) => None,
        #[cfg(feature = "cuda")]
        Place::Device(_) => untaken_by_device(sizes, inputs),
    }
}

fn named<'a>(inputs: Inputs<'a>) -> [(&'static str, &'a In<'a>); 3] {
    [("the query", inputs.query), ("the key", inputs.key), ("the value", inputs.value)]
}

/// The widths of a head for which there are kernels on a device.
#[cfg(any(feature = "cuda", test))]
pub(super) const WIDTHS: [usize; 4] = [32, 64, 96, 128];

/// What the distances between rows on a device are multiples of, in elements: kernels load 16 bytes at once.
#[cfg(any(feature = "candle", test))]
pub(super) const CHUNK: usize = 8;

/// Why no kernel on a device takes these inputs, which are of one dtype and width.
#[cfg(any(feature = "cuda", test))]
pub(super) fn untaken_by_device(sizes: Sizes, inputs: Inputs<'_>) -> Option<Why> {
    if inputs.query.scalar_type() == ScalarType::F64 {
        return Some(Why::Dtype("the query"));
    }
    if inputs.bias.is_some() {
        return Some(Why::Shape("the bias"));
    }
    if !WIDTHS.contains(&sizes.width) {
        return Some(Why::Shape("the query"));
    }
    named(inputs).into_iter().find(|(_, x)| !in_chunks(x)).map(|(argument, _)| Why::Layout(argument))
}

/// Whether each row lies in one piece, and every one as far from a multiple of 16 bytes as the first.
#[cfg(any(feature = "cuda", test))]
pub(super) fn in_chunks(x: &In<'_>) -> bool {
    chunked(x.dims(), x.strides())
}

#[cfg(any(feature = "candle", test))]
pub(super) fn chunked(dims: &[usize], strides: &[usize]) -> bool {
    let mut places = dims.iter().zip(strides).rev();
    places.next().is_none_or(|(&d, &s)| d <= 1 || s == 1)
        && places.all(|(&d, &s)| d <= 1 || s.is_multiple_of(CHUNK))
}

/// What `lse` of inputs of this type is stored in.
pub(super) fn lse_type(of: ScalarType) -> ScalarType {
    if of == ScalarType::F64 { ScalarType::F64 } else { ScalarType::F32 }
}

pub(super) fn check(attention: Attention) -> Result<()> {
    let refuse = |argument, expected: &str, got: f64| {
        Err(Error::Operand { op: OP, argument, expected: expected.into(), got: got.to_string() })
    };
    if !(attention.scale as f32).is_finite() {
        return refuse("the scale", "a finite f32", attention.scale);
    }
    match attention.dropout {
        Some(Dropout { p, .. }) if !(0. ..=1.).contains(&p) => {
            refuse("the probability of dropping", "0 to 1", p)
        }
        _ => Ok(()),
    }
}

pub(super) fn fits_rows(argument: &'static str, sizes: Sizes, dims: &[usize]) -> Result<()> {
    let expected = [sizes.batch, sizes.heads, sizes.queries];
    if dims == expected { Ok(()) } else { Err(operand(argument, format!("{expected:?}"), dims)) }
}

pub(super) fn operand(argument: &'static str, expected: String, got: &[usize]) -> Error {
    Error::Operand { op: OP, argument, expected, got: format!("{got:?}") }
}
