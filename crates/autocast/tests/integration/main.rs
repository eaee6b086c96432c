//! What users of `autocast` meet, in one binary, which is linked once. What needs a process of its own stands beside this folder.

mod buffers;
mod cache;
mod candle_products;
mod classifier;
mod complex;
mod constants;
mod deep_graph;
mod graph;
mod indices;
mod region;
mod sums;
