//! `cargo xtask tidy`: the rules of `docs/architecture.md` and `docs/style.md` that a program can check.
//!
//! [`crates`] holds the rules on manifests, [`unused`] the one on dependencies, [`source`] those on Rust files, [`scan`]
//! tells code from comments. This file walks the tree and prints what they find.

mod crates;
mod scan;
mod source;
mod unused;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::ci::Outcome;
use crate::workspace::{Kind, Package, Workspace};

/// A rule that is not kept.
#[derive(Debug, PartialEq)]
struct Violation {
    /// Path from the workspace's root, with `/` on every system.
    path: String,
    /// Counted from 1.
    line: usize,
    /// What is wrong and what to do.
    message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, message } = self;
        write!(f, "{path}:{line}: {message}")
    }
}

pub(crate) fn run(_line: &str, workspace: &Workspace) -> Result<Outcome, String> {
    let mut violations = Vec::new();
    let mut files = 0;
    for package in &workspace.packages {
        let path = relative(&package.manifest, &workspace.root);
        let text = read(&package.manifest)?;
        violations.extend(crates::check_lints(&path, &text));
        violations.extend(crates::check_arrows(&path, &text, package));
        for kind in [Kind::Normal, Kind::Dev, Kind::Build] {
            violations.extend(unused::check(&path, &text, package, kind, &sources(package, kind)?));
        }
    }
    for directory in ["crates", "xtask"] {
        for file in rust_files(&workspace.root.join(directory))? {
            violations.extend(source::check(&relative(&file, &workspace.root), &read(&file)?));
            files += 1;
        }
    }
    for violation in &violations {
        println!("{violation}");
    }
    match violations.len() {
        0 => Ok(Outcome::Passed(format!("{files} files, {} crates", workspace.packages.len()))),
        count => Err(format!("{count} violations, listed above")),
    }
}

/// The code of a crate that may use its dependencies of a kind.
fn sources(package: &Package, kind: Kind) -> Result<Vec<String>, String> {
    let directory = package.manifest.parent().unwrap_or(Path::new(""));
    let mut sources = Vec::new();
    for place in unused::places(kind).iter().map(|place| directory.join(place)) {
        if place.is_dir() {
            sources.extend(rust_files(&place)?.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?);
        } else if place.is_file() {
            sources.push(read(&place)?);
        }
    }
    Ok(sources)
}

/// Every `.rs` file under a directory, sorted, except in build directories.
fn rust_files(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let cannot_list = |e: std::io::Error| format!("cannot list {}: {e}", directory.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(cannot_list)? {
        let path = entry.map_err(cannot_list)?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                files.extend(rust_files(&path)?);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

fn relative(path: &Path, root: &Path) -> String {
    let path = path.strip_prefix(root).unwrap_or(path);
    path.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_finds_this_file_and_no_other_kind() {
        let files = rust_files(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(files.iter().any(|file| file.ends_with("src/tidy/mod.rs")));
        assert!(files.iter().all(|file| file.extension().unwrap() == "rs"));
    }

    #[test]
    fn a_violation_reads_as_a_compiler_error_does() {
        let violation = Violation {
            path: relative(Path::new("/w/crates/a/src/lib.rs"), Path::new("/w")),
            line: 3,
            message: "wrong".into(),
        };
        assert_eq!(violation.to_string(), "crates/a/src/lib.rs:3: wrong");
    }
}
