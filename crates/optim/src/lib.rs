//! optim: see docs/architecture.md.
