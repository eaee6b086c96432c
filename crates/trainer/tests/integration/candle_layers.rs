//! Models of candle's own layers at a mixed precision: 16-bit parameters with f32 masters where that is asked for, and what is told
//! where it is not.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "../../examples/candle_gpt/mod.rs"]
mod candle_gpt;

use std::sync::{Arc, Mutex};

use crate::common::{Pair, bits, builder, folder, numbers, parameter_bits};
use candle_core::{DType, Device, Module, Tensor};
use candle_gpt::{CandleGpt, sequences};
use candle_nn::VarBuilder;
use optim::{AdamW, AdamWConfig, Sgd, SgdConfig};
use trainer::{
    Callback, Error, Fit, Gradients, Notice, Optimization, Parameters, Result, StepContext, StepOutput,
    TrainerBuilder, TrainingModule, TrainingState,
};

#[derive(Clone, Copy)]
enum Rule {
    AdamW,
    Sgd(f64),
}

struct Gpt {
    rule: Rule,
    /// The step whose loss is NaN.
    poisoned: Option<usize>,
}

const GPT: Gpt = Gpt { rule: Rule::AdamW, poisoned: None };

impl TrainingModule for Gpt {
    type Model = CandleGpt;
    type Batch = Pair;

    fn build(&self, vb: VarBuilder) -> Result<CandleGpt> {
        Ok(CandleGpt::new(vb)?)
    }
    fn training_step(&self, gpt: &CandleGpt, (tokens, next): &Pair, at: &StepContext) -> Result<StepOutput> {
        let loss = gpt.loss(tokens, next)?;
        let is_bad = self.poisoned == Some(at.position.step);
        Ok(if is_bad { (loss * f64::NAN)?.into() } else { loss.into() })
    }
    fn configure_optimizers(&self, parameters: &Parameters) -> Result<Optimization> {
        let named = parameters.to_named();
        Ok(match self.rule {
            Rule::AdamW => {
                Optimization::new(AdamW::new(named, AdamWConfig { lr: 3e-3, ..Default::default() })?)
            }
            Rule::Sgd(lr) => Optimization::new(Sgd::new(named, SgdConfig { lr, ..Default::default() })?),
        })
    }
}

fn data() -> Vec<Pair> {
    (0..3).map(|first| sequences(4, 7 * first).unwrap()).collect()
}

fn narrow() -> TrainerBuilder {
    builder("bf16-mixed").parameters_in_compute_dtype()
}

fn fit(builder: TrainerBuilder, gpt: &Gpt, steps: usize) -> Fit<CandleGpt> {
    builder.max_steps(steps).build().unwrap().fit(gpt, &data()).unwrap()
}

/// The optimizer's f32 masters, in the order of the parameters.
fn masters(state: &TrainingState, parameters: &Parameters) -> Vec<f64> {
    let of = |(name, _): (&str, _)| {
        let master = &state.optimizers["optimizer"][&format!("{name}.master")];
        assert_eq!(master.dtype(), DType::F32);
        numbers(master)
    };
    parameters.iter().flat_map(of).collect()
}

#[test]
fn without_being_asked_nothing_follows_and_that_is_told() {
    let told = |fit: &Fit<CandleGpt>| {
        fit.notices.iter().any(|notice| matches!(notice, Notice::NothingInFastDtype { .. }))
    };
    let plain = fit(builder("bf16-mixed"), &GPT, 2);
    assert!(told(&plain) && plain.parameters.iter().all(|(_, var)| var.dtype() == DType::F32));
    assert_eq!(bits(&plain), bits(&fit(builder("32-true"), &GPT, 2)), "all of it in f32");
    assert!(plain.notices.iter().any(|notice| notice.to_string().contains("parameters_in_compute_dtype")));
    let asked = fit(narrow(), &GPT, 2);
    assert!(!told(&asked) && asked.parameters.iter().all(|(_, var)| var.dtype() == DType::BF16));
    let in_vain = fit(builder("32-true").parameters_in_compute_dtype(), &GPT, 1);
    let notice = Notice::NoEffect {
        setting: "parameters_in_compute_dtype",
        why: "at 32-true parameters are in the dtype that is computed in".to_string(),
    };
    assert!(in_vain.notices.contains(&notice), "{:?}", in_vain.notices);
}

