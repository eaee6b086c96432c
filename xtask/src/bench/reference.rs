//! The other side: `reference.py`, by a Python that has PyTorch and Lightning.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use super::plan::{Case, Plan};
use crate::workspace::Workspace;

/// Where the interpreter is named that has PyTorch, if it is not `python3`.
const PYTHON: &str = "TORCH_PYTHON";

/// Seconds after which a run ends though steps are left.
const SECONDS: &str = "20";

const VERSIONS: &str = "import torch, torchvision, lightning; \
    print(f'PyTorch {torch.__version__}, Lightning {lightning.__version__}')";

/// A Python that has PyTorch.
pub(super) struct Reference {
    python: OsString,
    script: PathBuf,
    pub(super) versions: String,
}

impl Reference {
    /// Why there is none, if that is so.
    pub(super) fn find(workspace: &Workspace) -> Result<Self, String> {
        let python = env::var_os(PYTHON).unwrap_or_else(|| "python3".into());
        let script = workspace.root.join("xtask/src/bench/reference.py");
        Ok(Self { versions: versions(&python)?, python, script })
    }

    /// What the reference takes for a case, in milliseconds.
    pub(super) fn measure(&self, case: &Case, plan: &Plan<'_>) -> Result<f64, String> {
        let mut command = super::pinned(&self.python, plan);
        command.arg(&self.script).args([case.what.name(), case.workload, case.precision]);
        command.args(["--steps", &plan.steps.to_string(), "--seconds", SECONDS]);
        super::milliseconds(&mut command)
    }
}

fn versions(python: &OsString) -> Result<String, String> {
    let name = python.to_string_lossy();
    let output = Command::new(python)
        .args(["-c", VERSIONS])
        .output()
        .map_err(|error| format!("cannot run {name}: {error}; name a Python that has PyTorch in {PYTHON}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let errors = text(&output.stderr);
    let last = errors.lines().last().unwrap_or("it failed");
    Err(format!(
        "{name}: {last}; install torch, torchvision and lightning, or name a Python that has them in {PYTHON}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_python_that_is_not_there_is_named_and_so_is_what_to_do() {
        let error = versions(&"no-such-python".into()).unwrap_err();
        assert!(error.contains("no-such-python") && error.contains(PYTHON), "{error}");
    }
}
