//! The `compare` example as a user meets it: what it writes, and one line for input that it cannot use.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The example's binary. `cargo test` builds it with the tests; after `cargo test --test integration` alone it is absent
/// or old, and `cargo build --example compare` makes it.
fn compare() -> Command {
    let test = std::env::current_exe().expect("a test knows its own path");
    let target = test.parent().and_then(Path::parent).expect("tests are built in <target>/<profile>/deps");
    Command::new(target.join("examples").join(format!("compare{}", std::env::consts::EXE_SUFFIX)))
}

/// An empty folder of the test's own.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn write(folder: &Path, content: &[u8]) -> String {
    let file = folder.join("data.txt");
    std::fs::write(&file, content).unwrap();
    file.to_str().unwrap().to_string()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// `arguments` are refused before anything is written, in one line that contains every one of `expected`.
#[track_caller]
fn check_refused(name: &str, arguments: &[&str], expected: &[&str]) {
    let out = folder(name).join("out");
    let output = compare()
        .args(["--steps", "2"])
        .args(arguments)
        .arg("--out")
        .arg(&out)
        .env("RUST_BACKTRACE", "1")
        .output()
        .unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert_eq!(message.trim_end().lines().count(), 1, "{message}");
    for word in expected {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
    assert!(!out.join("report.html").exists() && !out.join("report.json").exists());
}

#[test]
fn an_unknown_precision_lists_the_known_ones() {
    check_refused("unknown", &["--precision", "fp16"], &["fp16", "16-mixed", "bf16-true", "64-true"]);
}

#[test]
fn one_wrong_precision_stops_all_of_them() {
    check_refused("one_wrong", &["--precision", "32-true,8"], &["8"]);
}

#[test]
fn f16_mixed_on_a_cpu_names_bf16_mixed() {
    check_refused(
        "f16_cpu",
        &["--precision", "16-mixed", "--accelerator", "cpu"],
        &["16-mixed", "bf16-mixed"],
    );
}

#[test]
fn a_tpu_is_not_available_here() {
    check_refused("tpu", &["--accelerator", "tpu"], &["no TPU runtime is available here"]);
}

#[test]
fn an_unknown_accelerator_lists_the_known_ones() {
    check_refused("npu", &["--accelerator", "npu"], &["npu", "cpu", "gpu", "auto"]);
}

#[test]
fn zero_steps_are_refused() {
    check_refused("zero", &["--steps", "0"], &["at least one step"]);
}

#[test]
fn a_word_for_a_number_is_refused() {
    check_refused("word", &["--seed", "many"], &["many", "--seed", "--help"]);
}

#[test]
fn an_unknown_option_points_at_the_help() {
    check_refused("bogus", &["--bogus"], &["--bogus", "--help"]);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_gpu_needs_the_feature() {
    check_refused("gpu", &["--accelerator", "gpu"], &["no GPU is available here", "--features cuda"]);
}

#[test]
fn a_missing_file_is_named() {
    check_refused("missing", &["--data", "no/such/file.txt"], &["no/such/file.txt", "--data"]);
}

#[test]
fn an_empty_file_is_refused() {
    let file = write(&folder("empty_data"), b"");
    check_refused("empty", &["--data", &file], &["data.txt", "is empty"]);
}

#[test]
fn a_file_that_is_not_text_is_refused() {
    let file = write(&folder("binary_data"), &[b'a', b'b', 0xff, 0xfe]);
    check_refused("binary", &["--data", &file], &["data.txt", "not UTF-8", "2"]);
}

#[test]
fn a_file_that_is_too_short_says_what_is_enough() {
    let file = write(&folder("short_data"), "short".as_bytes());
    check_refused("short", &["--data", &file], &["5 bytes", "at least 130"]);
}

#[test]
fn a_text_is_trained_on_at_every_precision_of_a_cpu() {
    let folder = folder("text");
    let text = "It was the best of times, it was the worst of times. ".repeat(40);
    let file = write(&folder, text.as_bytes());
    let out = folder.join("out");
    let output = compare()
        .args(["--accelerator", "cpu", "--steps", "3", "--data", &file, "--out"])
        .arg(&out)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));

    let json = std::fs::read_to_string(out.join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    let runs = report["runs"].as_array().unwrap();
    let precisions: Vec<_> = runs.iter().map(|run| run["precision"].as_str().unwrap()).collect();
    assert_eq!(precisions, ["32-true", "bf16-mixed", "16-true", "bf16-true", "64-true"]);
    for run in runs {
        assert_eq!(run["losses"].as_array().unwrap().len(), 3);
        assert!(run["heldout_loss"].as_f64().unwrap().is_finite(), "{run}");
        assert!(run["peak_bytes"].as_u64().unwrap() > 100_000, "{run}");
        // The same weights and batches: precisions differ by rounding only before the first update.
        let difference = run["first_loss"].as_f64().unwrap() - runs[0]["first_loss"].as_f64().unwrap();
        assert!(difference.abs() < 0.05, "{run}");
    }
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("verdict") && table.contains("fastest"), "{table}");
    let html = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(html.contains("<svg") && html.contains("bf16-mixed") && html.ends_with("</html>\n"));
    assert!(
        !html.contains("http://")
            || html.matches("http://").count() == html.matches("http://www.w3.org").count()
    );
    assert!(!html.contains("https://"), "the report opens offline");
}
