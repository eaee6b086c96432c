//! `cargo xtask check-cuda`: the `cuda` feature's types and lints, without a GPU and without the CUDA toolkit.
//!
//! Build scripts find a stand-in for `nvcc`: this very program under that name (see [`crate::nvcc`]). It comes first
//! even where a real one is installed, for the check then takes the same minute everywhere. The two crates whose build
//! scripts call it, candle-kernels and `backends`, are built under a profile of their own, and so in folders of their own:
//! build scripts remember what they compiled, and must not take an empty kernel for a real one in a later build. All that
//! these two are not part of is what `cargo xtask clippy` has checked already.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::ci::Outcome;
use crate::command;
use crate::workspace::Workspace;

pub(crate) fn run(line: &str, workspace: &Workspace) -> Result<Outcome, String> {
    let bin = workspace.target.join("nvcc-stand-in").join("bin");
    let nvcc = install(&bin)
        .map_err(|e| format!("cannot write the stand-in for nvcc into {}: {e}", bin.display()))?;
    let mut command = command::parse(line, &workspace.root);
    command
        .env("NVCC", nvcc)
        .env("PATH", path_with(&bin)?)
        // What is compiled for does not matter; that cudaforge need not ask a GPU does.
        .env("CUDA_COMPUTE_CAP", "80")
        .env_remove("CUDARC_CUDA_VERSION");
    command::status(&mut command).map(|()| Outcome::Passed(String::new()))
}

/// Copies this program to `nvcc` in a directory.
fn install(bin: &Path) -> std::io::Result<PathBuf> {
    let nvcc = bin.join(format!("nvcc{}", env::consts::EXE_SUFFIX));
    fs::create_dir_all(bin)?;
    fs::copy(env::current_exe()?, &nvcc)?;
    Ok(nvcc)
}

/// `PATH` with a directory before all others.
pub(crate) fn path_with(first: &Path) -> Result<OsString, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths([first.to_owned()].into_iter().chain(env::split_paths(&path)))
        .map_err(|e| format!("cannot put {} into PATH: {e}", first.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_comes_first() {
        let path = path_with(Path::new("/stand-in")).unwrap();
        assert_eq!(env::split_paths(&path).next(), Some("/stand-in".into()));
    }
}
