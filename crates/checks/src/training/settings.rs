//! Settings of the trainer that matter on a GPU: what f32 is multiplied in, and 16-bit parameters for candle's own layers.

use candle_core::cuda::gemm_reduced_precision_f32;
use candle_core::{Device, Module, Tensor};
use trainer::{Accelerator, Fit, Precision, Trainer, TrainerBuilder};

use crate::bench::workload::{Kind, Learner};
use crate::models::closures::{Closures, Pair, bits, module, numbers, xy};
use crate::models::{GptConfig, ResNetConfig};
use crate::report::{Outcome, Report, wrong};

pub(super) fn run(device: &Device, report: &mut Report) {
    let accelerator = if device.is_cpu() { Accelerator::Cpu } else { Accelerator::Gpu };
    if !device.is_cpu() {
        report.check("matmul_precision rounds f32 products, and gives the switch back", rounds);
        for precision in [Precision::F32True, Precision::F16Mixed, Precision::Bf16True] {
            report.check(&format!("benchmark: a GPT and a ResNet, at {precision}"), || timed(precision));
        }
    }
    for precision in [Precision::F16Mixed, Precision::Bf16Mixed] {
        if precision.supported_on(accelerator).is_ok() {
            let name = format!("16-bit parameters of candle's layers, with masters, at {precision}");
            report.check(&name, || masters(accelerator, precision));
        }
    }
}

/// Two layers of candle's.
fn net() -> Closures<(candle_nn::Linear, candle_nn::Linear)> {
    let mut net: Closures<(candle_nn::Linear, candle_nn::Linear)> = module(
        |vb| Ok((candle_nn::linear(2, 32, vb.pp("up"))?, candle_nn::linear(32, 1, vb.pp("down"))?)),
        |(up, down), (x, y)| {
            let output = down.forward(&up.forward(x)?.relu()?)?;
            Ok(autocast::ops::mse_loss(&output, y, autocast::ops::Reduction::Mean)?)
        },
    );
    net.lr = 1e-3;
    net
}

/// A product of 256 terms, in which TF32 shows.
fn wide() -> Closures<autocast::nn::Linear> {
    module(
        |vb| Ok(autocast::nn::linear(256, 256, vb)?),
        |layer, (x, y)| Ok(autocast::ops::mse_loss(&layer.forward(x)?, y, autocast::ops::Reduction::Mean)?),
    )
}

fn rounds() -> Outcome<String> {
    let before = gemm_reduced_precision_f32();
    let numbers = (0..256 * 256).map(|at| ((at * 7919 + 13) % 2001) as f32 / 1e3 - 1.);
    let x = Tensor::from_iter(numbers, &Device::Cpu)?.reshape((256, 256))?;
    let data = vec![(x.clone(), x)];
    let fit = |precision: Option<&str>| {
        let builder = Trainer::builder().accelerator("gpu").seed(1).max_steps(3);
        let builder = precision.into_iter().fold(builder, TrainerBuilder::matmul_precision);
        Ok::<_, trainer::Error>(bits(&builder.build()?.fit(&wide(), &data)?))
    };
    let (plain, highest, high) = (fit(None)?, fit(Some("highest"))?, fit(Some("high"))?);
    if before || gemm_reduced_precision_f32() {
        return wrong("candle's switch is on outside of the fits");
    }
    if highest != plain {
        return wrong("the highest precision is not what there is without it");
    }
    let loss = |run: &(Vec<u64>, Vec<u64>)| f64::from_bits(run.0[0]);
    let apart = (loss(&high) / loss(&highest) - 1.).abs();
    // TF32 rounds to 2^-11; errors of 256 terms mostly cancel.
    if high.0 == highest.0 || apart > 2f64.powi(-11) {
        return wrong(format!("losses {} and {}", loss(&highest), loss(&high)));
    }
    Ok(format!("the first loss moves by {apart:.1e}"))
}

