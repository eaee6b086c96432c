//! Running other programs: a step's command line is one string, so that what is shown is what runs.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use crate::workspace::Workspace;

/// The cargo that runs this program, or the one in `PATH`.
pub(crate) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// A command from words separated by spaces, in `directory`. As in a shell, leading `NAME=value` words are its
/// environment and single quotes around a word keep what is in it (which here has no space).
pub(crate) fn parse(line: &str, directory: &Path) -> Command {
    let mut words = line.split_whitespace().map(|word| word.trim_matches('\'')).peekable();
    let mut environment = Vec::new();
    while let Some((name, value)) = words.peek().and_then(|word| word.split_once('=')) {
        environment.push((name, value));
        words.next();
    }
    let mut command = match words.next() {
        None | Some("cargo") => Command::new(cargo()),
        Some(program) => Command::new(program),
    };
    command.args(words).envs(environment).current_dir(directory);
    command
}

/// Runs a command line at the workspace's root, its output going to ours.
pub(crate) fn run(line: &str, workspace: &Workspace) -> Result<(), String> {
    status(&mut parse(line, &workspace.root))
}

/// Runs a command to its end.
pub(crate) fn status(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status.to_string()),
        Err(e) => Err(format!("cannot run {program}: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_assignments_become_the_environment() {
        let command = parse("A=1 B=-Dx tool '--flag' C=2", Path::new("/"));
        assert_eq!(command.get_program(), "tool");
        assert_eq!(command.get_args().collect::<Vec<_>>(), ["--flag", "C=2"]);
        let environment: Vec<_> = command.get_envs().collect();
        assert_eq!(environment, [("A".as_ref(), Some("1".as_ref())), ("B".as_ref(), Some("-Dx".as_ref()))]);
    }

    #[test]
    fn cargo_is_the_one_that_runs_us() {
        assert_eq!(parse("cargo fmt", Path::new("/")).get_program(), cargo());
    }
}
