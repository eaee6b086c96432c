//! Passes that are recorded as CUDA graphs: losses, parameters and running statistics are those of a fit without, to the bit;
//! where a pass cannot be recorded, too, and it is told why.

mod evaluation;
mod modules;

use std::cell::{Cell, RefCell};

use candle_core::{Device, Tensor};
use grad_scaler::ScalerConfig;
use modules::{Counted, attends_with_dropout, keeps, moves, net, one_layer, reads, reports, waits};
use trainer::{CudaGraph, Fit, Notice, Precision, Trainer, TrainerBuilder, TrainingModule};

use crate::bench::workload::{Kind, Learner};
use crate::device::memory_in_use;
use crate::models::closures::{Pair, bits};
use crate::models::wide_layer::WideLayer;
use crate::models::{GptConfig, MlpConfig, ResNetConfig};
use crate::report::{Outcome, Report, wrong};

const STEPS: usize = 24;

/// Calls of `training_step` for a form of batch: those before it is recorded, and the one that is.
const CALLS: usize = 4;

const GPT: GptConfig =
    GptConfig { vocabulary: 96, context: 48, width: 64, heads: 2, layers: 2, ..GptConfig::GPT2 };
const MLP: MlpConfig = MlpConfig { width: 64, layers: 3 };

pub(super) fn run(device: &Device, report: &mut Report) {
    for precision in Precision::ALL {
        let mut check = |what: &str, f: &dyn Fn() -> Outcome<String>| {
            report.check(&format!("recorded: {what}, at {precision}"), f);
        };
        for (what, kind) in [
            ("a GPT", Kind::Gpt(GPT)),
            ("an MLP", Kind::Mlp(MLP)),
            ("a ResNet", Kind::ResNet(ResNetConfig::SMALL)),
        ] {
            check(what, &|| {
                let data = kind.batches(4, device)?;
                equal(&Learner::new(kind), &|| builder(precision), &data, 1)
            });
        }
        check("dropout and batch norm", &|| equal(&net(), &|| builder(precision), &batches(7, 4)?, 1));
        check("steps of two batches, clipped", &|| {
            let builder = || builder(precision).accumulate_grad_batches(2).gradient_clip_val(0.5);
            equal(&net(), &builder, &batches(7, 4)?, 2)
        });
        check("bad batches and a scale that overflows", &|| skips(precision));
        check("resumed in the middle of a step", &|| resumes(precision));
    }
    report.check("recorded: attention with dropout", attends);
    report.check("recorded: metrics and samples", metrics);
    report.check("recorded: a last batch that is smaller", || {
        let mut data = batches(6, 4)?;
        data.extend(batches(1, 2)?);
        equal(&net(), &|| builder(Precision::Bf16Mixed).max_steps(40), &data, 2)
    });
    report.check("not recorded: shapes that change", || {
        let data = (2..42).map(|len| Ok(batches(1, len)?.remove(0))).collect::<Outcome<Vec<_>>>()?;
        refused(&net(), &data, "shapes")
    });
    report.check("not recorded: a step that reads a number", || {
        refused(&one_layer(reads), &batches(7, 4)?, "capture")
    });
    report
        .check("not recorded: a step that waits", || refused(&one_layer(waits), &batches(7, 4)?, "CAPTURE"));
    report.check("not recorded: a step that moves a tensor", || {
        refused(&one_layer(moves), &batches(7, 4)?, "transfer")
    });
    report.check("not recorded: a step that keeps a tensor", || {
        refused(&one_layer(keeps(RefCell::default())), &batches(7, 4)?, "CUDA_ERROR_INVALID_VALUE")
    });
    report.check("recorded: memory over 1,000 replays", || memory(device));
    evaluation::run(report);
}

fn builder(precision: Precision) -> TrainerBuilder {
    Trainer::builder().precision(precision).accelerator("gpu").seed(3).max_steps(STEPS).on_notice(|_| ())
}

