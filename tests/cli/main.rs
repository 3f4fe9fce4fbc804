//! What is typed, what is said, and exit codes.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod completions;
mod configuration;
mod demo;
mod diff_oracle;
mod exit_codes;
mod json;
mod progress;
mod read_commands;
mod scope;
mod trust;
mod trusted_files;
mod values;
mod verbs;
