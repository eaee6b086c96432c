//! Event files held to a recording of TensorBoard's own writer, and read with its reader where it is installed.

use std::process::Command;

use super::super::tests::{folder, metrics};
use super::*;

/// What `tests/data/record_tensorboard.py` wrote.
const RECORDED: &[u8] = include_bytes!("../../../tests/data/tensorboard.tfevents");
const TIME: f64 = 1_700_000_000.25;

fn recorded_events() -> Vec<Event> {
    let event = |seconds: f64, step, what| Event { wall_time: TIME + seconds, step, what: Some(what) };
    let summary = |value| What::Summary(Summary { value });
    let table = "| setting | value |\n|---|---|\n| seed | 7 |\n";
    vec![
        event(0., 0, What::FileVersion(FILE_VERSION.to_string())),
        event(0., 11, What::SessionLog(SessionLog { status: START })),
        event(0., 0, summary(vec![Value::text("hyperparameters", table)])),
        event(1., 50, summary(vec![Value::scalar("loss", 0.5), Value::scalar("learning_rate", 1e-3)])),
        event(
            2.,
            3_000_000_000,
            summary(vec![Value::scalar("loss", f64::NAN), Value::scalar("loss_scale", 65536.)]),
        ),
    ]
}

/// Step, tag and value of every scalar in a folder's event files.
fn scalars(folder: &Path) -> Vec<(i64, String, f32)> {
    let mut found = Vec::new();
    for path in TensorBoardLogger::new(folder).event_files().unwrap() {
        let content = fs::read(path).unwrap();
        let mut end = 0;
        for (at, record) in record::records(&content) {
            end = at + record.len() + 16;
            let event = Event::decode(record).unwrap();
            let Some(What::Summary(summary)) = event.what else { continue };
            for value in summary.value {
                if let Some(messages::Content::Scalar(scalar)) = value.content {
                    found.push((event.step, value.tag, scalar));
                }
            }
        }
        assert_eq!(end, content.len(), "a frame that is torn");
    }
    found
}

fn log(folder: &Path, after: usize, steps: std::ops::RangeInclusive<usize>) {
    let mut logger = TensorBoardLogger::new(folder);
    logger.start(after).unwrap();
    logger.log_hyperparameters(&[("data".to_string(), "a|b".to_string())]).unwrap();
    for step in steps {
        logger.log_metrics(step, &metrics(&[("loss", step as f64), ("rate", 0.5)])).unwrap();
    }
    std::mem::forget(logger);
}

#[test]
fn events_are_those_of_tensorboards_writer_to_the_byte() {
    let written: Vec<u8> =
        recorded_events().iter().flat_map(|event| record::frame(&event.encode_to_vec())).collect();
    assert_eq!(written, RECORDED);
}

#[test]
fn a_recorded_file_is_read_back_and_damage_ends_it() {
    let read = |file: &[u8]| record::records(file).count();
    assert_eq!(read(RECORDED), 5);
    for cut in 0..RECORDED.len() {
        assert!(read(&RECORDED[..cut]) < 5, "cut at {cut}");
    }
    for at in 0..RECORDED.len() {
        let mut damaged = RECORDED.to_vec();
        damaged[at] ^= 1;
        assert!(read(&damaged) < 5, "damaged at {at}");
    }
}

#[test]
fn a_resumed_run_has_every_step_once() {
    let folder = folder("tensorboard-resume");
    log(&folder, 0, 1..=5);
    let [path] = &TensorBoardLogger::new(&folder).event_files().unwrap()[..] else { panic!("one file") };
    let torn = [fs::read(path).unwrap(), vec![24, 0, 0]].concat();
    fs::write(path, torn).unwrap();
    log(&folder, 3, 4..=6);
    log(&folder, 5, 6..=6);
    let losses = scalars(&folder).into_iter().filter(|(_, tag, _)| tag == "loss");
    let losses: Vec<_> = losses.map(|(step, _, value)| (step, value)).collect();
    assert_eq!(losses, [(1, 1.), (2, 2.), (3, 3.), (4, 4.), (5, 5.), (6, 6.)]);
}

#[test]
fn a_fit_that_begins_anew_keeps_the_earlier_events() {
    let folder = folder("tensorboard-anew");
    log(&folder, 0, 1..=2);
    log(&folder, 0, 1..=1);
    assert_eq!(scalars(&folder).len(), 2);
    assert_eq!(scalars(&folder.join("earlier-1")).len(), 4);
}

/// Needs a Python with the package `tensorboard`: that of `TENSORBOARD_PYTHON`, or `python3`.
#[test]
fn tensorboard_reads_what_was_logged() {
    let folder = folder("tensorboard-reader");
    log(&folder, 0, 1..=5);
    log(&folder, 3, 4..=6);
    let python = std::env::var("TENSORBOARD_PYTHON").unwrap_or_else(|_| "python3".to_string());
    let has_it = Command::new(&python).args(["-c", "import tensorboard"]).output();
    if !has_it.is_ok_and(|output| output.status.success()) {
        let required = std::env::var("REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|name| name == "tensorboard"), "{python} has no tensorboard");
        println!("SKIPPED: {python} has no tensorboard to read event files with");
        return;
    }
    let script = "
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
run = EventAccumulator(sys.argv[1]).Reload()
print([(event.step, event.value) for event in run.Scalars('loss')])
print(run.Tensors('hyperparameters')[-1].tensor_proto.string_val[0].decode().splitlines()[-1])
";
    let output = Command::new(&python).args(["-c", script]).arg(&*folder).output().unwrap();
    let (read, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let losses = "[(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0), (5, 5.0), (6, 6.0)]";
    assert_eq!(read, format!("{losses}\n| data | a\\|b |\n"), "{errors}");
}
