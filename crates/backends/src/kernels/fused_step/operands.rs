//! What a step on a device is given: its parameters, checked, in the order of their kernels and cut into chunks.

use crate::cuda::dtype_code;
use crate::{Error, Result};
use candle_core::{DType, Tensor};

pub(super) const OP: &str = "fused_step on CUDA";
/// Elements per block: `CHUNK` in `multi_tensor.cuh`.
const CHUNK: usize = 8192;
/// The types that weights may have, in the order in which their parameters are put into the tables.
pub(super) const WEIGHTS: [(DType, &str); 4] =
    [(DType::F32, "f32"), (DType::F16, "f16"), (DType::BF16, "bf16"), (DType::F64, "f64")];

/// Where the bits of a weight go that its stored type cannot hold. As `fused_step::WriteBack`.
#[derive(Clone, Copy, Debug)]
pub enum DeviceWriteBack<'a> {
    /// Nowhere: the weight is stored in the arithmetic's type, or rounded to nearest.
    Nearest,
    /// Into an f32 master copy.
    Master(&'a Tensor),
    /// Into a compensation of the weight's own type.
    Kahan(&'a Tensor),
    /// Into chance.
    Stochastic {
        /// Where the randomness starts. Every step of every slot draws its own.
        seed: u64,
    },
}

/// One parameter that has a gradient. All tensors are contiguous and on the optimizer's device; those that are written
/// to are updated in place.
#[derive(Clone, Copy, Debug)]
pub struct DeviceParameter<'a> {
    /// The parameter's index in the optimizer: below the number of slots, and in the list once.
    pub slot: usize,
    /// The index of its settings.
    pub group: usize,
    /// The parameter itself: f16, bf16, f32 or f64.
    pub weights: &'a Tensor,
    /// Its gradient, of any of these types.
    pub grad: &'a Tensor,
    /// How it keeps what its type cannot hold.
    pub write_back: DeviceWriteBack<'a>,
    /// The moments: f32, or f64 for f64 weights; as many as the rule has.
    pub moments: [Option<&'a Tensor>; 2],
}

pub(super) fn check_tensors(p: &DeviceParameter<'_>, moments: usize) -> Result<()> {
    let dtype = p.weights.dtype();
    dtype_code(OP, dtype)?;
    dtype_code(OP, p.grad.dtype())?;
    let arithmetic = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let narrow = dtype != arithmetic;
    let fits = |argument, tensor: &Tensor, wanted: Option<DType>| {
        let (expected, got) = (p.weights.elem_count(), tensor.elem_count());
        if expected != got {
            return Err(Error::LengthMismatch { op: OP, argument, expected, got });
        }
        match wanted.filter(|&wanted| wanted != tensor.dtype()) {
            None => Ok(()),
            Some(wanted) => {
                let (expected, got) = (wanted.as_str().into(), tensor.dtype().as_str().into());
                Err(Error::Operand { op: OP, argument, expected, got })
            }
        }
    };
    fits("grad", p.grad, None)?;
    for nth in 0..2 {
        match (nth < moments, p.moments[nth]) {
            (true, Some(moment)) => fits("a moment", moment, Some(arithmetic))?,
            (false, None) => {}
            (wanted, _) => {
                let count = |there: bool| if there { "a tensor" } else { "none" };
                let (expected, got) = (count(wanted).into(), count(!wanted).into());
                return Err(Error::Operand { op: OP, argument: "a moment", expected, got });
            }
        }
    }
    match p.write_back {
        DeviceWriteBack::Nearest => Ok(()),
        DeviceWriteBack::Master(master) if narrow => fits("a master", master, Some(arithmetic)),
        DeviceWriteBack::Kahan(lost) if narrow => fits("a compensation", lost, Some(dtype)),
        DeviceWriteBack::Stochastic { .. } if narrow => Ok(()),
        _ => Err(Error::Operand {
            op: OP,
            argument: "the write-back",
            expected: "Nearest for weights that hold every bit".into(),
            got: format!("another one for {}", dtype.as_str()),
        }),
    }
}

/// The parameters, those of one type beside each other: each type has a kernel of its own.
pub(super) fn by_weight_type(parameters: &[DeviceParameter<'_>]) -> Vec<usize> {
    let rank = |dtype| WEIGHTS.iter().position(|&(weights, _)| weights == dtype);
    let mut order: Vec<usize> = (0..parameters.len()).collect();
    order.sort_by_key(|&at| rank(parameters[at].weights.dtype()));
    order
}

/// `Chunk`s in order.
pub(super) fn chunk_table(grads: &[(usize, &Tensor)]) -> Vec<u64> {
    let of = |(tensor, (_, grad)): (usize, &(usize, &Tensor))| {
        let n = grad.elem_count().div_ceil(CHUNK);
        (0..n).map(move |index| tensor as u64 | (index as u64) << 32)
    };
    grads.iter().enumerate().flat_map(of).collect()
}

/// For each type of weights, where its chunks end.
pub(super) fn chunk_ends(parameters: &[DeviceParameter<'_>], order: &[usize]) -> [usize; 4] {
    let rank = |dtype| WEIGHTS.iter().position(|&(weights, _)| weights == dtype);
    WEIGHTS.map(|(last, _)| {
        let up_to = |&&at: &&usize| rank(parameters[at].weights.dtype()) <= rank(last);
        order.iter().filter(up_to).map(|&at| parameters[at].weights.elem_count().div_ceil(CHUNK)).sum()
    })
}