#[test]
fn it_learns_as_it_does_in_f32() {
    let (wide, narrow) = (fit(builder("32-true"), &GPT, 60), fit(narrow(), &GPT, 60));
    let (first, last) = (narrow.losses[0], narrow.losses[59]);
    assert!(last < 0.5 * first, "{first} to {last}");
    assert!((last - wide.losses[59]).abs() < 0.1 * first, "{last} for {}", wide.losses[59]);
}

/// Too small a step for bf16 to move by: the masters take it.
#[test]
fn masters_take_gradients_in_f32_and_parameters_are_what_they_round_to() {
    struct Watches(Arc<Mutex<Vec<f64>>>);
    impl Callback for Watches {
        fn name(&self) -> &'static str {
            "watches"
        }
        fn wants_gradients(&self, _: usize) -> bool {
            true
        }
        fn on_gradients(&mut self, gradients: &Gradients<'_>) -> Result<()> {
            let mut seen = self.0.lock().unwrap();
            for (name, _) in gradients.parameters().iter() {
                seen.extend(numbers(&gradients.get(name)?.unwrap()));
            }
            Ok(())
        }
    }
    let lr = 2f64.powi(-20);
    let gpt = Gpt { rule: Rule::Sgd(lr), poisoned: None };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (_, before) = narrow().build().unwrap().init_module(|vb| gpt.build(vb)).unwrap();
    let after = fit(narrow().callback(Watches(seen.clone())), &gpt, 1);
    let (before, gradients) = (before.iter().flat_map(|(_, var)| numbers(var)), seen.lock().unwrap());
    let masters = masters(&after.state().unwrap(), &after.parameters);
    let rounded = Tensor::new(masters.as_slice(), &Device::Cpu).unwrap().to_dtype(DType::BF16).unwrap();
    let parameters: Vec<f64> = after.parameters.iter().flat_map(|(_, var)| numbers(var)).collect();
    assert_eq!(parameters, numbers(&rounded));
    let (mut moved, mut moved_narrow) = (0, 0);
    for (((before, gradient), master), parameter) in before.zip(gradients.iter()).zip(masters).zip(parameters)
    {
        // A power of two scales exactly, so that one rounding is left.
        assert_eq!(master, f64::from((before - lr * gradient) as f32));
        moved += usize::from(master != before);
        moved_narrow += usize::from(parameter != before);
    }
    assert!(moved > 10_000 && moved_narrow < moved / 10, "{moved} masters, {moved_narrow} parameters moved");
}

#[test]
fn a_skipped_step_changes_neither_masters_nor_parameters() {
    let good = fit(narrow(), &GPT, 4);
    let bad = fit(narrow(), &Gpt { poisoned: Some(4), ..GPT }, 5);
    assert_eq!((bad.skipped_steps, bad.losses.len()), (1, 5));
    assert_eq!(parameter_bits(&bad.parameters), parameter_bits(&good.parameters));
    let [good, bad] = [good, bad].map(|fit| masters(&fit.state().unwrap(), &fit.parameters));
    assert_eq!(good, bad);
}

#[test]
fn a_checkpoint_holds_the_masters_and_resumes_to_the_bit() {
    let accumulated = || narrow().accumulate_grad_batches(2);
    let path = folder("candle-layers").join("state.safetensors");
    for steps in [narrow as fn() -> TrainerBuilder, accumulated] {
        let (straight, half) = (fit(steps(), &GPT, 10), fit(steps(), &GPT, 5));
        half.state().unwrap().save(&path).unwrap();
        let state = TrainingState::load(&path).unwrap();
        assert_ne!(
            masters(&state, &half.parameters),
            half.parameters.iter().flat_map(|(_, v)| numbers(v)).collect::<Vec<_>>()
        );
        let rest = fit(steps().resume(state), &GPT, 10);
        assert!(rest.notices.iter().all(|notice| !matches!(notice, Notice::Resumed { .. })));
        assert_eq!(bits(&rest).0, bits(&straight).0[5..]);
        assert_eq!(bits(&rest).1, bits(&straight).1);
        let last = |fit: &Fit<CandleGpt>| masters(&fit.state().unwrap(), &fit.parameters);
        assert_eq!(last(&rest), last(&straight));
    }
}

