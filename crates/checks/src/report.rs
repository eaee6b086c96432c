//! What the checks found, line by line.

use std::error::Error;
use std::time::Instant;

/// A check's result: what it saw, or what was wrong.
pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// Counts of passed and failed checks.
#[derive(Debug, Default)]
pub struct Report {
    passed: usize,
    failed: usize,
    only: String,
}

impl Report {
    /// One that runs checks alone whose names contain this.
    pub fn only(text: &str) -> Self {
        Self { only: text.into(), ..Self::default() }
    }

    /// Runs a check and prints its line.
    pub fn check(&mut self, name: &str, check: impl FnOnce() -> Outcome<String>) {
        if !name.contains(&self.only) {
            return;
        }
        let start = Instant::now();
        let result = check();
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Ok(seen) => {
                self.passed += 1;
                println!("PASS {name:<58} {seen} [{seconds:.2} s]");
            }
            Err(error) => {
                self.failed += 1;
                println!("FAIL {name:<58} {error}");
            }
        }
    }

    /// Prints the summary. Whether nothing failed.
    pub fn finish(self) -> bool {
        if self.passed + self.failed > 0 {
            let verdict = if self.failed == 0 { "PASS" } else { "FAIL" };
            println!("{verdict}: {} checks passed, {} failed", self.passed, self.failed);
        }
        self.failed == 0
    }
}

/// An error that a check makes up.
///
/// # Errors
/// Always.
pub fn wrong<T>(what: impl Into<String>) -> Outcome<T> {
    Err(what.into().into())
}
