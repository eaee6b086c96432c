//! How the dtypes of an op's inputs, once cast, make the dtype of its output, or an error.

use candle_core::DType;

use crate::dtypes::promote_types;
use crate::{Error, Result};

/// The dtype behaviour of an op outside autocast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signature {
    /// All inputs share one dtype, which is the output's.
    Same,
    /// [`Signature::Same`] among the floating inputs; integers are indices or classes.
    SameFloats,
    /// [`Signature::Same`], and the inputs are compared before autocast casts them.
    SameBeforeCast,
    /// Ordinary promotion.
    Promote,
    /// Ordinary promotion, then f32 for integers.
    PromoteFloat,
    /// Ordinary promotion, then i64 for integers.
    Accumulate,
    /// The output has the first input's dtype, whatever the others are: in-place ops and masks.
    First,
    /// The first input's dtype; the others have it too, or are f32 beside a 16-bit first input.
    Affine,
    /// [`Signature::Same`], in f32 and f64 only.
    Wide,
    /// u8, as candle's comparisons give.
    Bool,
    /// i64, whatever comes in.
    Index,
}

impl Signature {
    /// The in-place form: what promotes out of place is converted to the first input's dtype.
    pub(super) fn in_place(self) -> Self {
        match self {
            Self::Promote | Self::PromoteFloat | Self::Accumulate | Self::Bool => Self::First,
            other => other,
        }
    }

    /// The output's dtype for inputs that autocast has already cast.
    ///
    /// # Errors
    ///
    /// Where PyTorch's op refuses to combine `inputs`.
    pub(super) fn output(self, op: &str, inputs: &[DType]) -> Result<DType> {
        let &[first, ref rest @ ..] = inputs else {
            return Err(Error::argument(op, "inputs", "empty", "the dtype of at least one tensor"));
        };
        match self {
            Self::Same | Self::SameBeforeCast => same(op, inputs.iter().copied()),
            Self::SameFloats => {
                let floats = inputs.iter().copied().filter(DType::is_float);
                if first.is_int() && floats.clone().next().is_none() { Ok(first) } else { same(op, floats) }
            }
            Self::Promote => promote(op, inputs),
            Self::PromoteFloat => {
                Ok(Some(promote(op, inputs)?).filter(DType::is_float).unwrap_or(DType::F32))
            }
            Self::Accumulate => Ok(Some(promote(op, inputs)?).filter(DType::is_float).unwrap_or(DType::I64)),
            Self::First => Ok(first),
            Self::Affine => {
                let wider = |&dtype: &DType| is_16_bit(first) && dtype == DType::F32;
                same(op, std::iter::once(first).chain(rest.iter().copied().filter(|dtype| !wider(dtype))))
            }
            Self::Wide => match same(op, inputs.iter().copied())? {
                wide @ (DType::F32 | DType::F64) => Ok(wide),
                narrow => Err(Error::dtype(op, "an input", narrow, &[DType::F32, DType::F64])),
            },
            Self::Bool => Ok(DType::U8),
            Self::Index => Ok(DType::I64),
        }
    }
}

/// The dtype that all `inputs` have.
pub(super) fn same(op: &str, mut inputs: impl Iterator<Item = DType>) -> Result<DType> {
    let expected =
        inputs.next().ok_or_else(|| Error::argument(op, "inputs", "empty", "at least one tensor"))?;
    match inputs.find(|&dtype| dtype != expected) {
        Some(got) => Err(Error::dtypes_differ(op, ("an input", got), ("the first", expected))),
        None => Ok(expected),
    }
}

fn promote(op: &str, inputs: &[DType]) -> Result<DType> {
    let (&first, rest) = inputs.split_first().expect("the caller has checked that there is an input");
    rest.iter().try_fold(first, |a, &b| promote_types(op, a, b))
}

fn is_16_bit(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}
