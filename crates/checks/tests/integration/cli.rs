//! The binary as a user meets it: lines of JSON, and what it says of input that it cannot use.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::process::{Command, Output};

use serde_json::Value;

fn checks(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_checks")).args(arguments.split_whitespace()).output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_line_tells_of_each_workload_at_each_precision() {
    let output = checks("bench train mlp_mini --precision 32-true,bf16-mixed --bs 2 --steps 6");
    let lines = lines(&output);
    assert!(output.status.success() && lines.len() == 2, "{output:?}");
    for (line, precision) in lines.iter().zip(["32-true", "bf16-mixed"]) {
        assert_eq!((&line["w"], &line["p"], &line["bs"]), (&"mlp_mini".into(), &precision.into(), &2.into()));
        let positive = |key: &str| line[key].as_f64().is_some_and(|number| number > 0.);
        assert!(["ms", "min_ms", "per_s"].into_iter().all(positive), "{line}");
        // Only Linux says what was resident.
        assert!(cfg!(not(target_os = "linux")) || positive("peak_mib"), "{line}");
        assert!(line["loss"].as_array().unwrap().iter().all(|loss| loss.as_f64().unwrap() > 0.), "{line}");
    }
}

#[test]
fn what_cannot_be_measured_is_a_line_with_an_error() {
    for (arguments, said) in [
        ("bench train mlp_mini --precision 32-true --steps 5", "take more"),
        ("bench train mlp_mini --precision 32-true --bs 0", "batch"),
        ("bench train mlp_mini --precision 16-mixed", "bf16-mixed"),
        ("bench infer mlp_mini --precision 32-true", "gpt_mini"),
        ("bench infer gpt_mini --precision 32-true --steps 0", "at least one"),
    ] {
        let output = checks(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments}");
        let error = lines(&output)[0]["error"].as_str().unwrap().to_string();
        assert!(error.contains(said), "{arguments}: {error}");
    }
}

/// At every precision of a CPU, in the middle of an epoch, and of an accumulated step.
#[test]
fn runs_go_on_in_another_process_to_the_bit() {
    let output = checks("resume --accelerator cpu");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("PASS: 10 checks passed, 0 failed"), "{said}");
}

#[test]
fn a_fits_overhead_is_a_line_at_each_precision() {
    let output = checks("bench overhead --precision bf16-mixed --steps 3 --bs 1");
    let lines = lines(&output);
    assert!(output.status.success() && lines.len() == 1, "{output:?}");
    let positive = |key: &str| lines[0][key].as_f64().is_some_and(|number| number > 0.);
    assert!(positive("bare_ms") && positive("fit_ms") && lines[0]["overhead"].is_f64(), "{output:?}");
}

#[test]
fn words_that_are_not_known_are_refused_with_those_that_are() {
    for (arguments, known) in [
        ("bench train gpt3", "gpt_mini"),
        ("bench train gpt2 --precision fp16", "16-mixed"),
        ("bench train gpt2 --bs many", "--bs"),
        ("bench ops --dtype f8", "bf16"),
        ("ops --accelerator npu", "gpu"),
        ("everything", "--help"),
    ] {
        let output = checks(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(known), "{arguments}: {said}");
    }
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_gpu_needs_the_feature() {
    for arguments in ["all", "training", "memory", "ops", "bench ops", "bench step"] {
        let output = checks(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.contains("--features cuda"), "{arguments}: {said}");
    }
}

#[test]
fn busy_threads_are_two_lines() {
    let output = checks("bench busy --steps 1 --threads 1");
    let lines = lines(&output);
    assert!(output.status.success() && lines.len() == 2, "{output:?}");
    for line in lines {
        let positive = |key: &str| line[key].as_f64().is_some_and(|number| number > 0.);
        assert!(["alone_ms", "beside_ms", "times"].into_iter().all(positive) && line["busy"] == 1, "{line}");
    }
}
