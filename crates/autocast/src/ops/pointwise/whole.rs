//! Sums, differences and products of integers, which wrap around as PyTorch's do. candle's own panic on a CPU where overflow
//! is checked.

use candle_core::{DType, Device, Tensor};

use crate::Result;
use crate::dtypes::result_type;
use crate::ops::shape::broadcast::broadcast_dims;

/// An operation on integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whole {
    Add,
    Sub,
    Mul,
}

/// `operation` of integers that broadcast, in the dtype that they promote to.
pub(crate) fn wrapping(op: &str, operation: Whole, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let dtype = result_type(op, a, b)?;
    let dims = broadcast_dims(op, a.dims(), b.dims())?;
    if dims.contains(&0) {
        return Ok(Tensor::zeros(dims, dtype, a.device())?);
    }
    let spread = |t: &Tensor| t.to_dtype(dtype)?.broadcast_as(&*dims)?.contiguous();
    let (a, b) = (spread(a)?, spread(b)?);
    if !a.device().is_cpu() {
        return Ok(match operation {
            Whole::Add => a.add(&b)?,
            Whole::Sub => a.sub(&b)?,
            Whole::Mul => a.mul(&b)?,
        });
    }
    macro_rules! wrapped {
        ($($variant:ident $type:ty),+) => {
            match dtype {
                $(DType::$variant => {
                    let (a, b) = (a.flatten_all()?.to_vec1::<$type>()?, b.flatten_all()?.to_vec1::<$type>()?);
                    let each = |(a, b): (&$type, &$type)| match operation {
                        Whole::Add => a.wrapping_add(*b),
                        Whole::Sub => a.wrapping_sub(*b),
                        Whole::Mul => a.wrapping_mul(*b),
                    };
                    let values: Vec<$type> = a.iter().zip(&b).map(each).collect();
                    Tensor::from_vec(values, dims, &Device::Cpu)?
                })+
                _ => match operation {
                    Whole::Add => a.add(&b)?,
                    Whole::Sub => a.sub(&b)?,
                    Whole::Mul => a.mul(&b)?,
                },
            }
        };
    }
    Ok(wrapped!(U8 u8, U32 u32, I16 i16, I32 i32, I64 i64))
}
