//! On a GPU: a linear map added to f32 inside a 16-bit region, whose values and gradients are those of f64 within what 16 bits lose.

use autocast::{Autocast, backward, no_grad, ops};
use candle_core::{DType, Device, Tensor, Var};
use precision_types::Accelerator;

use crate::catalogue::Samples;
use crate::report::{Outcome, wrong};

/// Input, weight, bias, residual, and what the sum is weighed with, all exact in either of the 16-bit formats.
const DIMS: [&[usize]; 5] = [&[7, 33, 40], &[24, 40], &[24], &[7, 33, 24], &[7, 33, 24]];
const NAMES: [&str; 5] = ["the sum", "of the input", "of the weight", "of the bias", "of the residual"];
/// What each sum of products adds up, with the sizes of inputs of less than 2.
const SIZES: [f64; 5] = [160., 96., 924., 924., 4.];

pub(super) fn check(device: &Device) -> Outcome<String> {
    let mut most = 0f64;
    for narrow in [DType::F16, DType::BF16] {
        let mut samples = Samples::new(5, &Device::Cpu);
        let inputs = DIMS.map(|dims| samples.uniform(dims, -2., 2.).to_dtype(DType::BF16));
        let run = |dtype: DType, device: &Device, region: Option<Autocast>| -> Outcome<[Tensor; 5]> {
            let var = |i: usize| -> Outcome<Var> {
                Ok(Var::from_tensor(
                    &inputs[i].as_ref().map_err(ToString::to_string)?.to_dtype(dtype)?.to_device(device)?,
                )?)
            };
            let (x, w, b, around, seed) = (var(0)?, var(1)?, var(2)?, var(3)?, var(4)?);
            let sum = || ops::linear_add(&x, &w, Some(&b), &around);
            if no_grad(sum)?.track_op() {
                return wrong("a graph is recorded inside no_grad");
            }
            let sum = region.map_or_else(sum, |region| region.run(sum))?;
            let grads = backward(ops::sum_all(&ops::mul(&sum, &seed.detach())?)?)?;
            let of = |var: &Var| grads.get(var).cloned().ok_or("no gradient");
            Ok([sum.detach(), of(&x)?, of(&w)?, of(&b)?, of(&around)?])
        };
        let region = Autocast::new(Accelerator::Gpu, narrow)?;
        let got = run(DType::F32, device, Some(region))?;
        if got[0].dtype() != DType::F32 {
            return wrong(format!("a residual of f32 gave {:?}", got[0].dtype()));
        }
        let unit = if narrow == DType::F16 { 2f64.powi(-10) } else { 2f64.powi(-7) };
        for ((got, want), (name, size)) in
            got.iter().zip(run(DType::F64, &Device::Cpu, None)?).zip(NAMES.into_iter().zip(SIZES))
        {
            let got = got.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
            let off = (got - want)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>()? / (unit * size);
            // The sum has not been rounded to 16 bits on its way.
            let bound = if name == NAMES[0] { 2f64.powi(-12) } else { 1. };
            if off.is_nan() || off > bound {
                return wrong(format!("{name} in {narrow:?}: off by {off:.2e} of its size's unit"));
            }
            most = most.max(off);
        }
    }
    Ok(format!("at most {most:.2} units of the sums' sizes"))
}
