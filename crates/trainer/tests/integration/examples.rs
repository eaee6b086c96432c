//! The numbered examples as a user meets them: each runs in seconds with `--short`, and says what it promises to.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder of the test's own, in which an example is run.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// What an example prints with `--short`. `cargo test` builds examples with the tests; after `cargo test --test integration` alone
/// they are absent or old, and `cargo build --examples` makes them.
#[track_caller]
fn run(example: &str) -> String {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(Path::parent).expect("tests are built in <target>/<profile>/deps");
    let program = target.join("examples").join(format!("{example}{}", std::env::consts::EXE_SUFFIX));
    let output = Command::new(program).arg("--short").current_dir(folder(example)).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{example}: {said}\n{errors}");
    said.into_owned()
}

#[track_caller]
fn check(example: &str, expected: &[&str]) {
    let said = run(example);
    for part in expected {
        assert!(said.contains(part), "{part:?} is not in what {example} says:\n{said}");
    }
}

#[test]
fn the_policy_table() {
    check(
        "01_policy_table",
        &["bf16-mixed   f32", "linear(f32, f32, f32) -> bf16", "softmax(bf16) -> f32", "left alone -> bf16"],
    );
}

#[test]
fn a_hand_written_loop() {
    check("02_hand_written_loop", &["bf16-mixed", "16-true"]);
}

#[test]
fn a_gpt_on_text() {
    check("03_gpt_on_text", &["held out Some(", "it writes: The "]);
    let out = folder_of("03_gpt_on_text").join("target/03_gpt_on_text");
    let report = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains("all steps taken") && report.matches("<svg").count() >= 3);
    let csv = std::fs::read_to_string(out.join("metrics.csv")).unwrap();
    let header = csv.lines().next().unwrap();
    for column in ["step", "train_loss", "val_loss", "learning_rate"] {
        assert!(header.split(',').any(|name| name == column), "{header}");
    }
    assert_eq!(std::fs::read_dir(out.join("tensorboard")).unwrap().count(), 1);
}

fn folder_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[test]
fn an_image_classifier() {
    check("04_image_classifier", &["MaxEpochs after 2 epochs", "val_accuracy", "is taken for a"]);
}

#[test]
fn a_complex_valued_model() {
    check("05_complex_valued", &["32-true: loss", "64-true: loss", "stored in f64"]);
}

#[test]
fn porting_from_candle_nn() {
    let said = run("06_port_from_candle_nn");
    assert_eq!(said.matches("told: no op of the first step followed bf16-mixed").count(), 1, "{said}");
    assert_eq!(said.lines().filter(|line| line.contains("loss")).count(), 8, "{said}");
    assert!(said.contains("the same, asked   bf16-mixed"), "{said}");
}

#[test]
fn resuming_after_a_kill() {
    check("07_resume_after_kill", &["more steps", "to the bit; the log has 60 rows for 60 steps"]);
}

#[test]
fn fine_tuning_from_pytorch() {
    check("08_fine_tune_pytorch", &["from nothing: loss", "from PyTorch: loss", "saved "]);
}

#[test]
fn a_recommendation() {
    check("09_recommend", &["bf16-mixed", "fastest", "smallest", "report.html"]);
    let report =
        std::fs::read_to_string(folder_of("09_recommend").join("target/09_recommend/report.html")).unwrap();
    assert!(report.contains("Where each precision stands, on the") && report.contains("<td>64-true</td>"));
}

#[test]
fn a_resnet_on_digits() {
    let said = run("10_resnet_on_digits");
    for precision in ["32-true", "bf16-mixed"] {
        let line = said.lines().find(|line| line.starts_with(precision)).unwrap();
        let right = line.split_once(", ").and_then(|(_, rest)| rest.split(' ').next()).unwrap();
        // A guess is right for one in ten.
        assert!(right.parse::<f64>().unwrap() > 60., "{said}");
    }
}
