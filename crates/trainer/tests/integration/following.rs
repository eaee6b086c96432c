//! A fit with all that follows and feeds it: callbacks, loggers, the progress lines, the report and the loader, together with
//! the loop that calls them.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use trainer::autocast::{nn, ops};
use trainer::callbacks::{
    EarlyStopping, EarlyStoppingConfig, LearningRateMonitor, PrecisionMonitor, PrecisionMonitorConfig,
    ThroughputMonitor,
};
use trainer::candle_core::{Device, Module, Tensor};
use trainer::candle_nn::VarBuilder;
use trainer::data::{Dataset, Loader, LoaderConfig, Order};
use trainer::optim::{AdamW, AdamWConfig};
use trainer::{
    CsvLogger, EndReason, Error, HtmlReport, JsonLinesLogger, ModelSummary, Optimization, Parameters,
    ProgressBar, StepContext, StepOutput, Trainer, TrainerBuilder, TrainingModule,
};

/// A line through samples, at a learning rate.
struct Line {
    lr: f64,
}

impl TrainingModule for Line {
    type Model = nn::Linear;
    type Batch = (Tensor, Tensor);

    fn build(&self, vb: VarBuilder) -> trainer::Result<nn::Linear> {
        Ok(nn::linear(2, 1, vb.pp("line"))?)
    }

    fn training_step(
        &self,
        line: &nn::Linear,
        (x, y): &Self::Batch,
        _: &StepContext,
    ) -> trainer::Result<StepOutput> {
        Ok(ops::mse_loss(&line.forward(x)?, y, ops::Reduction::Mean)?.into())
    }

    fn configure_optimizers(&self, parameters: &Parameters) -> trainer::Result<Optimization> {
        let config = AdamWConfig { lr: self.lr, ..Default::default() };
        Ok(Optimization::new(AdamW::new(parameters.to_named(), config)?))
    }
}

/// 40 samples; the one at `panics_at` cannot be had.
struct Samples {
    panics_at: Option<usize>,
}

impl Dataset for Samples {
    type Item = (Tensor, Tensor);

    fn len(&self) -> usize {
        40
    }

    fn get(&self, index: usize) -> trainer::Result<Self::Item> {
        assert_ne!(Some(index), self.panics_at, "the disk is on fire");
        let x = [(index as f32).sin(), (index as f32).cos()];
        Ok((Tensor::new(&x, &Device::Cpu)?, Tensor::new(&[x[0] - 2. * x[1]], &Device::Cpu)?))
    }
}

fn loader(workers: usize) -> Loader<Samples, (Tensor, Tensor)> {
    let order = Order::Shuffled { seed: 5 };
    let config = LoaderConfig { batch_size: 4, order, workers, ..Default::default() };
    Loader::new(Samples { panics_at: None }, config).unwrap()
}

fn builder(precision: &str) -> TrainerBuilder {
    Trainer::builder().precision(precision).accelerator("cpu").seed(1).on_notice(|_| ())
}

/// A folder of the test's own.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("following-{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// What is written to it, to be read by the test.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_fit_stops_when_validation_gets_no_better_and_says_why() {
    // A learning rate of 0: nothing gets better after the first validation.
    let stopping = EarlyStopping::new(EarlyStoppingConfig { patience: 2, ..Default::default() }).unwrap();
    let trainer = builder("32-true").max_epochs(10).callback(stopping).build().unwrap();
    let fit = trainer.fit_validated(&Line { lr: 0. }, loader(0), loader(0)).unwrap();
    assert_eq!(fit.position.epoch, 3);
    let EndReason::Stopped(reason) = fit.reason else { panic!("{:?}", fit.reason) };
    assert!(reason.contains("val_loss got no better"), "{reason}");
}

