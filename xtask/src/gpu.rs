//! `cargo xtask gpu`: one stripped binary that runs where there is a driver and the CUDA runtime libraries but no toolkit
//! and no Rust. It is built with a real `nvcc`: `checks`, or an example of `trainer`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::check_cuda::path_with;
use crate::command;
use crate::workspace::Workspace;

/// What is built.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Program<'a> {
    /// The binary of the crate `checks`.
    Checks,
    /// An example of `trainer`.
    Example(&'a str),
}

impl<'a> Program<'a> {
    fn name(self) -> &'a str {
        match self {
            Self::Checks => "checks",
            Self::Example(name) => name,
        }
    }

    /// How cargo is told.
    fn target(self) -> String {
        match self {
            Self::Checks => "--package checks --bin checks".into(),
            Self::Example(name) => format!("--package trainer --example {name}"),
        }
    }

    /// Where cargo puts it, below the target directory.
    fn built(self) -> String {
        let suffix = env::consts::EXE_SUFFIX;
        match self {
            Self::Checks => format!("release/checks{suffix}"),
            Self::Example(name) => format!("release/examples/{name}{suffix}"),
        }
    }
}

/// Small enough to be copied anywhere.
const MAX_BYTES: u64 = 60_000_000;

/// What candle compiles its kernels for. Its PTX for this architecture, the first with bf16, runs on every later one too.
const DEFAULT_COMPUTE_CAP: &str = "80";

/// Where toolkits are by default.
const TOOLKITS: &[&str] = &["/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda"];

/// Builds the program and puts it under `<target>/gpu/`.
pub(crate) fn build(workspace: &Workspace, program: Program<'_>) -> Result<(), String> {
    let nvcc = find_nvcc()?;
    let bin = nvcc.parent().unwrap_or(Path::new(""));
    let compute_cap = env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| DEFAULT_COMPUTE_CAP.into());
    let line = format!("cargo rustc --release {} --features cudnn -- -C strip=symbols", program.target());
    println!("CUDA_COMPUTE_CAP={compute_cap} NVCC={} {line}", nvcc.display());
    let mut command = command::parse(&line, &workspace.root);
    command.env("NVCC", &nvcc).env("PATH", path_with(bin)?).env("CUDA_COMPUTE_CAP", compute_cap);
    // cudarc looks for the libraries to link with here.
    if let (None, Some(root)) = (env::var_os("CUDA_HOME"), bin.parent()) {
        command.env("CUDA_HOME", root);
    }
    command.env("CARGO_TARGET_DIR", &workspace.target);
    command::status(&mut command).map_err(|e| format!("the build of {} failed: {e}", program.name()))?;

    let built = workspace.target.join(program.built());
    let directory = workspace.target.join("gpu");
    let binary = directory.join(format!("{}{}", program.name().replace('_', "-"), env::consts::EXE_SUFFIX));
    let bytes = fs::create_dir_all(&directory)
        .and_then(|()| fs::copy(&built, &binary))
        .map_err(|e| format!("cannot copy {} to {}: {e}", built.display(), binary.display()))?;
    check_size(bytes)?;
    println!("{} ({:.1} MB)", binary.display(), bytes as f64 / 1e6);
    println!(
        "It needs NVIDIA's driver and the CUDA runtime libraries (cudart, cublas, cublasLt, curand, nvrtc). There:"
    );
    println!("Where libcudnn.so.9 is there as well, it convolves.");
    println!("  LD_LIBRARY_PATH=<their directory> ./{}", binary.file_name().unwrap_or_default().display());
    Ok(())
}

fn check_size(bytes: u64) -> Result<(), String> {
    if bytes < MAX_BYTES {
        return Ok(());
    }
    Err(format!("the binary has {bytes} bytes, which must be under {MAX_BYTES}: see what has been linked in"))
}

/// The `nvcc` of `NVCC`, of `PATH`, of `CUDA_HOME` or `CUDA_PATH`, or of a usual place.
fn find_nvcc() -> Result<PathBuf, String> {
    let file = format!("nvcc{}", env::consts::EXE_SUFFIX);
    if let Some(nvcc) = env::var_os("NVCC").map(PathBuf::from) {
        let absent = || format!("NVCC is {}, which is not a file: correct it or unset it", nvcc.display());
        return if nvcc.is_file() { Ok(nvcc) } else { Err(absent()) };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let roots = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    env::split_paths(&path)
        .chain(roots.chain(TOOLKITS.iter().map(PathBuf::from)).map(|root| root.join("bin")))
        .map(|directory| directory.join(&file))
        .find(|nvcc| nvcc.is_file())
        .ok_or_else(|| {
            "no nvcc in NVCC, PATH, CUDA_HOME or /usr/local/cuda: install the CUDA toolkit 12 or 13 with its cuBLAS and \
             cuRAND development files (https://developer.nvidia.com/cuda-downloads). To check types alone: cargo xtask check-cuda"
                .into()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_built_where_cargo_puts_them() {
        assert!(Program::Checks.built().starts_with("release/checks"));
        assert!(Program::Example("x").built().starts_with("release/examples/x"));
        assert_eq!(Program::Example("x").target(), "--package trainer --example x");
    }

    #[test]
    fn a_large_binary_is_refused() {
        assert!(check_size(MAX_BYTES - 1).is_ok());
        assert!(check_size(MAX_BYTES).is_err());
    }
}