/// A fit with recordings, and how often the module was called.
fn recorded<M>(module: &M, builder: TrainerBuilder, data: &Vec<Pair>) -> Outcome<(Fit<M::Model>, usize)>
where
    M: TrainingModule<Batch = Pair>,
{
    let counted = Counted { module, calls: Cell::new(0) };
    let fit = builder.cuda_graph(CudaGraph::Passes).build()?.fit(&counted, data)?;
    Ok((fit, counted.calls.get()))
}

fn why<M>(fit: &Fit<M>) -> Option<&String> {
    fit.notices.iter().find_map(|notice| match notice {
        Notice::NotRecorded { why } => Some(why),
        _ => None,
    })
}

/// A fit with recordings of so many forms of batch beside one without.
fn equal<M>(
    module: &M,
    builder: &dyn Fn() -> TrainerBuilder,
    data: &Vec<Pair>,
    forms: usize,
) -> Outcome<String>
where
    M: TrainingModule<Batch = Pair>,
{
    let plain = builder().build()?.fit(module, data)?;
    let (fit, calls) = recorded(module, builder(), data)?;
    alike(&plain, &fit)?;
    if let Some(why) = why(&fit) {
        return wrong(format!("it was not recorded: {why}"));
    }
    if calls != CALLS * forms {
        return wrong(format!("{calls} calls of training_step"));
    }
    Ok(format!(
        "{calls} calls, {} skipped, last loss {:.4}",
        fit.skipped_steps,
        fit.losses[fit.losses.len() - 1]
    ))
}

fn alike<A, B>(plain: &Fit<A>, fit: &Fit<B>) -> Outcome<()> {
    let (plain_bits, fit_bits) = (bits(plain), bits(fit));
    if let Some(at) = plain_bits.0.iter().zip(&fit_bits.0).position(|(a, b)| a != b) {
        return wrong(format!("loss {at} is {} and without {}", fit.losses[at], plain.losses[at]));
    }
    if plain_bits.0.len() != fit_bits.0.len() || plain.skipped_steps != fit.skipped_steps {
        return wrong(format!("{} skipped, without {}", fit.skipped_steps, plain.skipped_steps));
    }
    if plain_bits.1 != fit_bits.1 {
        return wrong("the losses are the same, and the parameters differ");
    }
    Ok(())
}

/// The same for a fit whose passes are not all recorded.
fn refused<M: TrainingModule<Batch = Pair>>(module: &M, data: &Vec<Pair>, part: &str) -> Outcome<String> {
    let builder = || builder(Precision::F32True).max_steps(40);
    let plain = builder().build()?.fit(module, data)?;
    let (fit, _) = recorded(module, builder(), data)?;
    alike(&plain, &fit)?;
    let told = fit.notices.iter().filter(|notice| matches!(notice, Notice::NotRecorded { .. })).count();
    match why(&fit) {
        Some(why) if why.contains(part) && told == 1 => Ok(why.clone()),
        other => wrong(format!("{told} notices: {other:?}")),
    }
}

/// `x` of (len, 2) and `y` of (len, 1), no two batches alike.
fn batches(count: usize, len: usize) -> Outcome<Vec<Pair>> {
    let number = |at: usize| ((at * 7919 + 13) % 2001) as f32 / 1e3 - 1.;
    let batch = |nth: usize| {
        let x = (0..2 * len).map(|at| number(2 * len * nth + at + len));
        let x = Tensor::from_iter(x, &Device::Cpu)?.reshape((len, 2))?;
        let y = x.sum_keepdim(1)?;
        Ok((x, y))
    };
    (0..count).map(batch).collect()
}

fn skips(precision: Precision) -> Outcome<String> {
    let mut data = batches(7, 4)?;
    data[5].1 = (&data[5].1 * f64::NAN)?;
    // From here an f16 loss overflows until the scale has come down, and again when it grows.
    let scaling =
        ScalerConfig { init_scale: 2f64.powi(24), growth_interval: 3, ..ScalerConfig::recommended() };
    let builder = || builder(precision).loss_scaling(scaling);
    let seen = equal(&net(), &builder, &data, 1)?;
    if builder().build()?.fit(&net(), &data)?.skipped_steps == 0 {
        return wrong("nothing was skipped");
    }
    Ok(seen)
}

