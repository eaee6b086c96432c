//! Compiles the `.cu` file of every kernel to PTX, which the driver turns into machine code where it runs.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A new kernel is a new file, which no list of the old ones has.
    println!("cargo::rerun-if-changed=src/kernels");
    #[cfg(feature = "cuda")]
    if let Err(error) = compile() {
        // What nvcc said is on stderr already.
        println!("cargo::error=cannot compile the CUDA kernels: {error}");
    }
}

/// What the `.cu` file of a kernel says where its contract is a bound. All others round each operation on its own, as
/// their scalar oracles do.
#[cfg(feature = "cuda")]
const FUSED: &str = "// nvcc: --fmad=true";

#[cfg(feature = "cuda")]
fn compile() -> cudaforge::Result<()> {
    let files = cudaforge::SourceSelector::new().add_glob("src/kernels/*/*.cu").resolve()?;
    let fused = |file: &std::path::PathBuf| {
        std::fs::read_to_string(file).is_ok_and(|text| text.lines().any(|line| line == FUSED))
    };
    let (fused, rounded): (Vec<_>, Vec<_>) = files.into_iter().partition(fused);
    for (files, fmad) in [(rounded, "--fmad=false"), (fused, "--fmad=true")] {
        if files.is_empty() {
            continue;
        }
        cudaforge::KernelBuilder::new()
            .source_files(files)
            .watch(cudaforge::collect_headers(&["src"]))
            .include_path("src/cuda")
            .include_path("src/kernels/step")
            .arg("-std=c++17")
            .arg("-O3")
            .arg(fmad)
            .build_ptx()?;
    }
    Ok(())
}
