//! Reads the disk that is being backed up: directories, file contents and metadata, safely under change.
//!
//! Knows nothing of repositories. Everything is relative to open directories, so paths of any length
//! work and no symbolic link is ever followed below a root. Errors are predicates ("could not be
//! opened") without a path: whoever asked knows it, and names it beside the message.

pub mod exclude;
pub mod filesystem;
pub mod generated;
pub mod listing;
pub mod owners;
pub mod read;
pub mod servers;
pub mod stat;
pub mod walk;
pub mod xattr;
