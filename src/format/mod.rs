//! Bytes on disk and the structures they hold; no I/O and no keys. docs/format.md is the description.
pub mod codec;
pub mod config;
pub mod feature;
pub mod frame;
pub mod header;
pub mod index;
pub mod mark;
pub mod pack;
pub mod page;
pub mod snapshot;
pub mod tree;
