//! A stand-in for `nvcc` that compiles nothing: it writes the files that build scripts expect, empty.
//!
//! Type-checking the `cuda` feature runs the build scripts of candle-kernels and of `backends`, which call `nvcc`, and
//! reads none of what it makes. Linking against that would fail or, worse, not fail; so [`crate::check_cuda`] has it
//! written where no other build looks.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What `nvcc --version` prints for CUDA 13.0; cudarc reads the fourth line.
const VERSION: &str = "\
nvcc: NVIDIA (R) Cuda compiler driver
A stand-in that compiles nothing, for type checks
Built for `cargo xtask check-cuda`
Cuda compilation tools, release 13.0, V13.0.0
Build stand-in
";

/// The architectures that `nvcc --list-gpu-code` lists.
const GPU_CODES: &str = "sm_75\nsm_80\nsm_86\nsm_89\nsm_90\nsm_100\nsm_120\n";

/// An `ar` archive with no members.
const EMPTY_ARCHIVE: &str = "!<arch>\n";

/// The whole of the stand-in: what `main` is when this program runs under the name `nvcc`.
pub(crate) fn stand_in(args: &[OsString]) -> ExitCode {
    match act(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("nvcc stand-in: {e}");
            ExitCode::FAILURE
        }
    }
}

fn act(args: &[OsString]) -> io::Result<()> {
    let asked = |names: &[&str]| args.iter().any(|arg| names.iter().any(|name| arg == name));
    if asked(&["--version", "-V"]) {
        print!("{VERSION}");
        return Ok(());
    }
    if asked(&["--list-gpu-code", "-code-ls", "--list-gpu-arch", "-arch-ls"]) {
        print!("{GPU_CODES}");
        return Ok(());
    }
    let contents = if asked(&["--lib", "-lib"]) { EMPTY_ARCHIVE } else { "" };
    let outputs = outputs(args);
    if outputs.is_empty() {
        let message = format!("no output in {args:?}: teach it to xtask/src/nvcc.rs");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    outputs.iter().try_for_each(|path| fs::write(path, contents))
}

/// The files that nvcc would write: the one after `-o`, else one for each source.
fn outputs(args: &[OsString]) -> Vec<PathBuf> {
    if let Some(file) = value(args, &["-o", "--output-file"]) {
        return vec![file.into()];
    }
    let directory = value(args, &["-odir", "--output-directory"]).map_or_else(PathBuf::new, PathBuf::from);
    let asked = |names: &[&str]| args.iter().any(|arg| names.iter().any(|name| arg == name));
    let extension = if asked(&["--ptx", "-ptx"]) {
        "ptx"
    } else if asked(&["--cubin", "-cubin"]) {
        "cubin"
    } else if asked(&["--fatbin", "-fatbin"]) {
        "fatbin"
    } else {
        "o"
    };
    let sources = args.iter().map(Path::new).filter(|path| path.extension() == Some(OsStr::new("cu")));
    sources
        .filter_map(|path| path.with_extension(extension).file_name().map(|name| directory.join(name)))
        .collect()
}

/// The value of an option, given as the next argument or after `=`.
fn value(args: &[OsString], names: &[&str]) -> Option<OsString> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let text = arg.to_str().unwrap_or("");
        if names.contains(&text) {
            return args.next().cloned();
        }
        if let Some((name, value)) = text.split_once('=')
            && names.contains(&name)
        {
            return Some(value.into());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs_of(line: &str) -> Vec<PathBuf> {
        outputs(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn it_writes_what_nvcc_would() {
        let cases = [
            ("-gencode=arch=compute_80,code=sm_80 -c -o out/a.o src/a.cu", "out/a.o"),
            ("--lib --output-file=libx.a a.o b.o", "libx.a"),
            ("--ptx --output-directory out src/a.cu", "out/a.ptx"),
            ("-cubin -odir=out src/a.cu", "out/a.cubin"),
            ("-fatbin -o out/a.fatbin src/a.cu", "out/a.fatbin"),
            ("-c src/a.cu", "a.o"),
        ];
        for (line, expected) in cases {
            assert_eq!(outputs_of(line), [PathBuf::from(expected)], "{line}");
        }
    }

    #[test]
    fn a_call_without_output_fails() {
        assert!(act(&["--help-me".into()]).is_err());
    }

    #[test]
    fn cudarc_finds_the_version() {
        let line = VERSION.lines().nth(3).unwrap();
        assert_eq!(line.split(", ").nth(1).unwrap().split(' ').nth(1), Some("13.0"));
    }
}
