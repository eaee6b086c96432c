//! Files that may be anything: what is wrong is told with the file's name, nothing panics, and nothing is changed.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::HashMap;
use std::path::Path;

use crate::common::{Net, batches, bits, builder, folder, numbers, parameter_bits};
use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use trainer::{
    Best, Error, ModelCheckpoint, Precision, Strictness, TrainingState, load_weights, weights_under,
};

/// Mutated precisions that are read; `FUZZ_CASES` sets it.
fn cases() -> usize {
    std::env::var("FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(3_000)
}

fn state() -> TrainingState {
    let fit = builder("16-true").max_steps(3).accumulate_grad_batches(2).build().unwrap();
    fit.fit(&Net, &batches(5)).unwrap().state().unwrap()
}

/// What names the file and says what is wrong with it.
#[track_caller]
fn check_refused(path: &Path, expected: &str) {
    for error in [TrainingState::load(path).unwrap_err(), load_or_latest(path)] {
        let text = error.to_string();
        assert!(text.contains(path.file_name().unwrap().to_str().unwrap()), "{text}");
        assert!(text.contains(expected), "{expected:?} is not in {text:?}");
    }
}

fn load_or_latest(path: &Path) -> Error {
    TrainingState::latest(path.parent().unwrap()).unwrap_err()
}

#[test]
fn what_is_wrong_with_a_file_is_told() {
    let path = folder("damaged").join("state.safetensors");
    state().save(&path).unwrap();
    let good = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let with_header = |change: &dyn Fn(String) -> String| {
        let header = change(String::from_utf8(good[8..8 + length].to_vec()).unwrap());
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &good[8 + length..]].concat()
    };
    let huge = [&u64::MAX.to_le_bytes()[..], &good[8..]].concat();
    for (bytes, expected) in [
        (Vec::new(), "header"),
        (good[..5].to_vec(), "header"),
        (good[..length].to_vec(), "header"),
        (huge, "header"),
        (b"{\"step\": 3}".to_vec(), "header"),
        (with_header(&|header| header.replace("training-state-1", "training-state-9")), "training-state-9"),
        (with_header(&|header| header.replace("\\\"seed\\\":7", "\\\"seed\\\":-7")), "about"),
        (
            with_header(&|header| {
                header.replace("\\\"precision\\\":\\\"16-true\\\"", "\\\"precision\\\":\\\"fp16\\\"")
            }),
            "fp16",
        ),
        (with_header(&|header| header.replace("\"about\":", "\"abut\":")), "'about'"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        check_refused(&path, expected);
    }
    // A part of the tensors is missing, and a tensor that has no place.
    std::fs::write(&path, &good[..good.len() - 4]).unwrap();
    assert!(matches!(TrainingState::load(&path), Err(Error::NotAState { .. })));
    let stranger =
        with_header(&|header| header.replace("\"parameter.first.bias\"", "\"paramater.first.bias\""));
    std::fs::write(&path, stranger).unwrap();
    let error = TrainingState::load(&path).unwrap_err().to_string();
    assert!(error.contains("paramater.first.bias"), "{error}");
    assert!(matches!(TrainingState::load(folder("none").join("x.safetensors")), Err(Error::Io { .. })));
}

#[test]
fn a_model_beside_the_states_is_no_state() {
    let folder = folder("beside");
    let fit = builder("32-true").max_steps(2).build().unwrap().fit(&Net, &batches(2)).unwrap();
    fit.parameters.save(folder.join("model.safetensors")).unwrap();
    assert!(TrainingState::latest(&folder).unwrap().is_none());
    fit.state().unwrap().save(folder.join("state.safetensors")).unwrap();
    assert_eq!(TrainingState::latest(&folder).unwrap().unwrap().position.step, 2);
}

#[test]
fn mutated_precisions_are_errors_or_precisions() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for _ in 0..cases() {
        let mut name: Vec<char> = Precision::ALL[rng.random_range(0..6)].as_str().chars().collect();
        for _ in 0..rng.random_range(0..3) {
            let at = rng.random_range(0..name.len());
            name[at] = char::from_u32(rng.random_range(0..0x2ff)).unwrap_or('x');
        }
        let name: String = name.into_iter().collect();
        match builder(&name).build() {
            Ok(trainer) => assert!(Precision::ALL.iter().any(|p| *p == trainer.precision())),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

#[test]
fn weights_go_to_candle_and_come_from_pytorch_and_lightning() {
    let folder = folder("weights");
    let fit = builder("bf16-true").max_steps(4).build().unwrap().fit(&Net, &batches(4)).unwrap();
    // To candle, as it is.
    let path = folder.join("model.safetensors");
    fit.parameters.save(&path).unwrap();
    let varmap = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    assert_eq!(varmap["first.weight"].dtype(), DType::BF16);
    assert_eq!(
        numbers(&varmap["norm.running_mean"]),
        numbers(fit.parameters.get("norm.running_mean").unwrap())
    );
    // From a checkpoint of ours, the parameters alone.
    let checkpoint = folder.join("state.safetensors");
    fit.state().unwrap().save(&checkpoint).unwrap();
    assert_eq!(load_weights(&checkpoint).unwrap().len(), fit.parameters.len());
    // As a LightningModule exports them: under `model.`, with a counter of BatchNorm's and a weight of the loss's.
    let mut exported: HashMap<String, Tensor> =
        varmap.into_iter().map(|(name, value)| (format!("model.{name}"), value)).collect();
    let scalar = Tensor::new(4i64, &Device::Cpu).unwrap();
    exported.insert("model.norm.num_batches_tracked".to_string(), scalar);
    exported.insert("loss.weight".to_string(), Tensor::ones(3, DType::F16, &Device::Cpu).unwrap());
    let path = folder.join("lightning.safetensors");
    candle_core::safetensors::save(&exported, &path).unwrap();
    let values = weights_under("model.", load_weights(&path).unwrap());
    let builder = builder("32-true").initial_values_with(values, Strictness::Lenient).max_steps(1);
    let (_, parameters) =
        builder.build().unwrap().init_module(|vb| trainer::TrainingModule::build(&Net, vb)).unwrap();
    assert_eq!(parameter_bits(&parameters), parameter_bits(&fit.parameters));
}

#[test]
fn the_best_are_kept_and_the_last_goes_on() {
    let folder = folder("kept");
    let (data, validation) = (batches(4), batches(2));
    let fit = |epochs| {
        let checkpoint = ModelCheckpoint::new(&folder).save_top_k(2, "val_loss", Best::Lowest);
        let builder = builder("32-true").max_epochs(epochs).checkpoint(checkpoint);
        let trainer = builder.resume_latest(&folder).unwrap().build().unwrap();
        trainer.fit_validated(&Net, &data, &validation).unwrap()
    };
    let names = || {
        let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    };
    fit(3);
    assert_eq!(names().len(), 3, "{:?}", names());
    let straight = builder("32-true").max_epochs(6).build().unwrap().fit_validated(&Net, &data, &validation);
    let resumed = fit(6);
    assert_eq!(bits(&resumed).1, bits(&straight.unwrap()).1);
    let names = names();
    assert!(names.len() == 3 && names[2] == "last.safetensors", "{names:?}");
    assert!(names[0].starts_with("epoch=") && names[0].contains("-val_loss="), "{names:?}");
    // The best of six epochs, whichever fit they were of.
    let last = resumed.metrics.get("val_loss").unwrap();
    let value =
        |name: &str| name.split("val_loss=").nth(1)?.strip_suffix(".safetensors")?.parse::<f64>().ok();
    assert!(names[..2].iter().any(|name| value(name).unwrap() <= last + 1e-4), "{names:?} and {last}");
}
