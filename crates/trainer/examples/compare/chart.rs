//! The loss curves as SVG pictures: which curves there are. They are drawn by the chart of the trainer's report.

use trainer::report::chart::{Chart, Curve, Line, Points, smooth};

use crate::results::Run;

type BoxError = Box<dyn std::error::Error>;

/// Every run's loss over its steps, smoothed so that curves of noisy batches can be told apart.
pub(crate) fn loss_curves(runs: &[Run]) -> Result<String, BoxError> {
    let curves: Vec<Points> = runs.iter().map(smoothed).collect();
    let top = highest(&curves) * 1.05;
    draw(curves, "training loss".to_string(), 0. ..top)
}

/// How far every run's smoothed loss is from that of `baseline`: what rounding did.
pub(crate) fn differences(runs: &[Run], baseline: &Run) -> Result<String, BoxError> {
    let zero = smoothed(baseline);
    let minus_baseline = |curve: Points| -> Points {
        curve.iter().zip(&zero).map(|(&(step, loss), &(_, zero))| (step, loss - zero)).collect()
    };
    let curves: Vec<Points> = runs.iter().map(|run| minus_baseline(smoothed(run))).collect();
    let top = highest(&curves) * 1.1;
    draw(curves, format!("loss minus that of {}", baseline.precision), -top..top)
}

fn smoothed(run: &Run) -> Points {
    let points: Points = run.losses.iter().enumerate().map(|(step, &loss)| (step as f64, loss)).collect();
    smooth(&points)
}

fn highest(curves: &[Points]) -> f64 {
    curves.iter().flatten().map(|&(_, loss)| loss.abs()).fold(1e-6, f64::max)
}

fn draw(curves: Vec<Points>, meaning: String, range: std::ops::Range<f64>) -> Result<String, BoxError> {
    let count = curves.len();
    let curves = curves.into_iter().enumerate().map(|(index, points)| {
        // Earlier curves are wider, so that one that lies under others still shows.
        Curve { points, colour: index, width: 2 * (count - index) as u32, line: Line::Full }
    });
    let chart = Chart { range: Some(range), ..Chart::new(meaning, curves.collect()) };
    Ok(chart.to_svg()?)
}
