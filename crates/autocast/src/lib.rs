//! autocast: see docs/architecture.md.
