//! Everything random in a fit follows the trainer's seed and the step, whatever else the process has drawn.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use autocast::nn::{self, MultiHeadAttention, MultiHeadAttentionConfig, multi_head_attention};
use autocast::ops::{self, AttentionDropout, AttentionOptions};
use candle_core::{Device, Module, Tensor};
use checks::models::closures::{CPU_PRECISIONS, Closures, Pair, bits, builder, module, xy};
use optim::{AdamW, AdamWConfig, WriteBack};
use trainer::{Fit, Optimization, Parameters, StepContext, StepOutput, TrainingModule};

type Model = (nn::Linear, nn::Dropout, MultiHeadAttention, nn::Dropout);

/// Dropout in three places, one of them inside attention, and one layer with a number of its own.
fn drops() -> Closures<Model> {
    module(
        |vb| {
            let attention = AttentionOptions {
                dropout: Some(AttentionDropout { p: 0.3, seed: 0.into() }),
                ..Default::default()
            };
            let config = MultiHeadAttentionConfig { bias: true, attention };
            let attention = multi_head_attention(4, 2, config, vb.pp("attention"))?;
            let linear = nn::linear(2, 4, vb.pp("linear"))?;
            Ok((linear, nn::Dropout::new(0.5), attention, nn::Dropout::with_seed(0.2, 3)))
        },
        |(linear, first, attention, second), (x, y)| {
            let x = first.forward_by_mode(&linear.forward(x)?)?;
            let x = second.forward(&attention.forward(&x.unsqueeze(0)?)?, true)?.squeeze(0)?;
            Ok(ops::mse_loss(&ops::mean(&x, 1)?, &y.squeeze(1)?, ops::Reduction::Mean)?)
        },
    )
}

/// [`drops`] with an optimizer that rounds stochastically.
struct Stochastic(Closures<Model>);

impl TrainingModule for Stochastic {
    type Model = Model;
    type Batch = Pair;
    fn build(&self, vb: candle_nn::VarBuilder) -> trainer::Result<Model> {
        self.0.build(vb)
    }
    fn training_step(&self, model: &Model, batch: &Pair, at: &StepContext) -> trainer::Result<StepOutput> {
        self.0.training_step(model, batch, at)
    }
    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        let adamw = AdamW::new(parameters.to_named(), AdamWConfig { lr: 0.01, ..Default::default() })?;
        Ok(Optimization::new(adamw.with_write_back(WriteBack::StochasticRounding { seed: 0 })?))
    }
}

fn fit(precision: &str, seed: u64, steps: usize) -> Fit<Model> {
    let trainer = builder(precision).seed(seed).max_steps(steps).build().unwrap();
    trainer.fit(&Stochastic(drops()), std::iter::repeat(xy())).unwrap()
}

#[test]
fn two_fits_in_one_process_are_equal_to_the_bit() {
    for precision in CPU_PRECISIONS {
        let first = fit(precision, 1, 6);
        // Draws in between, of both kinds that a process has.
        let x = Tensor::ones(100, candle_core::DType::F32, &Device::Cpu).unwrap();
        nn::Dropout::new(0.5).forward(&x, true).unwrap();
        let again = fit(precision, 1, 6);
        assert_eq!(bits(&first), bits(&again), "{precision}");
        assert_ne!(bits(&first), bits(&fit(precision, 2, 6)), "{precision}");
    }
}

#[test]
fn every_step_has_masks_of_its_own() {
    // Without learning, only the masks make one loss differ from the next.
    let mut module = drops();
    module.lr = 0.;
    let trainer = builder("32-true").seed(5).max_steps(8).build().unwrap();
    let losses = trainer.fit(&module, std::iter::repeat(xy())).unwrap().losses;
    let mut distinct = losses.clone();
    distinct.sort_by(f64::total_cmp);
    distinct.dedup();
    assert_eq!(distinct.len(), losses.len(), "{losses:?}");
}

#[test]
fn attention_alone_draws_a_new_mask_at_every_step() {
    let mut module = module(
        |vb| {
            let attention = AttentionOptions {
                dropout: Some(AttentionDropout { p: 0.5, seed: 0.into() }),
                ..Default::default()
            };
            Ok(multi_head_attention(2, 1, MultiHeadAttentionConfig { bias: true, attention }, vb)?)
        },
        |attention, (x, _)| Ok(ops::sum_all(&attention.forward(&x.unsqueeze(0)?)?)?),
    );
    module.lr = 0.;
    let trainer = builder("32-true").max_steps(4).build().unwrap();
    let fit = trainer.fit(&module, std::iter::repeat(xy())).unwrap();
    assert!(fit.losses.windows(2).all(|pair| pair[0] != pair[1]), "{:?}", fit.losses);
    let evaluated = [(); 2].map(|()| trainer.validate(&module, &fit.model, [xy()]).unwrap());
    assert_eq!(evaluated[0], evaluated[1]);
}

/// A resumed fit continues the run that it came from, through a file, as if that had never stopped.
#[test]
fn a_resumed_fit_equals_one_that_never_stopped() {
    for precision in CPU_PRECISIONS {
        let straight = fit(precision, 3, 10);
        let half = fit(precision, 3, 4);
        let file =
            std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("half-{precision}.safetensors"));
        half.state().unwrap().save(&file).unwrap();
        let state = trainer::TrainingState::load(&file).unwrap();
        let trainer = builder(precision).seed(3).max_steps(10).resume(state).build().unwrap();
        let mut numbers = Vec::new();
        let rest = trainer.fit_with(&Stochastic(drops()), std::iter::repeat(xy()), |step| {
            numbers.push(step.number());
            Ok(())
        });
        let rest = rest.unwrap();
        assert_eq!(numbers, (5..=10).collect::<Vec<_>>());
        assert_eq!(bits(&rest).0, bits(&straight).0[4..], "{precision}: losses");
        assert_eq!(bits(&rest).1, bits(&straight).1, "{precision}: parameters");
    }
}

/// At another precision the state is converted, which is told, and training goes on from where it was.
#[test]
fn a_state_resumes_at_another_precision() {
    for (from, to) in
        [("32-true", "bf16-true"), ("bf16-true", "32-true"), ("16-true", "64-true"), ("64-true", "16-true")]
    {
        let before = fit(from, 3, 30);
        let trainer = builder(to).seed(3).max_steps(31).resume(before.state().unwrap()).build().unwrap();
        let mut masters = drops();
        masters.lr = 0.01;
        let after = trainer.fit(&Stochastic(masters), std::iter::repeat(xy())).unwrap();
        let told = after.notices.iter().find(|notice| matches!(notice, trainer::Notice::Resumed { .. }));
        assert!(told.is_some(), "{from} to {to}: {:?}", after.notices);
        let again = fit(from, 3, 31).losses[30];
        let difference = (after.losses[0] - again).abs();
        assert!(difference < 0.05 * again.abs().max(0.1), "{from} to {to}: {} for {again}", after.losses[0]);
    }
}
