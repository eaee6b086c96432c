//! Rules on Rust files: how they open, how long they are, and where `unsafe` may be.

use super::Violation;
use super::scan::{code_only, words};

/// Where unsafe code may be.
const UNSAFE_CRATE: &str = "crates/backends/";

/// Lines that a file may have. `docs/style.md` aims at 300: what is between needs no excuse, what is above needs an
/// entry in [`LONG_FILES`].
const MAX_LINES: usize = 500;

/// Files that are better long, each with the reason.
const LONG_FILES: &[(&str, &str)] = &[];

/// Macros that mark unfinished work.
const UNFINISHED: &[&str] = &["todo", "unimplemented", "dbg"];

/// Every rule, on the file of that path.
pub(super) fn check(path: &str, text: &str) -> Vec<Violation> {
    let code = code_only(text);
    let line_of = |at: usize| code[..at].matches('\n').count() + 1;
    let mut found: Vec<(usize, String)> = Vec::new();
    if !text.starts_with("//!") {
        found.push((
            1,
            "the first line is not `//!`: say what the file is and what it leaves to others".into(),
        ));
    }
    let lines = text.lines().count();
    if let Some(message) = too_long(path, lines, LONG_FILES) {
        found.push((lines, message));
    }
    if !path.starts_with(UNSAFE_CRATE) {
        for at in words(&code, "unsafe") {
            let message = format!("`unsafe` outside {UNSAFE_CRATE}: move it behind a safe function there");
            found.push((line_of(at), message));
        }
        for at in words(&code, "unsafe_code").filter(|&at| is_lifted(&code[..at])) {
            let message =
                format!("the lint `unsafe_code` is lifted outside {UNSAFE_CRATE}: remove this attribute");
            found.push((line_of(at), message));
        }
    }
    for name in UNFINISHED {
        for at in words(&code, name).filter(|at| is_macro(&code[at + name.len()..])) {
            found.push((
                line_of(at),
                format!("`{name}!` is for unfinished work: finish it or return an error"),
            ));
        }
    }
    found.sort();
    found.into_iter().map(|(line, message)| Violation { path: path.into(), line, message }).collect()
}

fn too_long(path: &str, lines: usize, exempt: &[(&str, &str)]) -> Option<String> {
    if lines <= MAX_LINES || exempt.iter().any(|(long, _)| *long == path) {
        return None;
    }
    Some(format!(
        "{lines} lines, more than {MAX_LINES}: split it by idea, or add it to LONG_FILES in xtask with the reason"
    ))
}

/// Whether code that ends inside an attribute's list ends inside `allow(…` or `expect(…`.
fn is_lifted(before: &str) -> bool {
    let list = before.rfind('(').map_or("", |open| &before[..open]);
    ["allow", "expect"].iter().any(|level| list.trim_end().ends_with(level))
}

fn is_macro(after: &str) -> bool {
    let after = after.trim_start();
    after.starts_with('!') && !after.starts_with("!=")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of what is found in a file that opens well.
    fn found(path: &str, rest: &str) -> Vec<usize> {
        check(path, &format!("//! A file.\n{rest}")).into_iter().map(|violation| violation.line).collect()
    }

    const NONE: [usize; 0] = [];
    const OURS: &str = "crates/optim/src/lib.rs";
    const BACKENDS: &str = "crates/backends/src/lib.rs";

    #[test]
    fn a_file_opens_by_saying_what_it_is() {
        assert!(check(OURS, "//! A file.\n").is_empty());
        for text in ["", "fn f() {}\n//! Late.\n", "// A comment.\n", "\n//! A file.\n"] {
            let found = check(OURS, text);
            assert_eq!((found.len(), found[0].line), (1, 1), "{text:?}");
        }
    }

    #[test]
    fn unsafe_is_for_backends() {
        for text in ["unsafe { f() }", "unsafe fn f() {}", "/* a */ unsafe impl Send for X {}"] {
            assert_eq!(found(OURS, text), [2], "{text}");
            assert_eq!(found(BACKENDS, text), NONE, "{text}");
        }
        assert_eq!(found("crates/backends-extra/src/lib.rs", "unsafe {}"), [2]);
        for text in ["// unsafe", "let s = \"unsafe\";", "fn unsafe_name() {}", "#![deny(unsafe_code)]"] {
            assert_eq!(found(OURS, text), NONE, "{text}");
        }
    }

    #[test]
    fn the_lint_on_unsafe_is_lifted_in_backends_only() {
        for text in [
            "#![allow(unsafe_code)]",
            "#[expect(dead_code, unsafe_code, reason = \"r\")]",
            "#[allow(\n    unsafe_code\n)]",
            "#![cfg_attr(test, allow(unsafe_code))]",
        ] {
            assert_eq!(found(OURS, text).len(), 1, "{text}");
            assert_eq!(found(BACKENDS, text), NONE, "{text}");
        }
    }

    #[test]
    fn unfinished_work_does_not_land() {
        for text in ["todo!()", "unimplemented!(\"x\")", "let x = dbg!(y);"] {
            assert_eq!(found(BACKENDS, &format!("\n{text}")), [3], "{text}");
        }
        for text in ["// todo!()", "let todo = 1;", "if todo != 2 {}", "\"dbg!\""] {
            assert_eq!(found(BACKENDS, text), NONE, "{text}");
        }
    }

    #[test]
    fn long_files_need_a_reason() {
        assert_eq!(found(OURS, &"\n".repeat(MAX_LINES - 1)), NONE);
        assert_eq!(found(OURS, &"\n".repeat(MAX_LINES)), [MAX_LINES + 1]);
        assert_eq!(too_long(OURS, MAX_LINES + 1, &[(OURS, "a table")]), None);
    }
}
