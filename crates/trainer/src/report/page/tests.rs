//! Pages of made-up runs.

use super::super::record::Table;
use super::*;

/// A run of 400 steps that scales its loss.
pub(in super::super) fn run() -> Record {
    let mut run = Record { samples: 12_800, steps: 400, skipped_steps: 3, ..Default::default() };
    for step in 1..=400 {
        let progress = step as f64 / 400.;
        let noise = ((step * 7919) % 101) as f64 / 101. - 0.5;
        run.loss.push(step, 2.5 * (-3. * progress).exp() + 0.3 + 0.25 * noise);
        run.learning_rate.push(step, 1e-3 * (1. + (std::f64::consts::PI * progress).cos()) / 2.);
        run.loss_scale.push(
            step,
            if step < 150 {
                65536.
            } else if step < 300 {
                32768.
            } else {
                65536.
            },
        );
        run.skipped.push(step, (step / 130) as f64);
        run.memory.push(step, 500e6 + 2e6 * (step as f64).sqrt());
        if step % 50 == 0 {
            run.validation
                .entry("val_loss".into())
                .or_default()
                .push(step, 2.6 * (-2.7 * progress).exp() + 0.4);
            run.validation.entry("val_accuracy".into()).or_default().push(step, 0.2 + 0.6 * progress);
        }
    }
    run.settings = vec![("precision".to_string(), "16-mixed".to_string())];
    run.ended = Some("all steps taken".to_string());
    run.notices = vec!["seed has no effect: <why>".to_string()];
    let row = |cells: [&str; 3]| cells.map(String::from).to_vec();
    run.tables.push(Table {
        title: "Where each precision stands".to_string(),
        header: row(["precision", "ms/step", "peak MiB"]),
        rows: vec![row(["16-mixed", "4.2", "120"]), row(["32-true", "9.9", "230"])],
    });
    run
}

#[test]
fn a_page_shows_all_there_is_and_needs_nothing_else() {
    let page = html("GPT & co", &run(), 64.).unwrap();
    if let Some(path) = std::env::var_os("REPORT_HTML") {
        std::fs::write(path, &page).unwrap();
    }
    for part in [
        "GPT &amp; co",
        "Loss scale",
        "2^16",
        "Steps skipped so far",
        "val_accuracy",
        "Memory",
        "&lt;why&gt;",
        "200</b>samples a second",
        "1:04</b>time",
        "<td>32-true</td>",
        "all steps taken",
        "validation",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(page.matches("<svg").count(), 6);
    // Nothing but the namespace of SVG looks like an address.
    assert_eq!(page.matches("http").count(), page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count());
    assert!(!page.contains("<script") && !page.contains("<why>"));
}

#[test]
fn what_a_run_does_not_have_is_left_out() {
    let page = html("empty", &Record::default(), 0.).unwrap();
    assert!(!page.contains("<svg") && !page.contains("What came up"));
    let mut run = run();
    run.loss_scale = Series::default();
    run.loss_scale.push(1, 1.);
    run.skipped = Series::default();
    let page = html("32-true", &run, 1.).unwrap();
    assert!(!page.contains("Loss scale") && !page.contains("Steps skipped so far"));
}

#[test]
fn a_loss_that_is_no_number_still_makes_a_page() {
    let mut run = Record::default();
    run.loss.push(1, f64::NAN);
    assert!(html("NaN", &run, 1.).unwrap().contains("<b>NaN</b>last loss"));
}
