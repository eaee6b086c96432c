//! Several optimizers, a precision alone, and what to train at.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use crate::common::{CPU_PRECISIONS, Net, batches, bits, builder, modest, numbers, parameter_bits};
use autocast::{nn, ops};
use candle_core::{DType, Device, Module, Tensor};
use candle_nn::VarBuilder;
use optim::{Adam, AdamConfig, Clip, Sgd, SgdConfig};
use trainer::{
    Error, Optimization, OwnPrecision, Parameters, Precision, Result, StepContext, StepOutput, Trainer,
    TrainingModule,
};

/// A generator that shifts its noise, and a critic of one layer (a Wasserstein GAN whose critic is bounded by decay).
struct Gan {
    names: [&'static str; 2],
}

struct Both {
    generator: nn::Linear,
    critic: nn::Linear,
}

impl Gan {
    fn new() -> Self {
        Self { names: ["critic", "generator"] }
    }
}

impl TrainingModule for Gan {
    type Model = Both;
    type Batch = (Tensor, Tensor);

    fn build(&self, vb: VarBuilder) -> Result<Both> {
        Ok(Both {
            generator: nn::linear(2, 2, vb.pp("generator"))?,
            critic: nn::linear(2, 1, vb.pp("critic"))?,
        })
    }

    fn training_step(
        &self,
        both: &Both,
        (real, noise): &Self::Batch,
        at: &StepContext,
    ) -> Result<StepOutput> {
        let fake = both.generator.forward(noise)?;
        let faked = ops::mean_all(&both.critic.forward(&fake)?)?;
        match at.optimizer {
            "generator" => Ok(StepOutput::new(ops::neg(&faked)?)),
            _ => {
                let real = ops::mean_all(&both.critic.forward(real)?)?;
                Ok(StepOutput::new(ops::sub(&faked, &real)?).with_metric("real", real))
            }
        }
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> Result<Optimization> {
        let of = |prefix: &str| {
            let named = parameters.to_named().into_iter();
            named.filter(|(name, _)| name.starts_with(prefix)).collect::<Vec<_>>()
        };
        let critic = Sgd::new(of("critic"), SgdConfig { lr: 0.05, weight_decay: 0.5, ..Default::default() })?;
        let generator = Adam::new(of("generator"), AdamConfig { lr: 0.05, ..Default::default() })?;
        let generator = Optimization::named(self.names[1], generator).when(|step| step % 2 == 1);
        Ok(Optimization::named(self.names[0], critic).and(generator))
    }
}

fn real_and_noise() -> (Tensor, Tensor) {
    let tensor = |values: [f32; 8]| Tensor::from_vec(values.to_vec(), (4, 2), &Device::Cpu).unwrap();
    (tensor([2., 3., 2.2, 2.9, 1.8, 3.1, 2., 3.]), tensor([0.1, -0.2, 0.3, 0.1, -0.3, 0.2, 0., -0.1]))
}

#[test]
fn a_generator_and_its_critic_alternate_and_both_learn() {
    let data = vec![real_and_noise()];
    for precision in CPU_PRECISIONS {
        let trainer = modest(precision).max_steps(200).build().unwrap();
        let (mut generator, mut critic) = (Vec::new(), Vec::new());
        let fit = trainer.fit_with(&Gan::new(), &data, |step| {
            generator.push(numbers(step.parameters().get("generator.bias").unwrap()));
            critic.push(numbers(step.parameters().get("critic.weight").unwrap()));
            assert_eq!(
                step.learning_rates().map(|(name, _)| name).collect::<Vec<_>>(),
                ["critic", "generator"]
            );
            Ok(())
        });
        let fit = fit.unwrap();
        assert_eq!((fit.losses.len(), fit.skipped_steps), (200, 0), "{precision}");
        // Steps are numbered from 1: the generator moves in every second one, the critic in each.
        assert!(
            generator[0] == generator.first().unwrap()[..] && generator[1] != generator[0],
            "{precision}"
        );
        assert_eq!(generator[1], generator[2], "{precision}");
        assert!(critic[0] != critic[1] && critic[1] != critic[2], "{precision}");
        // What is generated moves towards what is real, from around 0.
        let fake =
            trainer.infer(|| Ok(fit.model.generator.forward(&trainer.prepare(data[0].1.clone())?)?)).unwrap();
        let mean = numbers(&fake.to_dtype(DType::F64).unwrap().mean(0).unwrap());
        assert!((mean[0] - 2.).abs() < 1.5 && (mean[1] - 3.).abs() < 1.5, "{precision}: {mean:?}");
    }
}

#[test]
fn a_run_of_several_optimizers_resumes_by_their_names() {
    let data = vec![real_and_noise()];
    let fit = |steps: usize, resume: Option<trainer::TrainingState>| {
        let builder = builder("16-true").max_steps(steps);
        let builder = resume.into_iter().fold(builder, trainer::TrainerBuilder::resume);
        builder.build().unwrap().fit(&Gan::new(), &data).unwrap()
    };
    let (straight, half) = (fit(9, None), fit(4, None));
    let rest = fit(9, Some(half.state().unwrap()));
    assert_eq!(bits(&rest).0, bits(&straight).0[4..]);
    assert_eq!(bits(&rest).1, bits(&straight).1);
    let other = builder("16-true").max_steps(9).resume(half.state().unwrap()).build().unwrap();
    let error = other.fit(&Gan { names: ["critic", "painter"] }, &data).unwrap_err().to_string();
    assert!(error.contains("generator") && error.contains("painter"), "{error}");
    let twice = builder("16-true").build().unwrap().fit(&Gan { names: ["one", "one"] }, &data).unwrap_err();
    assert!(matches!(twice, Error::DuplicateName { what: "optimizers", .. }), "{twice}");
}

/// The plugin in a loop by hand does what the trainer does, to the bit.
#[test]
fn a_precision_alone_trains_as_the_trainer_does() {
    let data = batches(6);
    for precision in CPU_PRECISIONS {
        let line = Plain;
        let trainer = builder(precision).max_steps(6).gradient_clip_val(0.5).build().unwrap();
        let fit = trainer.fit(&line, &data).unwrap();
        let mut plugin = trainer.precision_plugin().unwrap();
        let (model, parameters) = trainer.init_module(|vb| line.build(vb)).unwrap();
        let sgd = Sgd::new(parameters.to_named(), SgdConfig { lr: 0.1, ..Default::default() }).unwrap();
        let mut optimizer = sgd.with_clip(Clip::norm(0.5).unwrap());
        for batch in &data {
            let (x, y) = plugin.convert_input(batch.clone()).unwrap();
            let forward = || ops::mse_loss(&model.forward(&x)?, &y, ops::Reduction::Mean);
            let loss = plugin.forward(forward).unwrap();
            let grads = plugin.backward(loss).unwrap();
            plugin.step(&mut optimizer, &grads).unwrap();
        }
        assert_eq!(parameter_bits(&parameters), parameter_bits(&fit.parameters), "{precision}");
        assert_eq!(plugin.state_dict().unwrap(), fit.state().unwrap().scaler, "{precision}");
    }
}

/// One layer under SGD.
struct Plain;

impl TrainingModule for Plain {
    type Model = nn::Linear;
    type Batch = (Tensor, Tensor);

