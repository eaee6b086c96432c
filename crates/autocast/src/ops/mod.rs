//! Functions over candle tensors that ask the region for their dtype, compute, and have a correct backward.
