//! Profiles, schedules, notices, and what the pages tell to type.
#![allow(clippy::unwrap_used)]

mod emptied;
mod jobs;
mod months;
mod notify;
mod operations;
mod run;
mod schedule;
mod schedule_program;
mod status;
mod workflows;
