//! What holds the other crates to their promises, on any device: models that are trained for it, and benchmarks. The
//! binary of the same name runs them.

pub mod bench;
pub mod models;
pub mod report;
