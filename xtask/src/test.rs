//! `cargo xtask test`: every test, how many ran, and what they could not check on this machine.
//!
//! A test of a path that is absent here (an instruction set, a GPU) passes and prints a line that starts with `SKIPPED`.
//! libtest hides what passing tests print, so they run with `--show-output`; this module shows the `SKIPPED` lines and
//! drops the rest. The environment variable `REQUIRE=avx512,cuda` makes such a test fail; the tests read it themselves.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::ci::Outcome;
use crate::command;
use crate::workspace::Workspace;

pub(crate) fn run(line: &str, workspace: &Workspace) -> Result<Outcome, String> {
    let mut child = command::parse(line, &workspace.root)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot run cargo test: {e}"))?;
    let stdout = child.stdout.take().ok_or("cargo test has no output")?;
    let mut report = Report::default();
    for bytes in BufReader::new(stdout).split(b'\n') {
        let bytes = bytes.map_err(|e| format!("cannot read what cargo test prints: {e}"))?;
        let line = String::from_utf8_lossy(&bytes);
        if report.read(&line) == Line::Shown {
            println!("{line}");
        }
    }
    let status = child.wait().map_err(|e| format!("cargo test did not end: {e}"))?;
    if status.success() { Ok(Outcome::Passed(report.to_string())) } else { Err(report.to_string()) }
}

/// What the tests said so far.
#[derive(Default)]
struct Report {
    passed: usize,
    failed: usize,
    ignored: usize,
    /// How often each `SKIPPED` line was printed.
    skipped: BTreeMap<String, usize>,
    /// Whether the coming lines are what passing tests printed.
    in_output_of_passed: bool,
}

/// What to do with a line of libtest's.
#[derive(Debug, PartialEq)]
enum Line {
    Shown,
    Dropped,
}

impl Report {
    fn read(&mut self, line: &str) -> Line {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.in_output_of_passed = false;
            self.count(result);
        } else if line.trim_end() == "successes:" {
            self.in_output_of_passed = true;
        } else if line.trim_end() == "failures:" {
            self.in_output_of_passed = false;
        }
        // A test may also write past libtest's capture, in the midst of its lines.
        if let Some(at) = line.find("SKIPPED").filter(|&at| at == 0 || line.starts_with("test ")) {
            *self.skipped.entry(line[at..].trim_end().to_owned()).or_default() += 1;
            return Line::Shown;
        }
        if self.in_output_of_passed { Line::Dropped } else { Line::Shown }
    }

    /// Reads `ok. 3 passed; 0 failed; 1 ignored; ...`.
    fn count(&mut self, result: &str) {
        for part in result.split(['.', ';']) {
            if let Some((number, word)) = part.trim().split_once(' ')
                && let Ok(number) = number.parse::<usize>()
            {
                match word {
                    "passed" => self.passed += number,
                    "failed" => self.failed += number,
                    "ignored" => self.ignored += number,
                    _ => {}
                }
            }
        }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { passed, failed, ignored, skipped, .. } = self;
        write!(
            f,
            "{passed} passed, {failed} failed, {ignored} ignored, {} SKIPPED",
            skipped.values().sum::<usize>()
        )?;
        skipped.iter().try_for_each(|(line, times)| write!(f, "\n    {times} x {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 3 tests
test a ... ok
test b ... ok

successes:

---- a stdout ----
SKIPPED avx512: this CPU has none
noise

---- b stdout ----
SKIPPED avx512: this CPU has none


successes:
    a
    b

failures:

---- c stdout ----
what went wrong

test result: FAILED. 2 passed; 1 failed; 4 ignored; 0 measured; 9 filtered out; finished in 0.00s
";

    #[test]
    fn results_and_skipped_lines_are_counted() {
        let mut report = Report::default();
        for line in OUTPUT.lines().chain(OUTPUT.lines()) {
            report.read(line);
        }
        assert_eq!(
            report.to_string(),
            "4 passed, 2 failed, 8 ignored, 4 SKIPPED\n    4 x SKIPPED avx512: this CPU has none"
        );
    }

    #[test]
    fn what_passing_tests_print_is_dropped_and_the_rest_is_shown() {
        let mut report = Report::default();
        let shown: Vec<_> = OUTPUT.lines().filter(|line| report.read(line) == Line::Shown).collect();
        assert!(!shown.contains(&"noise") && !shown.contains(&"    a"));
        for line in ["test b ... ok", "SKIPPED avx512: this CPU has none", "what went wrong"] {
            assert!(shown.contains(&line), "{line}");
        }
        assert!(shown.last().is_some_and(|line| line.starts_with("test result")));
    }

    #[test]
    fn a_skipped_line_past_the_capture_counts_too() {
        let mut report = Report::default();
        report.read("test kernels::avx2 ... SKIPPED avx2");
        report.read("a sentence about SKIPPED lines");
        assert_eq!(report.to_string(), "0 passed, 0 failed, 0 ignored, 1 SKIPPED\n    1 x SKIPPED avx2");
    }
}
