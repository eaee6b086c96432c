//! Where a fit's numbers go: CSV, JSON lines and TensorBoard's event files. When something is logged is the loop's.
//!
//! Every record is handed to the system whole as it is logged, so that a killed run leaves files which can be read. A fit
//! that goes on from a state drops what was logged after that state, and appends; one that begins anew puts what it finds
//! aside under another name.

mod csv;
mod json_lines;
mod tensorboard;
#[cfg(test)]
mod tests;

pub use csv::CsvLogger;
pub use json_lines::JsonLinesLogger;
pub use tensorboard::TensorBoardLogger;
