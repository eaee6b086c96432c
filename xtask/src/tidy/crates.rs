//! Rules on manifests: which crate may depend on which, what stays optional, and that lints are the workspace's.

use super::Violation;
use crate::workspace::Package;

/// The arrows of `docs/architecture.md`, dev- and build-dependencies included. `trainer` does not reach `backends`:
/// it has no arithmetic of its own. Nothing reaches `checks`.
const ARROWS: &[(&str, &[&str])] = &[
    ("precision-types", &[]),
    ("backends", &["precision-types"]),
    ("autocast", &["backends", "precision-types"]),
    ("optim", &["backends", "precision-types"]),
    ("grad-scaler", &["backends", "optim", "precision-types"]),
    ("trainer", &["autocast", "grad-scaler", "optim", "precision-types"]),
    ("checks", &["autocast", "backends", "grad-scaler", "optim", "precision-types", "trainer"]),
    ("xtask", &[]),
];

/// Crates of use without a tensor library: candle comes with a feature or not at all.
const CANDLE_IS_OPTIONAL: &[&str] = &["precision-types", "backends"];

/// What reaches CUDA directly, and the only crate that may.
const CUDA: &[&str] = &["cudaforge", "cudarc", "candle-kernels"];
const CUDA_USER: &str = "backends";

/// A crate depends on those below it in the architecture and on no other.
pub(super) fn check_arrows(path: &str, manifest: &str, package: &Package) -> Vec<Violation> {
    let violation =
        |word: &str, message: String| Violation { path: path.into(), line: line_of(manifest, word), message };
    let name = package.name.as_str();
    let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else {
        let message = format!(
            "crate `{name}` is not in docs/architecture.md: add it there and to ARROWS in xtask/src/tidy/crates.rs"
        );
        return vec![violation("name", message)];
    };
    let mut violations = Vec::new();
    for dependency in &package.dependencies {
        let to = dependency.name.as_str();
        if ARROWS.iter().any(|(crate_name, _)| *crate_name == to) && !allowed.contains(&to) {
            let arrows = if allowed.is_empty() { "no crate of ours".into() } else { allowed.join(", ") };
            violations.push(violation(
                to,
                format!("`{name}` must not depend on `{to}` (allowed: {arrows}): see the arrows in docs/architecture.md"),
            ));
        }
        if to.starts_with("candle") && CANDLE_IS_OPTIONAL.contains(&name) && !dependency.optional {
            violations.push(violation(to, format!("`{name}` works without candle: make `{to}` optional")));
        }
        if CUDA.contains(&to) && name != CUDA_USER {
            violations
                .push(violation(to, format!("only `{CUDA_USER}` uses CUDA: move what needs `{to}` there")));
        }
    }
    violations
}

/// `[lints] workspace = true`.
pub(super) fn check_lints(path: &str, manifest: &str) -> Option<Violation> {
    let mut lines = manifest.lines().map(|line| line.replace(' ', ""));
    let inherited = lines.find(|line| line == "[lints]").and(lines.next());
    if inherited.is_some_and(|line| line == "workspace=true") {
        return None;
    }
    let message = "the workspace's lints are not inherited: add `[lints]` with `workspace = true`".into();
    Some(Violation { path: path.into(), line: line_of(manifest, "[lints]"), message })
}

/// The first line that starts with a word, or 1.
fn line_of(text: &str, word: &str) -> usize {
    text.lines().position(|line| line.starts_with(word)).map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Dependency, Kind};

    fn package(name: &str, dependencies: &[(&str, bool)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|&(name, optional)| Dependency { name: name.into(), optional, kind: Kind::Normal })
            .collect();
        Package { name: name.into(), manifest: "Cargo.toml".into(), dependencies }
    }

    fn arrows(name: &str, dependencies: &[(&str, bool)]) -> Vec<String> {
        let manifest: String = dependencies.iter().map(|(name, _)| format!("{name} = 1\n")).collect();
        check_arrows("p", &manifest, &package(name, dependencies)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn arrows_point_down() {
        assert!(arrows("trainer", &[("autocast", false), ("optim", false), ("candle-nn", false)]).is_empty());
        assert!(arrows("grad-scaler", &[("optim", false), ("backends", false)]).is_empty());
        for (from, to) in [
            ("precision-types", "backends"),
            ("optim", "grad-scaler"),
            ("trainer", "backends"),
            ("autocast", "checks"),
        ] {
            let found = arrows(from, &[("half", false), (to, false)]);
            assert_eq!(found.len(), 1, "{from} -> {to}");
            assert!(found[0].starts_with(&format!("p:2: `{from}` must not depend on `{to}`")), "{found:?}");
        }
    }

    #[test]
    fn an_unknown_crate_is_named() {
        assert!(arrows("utils", &[])[0].contains("crate `utils` is not in docs/architecture.md"));
    }

    #[test]
    fn candle_stays_optional_below_autocast() {
        assert!(arrows("precision-types", &[("candle-core", true)]).is_empty());
        assert!(
            arrows("precision-types", &[("candle-core", false)])[0].contains("make `candle-core` optional")
        );
        assert!(arrows("autocast", &[("candle-core", false)]).is_empty());
    }

    #[test]
    fn cuda_stays_in_backends() {
        assert!(arrows("backends", &[("cudaforge", true)]).is_empty());
        assert!(arrows("optim", &[("cudarc", true)])[0].contains("only `backends` uses CUDA"));
    }

    #[test]
    fn lints_are_inherited() {
        assert_eq!(check_lints("p", "[package]\n\n[lints]\nworkspace = true\n"), None);
        for manifest in ["[package]\n", "[lints]\nworkspace = false\n", "[dependencies]\nworkspace = true\n"]
        {
            assert!(check_lints("p", manifest).is_some(), "{manifest}");
        }
    }
}
