//! What goes wrong outside of the arithmetic: disks, folders, batches, and losses that never are a number.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use crate::common::{Layers, Net, Pair, batches, bits, builder, folder, parameter_bits};
use autocast::ops;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use optim::{Sgd, SgdConfig};
use trainer::{
    Error, ModelCheckpoint, Optimization, Parameters, Result, StepContext, StepOutput, TrainingModule,
    TrainingState,
};

#[test]
fn a_folder_that_cannot_be_is_found_before_training() {
    let folder = folder("unwritable");
    std::fs::write(folder.join("file"), b"in the way").unwrap();
    let checkpoint = ModelCheckpoint::new(folder.join("file/checkpoints"));
    let trainer = builder("32-true").max_steps(2).checkpoint(checkpoint).build().unwrap();
    let error = trainer.fit(&Net, &batches(2)).unwrap_err();
    assert!(matches!(&error, Error::Io { .. }) && error.to_string().contains("checkpoints"), "{error}");
}

/// The checkpoint's place is taken by a folder, so that the rename fails as it would on a full disk.
#[test]
fn an_error_of_writing_ends_the_fit_and_keeps_what_was_trained() {
    let folder = folder("no-place");
    std::fs::create_dir_all(folder.join("last.safetensors/in-the-way")).unwrap();
    let checkpoint = ModelCheckpoint::new(&folder).every_n_steps(2);
    let trainer = builder("32-true").max_steps(50).checkpoint(checkpoint).build().unwrap();
    let error = trainer.fit(&Net, &batches(5)).unwrap_err();
    let Error::Stopped { fit, source, .. } = error else { panic!("{error}") };
    assert!(matches!(&*source, Error::Io { path, .. } if path.ends_with("last.safetensors")), "{source}");
    assert!(fit.losses.len() >= 2 && fit.losses.len() < 50, "{}", fit.losses.len());
    assert!(fit.state().is_ok());
}

/// A child whose files may not grow past 2 KiB writes over a checkpoint that is larger.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_the_last_checkpoint_as_it_was() {
    const FOLDER: &str = "FULL_DISK_FOLDER";
    let train = |folder: &std::path::Path, steps| {
        let checkpoint = ModelCheckpoint::new(folder).every_n_steps(1);
        let builder = builder("32-true").max_steps(steps).checkpoint(checkpoint);
        builder.resume_latest(folder).unwrap().build().unwrap().fit(&Net, &batches(5))
    };
    if let Ok(folder) = std::env::var(FOLDER) {
        let error = train(folder.as_ref(), 9).unwrap_err();
        let Error::Stopped { fit, source, .. } = error else { panic!("{error}") };
        assert!(matches!(&*source, Error::Io { .. }), "{source}");
        assert!(!fit.losses.is_empty());
        return;
    }
    let folder = folder("full-disk");
    train(&folder, 3).unwrap();
    let before = std::fs::read(folder.join("last.safetensors")).unwrap();
    assert!(before.len() > 2048, "{}", before.len());
    let this = std::env::current_exe().unwrap();
    let child = std::process::Command::new("bash")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 2; exec \"$0\" --exact failures::a_full_disk_leaves_the_last_checkpoint_as_it_was",
        ])
        .arg(this)
        .env(FOLDER, &folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
    assert_eq!(std::fs::read(folder.join("last.safetensors")).unwrap(), before);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
}

fn poisoned() -> Pair {
    let (x, y) = batches(1)[0].clone();
    ((x * f64::NAN).unwrap(), y)
}

