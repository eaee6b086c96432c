//! A loop that is written by hand, at any precision: the trainer gives the region, the loss scale and the casts, and leaves the
//! rest to the loop.
//!
//! `cargo run --example 02_hand_written_loop` (`--short` takes fewer steps)

use trainer::Trainer;
use trainer::autocast::{nn, ops};
use trainer::candle_core::{Device, Module, Tensor};
use trainer::optim::{AdamW, AdamWConfig, Clip};

fn main() -> trainer::Result<()> {
    let steps = if std::env::args().any(|argument| argument == "--short") { 20 } else { 200 };
    let x = Tensor::randn(0f32, 1f32, (64, 4), &Device::Cpu)?;
    let y = x.sqr()?.sum_keepdim(1)?;

    for precision in ["32-true", "bf16-mixed", "bf16-true", "16-true"] {
        let trainer = Trainer::builder().precision(precision).accelerator("cpu").seed(1).build()?;
        let mut plugin = trainer.precision_plugin()?;

        // Parameters on the device, in the precision's dtype; the same initial values at every precision.
        let ((up, down), parameters) = trainer
            .init_module(|vb| Ok((nn::linear(4, 32, vb.pp("up"))?, nn::linear(32, 1, vb.pp("down"))?)))?;
        let config = AdamWConfig { lr: 1e-2, ..Default::default() };
        let mut optimizer = AdamW::new(parameters.to_named(), config)?;
        let (x, y) = plugin.convert_input((x.clone(), y.clone()))?;

        let (mut first, mut last, mut norm) = (f64::NAN, f64::NAN, 0.);
        for step in 0..steps {
            let loss = plugin.forward(|| {
                let hidden = ops::relu(&up.forward(&x)?)?;
                ops::mse_loss(&down.forward(&hidden)?, &y, ops::Reduction::Mean)
            })?;
            last = loss.to_dtype(trainer::candle_core::DType::F64)?.to_scalar()?;
            if step == 0 {
                first = last;
            }
            // The loss scale is in these gradients until the clip, or the step, takes it out.
            let mut gradients = plugin.backward(loss)?;
            norm = plugin.clip_gradients(&optimizer, &mut gradients, Clip::norm(5.)?)?;
            plugin.step(&mut optimizer, &gradients)?;
        }
        let steps = plugin.scaler().steps()?;
        println!(
            "{precision:<11} loss {first:.3} -> {last:.3}, last gradient norm {norm:.2}, {} steps applied, {} skipped",
            steps.applied, steps.skipped
        );
    }
    Ok(())
}
