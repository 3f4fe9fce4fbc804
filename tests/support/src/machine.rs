//! A machine with a configuration: profiles that run at any hour of any day.

use super::cli::{Bakfs, Mounted, json_of};
use super::process::{Outcome, Running, run, start};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One machine: its configuration, repository and states are its own.
pub struct Machine {
    /// Its world.
    pub bakfs: Bakfs,
}

impl Machine {
    /// Makes a machine whose `bakfs.toml` names its repository and goes on with `text`, in which `@` is the world's
    /// folder. The repository is made.
    pub fn new(text: &str) -> Machine {
        let machine = Machine { bakfs: Bakfs::empty() };
        machine.configure(text);
        machine.ok(["init"]);
        machine
    }

    /// Writes `bakfs.toml` anew.
    pub fn configure(&self, text: &str) {
        let head = "repo = \"@/repo\"\nstate-dir = \"@/state\"\nlog-dir = \"@/log\"\n";
        self.write("config/bakfs.toml", &format!("{head}{text}"));
    }

    /// Writes a profile's own file.
    pub fn profile(&self, name: &str, text: &str) {
        self.write(&format!("config/profiles.d/{name}.toml"), text);
    }

    /// Writes a file of the world, `@` in it being the world's folder; returns its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        super::write(&path, text.replace('@', self.path("").to_str().unwrap().trim_end_matches('/')));
        path
    }

    /// Returns a path of the world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.bakfs.path(name)
    }

    /// Returns a command that finds its repository by the configuration.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.bakfs.command(args);
        command.env_remove("BAKFS_REPO");
        command
    }

    /// Runs `bakfs ARGS`.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Outcome {
        run(self.command(args))
    }

    /// Runs `bakfs ARGS`, which must succeed.
    #[track_caller]
    pub fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Outcome {
        self.run(args).expect(0)
    }

    /// Runs `bakfs --json ARGS`, which must succeed.
    #[track_caller]
    pub fn json<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Value {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        json_of(self.run([std::ffi::OsString::from("--json")].into_iter().chain(args)).expect(0))
    }

    /// Starts `bakfs ARGS`.
    pub fn start<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Running {
        start(self.command(args), false)
    }

    /// Runs `bakfs ARGS` at a time in UTC, as `2026-03-01 03:15:00`.
    pub fn run_at<S: AsRef<OsStr>>(&self, time: &str, args: impl IntoIterator<Item = S>) -> Outcome {
        remove_stale_clocks();
        let mut command = self.command(args);
        command.env("LD_PRELOAD", clock_library()).env("FAKETIME", format!("@{time}"));
        run(command)
    }

    /// Returns the snapshots: name and tags, oldest first.
    pub fn snapshots(&self) -> Vec<(String, Vec<String>)> {
        let listed = self.json(["snapshots"]);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let one = |snapshot: &Value| {
            let tags = snapshot["tags"].as_array().unwrap().iter().map(text).collect();
            (text(&snapshot["name"]), tags)
        };
        listed.as_array().unwrap().iter().map(one).collect()
    }

    /// Returns the names of the snapshots that have a tag.
    pub fn tagged(&self, tag: &str) -> Vec<String> {
        let all = self.snapshots().into_iter();
        all.filter(|(_, tags)| tags.iter().any(|known| known == tag)).map(|(name, _)| name).collect()
    }

    /// Returns the last run of a profile as it is noted.
    pub fn last_run(&self, profile: &str) -> Value {
        let text = std::fs::read_to_string(self.path(&format!("state/profiles/{profile}.json"))).unwrap();
        let state: Value = serde_json::from_str(&text).unwrap();
        state["runs"].as_array().unwrap().last().unwrap().clone()
    }

    /// Mounts the history.
    pub fn mount(&self) -> Mounted<'_> {
        let dir = self.path("mnt");
        self.ok([OsStr::new("mount"), dir.as_os_str()]);
        self.bakfs.adopt(dir)
    }

    /// Returns a text file of the world; empty where there is none.
    pub fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

/// Returns the library that shows programs another time (faketime(1)). It is loaded without the program of that name,
/// whose semaphores a dump program of another user may not open.
fn clock_library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut found = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).filter(|path| path.exists());
    found.next().expect("libfaketime is missing: run tests/run")
}

/// Removes what the library has left behind of processes that were killed: one that gets the same number as another
/// user's would fail.
fn remove_stale_clocks() {
    for entry in std::fs::read_dir("/dev/shm").unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.contains("faketime_").then(|| name.rsplit('_').next().unwrap().to_owned());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another test may have removed it.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Asserts that a run was silent, as cron wants it.
#[track_caller]
pub fn silent(outcome: &Outcome) {
    assert!(outcome.stdout.is_empty() && outcome.stderr.is_empty(), "should be silent: {outcome}");
}

/// Returns the path at which a snapshot shows a path of the source.
pub fn below(snapshot: &Path, source: &Path) -> PathBuf {
    snapshot.join(source.strip_prefix("/").unwrap())
}
