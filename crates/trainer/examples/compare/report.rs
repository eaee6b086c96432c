//! `report.html` and `report.json`: written whole or not at all.

use std::path::Path;

use trainer::SupportMatrix;
use trainer::report::html::{escape, legend, row};

use crate::chart;
use crate::results::{COLUMNS, Results};

type BoxError = Box<dyn std::error::Error>;

/// What the report says besides the numbers.
pub(crate) struct Setting {
    pub(crate) task: &'static str,
    pub(crate) model: String,
    pub(crate) accelerator: String,
    pub(crate) steps: usize,
    pub(crate) seed: u64,
    /// How many runs there will be, so that a report written before the last one says so.
    pub(crate) planned_runs: usize,
}

/// Writes both files to `out`, replacing those of an earlier run.
pub(crate) fn write(out: &Path, results: &Results, setting: &Setting) -> Result<(), BoxError> {
    replace(&out.join("report.json"), &serde_json::to_string_pretty(results)?)?;
    replace(&out.join("report.html"), &html(results, setting)?)
}

/// Writes beside the file and renames, so that no reader ever sees half of it.
fn replace(path: &Path, content: &str) -> Result<(), BoxError> {
    let unfinished = path.with_extension("partial");
    std::fs::write(&unfinished, content)
        .map_err(|error| format!("cannot write {}: {error}", unfinished.display()))?;
    std::fs::rename(&unfinished, path)
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(())
}

fn html(results: &Results, setting: &Setting) -> Result<String, BoxError> {
    let Setting { task, model, accelerator, steps, seed, planned_runs } = setting;
    let runs = &results.runs;
    let progress = match planned_runs - runs.len() {
        0 => String::new(),
        missing => {
            format!("<p class=\"note\">{missing} of {planned_runs} runs are not in this report yet.</p>")
        }
    };
    let legend = legend(runs.iter().map(|run| run.precision.to_string()).enumerate());
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>One model at every precision</title>\n<style>{STYLE}</style>\n<main>\n\
         <h1>One model at every precision</h1>\n\
         <p>{model}, trained on {task} for {steps} steps from the same weights (seed {seed}) on the {accelerator}. \
         Only the precision string differs.</p>\n{progress}\n\
         <section><h2>Training loss</h2>\n{legend}\n<figure>{chart}</figure>\n\
         {differences}<p class=\"note\">Exponential moving averages; every step's loss is in report.json.</p></section>\n\
         <section><h2>Speed, memory and loss</h2>\n<div class=\"wide\">{table}</div></section>\n\
         <section><h2>What each accelerator supports</h2>\n<div class=\"wide\">{matrix}</div></section>\n</main></html>\n",
        model = escape(model),
        chart = chart::loss_curves(runs)?,
        differences = differences(results)?,
        table = results_table(results),
        matrix = markdown_table(&SupportMatrix.to_string()),
    ))
}

/// What rounding did to the loss, where there is a run to compare with and one to compare.
fn differences(results: &Results) -> Result<String, BoxError> {
    match results.baseline() {
        Some(baseline) if results.runs.len() > 1 => {
            Ok(format!("<figure>{}</figure>\n", chart::differences(&results.runs, baseline)?))
        }
        _ => Ok(String::new()),
    }
}

fn results_table(results: &Results) -> String {
    let head: String = COLUMNS
        .iter()
        .map(|(title, meaning)| format!("<th title=\"{}\">{}</th>", escape(meaning), escape(title)))
        .collect();
    let rows: String = results.rows().into_iter().map(|cells| row(cells, "td")).collect();
    let meanings: String = COLUMNS
        .iter()
        .map(|(title, meaning)| format!("<dt>{}</dt><dd>{}</dd>", escape(title), escape(meaning)))
        .collect();
    format!("<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table><dl>{meanings}</dl>")
}

/// A Markdown table as an HTML one.
fn markdown_table(markdown: &str) -> String {
    let mut lines = markdown.lines().filter(|line| line.starts_with('|'));
    let cells =
        |line: &str| line.trim_matches('|').split('|').map(|c| c.trim().replace('`', "")).collect::<Vec<_>>();
    let head = lines.next().map(|line| row(cells(line), "th")).unwrap_or_default();
    let body: String = lines.skip(1).map(|line| row(cells(line), "td")).collect();
    format!("<table><thead>{head}</thead><tbody>{body}</tbody></table>")
}

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8884; --quiet: #777; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; }
main { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
figure { margin: 0; background: #fff; border-radius: 6px; } svg { width: 100%; height: auto; display: block; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; font-family: ui-monospace, monospace; }
.wide { overflow-x: auto; } .note, dl { color: var(--quiet); font-size: .875rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; } dd { margin: 0; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; list-style: none; padding: 0; }
.legend i { display: inline-block; width: 1.4rem; height: .25rem; margin-right: .4rem; vertical-align: middle; }
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_support_matrix_becomes_a_table() {
        let html = markdown_table("| a | b |\n|---|---|\n| `x` | Yes |\n");
        assert_eq!(
            html,
            "<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>x</td><td>Yes</td></tr></tbody></table>"
        );
    }
}
