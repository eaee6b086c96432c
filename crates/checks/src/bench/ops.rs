//! The time of single ops, forward and backward apart.

use autocast::graph::{Backward, Op, record};
use candle_core::{DType, Device, Tensor, Var};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::clock::time;
use super::line::{median, print, round};
use super::op_cases::{CASES, OpCase, What};
use crate::report::Outcome;

/// Which ops are timed, and in which dtype.
#[derive(Debug, Args)]
pub struct Ops {
    /// The dtype of inputs that are not f32 by nature
    #[arg(long, value_enum, default_value_t = Narrow::Bf16)]
    dtype: Narrow,

    /// Only ops whose names contain this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

/// What is timed in.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Narrow {
    F16,
    Bf16,
    F32,
}

impl From<Narrow> for DType {
    fn from(narrow: Narrow) -> Self {
        match narrow {
            Narrow::F16 => Self::F16,
            Narrow::Bf16 => Self::BF16,
            Narrow::F32 => Self::F32,
        }
    }
}

const WARM_UP: usize = 5;
const TIMED: usize = 20;

/// What is printed of an op.
#[derive(Debug, Serialize)]
struct Line {
    op: String,
    dtype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Times every op that is asked for. Whether all could be timed.
pub(crate) fn run(ops: &Ops) -> Outcome<bool> {
    let (device, dtype) = (crate::device::gpu()?, ops.dtype.into());
    let mut complete = true;
    for case in CASES.iter().filter(|case| case.name.contains(&ops.only)) {
        let tracked = case.inputs.iter().any(|(_, what)| matches!(what, What::Narrow | What::F32));
        for (suffix, measure) in [(" fwd", forward as Measure), (" bwd", backward)] {
            if !tracked && suffix == " bwd" {
                continue;
            }
            let (ms, error) = match measure(case, dtype, &device) {
                Ok(ms) => (Some(round(ms, 4)), None),
                Err(error) => (None, error.to_string().lines().next().map(Into::into)),
            };
            complete &= error.is_none();
            print(&Line { op: format!("{}{suffix}", case.name), dtype: dtype.as_str(), ms, error })?;
        }
    }
    Ok(complete)
}

type Measure = fn(&OpCase, DType, &Device) -> Outcome<f64>;

fn forward(case: &OpCase, dtype: DType, device: &Device) -> Outcome<f64> {
    let sets = sets(case, dtype, device)?;
    median_ms(device, |call| {
        (case.run)(&sets[call % sets.len()])?;
        Ok(())
    })
}

fn backward(case: &OpCase, dtype: DType, device: &Device) -> Outcome<f64> {
    let seeded = |inputs: Vec<Tensor>| -> Outcome<Tensor> {
        let y = (case.run)(&inputs)?;
        let gradient = if y.rank() == 0 { y.ones_like()? } else { normal_as(&y)? };
        let loss = Tensor::zeros((), DType::F32, device)?;
        Ok(record(Seed(gradient.detach()), &[&y], loss)?)
    };
    let losses = sets(case, dtype, device)?.into_iter().map(seeded).collect::<Outcome<Vec<_>>>()?;
    // The losses stay, and their graphs with them: every call walks a whole one.
    median_ms(device, |call| {
        autocast::constant_gradients(losses[call % losses.len()].clone())?;
        Ok(())
    })
}

/// Normal numbers that lie as `y` does, which is how the op behind it would give its gradient.
fn normal_as(y: &Tensor) -> candle_core::Result<Tensor> {
    let mut order: Vec<usize> = (0..y.rank()).collect();
    order.sort_by_key(|&dim| std::cmp::Reverse(y.stride()[dim]));
    let dims: Vec<usize> = order.iter().map(|&dim| y.dims()[dim]).collect();
    let mut back = vec![0; order.len()];
    for (at, &dim) in order.iter().enumerate() {
        back[dim] = at;
    }
    Tensor::randn(0f32, 1f32, dims, y.device())?.to_dtype(y.dtype())?.permute(back)
}

/// A loss whose gradient is given, so that nothing is timed but the op's own backward.
struct Seed(Tensor);

impl Op for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn backward(&self, _: &mut Backward<'_>) -> autocast::Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(self.0.clone())])
    }
}

fn sets(case: &OpCase, dtype: DType, device: &Device) -> Outcome<Vec<Vec<Tensor>>> {
    let make = |&(dims, what): &(&[usize], What)| -> candle_core::Result<Tensor> {
        let normal = || Tensor::randn(0f32, 0.5f32, dims, device);
        let tracked = |t: Tensor| Ok(Var::from_tensor(&t)?.into_inner());
        match what {
            What::Narrow => tracked(normal()?.to_dtype(dtype)?),
            What::F32 => tracked(normal()?),
            What::Constant => normal()?.to_dtype(dtype),
            What::Classes(count) => {
                Tensor::rand(0f32, count as f32, dims, device)?.floor()?.to_dtype(DType::U32)
            }
        }
    };
    (0..case.sets).map(|_| Ok(case.inputs.iter().map(make).collect::<candle_core::Result<_>>()?)).collect()
}

fn median_ms(device: &Device, mut call: impl FnMut(usize) -> Outcome<()>) -> Outcome<f64> {
    let mut times = Vec::new();
    for index in 0..WARM_UP + TIMED {
        times.push(time(device, || call(index))?);
    }
    Ok(median(&times[WARM_UP..]).unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_run_on_a_cpu() {
        let case = OpCase {
            name: "embedding",
            inputs: &[(&[5, 3], What::F32), (&[4], What::Classes(5))],
            run: |x| autocast::ops::embedding(&x[1], &x[0]),
            sets: 2,
        };
        for measure in [forward, backward] {
            assert!(measure(&case, DType::F32, &Device::Cpu).unwrap() > 0.);
        }
    }

    #[test]
    fn numbers_lie_as_the_value_does() {
        let y = Tensor::zeros((2, 3, 4, 5), DType::F32, &Device::Cpu).unwrap();
        for y in [y.clone(), y.transpose(1, 2).unwrap(), y.permute((3, 0, 2, 1)).unwrap()] {
            let numbers = normal_as(&y).unwrap();
            assert_eq!((numbers.dims(), numbers.stride()), (y.dims(), y.stride()));
        }
    }

    #[test]
    fn a_seed_is_the_gradient() {
        let x = Var::new(&[1f32, 2.], &Device::Cpu).unwrap();
        let seed = Tensor::new(&[3f32, 4.], &Device::Cpu).unwrap();
        let y = autocast::ops::mul_scalar(&x, 2.).unwrap();
        let loss = record(Seed(seed), &[&y], Tensor::zeros((), DType::F32, &Device::Cpu).unwrap()).unwrap();
        for _ in 0..2 {
            let grads = autocast::constant_gradients(loss.clone()).unwrap();
            assert_eq!(grads.get(&x).unwrap().to_vec1::<f32>().unwrap(), [6., 8.]);
        }
    }
}