#[test]
fn a_metric_that_no_validation_gives_ends_the_fit_with_its_name() {
    let config = EarlyStoppingConfig { monitor: "val_f1".into(), ..Default::default() };
    let trainer =
        builder("32-true").max_epochs(2).callback(EarlyStopping::new(config).unwrap()).build().unwrap();
    let error = trainer.fit_validated(&Line { lr: 0.1 }, loader(0), loader(0)).unwrap_err().to_string();
    assert!(error.contains("val_f1") && error.contains("val_loss"), "{error}");
}

#[test]
fn loggers_have_every_number_under_its_step() {
    let folder = folder("loggers");
    let (csv, json) = (folder.join("run.csv"), folder.join("run.jsonl"));
    let trainer = builder("32-true")
        .max_epochs(2)
        .log_every_n_steps(5)
        .logger(CsvLogger::new(&csv))
        .logger(JsonLinesLogger::new(&json))
        .callback(LearningRateMonitor::new(10).unwrap())
        .callback(ThroughputMonitor::new(10).unwrap())
        .build()
        .unwrap();
    let fit = trainer.fit_validated(&Line { lr: 0.05 }, loader(2), loader(0)).unwrap();
    let rows: Vec<serde_json::Value> =
        text(&json).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows[0]["hyperparameters"]["precision"], "32-true");
    let with = |name: &str| -> Vec<u64> {
        rows.iter().filter(|row| row.get(name).is_some()).map(|row| row["step"].as_u64().unwrap()).collect()
    };
    assert_eq!(with("train_loss"), [5, 10, 15, 20]);
    assert_eq!(with("learning_rate"), [10, 20]);
    assert_eq!(with("samples_per_second"), [10, 20]);
    assert_eq!(with("peak_memory"), [10, 20]);
    assert_eq!(with("val_loss"), [10, 20]);
    let last = rows.iter().rev().find_map(|row| row.get("val_loss")).unwrap();
    assert_eq!(last.as_f64(), fit.metrics.get("val_loss"));
    let header = text(&csv).lines().next().unwrap().to_string();
    for column in ["train_loss", "learning_rate", "val_loss", "memory"] {
        assert!(header.split(',').any(|name| name == column), "{header}");
    }
}

#[test]
fn a_resumed_fit_logs_and_trains_as_one_that_was_not_interrupted() {
    let folder = folder("resumed");
    let (straight, resumed) = (folder.join("straight.csv"), folder.join("resumed.csv"));
    let with = |path: &Path, steps| {
        builder("bf16-mixed").max_steps(steps).log_every_n_steps(1).logger(CsvLogger::new(path))
    };
    let module = Line { lr: 0.05 };
    with(&straight, 25).build().unwrap().fit(&module, loader(0)).unwrap();

    // The state is of step 13, in the middle of an epoch; the first fit went on to 18 and logged that.
    let state = with(&folder.join("first.csv"), 13)
        .build()
        .unwrap()
        .fit(&module, loader(1))
        .unwrap()
        .state()
        .unwrap();
    with(&resumed, 18).build().unwrap().fit(&module, loader(2)).unwrap();
    with(&resumed, 25).resume(state).build().unwrap().fit(&module, loader(3)).unwrap();
    assert_eq!(text(&resumed), text(&straight));
}

#[test]
fn a_worker_that_panics_ends_the_fit_with_what_was_trained() {
    for workers in [0, 2] {
        let config = LoaderConfig { batch_size: 4, workers, ..Default::default() };
        let loader = Loader::new(Samples { panics_at: Some(30) }, config).unwrap();
        let trainer = builder("32-true").max_epochs(3).build().unwrap();
        let error = trainer.fit(&Line { lr: 0.05 }, &loader).unwrap_err();
        assert!(error.to_string().contains("[30]") && error.to_string().contains("on fire"), "{error}");
        let Error::Stopped { fit, .. } = error else { panic!("{error}") };
        assert_eq!(fit.losses.len(), 7);
    }
}

