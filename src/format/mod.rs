//! Bytes on disk and the structures they hold; no I/O and no keys. docs/format.md is the description.
pub mod codec;
pub mod tree;
