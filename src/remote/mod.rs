//! Services reached over a network, by paths: logins, retries, limits and HTTP.
//!
//! A [`Client`] reads, lists and removes what lies below one place. Nothing here knows what the paths are for: a store
//! keeps objects under them, and how it puts one is its own affair.
//!
//! Every operation is made of attempts that end in bounded time. Reads, listings and removals are made again as they are.
//! Nothing is kept.

mod aws;
mod checksum;
mod client;
mod environment;
mod explain;
mod failure;
mod http;
mod limit;
mod listing;
mod login;
mod logins;
mod netrc;
mod openstack;
mod page;
mod retry;
mod service;
mod settings;
mod ssh;
mod temporary;

pub use client::{Client, RemoteOptions, address};
pub use environment::{CREDENTIALS_FILE, Environment};
pub use listing::{Bounds, Item};
pub use retry::Policy;
pub use ssh::close as close_connections;

pub(crate) use client::{Attempts, RequestSpec};
pub(crate) use explain::Task;
pub(crate) use failure::{Cause, Failure};
pub(crate) use http::{Checksums, Purpose};
pub(crate) use listing::MAX_PAGE_BYTES;
pub(crate) use service::{Attempt, ObjectMetadata};
pub(crate) use temporary::{TEMPORARY, temporary_name};
