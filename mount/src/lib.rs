//! Serves a read-only tree to the kernel through FUSE.
pub mod tree;
