//! Writes stored trees back to a disk.

pub mod attributes;
pub mod owners;
pub mod target;
