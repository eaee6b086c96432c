//! What a user of the trainer relies on, on a GPU: the same run twice, bad batches, bad indices, evaluation.

use autocast::{nn, ops};
use candle_core::{Device, Module, Tensor};
use grad_scaler::ScalerConfig;
use optim::Schedule;
use trainer::{Accelerator, Precision, Trainer, TrainerBuilder};

use crate::models::closures::{Closures, Pair, bits, module, xy};
use crate::models::ported;
use crate::report::{Outcome, Report, wrong};

pub(super) fn run(device: &Device, report: &mut Report) {
    for precision in Precision::ALL {
        let mut check = |what: &str, f: fn(Precision) -> Outcome<String>| {
            report.check(&format!("{what} at {precision}"), || f(precision));
        };
        check("ported models learn", learns);
        check("two fits and a resumed one are equal to the bit", repeats);
        check("a bad batch leaves no trace", skips);
        check("an index that is no row is skipped", survives_bad_indices);
        check("evaluation changes nothing", evaluates);
    }
    report.check("a schedule with skips at its start, 20 times", || schedules(device));
}

fn builder(precision: Precision) -> TrainerBuilder {
    Trainer::builder().precision(precision).accelerator("gpu").seed(1).on_notice(|_| ())
}

fn learns(precision: Precision) -> Outcome<String> {
    let mut seen = Vec::new();
    for (model, first, last) in ported::train_both(precision.as_str(), Accelerator::Gpu)? {
        if !last.is_finite() || last >= 0.5 * first {
            return wrong(format!("{model}: from {first} to {last}"));
        }
        seen.push(format!("{model} {first:.2} to {last:.3}"));
    }
    Ok(seen.join(", "))
}

type Net = (nn::Linear, nn::BatchNorm, nn::Dropout, nn::Linear);

/// A layer of everything that draws or keeps statistics.
fn net() -> Closures<Net> {
    module(
        |vb| {
            let first = nn::linear(2, 8, vb.pp("a"))?;
            let norm = nn::batch_norm(8, 1e-5, vb.pp("bn"))?;
            Ok((first, norm, nn::Dropout::new(0.3), nn::linear(8, 1, vb.pp("b"))?))
        },
        |(first, norm, dropout, last), (x, y)| {
            let x = dropout.forward_by_mode(&norm.forward_by_mode(&first.forward(x)?)?)?;
            Ok(ops::mse_loss(&last.forward(&x)?, y, ops::Reduction::Mean)?)
        },
    )
}

fn repeats(precision: Precision) -> Outcome<String> {
    let fit = |steps| builder(precision).max_steps(steps).build()?.fit(&net(), std::iter::repeat(xy()));
    let (straight, again, half) = (fit(20)?, fit(20)?, fit(8)?);
    if bits(&straight) != bits(&again) {
        return wrong(format!("{:?} and {:?}", straight.losses, again.losses));
    }
    let resumed = builder(precision).max_steps(20).resume(half.state()?).build()?;
    let resumed = resumed.fit(&net(), std::iter::repeat(xy()))?;
    if bits(&resumed).0 != bits(&straight).0[8..] || bits(&resumed).1 != bits(&straight).1 {
        return wrong(format!("{:?} resumed as {:?}", straight.losses, resumed.losses));
    }
    Ok(format!("last loss {:.4}", straight.losses[19]))
}

fn with(bad: Pair, at: usize) -> impl Iterator<Item = Pair> {
    (0..6).map(move |step| if step == at { bad.clone() } else { xy() })
}

/// The fits draw no masks: the step that is left out would shift them.
fn skips(precision: Precision) -> Outcome<String> {
    let plain = || {
        module(
            |vb| {
                let norm = nn::batch_norm(8, 1e-5, vb.pp("bn"))?;
                Ok((nn::linear(2, 8, vb.pp("a"))?, norm, nn::linear(8, 1, vb.pp("b"))?))
            },
            |(first, norm, last), (x, y)| {
                let x = norm.forward_by_mode(&first.forward(x)?)?;
                Ok(ops::mse_loss(&last.forward(&x)?, y, ops::Reduction::Mean)?)
            },
        )
    };
    let (x, y) = xy();
    let trainer = builder(precision)
        .loss_scaling(ScalerConfig { init_scale: 128., is_static: true, ..ScalerConfig::recommended() })
        .build()?;
    let clean = trainer.fit(&plain(), with(xy(), 9).take(5))?;
    for bad in [((&x * f64::NAN)?, y.clone()), (x.clone(), (&y * f64::INFINITY)?)] {
        let fit = trainer.fit(&plain(), with(bad, 2))?;
        let losses = [&fit.losses[..2], &fit.losses[3..]].concat();
        if fit.skipped_steps != 1 || losses != clean.losses || bits(&fit).1 != bits(&clean).1 {
            return wrong(format!("{} skipped, {:?} for {:?}", fit.skipped_steps, fit.losses, clean.losses));
        }
    }
    Ok("parameters and running statistics as without it".into())
}

