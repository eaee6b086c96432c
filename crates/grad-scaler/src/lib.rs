//! grad-scaler: see docs/architecture.md.
