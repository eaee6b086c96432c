//! Names and numbers of precisions as users meet them, in one binary, which is linked once.

mod oracle;
mod readme;
mod rounding;
mod stochastic;
