//! The page of a run.

use std::time::Duration;

use super::chart::{Chart, Curve, Line, Unit, smooth};
use super::html::{escape, legend, row};
use super::record::Record;
use super::series::Series;
use crate::Result;
use crate::progress::{clock, number};
use crate::table::{bytes, count};

/// Fewer losses than this are shown as they are.
const FEW: usize = 50;

/// The whole page.
pub(super) fn html(title: &str, run: &Record, seconds: f64) -> Result<String> {
    let title = escape(title);
    let state = escape(run.ended.as_deref().unwrap_or("still going on when this page was written"));
    let (figures, numbers) = (figures(run)?, tiles(run, seconds));
    let settings: Vec<_> = run.settings.iter().chain(&run.user_settings).collect();
    let settings: String = settings.iter().map(|(name, value)| row([name, value], "td")).collect();
    let tables: String = run.tables.iter().map(user_table).collect();
    let notices = notices(&run.notices);
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n<p class=\"note\">{state}</p>\n\
         {numbers}{notices}{figures}{tables}<h2>Settings</h2>\n<div class=\"wide\"><table>{settings}</table></div>\n\
         </main>\n</body>\n</html>\n"
    ))
}

/// The numbers that one looks for first.
fn tiles(run: &Record, seconds: f64) -> String {
    let mut tiles = Vec::new();
    let mut tile = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            tiles.push(format!("<div><b>{}</b>{}</div>", escape(&value), escape(name)));
        }
    };
    tile("last loss", run.loss.last().map(number));
    let validation = run.validation.get("val_loss");
    tile("best validation loss", validation.and_then(|series| series.finite().reduce(f64::min)).map(number));
    tile("steps", (run.steps > 0).then(|| count(run.steps)));
    tile("steps skipped", run.ended.is_some().then(|| count(run.skipped_steps)));
    let rate = run.samples as f64 / seconds;
    tile("samples a second, all in all", (run.samples > 0 && seconds > 0.).then(|| format!("{rate:.0}")));
    tile("most memory seen", run.memory.finite().reduce(f64::max).map(|most| bytes(most as u64)));
    let time = |time: Duration| if seconds < 60. { format!("{seconds:.1} s") } else { clock(time) };
    tile("time", Duration::try_from_secs_f64(seconds).ok().map(time));
    format!("<div class=\"tiles\">{}</div>\n", tiles.concat())
}

fn notices(notices: &[String]) -> String {
    if notices.is_empty() {
        return String::new();
    }
    let items: String = notices.iter().map(|notice| format!("<li>{}</li>", escape(notice))).collect();
    format!("<h2>What came up</h2>\n<ul>{items}</ul>\n")
}

fn figures(run: &Record) -> Result<String> {
    let last = run.loss.points().last().map_or(1., |&(step, _)| step.max(1.));
    let mut figures = loss_figure(run)?;
    let mut figure = |heading: &str, unit, series: &Series, line| -> Result<()> {
        if series.finite().next().is_none() {
            return Ok(());
        }
        let scaled =
            |(step, value): (f64, f64)| (step, if unit == Unit::PowerOfTwo { value.log2() } else { value });
        let points = series.points().into_iter().map(scaled).collect();
        let curves = vec![Curve { points, colour: 2, width: 2, line }];
        let chart = Chart { unit, size: (960, 220), steps: Some(0. ..last), ..Chart::new(heading, curves) };
        figures += &format!("<h2>{}</h2>\n<figure>{}</figure>\n", escape(heading), chart.to_svg()?);
        Ok(())
    };
    for (name, series) in run.validation.iter().filter(|(name, _)| *name != "val_loss") {
        figure(name, Unit::Number, series, Line::Full)?;
    }
    figure("Learning rate", Unit::Number, &run.learning_rate, Line::Full)?;
    if run.loss_scale.finite().any(|scale| scale != 1.) {
        figure("Loss scale", Unit::PowerOfTwo, &run.loss_scale, Line::Steps)?;
    }
    if run.skipped.finite().any(|skipped| skipped > 0.) {
        figure("Steps skipped so far", Unit::Count, &run.skipped, Line::Steps)?;
    }
    figure("Memory", Unit::Bytes, &run.memory, Line::Full)?;
    Ok(figures)
}

/// Training and validation in one picture, so that a gap between them shows.
fn loss_figure(run: &Record) -> Result<String> {
    if run.loss.is_empty() {
        return Ok(String::new());
    }
    let points = run.loss.points();
    // A mean over ten losses says nothing of a few.
    let (mut curves, mut legend_entries) = match points.len() < FEW {
        true => (vec![Curve { points, colour: 0, width: 2, line: Line::Full }], vec![(0, "training")]),
        false => {
            let smoothed = Curve { points: smooth(&points), colour: 0, width: 2, line: Line::Full };
            (
                vec![Curve { points, colour: 0, width: 1, line: Line::Faint }, smoothed],
                vec![(0, "training, smoothed")],
            )
        }
    };
    if let Some(validation) = run.validation.get("val_loss").filter(|series| !series.is_empty()) {
        curves.push(Curve { points: validation.points(), colour: 1, width: 3, line: Line::Full });
        legend_entries.push((1, "validation"));
    }
    let legend = legend(legend_entries);
    let svg = Chart::new("loss", curves).to_svg()?;
    Ok(format!("<h2>Loss</h2>\n{legend}\n<figure>{svg}</figure>\n"))
}

fn user_table(table: &super::record::Table) -> String {
    let head = row(&table.header, "th");
    let rows: String = table.rows.iter().map(|cells| row(cells, "td")).collect();
    let title = escape(&table.title);
    format!("<h2>{title}</h2>\n<div class=\"wide\"><table class=\"numbers\">{head}{rows}</table></div>\n")
}

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8884; --quiet: #777; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; }
main { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
figure { margin: 0; background: #fff; border-radius: 6px; } svg { width: 100%; height: auto; display: block; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
.numbers th:not(:first-child), .numbers td:not(:first-child) { text-align: right; }
.wide { overflow-x: auto; } .note { color: var(--quiet); margin-top: .2rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; }
.tiles div { border: 1px solid var(--line); border-radius: 6px; padding: .5rem .9rem; color: var(--quiet); font-size: .85rem; }
.tiles b { display: block; font-size: 1.25rem; color: CanvasText; font-variant-numeric: tabular-nums; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; list-style: none; padding: 0; margin: .3rem 0; }
.legend i { display: inline-block; width: 1.4rem; height: .25rem; margin-right: .4rem; vertical-align: middle; }
";

#[cfg(test)]
mod tests;
