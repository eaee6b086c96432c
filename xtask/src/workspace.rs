//! What cargo knows of the workspace: its root, its target directory, and who depends on whom.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::command::cargo;

/// The workspace that this command runs in.
pub(crate) struct Workspace {
    /// The directory of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Where cargo puts what it builds.
    pub(crate) target: PathBuf,
    /// The workspace's own crates.
    pub(crate) packages: Vec<Package>,
}

/// One of the workspace's own crates.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a crate's dependency tables, dev- and build-dependencies included.
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) optional: bool,
    pub(crate) kind: Kind,
}

/// Which of a crate's dependency tables a line is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    /// For tests and examples alone.
    Dev,
    /// For `build.rs`.
    Build,
}

impl Workspace {
    /// Asks `cargo metadata`.
    pub(crate) fn find() -> Result<Self, String> {
        let output = Command::new(cargo())
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .output()
            .map_err(|e| format!("cannot run cargo metadata: {e}"))?;
        if !output.status.success() {
            return Err(format!("cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr)));
        }
        serde_json::from_slice(&output.stdout)
            .ok()
            .and_then(|metadata| Self::read(&metadata))
            .ok_or_else(|| "cargo metadata has an unknown form: is this the pinned toolchain?".into())
    }

    fn read(metadata: &Value) -> Option<Self> {
        let packages = metadata["packages"].as_array()?.iter().map(Package::read).collect::<Option<_>>()?;
        Some(Self {
            root: metadata["workspace_root"].as_str()?.into(),
            target: metadata["target_directory"].as_str()?.into(),
            packages,
        })
    }
}

impl Package {
    fn read(package: &Value) -> Option<Self> {
        let dependency = |d: &Value| {
            Some(Dependency {
                name: d["name"].as_str()?.into(),
                optional: d["optional"].as_bool()?,
                kind: match d["kind"].as_str() {
                    Some("dev") => Kind::Dev,
                    Some("build") => Kind::Build,
                    _ => Kind::Normal,
                },
            })
        };
        Some(Self {
            name: package["name"].as_str()?.into(),
            manifest: package["manifest_path"].as_str()?.into(),
            dependencies: package["dependencies"]
                .as_array()?
                .iter()
                .map(dependency)
                .collect::<Option<_>>()?,
        })
    }
}
