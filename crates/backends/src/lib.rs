//! backends: see docs/architecture.md.
