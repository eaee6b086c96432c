//! `cargo xtask deny`: licences and banned crates, by cargo-deny and `deny.toml`.

use std::process::Stdio;

use crate::ci::Outcome;
use crate::command;
use crate::workspace::Workspace;

pub(crate) fn run(line: &str, workspace: &Workspace) -> Result<Outcome, String> {
    let mut probe = command::parse("cargo deny --version", &workspace.root);
    if command::status(probe.stdout(Stdio::null()).stderr(Stdio::null())).is_err() {
        let why = "cargo-deny is not installed; to have it: cargo install --locked cargo-deny";
        return Ok(Outcome::Skipped(why.into()));
    }
    command::run(line, workspace).map(|()| Outcome::Passed(String::new()))
}