    fn build(&self, vb: VarBuilder) -> Result<nn::Linear> {
        Ok(nn::linear(2, 1, vb)?)
    }
    fn training_step(&self, line: &nn::Linear, (x, y): &Self::Batch, _: &StepContext) -> Result<StepOutput> {
        Ok(ops::mse_loss(&line.forward(x)?, y, ops::Reduction::Mean)?.into())
    }
    fn configure_optimizers(&self, parameters: &Parameters) -> Result<Optimization> {
        Ok(Optimization::new(Sgd::new(parameters.to_named(), SgdConfig { lr: 0.1, ..Default::default() })?))
    }
}

/// Gradients that are clipped outside of the step are those that are clipped inside of it.
#[test]
fn clipping_by_hand_takes_the_scale_out_first() {
    let data = batches(1);
    for precision in ["16-true", "64-true"] {
        let trainer = modest(precision).build().unwrap();
        let mut plugin = trainer.precision_plugin().unwrap();
        let (model, parameters) = trainer.init_module(|vb| Plain.build(vb)).unwrap();
        let optimizer = Sgd::new(parameters.to_named(), SgdConfig { lr: 1., ..Default::default() }).unwrap();
        let (x, y) = plugin.convert_input(data[0].clone()).unwrap();
        let forward = || ops::mse_loss(&model.forward(&x)?, &y, ops::Reduction::Mean);
        let loss = plugin.forward(forward).unwrap();
        let mut grads = plugin.backward(loss).unwrap();
        let before = plugin.clip_gradients(&optimizer, &mut grads, Clip::norm(0.01).unwrap()).unwrap();
        let all = parameters.iter().flat_map(|(_, var)| numbers(grads.get(var).unwrap()));
        let after = all.map(|g| g * g).sum::<f64>().sqrt();
        assert!(
            before > 0.02 && before < 100. && (after - 0.01).abs() < 1e-4,
            "{precision}: {before}, {after}"
        );
    }
}

#[test]
fn every_precision_of_the_machine_is_tried() {
    let found = Trainer::recommend_on("cpu", &Net, &batches(3), 6).unwrap();
    let tried: Vec<Precision> = found.rows.iter().map(|row| row.precision).collect();
    let all = Precision::ALL.into_iter().filter(|p| *p != Precision::F16Mixed);
    assert_eq!(tried, all.collect::<Vec<_>>());
    let bytes = |wanted| {
        let row = found.rows.iter().find(|row| row.precision == wanted).unwrap();
        row.outcome.as_ref().unwrap().state_bytes
    };
    assert!(bytes(Precision::F64True) > bytes(Precision::F32True));
    assert!(found.fastest().is_some() && found.smallest().is_some());
    let table = found.to_string();
    assert!(table.lines().count() == 6 && table.contains("fastest") && table.contains("smallest"), "{table}");
}

#[test]
fn a_precision_that_does_not_train_says_why() {
    /// Candle's own sum of an f32 table and the parameters.
    struct OnlyF32;
    impl TrainingModule for OnlyF32 {
        type Model = Tensor;
        type Batch = Tensor;
        fn build(&self, vb: VarBuilder) -> Result<Tensor> {
            Ok(vb.get(2, "weight")?)
        }
        fn training_step(&self, weight: &Tensor, x: &Tensor, _: &StepContext) -> Result<StepOutput> {
            let table = Tensor::ones(2, DType::F32, x.device())?;
            Ok((weight * table)?.sqr()?.sum_all()?.into())
        }
        fn configure_optimizers(&self, parameters: &Parameters) -> Result<Optimization> {
            Ok(Optimization::new(Sgd::new(
                parameters.to_named(),
                SgdConfig { lr: 0.01, ..Default::default() },
            )?))
        }
    }
    let x = Tensor::ones(2, DType::F32, &Device::Cpu).unwrap();
    let found = Trainer::recommend_on("cpu", &OnlyF32, &[x], 3).unwrap();
    for row in &found.rows {
        let trains = matches!(row.precision, Precision::F32True | Precision::Bf16Mixed);
        assert_eq!(row.outcome.is_ok(), trains, "{}: {:?}", row.precision, row.outcome);
    }
    assert!(found.to_string().contains("does not train"), "{found}");
}

#[test]
fn a_precision_of_ones_own_is_a_string_like_the_others() {
    let table = autocast::OpTable::cpu().with_rule("linear", autocast::CastRule::Fp32).unwrap();
    let own = OwnPrecision::new(DType::F32, DType::BF16, DType::F64).unwrap();
    own.with_table(table).unwrap().register("bf16-but-linear").unwrap();
    let data = batches(3);
    let fit = |precision| {
        let trainer = builder(precision).max_steps(3).build().unwrap();
        let fit = trainer.fit(&Plain, &data).unwrap();
        let predicted = trainer.infer(|| Ok(fit.model.forward(&data[0].0)?)).unwrap();
        (bits(&fit), predicted.dtype(), trainer.precision_name().to_string())
    };
    // Its only product is not cast, so that it computes what 32-true does.
    let own = fit("bf16-but-linear");
    assert_eq!((own.1, own.2.as_str()), (DType::F64, "bf16-but-linear"));
    assert_eq!(own.0, fit("32-true").0);
    assert_ne!(own.0, fit("bf16-mixed").0);
    let unknown = builder("bf16-but-conv").build().unwrap_err().to_string();
    assert!(unknown.contains("bf16-but-conv"), "{unknown}");
}

/// A callback that fits with the trainer that it belongs to would wait for itself.
#[test]
fn a_fit_inside_a_fit_of_the_same_trainer_is_an_error_only_where_they_share_callbacks() {
    struct Quiet;
    impl trainer::Callback for Quiet {
        fn name(&self) -> &'static str {
            "quiet"
        }
    }
    let data = batches(2);
    let nested = |trainer: Trainer| {
        let fit = trainer.fit_with(&Plain, &data, |_| trainer.fit(&Plain, &data).map(drop));
        fit.map(|fit| fit.losses.len())
    };
    assert_eq!(nested(builder("32-true").max_steps(2).build().unwrap()).unwrap(), 2);
    let shared = builder("32-true").max_steps(2).callback(Quiet).build().unwrap();
    let error = nested(shared).unwrap_err();
    assert!(error.to_string().contains("another trainer"), "{error}");
}
