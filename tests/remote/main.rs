//! Repositories far away: services, faults between, and what is kept here of them.
#![allow(clippy::unwrap_used)]

mod cache;
mod cached_folder;
mod cached_store;
mod contract;
mod far;
mod far_stores;
mod index_on_demand;
mod paths;
mod remote_errors;
mod remote_faults;
mod servers;
mod view_ahead;