/// Losses with algorithms that the clock has chosen beside those of the heuristic.
fn timed(precision: Precision) -> Outcome<String> {
    const GPT: GptConfig =
        GptConfig { vocabulary: 96, context: 64, width: 128, heads: 2, layers: 2, ..GptConfig::GPT2 };
    let mut apart = Vec::new();
    for kind in [Kind::Gpt(GPT), Kind::ResNet(ResNetConfig::SMALL)] {
        let data = kind.batches(8, &crate::device::gpu()?)?;
        let fit = |builder: TrainerBuilder| {
            let builder = builder.precision(precision).accelerator("gpu").seed(3).max_steps(8);
            Ok::<_, trainer::Error>(
                builder.on_notice(|_| ()).build()?.fit(&Learner::new(kind), &data)?.losses,
            )
        };
        let (plain, timed) = (fit(Trainer::builder())?, fit(Trainer::builder().benchmark())?);
        apart.extend(plain.iter().zip(&timed).map(|(plain, timed)| (timed / plain - 1.).abs()));
    }
    if autocast::algorithm_choice() != autocast::AlgorithmChoice::Heuristic {
        return wrong("the clock goes on choosing outside of the fits");
    }
    let bound = if precision == Precision::F32True { 1e-4 } else { 2e-2 };
    if let Some(apart) = apart.iter().find(|&&apart| apart.is_nan() || apart > bound) {
        return wrong(format!("losses are {apart:.1e} apart"));
    }
    Ok(format!("losses are at most {:.1e} apart", apart.into_iter().fold(0., f64::max)))
}

fn masters(accelerator: Accelerator, precision: Precision) -> Outcome<String> {
    let builder = || {
        let builder = Trainer::builder().precision(precision).accelerator(accelerator).seed(1);
        builder.parameters_in_compute_dtype().on_notice(|_| ())
    };
    let fit = |steps| builder().max_steps(steps).build()?.fit(&net(), std::iter::repeat(xy()));
    let (straight, half): (Fit<_>, Fit<_>) = (fit(20)?, fit(8)?);
    let narrow = precision.compute_dtype().into();
    if straight.parameters.iter().any(|(_, var)| var.dtype() != narrow) {
        return wrong(format!("parameters are not all in {narrow:?}"));
    }
    let resumed = builder().max_steps(20).resume(half.state()?).build()?;
    let resumed = resumed.fit(&net(), std::iter::repeat(xy()))?;
    if bits(&resumed).0 != bits(&straight).0[8..] || all(&resumed)? != all(&straight)? {
        return wrong(format!("{:?} resumed as {:?}", straight.losses, resumed.losses));
    }
    let (x, y) = xy();
    // candle's relu makes a 0 of a NaN: it has to come in behind it.
    let bad: Pair = (x, (y * f64::NAN)?);
    // With no other batch the fit is an error, which has what was trained.
    let skipped = builder().max_steps(9).resume(half.state()?).build()?.fit(&net(), [bad]);
    let Some(skipped) = skipped.err().and_then(trainer::Error::into_fit) else {
        return wrong("a fit without a loss that is a number was a success");
    };
    if skipped.skipped_steps != 1 || all(&skipped)? != all(&half)? {
        return wrong("a skipped step left a trace");
    }
    let (first, last) = (straight.losses[0], straight.losses[19]);
    if last.is_nan() || last >= first {
        return wrong(format!("from {first} to {last}"));
    }
    Ok(format!("{first:.3} to {last:.3}; resumed and skipped to the bit"))
}

/// Parameters, masters and moments, to the bit, by name.
fn all<M>(fit: &Fit<M>) -> Outcome<Vec<(String, Vec<u64>)>> {
    let state = fit.state()?;
    let optimizers = state.optimizers.into_values().flatten();
    let mut all: Vec<_> = state.parameters.into_iter().chain(optimizers).collect();
    if !all.iter().any(|(name, _)| name.ends_with(".master")) {
        return wrong("the state has no masters");
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let bits =
        |(name, tensor): (String, Tensor)| (name, numbers(&tensor).into_iter().map(f64::to_bits).collect());
    Ok(all.into_iter().map(bits).collect())
}