#[test]
fn precision_is_monitored_by_layer_and_warned_of_by_name() {
    let folder = folder("precision");
    let json = folder.join("run.jsonl");
    let warned: Arc<Mutex<Vec<String>>> = Arc::default();
    let listener = warned.clone();
    // Changes of 2e-10 of weights of about 0.5 are below half of f32's epsilon.
    let monitor = PrecisionMonitor::new(PrecisionMonitorConfig { every_n_steps: 4, ..Default::default() })
        .unwrap()
        .on_warning(move |warning| listener.lock().unwrap().push(warning.to_string()));
    let trainer = builder("bf16-mixed")
        .max_steps(9)
        .log_every_n_steps(100)
        .logger(JsonLinesLogger::new(&json))
        .callback(monitor)
        .build()
        .unwrap();
    trainer.fit(&Line { lr: 2e-10 }, loader(0)).unwrap();
    let rows: Vec<serde_json::Value> =
        text(&json).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let monitored: Vec<&serde_json::Value> =
        rows.iter().filter(|row| row.get("grad_underflow/line").is_some()).collect();
    assert_eq!(monitored.iter().map(|row| row["step"].as_u64().unwrap()).collect::<Vec<_>>(), [4, 8]);
    for row in monitored {
        assert_eq!(row["grad_underflow/line"], 0.);
        assert_eq!(row["grad_overflow/line"], 0.);
    }
    // Once, although it was seen twice.
    let warned = warned.lock().unwrap();
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].starts_with("a step changes line by"), "{warned:?}");
}

#[test]
fn progress_is_plain_lines_where_nobody_watches() {
    let lines = Shared::default();
    let trainer =
        builder("32-true").max_steps(15).callback(ProgressBar::lines_to(lines.clone())).build().unwrap();
    trainer.fit_validated(&Line { lr: 0.05 }, loader(0), loader(0)).unwrap();
    let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[0].starts_with("step 1/15  epoch 0  loss "), "{said}");
    assert!(lines[0].contains("lr 5.00e-2"), "{said}");
    let last = lines[lines.len() - 1];
    assert!(last.starts_with("step 15/15  loss "), "{said}");
    assert!(last.ends_with("all steps taken"), "{said}");
}

#[test]
fn a_report_is_written_whatever_the_end() {
    let folder = folder("report");
    for (name, panics_at, end) in [("good", None, "all steps taken"), ("bad", Some(30), "failed: ")] {
        let path = folder.join(name).join("report.html");
        let report =
            HtmlReport::new(&path).every_n_steps(2).unwrap().with_title("A line").with_setting("width", 2);
        let trainer = builder("32-true").max_steps(20).callback(report).build().unwrap();
        let config = LoaderConfig { batch_size: 4, ..Default::default() };
        let fit = trainer.fit(&Line { lr: 0.05 }, Loader::new(Samples { panics_at }, config).unwrap());
        assert_eq!(fit.is_ok(), panics_at.is_none());
        let page = text(&path);
        for part in
            ["<title>A line</title>", end, "<td>width</td><td>2</td>", "<td>precision</td>", "Learning rate"]
        {
            assert!(page.contains(part), "{part}");
        }
    }
}

#[test]
fn a_summary_counts_what_the_optimizer_keeps() {
    let trainer = builder("bf16-true").build().unwrap();
    let (_, parameters) = trainer.init_module(|vb| Line { lr: 0.1 }.build(vb)).unwrap();
    let optimizer = AdamW::new(parameters.to_named(), AdamWConfig::default()).unwrap();
    let state = trainer::optim::Optimizer::state_dict(&optimizer).unwrap();
    let total = ModelSummary::new(&parameters).with_optimizer_state(&state).total();
    assert_eq!((total.parameters, total.parameter_bytes, total.gradient_bytes), (3, 6, 6));
    // Two moments and a master in f32 for each of three numbers, and what counts each parameter's steps.
    assert!(total.optimizer_bytes >= 36, "{total:?}");
}
