//! `cargo xtask standalone`: `precision-types` is of use without candle, and its tests do not build it; nor do the kernels of
//! `backends` over slices.

use crate::ci::Outcome;
use crate::workspace::Workspace;
use crate::{command, test};

/// Kernels over slices, whose dependencies are checked and not built.
const KERNELS: &str = "cargo check --package backends";
const TREE: &str = "cargo tree --package precision-types --edges normal,build,dev --prefix none";

pub(crate) fn run(line: &str, workspace: &Workspace) -> Result<Outcome, String> {
    let output =
        command::parse(TREE, &workspace.root).output().map_err(|e| format!("cannot run cargo tree: {e}"))?;
    if !output.status.success() {
        return Err(format!("{TREE} failed:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    if let Some(name) = find_candle(&String::from_utf8_lossy(&output.stdout)) {
        return Err(format!(
            "precision-types depends on {name} without its `candle` feature: make that dependency optional"
        ));
    }
    command::run(KERNELS, workspace)?;
    test::run(line, workspace)
}

/// The first of candle's crates in a list of one crate a line.
fn find_candle(tree: &str) -> Option<&str> {
    tree.lines().filter_map(|line| line.split_whitespace().next()).find(|name| name.starts_with("candle"))
}

#[cfg(test)]
mod tests {
    use super::find_candle;

    #[test]
    fn candle_is_found_wherever_it_is() {
        assert_eq!(find_candle("precision-types v0.1.0 (/x/candle)\nhalf v2.7.1\n"), None);
        assert_eq!(find_candle("half v2.7.1\ncandle-core v0.11.1 (*)\n"), Some("candle-core"));
    }
}
