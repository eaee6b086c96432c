//! What every logger of files promises: rows as logged, readable at any moment, resumed without a step twice.

use std::fs;

use super::*;
use crate::Logger;
use crate::doc_example::{self, Folder};

/// A folder of its own for each test.
pub(super) fn folder(test: &str) -> Folder {
    let folder = doc_example::folder(&format!("logger-{test}"));
    fs::create_dir_all(&folder).unwrap();
    folder
}

pub(super) fn metrics(values: &[(&str, f64)]) -> Vec<(String, f64)> {
    values.iter().map(|&(name, value)| (name.to_string(), value)).collect()
}

fn text(path: &std::path::Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// Logs a loss at `steps` from a start after `step`; the logger is forgotten, as by a kill.
fn log(mut logger: impl Logger, step: usize, steps: impl IntoIterator<Item = usize>) {
    logger.start(step).unwrap();
    for step in steps {
        logger.log_metrics(step, &metrics(&[("loss", step as f64)])).unwrap();
    }
    std::mem::forget(logger);
}

#[test]
fn a_metric_that_comes_later_gets_a_column() {
    let folder = folder("columns");
    let path = folder.join("deep/run.csv");
    let mut logger = CsvLogger::new(&path);
    logger.start(0).unwrap();
    logger.log_metrics(1, &metrics(&[("loss", 0.5), ("rate", 1e-30)])).unwrap();
    logger.log_metrics(2, &metrics(&[("val, \"loss\"", f64::NAN)])).unwrap();
    logger.log_metrics(3, &metrics(&[("rate", f64::INFINITY), ("loss", -2.)])).unwrap();
    let expected = "step,loss,rate,\"val, \"\"loss\"\"\"\n1,0.5,1e-30,\n2,,,NaN\n3,-2.0,inf,\n";
    assert_eq!(text(&path), expected);

    logger.start(2).unwrap();
    logger.log_metrics(3, &metrics(&[("loss", 7.)])).unwrap();
    assert_eq!(text(&path), expected.replace("3,-2.0,inf,", "3,7.0,,"));
}

#[test]
fn settings_of_a_csv_are_beside_it() {
    let folder = folder("settings");
    let path = folder.join("run.csv");
    let mut logger = CsvLogger::new(&path);
    logger.log_hyperparameters(&[("text".to_string(), "a,b".to_string())]).unwrap();
    assert_eq!(text(&path.with_file_name("run.hyperparameters.csv")), "setting,value\ntext,\"a,b\"\n");
}

#[test]
fn json_lines_hold_every_number() {
    let folder = folder("json");
    let path = folder.join("run.jsonl");
    let mut logger = JsonLinesLogger::new(&path);
    logger.log_hyperparameters(&[("seed".to_string(), "7".to_string())]).unwrap();
    let values = [("loss", 0.1), ("nan", f64::NAN), ("inf", f64::NEG_INFINITY)];
    logger.log_metrics(50, &metrics(&values)).unwrap();
    let lines: Vec<serde_json::Value> =
        text(&path).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["hyperparameters"]["seed"], "7");
    assert_eq!(lines[1]["step"], 50);
    assert_eq!(lines[1]["loss"], 0.1);
    assert_eq!((&lines[1]["nan"], &lines[1]["inf"]), (&"NaN".into(), &"-inf".into()));
}

#[test]
fn a_resumed_run_logs_no_step_twice_and_begins_after_a_torn_row() {
    let folder = folder("resume");
    let (csv, json) = (folder.join("run.csv"), folder.join("run.jsonl"));
    log(CsvLogger::new(&csv), 0, 1..=5);
    log(JsonLinesLogger::new(&json), 0, 1..=5);
    // What a machine that lost its power leaves of a row.
    for (path, torn) in [(&csv, "6,6."), (&json, "{\"step\":6,\"lo")] {
        fs::write(path, text(path) + torn).unwrap();
    }
    log(CsvLogger::new(&csv), 3, 4..=4);
    log(JsonLinesLogger::new(&json), 3, 4..=4);
    assert_eq!(text(&csv), "step,loss\n1,1.0\n2,2.0\n3,3.0\n4,4.0\n");
    let steps: Vec<u64> = text(&json)
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [1, 2, 3, 4]);
}

#[test]
fn a_fit_that_begins_anew_keeps_what_an_earlier_one_logged() {
    let folder = folder("anew");
    let (csv, json) = (folder.join("run.csv"), folder.join("run"));
    for last in 1..=3 {
        log(CsvLogger::new(&csv), 0, 1..=last);
        log(JsonLinesLogger::new(&json), 0, 1..=last);
    }
    assert_eq!(text(&csv).lines().count(), 4);
    assert_eq!(text(&folder.join("run.earlier-1.csv")).lines().count(), 2);
    assert_eq!(text(&folder.join("run.earlier-2.csv")).lines().count(), 3);
    assert_eq!(text(&json).lines().count(), 3);
    assert_eq!(text(&folder.join("run.earlier-2")).lines().count(), 2);
}

#[test]
fn a_file_of_another_kind_is_named_and_left_alone() {
    let folder = folder("foreign");
    let logged = [folder.join("a.csv"), folder.join("b.csv"), folder.join("c.jsonl")];
    let contents = ["name,age\nx,3\n", "step,loss\nlast,3\n", "step 3\n"];
    for (path, content) in logged.iter().zip(contents) {
        fs::write(path, content).unwrap();
        let mut logger: Box<dyn Logger> = match path.extension().unwrap().to_str() {
            Some("csv") => Box::new(CsvLogger::new(path)),
            _ => Box::new(JsonLinesLogger::new(path)),
        };
        let error = logger.start(3).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert_eq!(text(path), content);
    }
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let folder = folder("unwritable");
    let file = folder.join("file");
    fs::write(&file, "x").unwrap();
    let below = file.join("below");
    let loggers: [Box<dyn Logger>; 3] = [
        Box::new(CsvLogger::new(below.join("run.csv"))),
        Box::new(JsonLinesLogger::new(below.join("run.jsonl"))),
        Box::new(TensorBoardLogger::new(&below)),
    ];
    for mut logger in loggers {
        let error = logger.start(0).unwrap_err().to_string();
        assert!(error.contains(below.to_str().unwrap()), "{error}");
    }
}
