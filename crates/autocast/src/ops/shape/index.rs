//! Indices that come as data: rows of a table, classes of a target. On a CPU one that is out of range is an error. On a
//! GPU, where looking would make the host wait and candle's kernels read out of bounds or end the process's use of the
//! device, it is replaced by 0 before anything is looked up, and the op makes what comes of it NaN.

use candle_core::{DType, Tensor};

use crate::{Error, Result};

/// Indices that may be looked up.
pub(crate) struct Indices {
    /// i64, in one dimension; 0 for those that are out of range or excepted.
    pub(crate) valid: Tensor,
    /// u8: where they are excepted; absent if nothing is.
    pub(crate) excepted: Option<Tensor>,
    /// u8: where they are out of range; absent on a CPU.
    pub(crate) outside: Option<Tensor>,
}

/// How an op speaks of its indices.
pub(crate) struct Range<'a> {
    pub(crate) op: &'a str,
    pub(crate) argument: &'a str,
    /// What there are `count` of.
    pub(crate) things: &'a str,
    pub(crate) count: usize,
    /// An index that may stand for nothing, with its argument's name.
    pub(crate) except: Option<(&'a str, i64)>,
}

impl Range<'_> {
    /// # Errors
    ///
    /// Indices that are not integers; on a CPU, one that is out of range.
    pub(crate) fn check(&self, indices: &Tensor) -> Result<Indices> {
        const INTEGERS: [DType; 5] = [DType::U8, DType::U32, DType::I16, DType::I32, DType::I64];
        if !INTEGERS.contains(&indices.dtype()) {
            return Err(Error::dtype(self.op, self.argument, indices.dtype(), &INTEGERS));
        }
        let flat = indices.detach().flatten_all()?;
        if flat.elem_count() == 0 {
            let valid = Tensor::zeros(0, DType::I64, flat.device())?;
            return Ok(Indices { valid, excepted: None, outside: None });
        }
        // i64, because candle takes the largest u8 and u32 for "no row" and gives zeros.
        let flat = flat.to_dtype(DType::I64)?.contiguous()?;
        let excepted = self.except.map(|(_, index)| flat.eq(index)).transpose()?;
        let zeros = || flat.zeros_like();
        if flat.device().is_cpu() {
            self.refuse_outside(&flat)?;
            let valid = match &excepted {
                Some(excepted) => excepted.where_cond(&zeros()?, &flat)?,
                None => flat,
            };
            return Ok(Indices { valid, excepted, outside: None });
        }
        let below = flat.lt(0i64)?;
        let outside = (below + flat.ge(i64::try_from(self.count).unwrap_or(i64::MAX))?)?;
        let (excepted, outside) = match excepted {
            Some(excepted) => {
                let outside = excepted.where_cond(&outside.zeros_like()?, &outside)?;
                (Some(excepted), outside)
            }
            None => (None, outside),
        };
        let valid = outside.where_cond(&zeros()?, &flat)?;
        let valid = match &excepted {
            Some(excepted) => excepted.where_cond(&zeros()?, &valid)?,
            None => valid,
        };
        Ok(Indices { valid, excepted, outside: Some(outside) })
    }

    fn refuse_outside(&self, flat: &Tensor) -> Result<()> {
        let except = self.except.map(|(_, index)| index);
        let valid = |&i: &i64| Some(i) == except || usize::try_from(i).is_ok_and(|i| i < self.count);
        let Some(bad) = flat.to_vec1::<i64>()?.into_iter().find(|i| !valid(i)) else { return Ok(()) };
        let Self { things, count, .. } = self;
        let or = self.except.map_or(String::new(), |(name, index)| format!(", or {name} {index}"));
        Err(Error::argument(
            self.op,
            self.argument,
            bad,
            format!("one of the {count} {things}, counted from 0{or}"),
        ))
    }
}
