//! What users of `trainer` meet, in one binary, which is linked once. What needs a process of its own, for a signal, the heap or a
//! collector of spans, stands beside this folder.

mod candle_layers;
#[path = "../common/mod.rs"]
mod common;
mod compare_cli;
mod examples;
mod failures;
mod files;
mod following;
mod kill;
mod resume;
mod several;
mod trainer;
mod training_loop;
