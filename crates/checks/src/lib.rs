//! What holds the other crates to their promises, on any device: a catalogue of ops, oracles, models that are trained for
//! it, checks of a GPU, and benchmarks. The binary of the same name runs them; the tests of this crate run on a CPU.

pub mod bench;
pub mod catalogue;
pub mod device;
#[cfg(feature = "cuda")]
pub mod kernels;
pub mod models;
pub mod ops;
pub mod report;
pub mod training;
