//! A complex-valued model at 64-true: it learns the response of a two-by-two optical network from what goes in and comes out.
//!
//! At `64-true` parameters are f64 and complex tensors complex128, so that the fit can go as far as f64 does; at `32-true` the
//! same code is complex64 and ends where f32 ends.
//!
//! `cargo run --release --example 05_complex_valued` (`--short` takes fewer steps)

use trainer::autocast::{ComplexTensor, ops};
use trainer::candle_core::{DType, Device, Tensor};
use trainer::candle_nn::{Init, VarBuilder};
use trainer::optim::{Adam, AdamConfig, Schedule};
use trainer::{Optimization, Parameters, StepContext, StepOutput, Trainer, TrainingModule};

/// Real and imaginary parts, as a batch carries them: the trainer casts both to the precision's dtype.
type Parts = (Tensor, Tensor);

struct Network;

impl TrainingModule for Network {
    type Model = ComplexTensor;
    type Batch = (Parts, Parts);

    fn build(&self, vb: VarBuilder) -> trainer::Result<ComplexTensor> {
        Ok(ComplexTensor::var(&vb, (2, 2), "response", Init::Randn { mean: 0., stdev: 0.5 })?)
    }

    /// The mean of `|z·W - w|²`.
    fn training_step(
        &self,
        response: &ComplexTensor,
        ((re, im), (out_re, out_im)): &Self::Batch,
        _: &StepContext,
    ) -> trainer::Result<StepOutput> {
        let output = ComplexTensor::new(re.clone(), im.clone())?.matmul(response)?;
        let error = output.sub(&ComplexTensor::new(out_re.clone(), out_im.clone())?)?;
        let power = ops::add(&ops::square(error.real())?, &ops::square(error.imag())?)?;
        Ok(ops::mean_all(&power)?.into())
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        let adam = Adam::new(parameters.to_named(), AdamConfig { lr: 0.1, ..Default::default() })?;
        Ok(Optimization::new(adam).with_schedule(Schedule::cosine(0.1, 600)?))
    }
}

/// Fields that go in, and what a network of a phase shifter and a beam splitter makes of them.
fn measurements() -> trainer::Result<(Parts, Parts)> {
    let part = || Tensor::randn(0f64, 1f64, (32, 2), &Device::Cpu);
    let fields = ComplexTensor::new(part()?, part()?)?;
    let half = std::f64::consts::FRAC_1_SQRT_2;
    let re = Tensor::new(&[[half * 0.6, 0.], [0.8 * half, half]], &Device::Cpu)?;
    let im = Tensor::new(&[[half * 0.8, half], [-0.6 * half, 0.]], &Device::Cpu)?;
    let out = fields.matmul(&ComplexTensor::new(re, im)?)?;
    let parts = |z: &ComplexTensor| (z.real().clone(), z.imag().clone());
    Ok((parts(&fields), parts(&out)))
}

fn main() -> trainer::Result<()> {
    let short = std::env::args().any(|argument| argument == "--short");
    let batch = measurements()?;
    for precision in ["32-true", "64-true"] {
        let steps = if short { 60 } else { 600 };
        let trainer = Trainer::builder().precision(precision).accelerator("cpu").max_steps(steps).build()?;
        let fit = trainer.fit(&Network, std::iter::repeat(batch.clone()))?;
        let (name, response) = fit.parameters.iter().next().ok_or(trainer::Error::NoParameters)?;
        println!(
            "{precision}: loss {:.3e} -> {:.3e}; {name} = {:.4?} (stored in {})",
            fit.losses[0],
            fit.losses[steps - 1],
            response.to_dtype(DType::F64)?.to_vec2::<f64>()?,
            response.dtype().as_str(),
        );
    }
    Ok(())
}