/// From 16-bit parameters to f32 ones and back no digit of a master is lost, and what was made is told.
#[test]
fn masters_become_parameters_and_parameters_masters() {
    let told = |fit: &Fit<CandleGpt>| {
        let notice = fit.notices.iter().find(|notice| matches!(notice, Notice::Resumed { .. })).unwrap();
        notice.to_string()
    };
    let stopped = fit(narrow(), &GPT, 3);
    let state = stopped.state().unwrap();
    for precision in ["bf16-mixed", "32-true", "64-true"] {
        let wide = fit(builder(precision).resume(state.clone()), &GPT, 3);
        let values: Vec<f64> = wide.parameters.iter().flat_map(|(_, var)| numbers(var)).collect();
        assert_eq!(values, masters(&state, &stopped.parameters), "{precision}");
        assert!(told(&wide).contains("lm_head.weight.master"), "{}", told(&wide));
    }
    let wide = fit(builder("32-true"), &GPT, 3);
    for builder in [narrow(), builder("bf16-true"), builder("16-true")] {
        let narrow = fit(builder.resume(wide.state().unwrap()), &GPT, 3);
        let values: Vec<f64> = wide.parameters.iter().flat_map(|(_, var)| numbers(var)).collect();
        assert_eq!(masters(&narrow.state().unwrap(), &narrow.parameters), values);
        assert!(told(&narrow).contains("made"), "{}", told(&narrow));
    }
}

#[test]
fn a_norm_whose_gradient_candle_drops_is_named_with_the_layer_to_use() {
    struct Normed;
    impl TrainingModule for Normed {
        type Model = (candle_nn::Linear, candle_nn::LayerNorm, candle_nn::RmsNorm, candle_nn::Linear);
        type Batch = Pair;
        fn build(&self, vb: VarBuilder) -> Result<Self::Model> {
            Ok((
                candle_nn::linear(2, 8, vb.pp("up"))?,
                candle_nn::layer_norm(8, 1e-5, vb.pp("block.norm"))?,
                candle_nn::rms_norm(8, 1e-5, vb.pp("rms"))?,
                candle_nn::linear(8, 1, vb.pp("down"))?,
            ))
        }
        fn training_step(&self, net: &Self::Model, (x, y): &Pair, _: &StepContext) -> Result<StepOutput> {
            let x = net.1.forward(&net.0.forward(x)?)?;
            let x = net.3.forward(&net.2.forward(&x)?)?;
            Ok(candle_nn::loss::mse(&x, y)?.into())
        }
        fn configure_optimizers(&self, parameters: &Parameters) -> Result<Optimization> {
            Ok(Optimization::new(Sgd::new(parameters.to_named(), SgdConfig::default())?))
        }
    }
    let error = builder("32-true").build().unwrap().fit(&Normed, &crate::common::batches(1)).unwrap_err();
    let Error::MissingGradient { names, norms } = &error else { panic!("{error}") };
    assert_eq!(names, &["block.norm.bias", "block.norm.weight", "rms.weight", "up.bias", "up.weight"]);
    assert_eq!(norms, &[("block.norm".to_string(), "layer_norm"), ("rms".to_string(), "rms_norm")]);
    let said = error.to_string();
    assert!(said.contains("block.norm with `autocast::nn::layer_norm`"), "{said}");
    assert!(said.contains("rms with `autocast::nn::rms_norm`"), "{said}");
}
