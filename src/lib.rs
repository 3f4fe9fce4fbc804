//! bakfs: backups whose history is a file system.
pub mod error;
pub mod format;
pub mod id;
pub mod monitor;
pub mod restore;
pub mod source;
