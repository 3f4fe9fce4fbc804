//! The order of what is stored: crashes, faults, power cuts, lying listings, and several at a time.
#![allow(clippy::unwrap_used)]

mod bent_listings;
mod crash_states;
mod faults;
mod faults_real;
mod hostile_listings;
mod kills;
mod known_listing;
mod power_cuts;
mod prune_model;