#[test]
fn a_loss_that_never_is_a_number_is_an_error_and_writes_over_nothing() {
    let folder = folder("never");
    let checkpoint = || ModelCheckpoint::new(&folder).every_n_steps(1);
    let good = builder("32-true").max_steps(3).checkpoint(checkpoint()).build().unwrap();
    good.fit(&Net, &batches(3)).unwrap();
    let before = std::fs::read(folder.join("last.safetensors")).unwrap();
    for (steps, taken) in [(500, 20), (3, 3)] {
        let trainer = builder("bf16-mixed").max_steps(steps).checkpoint(checkpoint()).build().unwrap();
        let error = trainer.fit(&Net, std::iter::repeat(poisoned())).unwrap_err();
        assert!(error.to_string().contains("detect_anomaly"), "{error}");
        let fit = error.into_fit().unwrap();
        assert_eq!((fit.losses.len(), fit.skipped_steps), (taken, taken));
        assert!(parameter_bits(&fit.parameters).iter().all(|bits| f64::from_bits(*bits).is_finite()));
    }
    assert_eq!(std::fs::read(folder.join("last.safetensors")).unwrap(), before);
    TrainingState::load(folder.join("last.safetensors")).unwrap();
}

#[test]
fn an_anomaly_is_named_with_its_op_and_parameters() {
    /// `log` of a negative number, behind the layer `scale`; or a square root whose gradient is 0 * inf.
    struct Odd(fn(&Tensor, &Tensor) -> Result<Tensor>);
    impl TrainingModule for Odd {
        type Model = Tensor;
        type Batch = Tensor;
        fn build(&self, vb: VarBuilder) -> Result<Tensor> {
            Ok(vb.pp("scale").get_with_hints(2, "weight", candle_nn::Init::Const(1.))?)
        }
        fn training_step(&self, weight: &Tensor, x: &Tensor, _: &StepContext) -> Result<StepOutput> {
            Ok((self.0)(weight, x)?.into())
        }
        fn configure_optimizers(&self, parameters: &Parameters) -> Result<Optimization> {
            Ok(Optimization::new(Sgd::new(parameters.to_named(), SgdConfig::default())?))
        }
    }
    let x = Tensor::new(&[1f32, -2.], &Device::Cpu).unwrap();
    let odd = |step, x: &Tensor| {
        let trainer = builder("32-true").max_steps(1).detect_anomaly().build().unwrap();
        trainer.fit(&Odd(step), [x.clone()]).unwrap_err().to_string()
    };
    let forward = odd(|w, x| Ok(ops::sum_all(&ops::log(&ops::mul(w, x)?)?)?), &x);
    for part in ["log", "forward", "scale.weight"] {
        assert!(forward.contains(part), "{part} is not in {forward}");
    }
    let zeros = Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap();
    let backward = odd(|w, x| Ok(ops::sum_all(&ops::mul(&ops::sqrt(&ops::mul(w, x)?)?, x)?)?), &zeros);
    for part in ["sqrt", "backward", "scale.weight"] {
        assert!(backward.contains(part), "{part} is not in {backward}");
    }
    let data = odd(|w, x| Ok(ops::sum_all(&ops::mul(w, x)?)?), &(x * f64::NAN).unwrap());
    assert!(data.contains("mul") && data.contains("input 1"), "{data}");
}

#[test]
fn a_step_that_differs_from_itself_is_found() {
    struct Drifts(std::cell::Cell<f64>);
    impl TrainingModule for Drifts {
        type Model = Layers;
        type Batch = Pair;
        fn build(&self, vb: VarBuilder) -> Result<Layers> {
            Net.build(vb)
        }
        fn training_step(&self, net: &Layers, (x, y): &Pair, at: &StepContext) -> Result<StepOutput> {
            self.0.set(self.0.get() + 1.);
            Net.training_step(net, &((x * self.0.get())?, y.clone()), at)
        }
        fn configure_optimizers(&self, parameters: &Parameters) -> Result<Optimization> {
            Net.configure_optimizers(parameters)
        }
    }
    let trainer = builder("bf16-mixed").max_steps(4).deterministic().build().unwrap();
    let error = trainer.fit(&Drifts(Default::default()), &batches(4)).unwrap_err();
    assert!(
        matches!(&error, Error::NotDeterministic { names } if names.contains(&"first.weight".to_string())),
        "{error}"
    );
    // Dropout and running statistics are no drift, and looking changes nothing.
    let looked = trainer.fit(&Net, &batches(4)).unwrap();
    let plain = builder("bf16-mixed").max_steps(4).build().unwrap().fit(&Net, &batches(4)).unwrap();
    assert_eq!(bits(&looked), bits(&plain));
}
