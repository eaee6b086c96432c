//! The loss curves as SVG pictures.

use std::ops::Range;

use plotters::prelude::*;

use crate::results::Run;

const SIZE: (u32, u32) = (960, 380);

/// The colour of each curve: readable side by side, also for colour-blind eyes (Okabe and Ito's palette).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// The colour of the run at `index`, for the legend beside the chart.
pub(crate) fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

/// Every run's loss over its steps, smoothed so that curves of noisy batches can be told apart.
pub(crate) fn loss_curves(runs: &[Run]) -> Result<String, BoxError> {
    let curves: Vec<Curve> = runs.iter().map(|run| smooth(&run.losses)).collect();
    let top = highest(&curves);
    draw(&curves, "training loss", 0. ..top * 1.05)
}

/// How far every run's smoothed loss is from that of `baseline`: what rounding did.
pub(crate) fn differences(runs: &[Run], baseline: &Run) -> Result<String, BoxError> {
    let zero = smooth(&baseline.losses);
    let minus_baseline = |curve: Curve| {
        curve.iter().zip(&zero).map(|(&(step, loss), &(_, zero))| (step, loss - zero)).collect()
    };
    let curves: Vec<Curve> = runs.iter().map(|run| minus_baseline(smooth(&run.losses))).collect();
    let mirrored: Vec<Curve> =
        curves.iter().map(|curve| curve.iter().map(|&(step, loss)| (step, loss.abs())).collect()).collect();
    let top = highest(&mirrored) * 1.1;
    draw(&curves, &format!("loss minus that of {}", baseline.precision), -top..top)
}

type BoxError = Box<dyn std::error::Error>;

/// Points of step and loss.
type Curve = Vec<(f64, f64)>;

fn highest(curves: &[Curve]) -> f64 {
    curves.iter().flatten().map(|&(_, loss)| loss).fold(1e-6, f64::max)
}

fn draw(curves: &[Curve], meaning: &str, range: Range<f64>) -> Result<String, BoxError> {
    let last_step = curves.iter().flatten().map(|&(step, _)| step).fold(1., f64::max);
    let decimals = if range.end < 0.1 { 4 } else { 1 + usize::from(range.end < 1.) };
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(0. ..last_step, range)?;
        chart
            .configure_mesh()
            .x_desc("step")
            .y_desc(meaning)
            .x_label_formatter(&|step| format!("{step:.0}"))
            .y_label_formatter(&|loss| format!("{loss:.decimals$}"))
            .light_line_style(TRANSPARENT)
            .bold_line_style(RGBColor(128, 128, 128).mix(0.25))
            .axis_style(RGBColor(128, 128, 128))
            .label_style(("sans-serif", 14))
            .draw()?;
        for (index, curve) in curves.iter().enumerate() {
            // Earlier curves are wider, so that one that lies under others still shows.
            let width = 2 * (curves.len() - index) as u32;
            chart.draw_series(LineSeries::new(
                curve.iter().copied(),
                rgb(colour(index)).stroke_width(width),
            ))?;
        }
        area.present()?;
    }
    Ok(svg)
}

/// An exponential moving average that starts at the first loss; a loss that is not finite ends the curve.
fn smooth(losses: &[f64]) -> Curve {
    const KEEP: f64 = 0.9;
    let mut average = None;
    let finite = losses.iter().take_while(|loss| loss.is_finite());
    finite
        .enumerate()
        .map(|(step, &loss)| {
            let smoothed = average.map_or(loss, |before: f64| KEEP * before + (1. - KEEP) * loss);
            average = Some(smoothed);
            (step as f64, smoothed)
        })
        .collect()
}

fn rgb(hex: &str) -> RGBColor {
    let channel = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap_or(0);
    RGBColor(channel(1), channel(3), channel(5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_ends_where_the_loss_is_no_number() {
        assert_eq!(smooth(&[2., 2., f64::NAN, 1.]), [(0., 2.), (1., 2.)]);
        assert_eq!(smooth(&[]), []);
    }

    #[test]
    fn colours_are_read_as_written() {
        assert_eq!(rgb("#0072b2"), RGBColor(0, 0x72, 0xb2));
    }
}