/// A state from between the batches of a step, of a fit with recordings and for one.
fn resumes(precision: Precision) -> Outcome<String> {
    let data = batches(7, 4)?;
    let builder = || builder(precision).accumulate_grad_batches(3);
    let plain = builder().build()?.fit(&net(), std::iter::repeat_n(data.clone(), 20).flatten())?;
    let failing = std::iter::repeat_n(data.clone(), 20).flatten().enumerate().map(|(at, pair)| match at {
        32 => Err(trainer::Error::Other("the data end here".into())),
        _ => Ok(pair),
    });
    let half = builder().cuda_graph(CudaGraph::Passes).build()?.fit(&net(), failing);
    let Some(half) = half.err().and_then(trainer::Error::into_fit) else {
        return wrong("the data did not fail");
    };
    let state = half.state()?;
    if (state.position.step, state.accumulated.batches) != (10, 2) {
        return wrong(format!("it stopped at {:?} with {}", state.position, state.accumulated.batches));
    }
    let rest = std::iter::repeat_n(data, 20).flatten().skip(32);
    let rest = builder().resume(state).cuda_graph(CudaGraph::Passes).build()?.fit(&net(), rest)?;
    let (plain, rest, half) = (bits(&plain), bits(&rest), bits(&half));
    if half.0 != plain.0[..10] || rest.0 != plain.0[10..] || rest.1 != plain.1 {
        return wrong("what was resumed is another");
    }
    Ok(format!("{} steps after 10 and 2 of 3 batches", rest.0.len()))
}

fn attends() -> Outcome<String> {
    let mut seen = String::new();
    for precision in [Precision::F32True, Precision::Bf16Mixed, Precision::F16True] {
        seen = equal(&attends_with_dropout(), &|| builder(precision), &batches(7, 32)?, 1)?;
    }
    Ok(seen)
}

fn metrics() -> Outcome<String> {
    let data = batches(7, 4)?;
    let numbers = |graph, accumulate| {
        let builder = builder(Precision::F32True).cuda_graph(graph).accumulate_grad_batches(accumulate);
        let mut numbers = Vec::new();
        builder.build()?.fit_with(&one_layer(reports), &data, |step| {
            let largest = step.metrics()?.get("largest").unwrap_or(f64::NAN);
            numbers.push((step.loss()?.to_bits(), largest.to_bits(), step.samples()));
            Ok(())
        })?;
        Ok::<_, trainer::Error>(numbers)
    };
    for accumulate in [1, 3] {
        let (plain, fit) = (numbers(CudaGraph::Off, accumulate)?, numbers(CudaGraph::Passes, accumulate)?);
        if plain != fit {
            return wrong(format!("{fit:?} and without {plain:?}"));
        }
    }
    Ok("of steps of one and of three batches".into())
}

fn memory(device: &Device) -> Outcome<String> {
    let trainer =
        Trainer::builder().accelerator("gpu").max_steps(1_100).cuda_graph(CudaGraph::Passes).build()?;
    let x = Tensor::randn(0f32, 1f32, (256, 1024), device)?;
    let before = memory_in_use(device)?;
    let mut in_use = Vec::new();
    trainer.fit_with(&WideLayer, std::iter::repeat((x.clone(), x)), |step| {
        if step.number() % 100 == 0 {
            device.synchronize()?;
            in_use.push(memory_in_use(device)? >> 20);
        }
        Ok(())
    })?;
    device.synchronize()?;
    if in_use.iter().any(|&mib| mib > in_use[0] + 4) {
        return wrong(format!("{in_use:?} MiB"));
    }
    Ok(format!("{} MiB; {} before and {} after it", in_use[0], before >> 20, memory_in_use(device)? >> 20))
}
