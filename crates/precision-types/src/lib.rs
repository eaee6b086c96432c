//! precision-types: see docs/architecture.md.
