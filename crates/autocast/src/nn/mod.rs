//! candle-nn's layers, with its constructor and parameter names, on top of [`crate::ops`].