fn survives_bad_indices(precision: Precision) -> Outcome<String> {
    let model = module(
        |vb| Ok((nn::embedding(5, 4, vb.pp("e"))?, nn::linear(4, 1, vb.pp("l"))?)),
        |(embedding, linear), (ids, y)| {
            Ok(ops::mse_loss(&linear.forward(&embedding.forward(ids)?)?, y, ops::Reduction::Mean)?)
        },
    );
    let ids = |last: i64| Tensor::new(&[0i64, 4, 1, last], &Device::Cpu);
    let y = xy().1;
    for bad in [5, -1, i64::MAX, i64::MIN] {
        let data: Vec<Pair> = [3, bad, 3, 3]
            .into_iter()
            .map(|last| Ok((ids(last)?, y.clone())))
            .collect::<candle_core::Result<_>>()?;
        let scaling = ScalerConfig { init_scale: 128., is_static: true, ..ScalerConfig::recommended() };
        let fit = builder(precision).loss_scaling(scaling).build()?.fit(&model, data)?;
        let finite: Vec<bool> = fit.losses.iter().map(|loss| loss.is_finite()).collect();
        if finite != [true, false, true, true] || fit.skipped_steps != 1 {
            return wrong(format!("id {bad}: losses {:?}, {} skipped", fit.losses, fit.skipped_steps));
        }
    }
    Ok("4 ids; the device goes on".into())
}

fn evaluates(precision: Precision) -> Outcome<String> {
    let module = net();
    let trainer = builder(precision).max_steps(5).build()?;
    let fit = trainer.fit(&module, std::iter::repeat(xy()))?;
    let before = bits(&fit).1;
    let far = ((xy().0 + 100.)?, xy().1);
    let validate =
        || Ok::<_, trainer::Error>(trainer.validate(&module, &fit.model, [far.clone()])?.get("val_loss"));
    let twice = [validate()?, validate()?];
    let dtype = trainer.predict(&module, &fit.model, [far.clone()])?[0].dtype();
    if bits(&fit).1 != before || twice[0] != twice[1] || dtype != precision.output_dtype().into() {
        return wrong(format!("{twice:?}, predicted in {dtype:?}"));
    }
    // The first layer's output on its own, as a prediction.
    let batch = trainer.prepare(far)?;
    trainer.infer(|| Ok(fit.model.0.forward(&batch.0)?))?;
    Ok(format!("loss {:?}", twice[0]))
}

/// The rate of a step follows the steps that were applied before it, however late the host hears of the skips.
fn schedules(device: &Device) -> Outcome<String> {
    let mut runs: Vec<(Vec<u64>, Vec<u64>)> = Vec::new();
    for attempt in 0..20 {
        let mut model = net();
        model.schedule = Some(Schedule::cosine(0.1, 40)?.with_warmup(10));
        let scaling = ScalerConfig {
            init_scale: 2f64.powi(40),
            backoff_factor: 0.25,
            growth_interval: 10,
            ..Default::default()
        };
        let trainer = builder(Precision::F16Mixed).max_steps(40).loss_scaling(scaling).build()?;
        let fit = trainer.fit_with(&model, std::iter::repeat(xy()), |step| {
            // The host looks at other moments in every run.
            if attempt > 0 && step.number() % attempt == 0 {
                device.synchronize()?;
            }
            Ok(())
        })?;
        if fit.skipped_steps < 3 {
            return wrong(format!("only {} steps were skipped", fit.skipped_steps));
        }
        runs.push(bits(&fit));
    }
    match runs.iter().position(|run| *run != runs[0]) {
        Some(odd) => wrong(format!("run {odd} differs from the first")),
        None => Ok("bit for bit".into()),
    }
}
