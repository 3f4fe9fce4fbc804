//! What processes share through a repository: snapshots and their names, marks, sessions.

pub mod dated;
pub mod digest;
pub mod foreign;
pub mod forget;
pub mod listed;
pub mod marks;
pub mod names;
pub mod scope;
pub mod seen;
pub mod session;
pub mod snapshots;
