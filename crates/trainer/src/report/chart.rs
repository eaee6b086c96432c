//! Curves over steps as an SVG picture, drawn by `plotters`. What is drawn is the report's, or the `compare` example's.

use std::ops::Range;

use plotters::prelude::*;

use crate::{Error, Result};

/// The colour of each curve: readable side by side, also for colour-blind eyes (Okabe and Ito's palette).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// The colour of the curve at `index`, for a legend beside the chart.
#[must_use]
pub fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

/// Points of a step and a value.
pub type Points = Vec<(f64, f64)>;

/// How a curve is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Line {
    /// As it stands.
    #[default]
    Full,
    /// So that another one stands out before it.
    Faint,
    /// From point to point at right angles, for what holds until it changes.
    Steps,
}

/// One curve of a chart.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    /// The curve's points; those that are not finite are left out.
    pub points: Points,
    /// Which of the [`colour`]s it has.
    pub colour: usize,
    /// Its width in pixels: at least 1.
    pub width: u32,
    /// How it is drawn.
    pub line: Line,
}

/// What the numbers beside the vertical axis are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Numbers, as they are.
    #[default]
    Number,
    /// Whole numbers.
    Count,
    /// Logarithms to the base of 2, shown as the powers.
    PowerOfTwo,
    /// Bytes, shown in the unit that fits.
    Bytes,
}

/// Curves over steps.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// use trainer::report::chart::{Chart, Curve, smooth};
///
/// let noisy: Vec<(f64, f64)> = (0..100).map(|step| (step as f64, 1. / (1. + step as f64))).collect();
/// let curve = Curve { points: smooth(&noisy), width: 2, ..Default::default() };
/// assert!(Chart::new("loss", vec![curve]).to_svg()?.contains("<svg"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Chart {
    /// What the vertical axis is.
    pub meaning: String,
    /// Its numbers' unit.
    pub unit: Unit,
    /// What the vertical axis holds; by default what the curves need.
    pub range: Option<Range<f64>>,
    /// The steps that the horizontal axis holds; by default those of the curves, from 0.
    pub steps: Option<Range<f64>>,
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// The curves, the lowest first.
    pub curves: Vec<Curve>,
}

impl Chart {
    /// A chart of a usual size, whose vertical axis fits its curves.
    #[must_use]
    pub fn new(meaning: impl Into<String>, curves: Vec<Curve>) -> Self {
        Self {
            meaning: meaning.into(),
            unit: Unit::default(),
            range: None,
            steps: None,
            size: (960, 380),
            curves,
        }
    }

