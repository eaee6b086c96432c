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

#[cfg(feature = "cuda")]
fn compile() -> cudaforge::Result<()> {
    cudaforge::KernelBuilder::new()
        .source_glob("src/kernels/*/*.cu")
        .watch(["src/cuda/multi_tensor.cuh", "src/kernels/step/fused_step.cuh"])
        .include_path("src/cuda")
        .include_path("src/kernels/step")
        .arg("-std=c++17")
        .arg("-O3")
        // Each operation is rounded on its own, as in the scalar oracles.
        .arg("--fmad=false")
        .build_ptx()?;
    Ok(())
}
