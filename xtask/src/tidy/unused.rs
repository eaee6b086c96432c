//! The rule that a crate names every dependency that it declares: a dependency in vain costs every user a build.

use super::Violation;
use crate::workspace::{Kind, Package};

/// Where code that may use a dependency of a kind lives, from the crate's directory.
pub(super) const fn places(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Normal => &["src"],
        Kind::Dev => &["src", "tests", "examples", "benches"],
        Kind::Build => &["build.rs"],
    }
}

/// The dependencies of `kind` that none of `sources` names.
pub(super) fn check(
    path: &str,
    manifest: &str,
    package: &Package,
    kind: Kind,
    sources: &[String],
) -> Vec<Violation> {
    let of_kind = package.dependencies.iter().filter(|dependency| dependency.kind == kind);
    let unused = of_kind.filter(|dependency| {
        let ident = dependency.name.replace('-', "_");
        !sources.iter().any(|source| names(source, &ident))
    });
    unused
        .map(|dependency| Violation {
            path: path.into(),
            line: manifest.lines().position(|line| line.starts_with(&dependency.name)).map_or(1, |at| at + 1),
            message: format!("`{}` is declared and never used: remove it", dependency.name),
        })
        .collect()
}

/// Whether `ident` stands in `source` as a word, comments aside.
fn names(source: &str, ident: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split(|c: char| !part_of_word(c))).any(|word| word == ident)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn found(source: &str) -> Vec<String> {
        let dependencies = vec![Dependency { name: "rand-core".into(), optional: false, kind: Kind::Normal }];
        let package = Package { name: "p".into(), manifest: "Cargo.toml".into(), dependencies };
        let manifest = "[dependencies]\nrand-core = 1\n";
        let violations = check("Cargo.toml", manifest, &package, Kind::Normal, &[source.to_string()]);
        violations.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_dependency_is_used_where_code_names_it() {
        assert!(found("use rand_core::RngCore;").is_empty());
        assert!(found("fn f() { rand_core::seed() }").is_empty());
        for in_vain in ["", "// rand_core is not needed", "use rand_core2::X;", "let brand_core = 1;"] {
            assert_eq!(
                found(in_vain),
                ["Cargo.toml:2: `rand-core` is declared and never used: remove it"],
                "{in_vain}"
            );
        }
    }

    #[test]
    fn other_kinds_are_left_to_their_own_check() {
        let dependencies = vec![Dependency { name: "a".into(), optional: false, kind: Kind::Dev }];
        let package = Package { name: "p".into(), manifest: "Cargo.toml".into(), dependencies };
        assert!(check("p", "", &package, Kind::Normal, &[]).is_empty());
        assert_eq!(check("p", "", &package, Kind::Dev, &[]).len(), 1);
    }
}
