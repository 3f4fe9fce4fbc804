//! What a backup reads, stores and leaves out.
#![allow(clippy::unwrap_used)]

mod commit_order;
mod freshness;
mod full_disk;
mod killed;
mod left_out;
mod source;
mod source_races;
mod work;
