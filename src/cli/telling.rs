//! What `bakfs run` tells of its runs, to whoever looks and whoever asked to be told.

use super::open::Global;
use super::output::{count, counted, size};
use crate::error::Error;
use crate::job::thin;
use crate::notify::{self, Telling};
use crate::settings::{Periodicity, Profile};
use crate::state::{Outcome, Run};
use parking_lot::Mutex;
use std::io::IsTerminal;

/// Who is still being told, by the profile it is about: no run waits for it, and the program does in the end.
static TELLINGS: Mutex<Vec<(String, Telling)>> = Mutex::new(Vec::new());

/// Goes on with a telling beside the next runs.
pub fn beside(profile: &str, telling: Telling) {
    TELLINGS.lock().push((profile.to_string(), telling));
}

/// Waits for all that is still being told, and says what could not be.
pub fn finish() {
    let tellings = std::mem::take(&mut *TELLINGS.lock());
    for (profile, telling) in tellings {
        failures(&profile, telling.finish());
    }
}

/// Says which notifications have failed: they fail no run.
pub fn failures(profile: &str, failures: Vec<Error>) {
    for error in failures {
        warn!("bakfs: {profile}: warning: {}", error.chain());
    }
}

/// Tells of a run that was killed, here and as its profile asks for.
pub fn killed(profile: &Profile, run: &Run) {
    let host = thin::host_of(profile);
    trouble(&host, run);
    beside(&profile.name, Telling::default().ended(&profile.notify, &host, run));
}

/// Tells trouble as one message.
pub fn trouble(host: &str, run: &Run) {
    let message = notify::message(host, run);
    warn!("{}\n\n{}", message.subject, message.body.trim_end());
}

/// Tells trouble as one message, and success only to somebody who looks.
pub fn ended(global: &Global, host: &str, run: &Run) {
    if run.outcome != Outcome::Success {
        trouble(host, run);
    }
    if global.json || global.quiet || !(std::io::stdout().is_terminal() || global.verbose > 0) {
        return;
    }
    if let Some(snapshot) = &run.snapshot {
        say!("Profile   {}, {}", run.profile, run.periodicity);
        say!("Snapshot  {snapshot}");
        say!("Files     {}, {}", count(run.files), size(run.content_bytes));
        say!("Added     {}, {} compressed", size(run.added_bytes), size(run.packed_bytes));
        for (path, bytes) in &run.dumps {
            say!("Dump      {path}  {}", size(*bytes));
        }
        if run.forgotten > 0 {
            say!("Forgotten {}", counted(run.forgotten, "snapshot"));
        }
        if run.periodicity == Periodicity::Manual {
            say!("Kept      until it is forgotten by name, as a run by hand");
        }
    }
}