    /// The picture.
    ///
    /// # Errors
    /// When the plotting library refuses the chart.
    pub fn to_svg(&self) -> Result<String> {
        let mut svg = String::new();
        let failed =
            |error: &dyn std::fmt::Display| Error::Other(format!("cannot draw a chart: {error}").into());
        self.draw(&mut svg).map_err(|error| failed(&error))?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> std::result::Result<(), Box<dyn std::error::Error>> {
        let points = || self.curves.iter().flat_map(|curve| finite(&curve.points));
        let last = points().map(|(step, _)| step).fold(1., f64::max);
        let steps = self.steps.clone().unwrap_or(0. ..last);
        let range = self.range.clone().unwrap_or_else(|| fitting(points().map(|(_, value)| value)));
        let grey = RGBColor(128, 128, 128);
        let area = SVGBackend::with_string(svg, self.size).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(80)
            .build_cartesian_2d(steps, range.clone())?;
        chart
            .configure_mesh()
            .x_desc("step")
            .y_desc(self.meaning.as_str())
            .x_labels(8)
            .y_labels(if self.size.1 < 300 { 5 } else { 9 })
            .x_label_formatter(&|step| format!("{step:.0}"))
            .y_label_formatter(&|value| self.label(*value, &range))
            .light_line_style(TRANSPARENT)
            .bold_line_style(grey.mix(0.25))
            .axis_style(grey)
            .label_style(("sans-serif", 14))
            .draw()?;
        for curve in &self.curves {
            let opacity = if curve.line == Line::Faint { 0.3 } else { 1. };
            let style = rgb(colour(curve.colour)).mix(opacity).stroke_width(curve.width.max(1));
            let points: Points = finite(&curve.points).collect();
            let points = if curve.line == Line::Steps { at_right_angles(&points) } else { points };
            chart.draw_series(LineSeries::new(points, style))?;
        }
        area.present()?;
        Ok(())
    }

    fn label(&self, value: f64, range: &Range<f64>) -> String {
        match self.unit {
            Unit::PowerOfTwo if value.fract() == 0. => format!("2^{value:.0}"),
            Unit::Count if value.fract() == 0. => format!("{value:.0}"),
            Unit::PowerOfTwo | Unit::Count => String::new(),
            Unit::Bytes => crate::table::bytes(value.max(0.) as u64),
            Unit::Number => {
                let span = range.end - range.start;
                if value != 0. && !(1e-3..1e6).contains(&span) {
                    return format!("{value:.1e}");
                }
                let decimals = (1. - span.log10().floor()).clamp(0., 5.) as usize;
                format!("{value:.decimals$}")
            }
        }
    }
}

fn finite(points: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> {
    points.iter().copied().filter(|(step, value)| step.is_finite() && value.is_finite())
}

/// A range that holds all values, with some room.
fn fitting(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values {
        (low, high) = (low.min(value), high.max(value));
    }
    if low > high {
        return 0. ..1.;
    }
    // Near 0, the axis begins there.
    if low > 0. && low < high / 2. {
        low = 0.;
    }
    match high - low {
        0. if high == 0. => 0. ..1.,
        0. => low - 0.1 * high.abs()..high + 0.1 * high.abs(),
        span if low == 0. => 0. ..high + 0.05 * span,
        span => low - 0.05 * span..high + 0.05 * span,
    }
}

/// The same points with a corner before each change.
fn at_right_angles(points: &[(f64, f64)]) -> Points {
    let mut corners = Points::with_capacity(2 * points.len());
    for &(step, value) in points {
        if let Some(&(_, before)) = corners.last() {
            corners.push((step, before));
        }
        corners.push((step, value));
    }
    corners
}

/// An exponential moving average that starts at the first value; a value that is not finite ends the curve.
#[must_use]
pub fn smooth(points: &[(f64, f64)]) -> Points {
    const KEEP: f64 = 0.9;
    let mut average = None;
    let until_no_number = points.iter().take_while(|(_, value)| value.is_finite());
    until_no_number
        .map(|&(step, value)| {
            let smoothed = average.map_or(value, |before: f64| KEEP * before + (1. - KEEP) * value);
            average = Some(smoothed);
            (step, smoothed)
        })
        .collect()
}

fn rgb(hex: &str) -> RGBColor {
    let channel =
        |at: usize| hex.get(at..at + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok()).unwrap_or(0);
    RGBColor(channel(1), channel(3), channel(5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smoothed_curve_ends_where_the_value_is_no_number() {
        assert_eq!(smooth(&[(0., 2.), (1., 2.), (2., f64::NAN), (3., 1.)]), [(0., 2.), (1., 2.)]);
        assert_eq!(smooth(&[]), []);
    }

    #[test]
    fn colours_are_read_as_written() {
        assert_eq!(rgb("#0072b2"), RGBColor(0, 0x72, 0xb2));
    }

    #[test]
    fn axes_fit_what_is_drawn() {
        let fit = |values: &[f64]| fitting(values.iter().copied());
        assert_eq!(fit(&[]), 0. ..1.);
        assert_eq!(fit(&[0., 0.]), 0. ..1.);
        assert_eq!(fit(&[1., 4.]), 0. ..4.2);
        let close = fit(&[10., 11.]);
        assert!(close.start > 9.9 && close.end < 11.1, "{close:?}");
        assert!(fit(&[5., 5.]).contains(&5.));
    }

    #[test]
    fn a_picture_has_its_curves_and_no_point_that_is_no_number() {
        let points = vec![(0., 1.), (1., f64::NAN), (2., f64::INFINITY), (3., 2.)];
        let curve = Curve { points, colour: 1, width: 2, line: Line::Full };
        let svg = Chart::new("loss", vec![curve]).to_svg().unwrap();
        assert!(svg.contains("#D55E00") && svg.contains("loss"), "{svg}");
        let numbers = Curve { points: vec![(0., 1.), (3., 2.)], colour: 1, width: 2, line: Line::Full };
        assert_eq!(svg, Chart::new("loss", vec![numbers]).to_svg().unwrap());
        let empty = Chart::new("nothing", vec![Curve::default()]).to_svg().unwrap();
        assert!(empty.contains("nothing"));
    }

    #[test]
    fn labels_are_in_the_axiss_unit() {
        let label =
            |unit, value, range: Range<f64>| Chart { unit, ..Chart::new("", vec![]) }.label(value, &range);
        assert_eq!(label(Unit::PowerOfTwo, 16., 10. ..17.), "2^16");
        assert_eq!(label(Unit::PowerOfTwo, 16.5, 10. ..17.), "");
        assert_eq!(label(Unit::Count, 1.5, 0. ..3.), "");
        assert_eq!(label(Unit::Count, 2., 0. ..3.), "2");
        assert_eq!(label(Unit::Bytes, 2048., 0. ..4096.), "2.0 KiB");
        assert_eq!(label(Unit::Number, 0.5, 0. ..1.), "0.5");
        assert_eq!(label(Unit::Number, 1e-5, 0. ..1e-4), "1.0e-5");
    }
}
