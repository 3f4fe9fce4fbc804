//! What is stored: checked, damaged, repaired, forgotten, pruned, shared and attacked.
#![allow(clippy::unwrap_used)]

mod attacks;
mod check;
mod damage;
mod damage_sweep;
mod deep_trees;
mod features;
mod forget;
mod golden;
mod hostile_repositories;
mod keys;
mod known;
mod ledger;
mod prune;
mod repair;
mod repair_stopped;
mod retention;
mod shared;
