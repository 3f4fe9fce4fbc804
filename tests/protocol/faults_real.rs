//! Promise: an I/O error is never success, on the real binary: system calls of init, backup, check and restore
//! fail in turn (strace's fault injection), once and from then on. Exit codes are right, nothing panics, what
//! was reported is there, what was there before still is, and the next run needs nothing.

use bakfs::format::header::Suite;
use bakfs::store::local::LocalStore;
use bakfs_testing::cli::Bakfs;
use bakfs_testing::device::Device;
use bakfs_testing::library::{self, History};
use bakfs_testing::process::{Outcome, start};
use bakfs_testing::{Dice, SOON};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Calls that change, open or sync something, and those that read.
const CALLS: &[&str] = &[
    "write",
    "pwrite64",
    "writev",
    "fsync",
    "fdatasync",
    "syncfs",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "openat",
    "close",
    "ftruncate",
    "fallocate",
    "read",
    "pread64",
    "preadv2",
    "getdents64",
    "statx",
];
const COMMANDS: &[&str] = &["init", "backup", "check", "restore"];
const ERRORS: &[&str] = &["EIO", "ENOSPC", "EMFILE", "EINTR"];

/// One run of the binary with a fault.
#[derive(Debug, Clone, Copy)]
struct Plan {
    command: &'static str,
    call: &'static str,
    error: &'static str,
    /// Counted in each thread by itself, as strace does.
    when: u64,
    goes_on: bool,
}

struct World {
    bakfs: Bakfs,
    disk: Device,
    source: PathBuf,
    history: History,
}

/// What came of one run: whether the fault was met, and whether the command said that it succeeded.
struct Run {
    was_met: bool,
    is_success: bool,
}

fn open(repo: &Path) -> Result<Arc<bakfs::repo::Repository>, String> {
    library::open(Arc::new(LocalStore::new(repo))).map_err(|error| error.chain())
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), &to).unwrap();
        }
    }
}

impl World {
    fn new() -> World {
        bakfs_testing::need_root();
        let bakfs = Bakfs::empty();
        let disk = Device::memory(&bakfs.path("disk"), 256);
        let source = disk.path().join("source");
        library::plant(&source, 0);
        let base = disk.path().join("base");
        let store = Arc::new(LocalStore::new(&base));
        store.create_folders().unwrap();
        library::init(&*store, Suite::Plain, 0, library::TINY_CHUNKS).unwrap();
        library::back_up(&library::open(store.clone()).unwrap(), &source, 0).unwrap();
        let history = library::read_all(&library::open(store).unwrap()).unwrap();
        library::plant(&source, 9);
        World { bakfs, disk, source, history }
    }

    /// Returns a folder of its own for one run, with the repository in it that the command expects.
    fn place(&self, number: u64, command: &str) -> PathBuf {
        let place = self.disk.path().join(format!("run-{number}"));
        std::fs::create_dir(&place).unwrap();
        if command != "init" {
            copy(&self.disk.path().join("base"), &place.join("repo"));
        }
        place
    }

    /// Returns the arguments of a command that works in a folder of its own.
    fn args(&self, place: &Path, command: &str) -> Vec<OsString> {
        let global = ["--repo".into(), place.join("repo").into(), "--cache-dir".into(), place.join("cache").into()];
        let args: Vec<OsString> = match command {
            "init" => vec!["init".into(), "--encryption".into(), "none".into()],
            "backup" => {
                vec!["--json".into(), "backup".into(), "--host".into(), "host".into(), self.source.clone().into()]
            }
            "check" => vec!["check".into(), "--read-data".into()],
            _ => vec!["restore".into(), "latest".into(), place.join("target").into()],
        };
        global.into_iter().chain(args).collect()
    }

    /// Runs the binary under strace with further options.
    fn trace(&self, place: &Path, command: &str, options: &[String]) -> (Outcome, String) {
        let trace = place.join("trace");
        let mut strace = self.bakfs.wrap("strace");
        strace.env("BAKFS_STATE_DIR", place.join("state"));
        strace.args(["-f", "-qq", "-y", "--seccomp-bpf", "-o"]).arg(&trace).args(options);
        strace.arg(env!("CARGO_BIN_EXE_bakfs")).args(self.args(place, command));
        let outcome = start(strace, false).finish_within(SOON);
        (outcome, String::from_utf8_lossy(&std::fs::read(trace).unwrap()).into_owned())
    }

    /// Runs the binary where no file may be longer than `most_bytes`: the write that reaches it is short, and the
    /// next fails (RLIMIT_FSIZE, setrlimit(2)).
    fn run_limited(&self, number: u64, command: &str, most_bytes: u64) -> Result<bool, String> {
        let place = self.place(number, command);
        let script = r#"trap "" XFSZ; exec prlimit --fsize="$0" "$@""#;
        let mut limited = self.bakfs.wrap("sh");
        limited.env("BAKFS_STATE_DIR", place.join("state"));
        limited.args(["-c", script, &most_bytes.to_string(), env!("CARGO_BIN_EXE_bakfs")]);
        limited.args(self.args(&place, command));
        let outcome = start(limited, false).finish_within(SOON);
        let is_success = outcome.code == 0;
        let judged = match command {
            _ if !matches!(outcome.code, 0 | 1 | 3) => Err("wrong exit code, or a panic".into()),
            "init" if is_success => open(&place.join("repo")).map(drop),
            "backup" => self.is_kept(&place.join("repo"), &outcome),
            "restore" if is_success => self.is_restored(&place.join("target")),
            _ => Ok(()),
        };
        std::fs::remove_dir_all(place).unwrap();
        judged.map(|()| is_success).map_err(|failure| format!("{failure}\n{outcome}"))
    }

    /// Returns how often a command makes each call, in the thread that makes most.
    fn counts(&self, command: &str) -> HashMap<&'static str, u64> {
        let place = self.place(u64::MAX, command);
        let (outcome, trace) = self.trace(&place, command, &["-e".into(), format!("trace={}", CALLS.join(","))]);
        outcome.expect(0);
        std::fs::remove_dir_all(place).unwrap();
        let mut by_thread: HashMap<(&str, &str), u64> = HashMap::new();
        for line in trace.lines() {
            let (thread, call) = line.split_once(' ').unwrap();
            if let Some((call, _)) = call.trim_start().split_once('(') {
                *by_thread.entry((thread, call)).or_default() += 1;
            }
        }
        let most = |call: &str| by_thread.iter().filter(|((_, made), _)| *made == call).map(|(_, count)| *count).max();
        CALLS.iter().filter_map(|call| Some((*call, most(call)?))).collect()
    }

    fn run(&self, number: u64, plan: Plan) -> Result<Run, String> {
        let place = self.place(number, plan.command);
        let Plan { command, call, error, when, goes_on } = plan;
        let from = if goes_on { "+" } else { "" };
        let options = [
            "-e".into(),
            format!("trace={call}"),
            "-e".into(),
            format!("inject={call}:error={error}:when={when}{from}"),
        ];
        let (outcome, trace) = self.trace(&place, command, &options);
        let judged = self.judge(plan, &place, &outcome, &trace);
        std::fs::remove_dir_all(place).unwrap();
        judged.map_err(|failure| format!("{failure}\n{outcome}\n{}", injected(&trace).take(3).collect::<String>()))
    }

    fn judge(&self, plan: Plan, place: &Path, outcome: &Outcome, trace: &str) -> Result<Run, String> {
        if outcome.stderr.contains("unexpected error during closedir") {
            // std's own panic: no local file system lets closedir(3) fail.
            return Ok(Run { was_met: false, is_success: false });
        }
        // 127: the loader could not load the program.
        if !matches!(outcome.code, 0 | 1 | 3 | 127) || outcome.stderr.contains("panicked") {
            return Err("wrong exit code, or a panic".into());
        }
        if outcome.code == 1 && outcome.stderr.is_empty() && outcome.stdout.is_empty() && plan.call != "write" {
            return Err("failed without a word".into());
        }
        let is_success = outcome.code == 0;
        let repo = place.join("repo");
        let of_repo = injected(trace).any(|line| line.contains(&format!("{}/", repo.display())));
        // What was synced and failed is void, though it can still be read: only the reported failure tells.
        let is_void = |line: &str| line.contains("sync(") && !line.contains("EINTR") && !line.contains("/marks");
        let synced = injected(trace).filter(|line| ["/repo/", "/repo>"].iter().any(|part| line.contains(part)));
        if matches!(outcome.code, 0 | 3) && synced.into_iter().any(is_void) {
            return Err("a sync failed, and was not reported".into());
        }
        match plan.command {
            "init" if is_success => drop(open(&repo).map_err(|error| format!("it was not made: {error}"))?),
            "init" => {}
            // std asks by stat(2) where statx(2) fails, and what was read is right though it cannot be closed.
            "check" if is_success && of_repo && plan.goes_on && !matches!(plan.call, "statx" | "close") => {
                return Err("said to be sound although it could not be read".into());
            }
            "restore" if is_success => self.is_restored(&place.join("target"))?,
            "backup" => self.is_kept(&repo, outcome)?,
            _ => {}
        }
        Ok(Run { was_met: injected(trace).next().is_some(), is_success })
    }

    fn is_restored(&self, target: &Path) -> Result<(), String> {
        let (_, shown) = self.history.snapshots.values().next().unwrap();
        for (path, (_, bytes)) in &shown.files {
            let Some(bytes) = bytes else { continue };
            let there = target.join(std::str::from_utf8(&path[1..]).unwrap());
            if std::fs::read(&there).ok().as_ref() != Some(bytes) {
                return Err(format!("reported as restored, and {} is not", there.display()));
            }
        }
        Ok(())
    }

    /// What was there before a backup is there; so is the new snapshot if it was said to be. One whose removal failed
    /// too may stay, whole, if that was told.
    fn is_kept(&self, repo: &Path, outcome: &Outcome) -> Result<(), String> {
        let code = outcome.code;
        let repository = open(repo)?;
        let history = library::read_all(&repository).map_err(|error| error.chain())?;
        let report = library::check(&repository).map_err(|error| error.chain())?;
        if !history.is_whole() || !report.findings.is_empty() {
            return Err(format!("damaged afterwards: {:?} {:?}", history.warnings, report.findings));
        }
        if !self.history.snapshots.iter().all(|(name, before)| history.snapshots.get(name) == Some(before)) {
            return Err("the earlier snapshot is not what it was".into());
        }
        let new = history.snapshots.len() - self.history.snapshots.len();
        let may_stay = code == 1 && outcome.stderr.contains("A snapshot that is not reported may stay");
        // What is asked for as JSON, and cannot be told, is a failure; that it was done stays.
        let is_told = outcome.stderr.contains("Standard output could not be written whole");
        // Where every write fails, that cannot be told either.
        let is_silent = outcome.stdout.is_empty() && outcome.line.contains("inject=write");
        let is_untold = code == 1 && (is_told || is_silent);
        if matches!(code, 0 | 3) != (new == 1) && !may_stay && !is_untold {
            return Err(format!("exit {code} and {new} new snapshots"));
        }
        for (_, shown) in history.snapshots.into_iter().filter(|(name, _)| !self.history.snapshots.contains_key(name)) {
            self.is_source(&shown.1, code == 3)?;
        }
        let next = library::back_up(&repository, &self.source, 20).map_err(|error| error.chain())?;
        self.is_source(&library::read_snapshot(&repository, &next.snapshot), false)
    }

    /// Compares a snapshot with the source; `some` of it may be missing.
    fn is_source(&self, shown: &library::Shown, some: bool) -> Result<(), String> {
        for (path, _) in bakfs_testing::files_below(&self.source) {
            let stored = shown.files.get(path.as_os_str().as_encoded_bytes()).and_then(|(_, bytes)| bytes.as_ref());
            let is_there = stored.is_some_and(|stored| *stored == std::fs::read(&path).unwrap());
            let may_miss = some && stored.is_none();
            if !is_there && !may_miss {
                return Err(format!("{} is not what it is at the source", path.display()));
            }
        }
        Ok(())
    }
}

fn injected(trace: &str) -> impl Iterator<Item = &str> {
    trace.lines().filter(|line| line.contains("(INJECTED)"))
}

#[test]
fn no_failed_system_call_is_success() {
    let world = World::new();
    let mut plans = Vec::new();
    for command in COMMANDS {
        for (call, count) in world.counts(command) {
            for when in 1..=count {
                for error in ERRORS.iter().filter(|error| **error != "EMFILE" || call == "openat") {
                    // A call that is interrupted is made again: for ever, if it always is.
                    let ways: &[bool] = if *error == "EINTR" { &[false] } else { &[false, true] };
                    plans.extend(ways.iter().map(|goes_on| Plan { command, call, error, when, goes_on: *goes_on }));
                }
            }
        }
    }
    plans.sort_by_key(|plan| (plan.command, plan.call, plan.error, plan.when, plan.goes_on));
    let all = plans.len();
    let seed = library::size("FAULTS_SEED", 1, 1);
    let mut dice = Dice::new(seed);
    // What is done first counts most; a long list of openings of folders is sampled like the rest.
    let mut keyed: Vec<_> =
        plans.into_iter().map(|plan| (dice.below(1 + plan.when.pow(2)), dice.roll(), plan)).collect();
    keyed.sort_by_key(|(weight, order, _)| (*weight, *order));
    let plans: Vec<_> =
        keyed.into_iter().map(|(_, _, plan)| plan).take(library::size("FAULTS", 1600, 100_000) as usize).collect();
    let tally = Mutex::new((0u64, 0u64, Vec::new()));
    library::in_parallel(plans.len() as u64, |number| {
        let plan = plans[number as usize];
        let run = world.run(number, plan);
        let mut tally = tally.lock();
        match run {
            Ok(run) => {
                tally.0 += u64::from(run.was_met);
                tally.1 += u64::from(run.is_success);
            }
            Err(failure) => tally.2.push(format!("{plan:?}: {failure}")),
        }
    });
    let (met, successes, failures) = tally.into_inner();
    println!(
        "system calls: {} of {all} faults tried (seed {seed}), {met} met, {successes} runs succeeded all the same, {} wrongly",
        plans.len(),
        failures.len()
    );
    let first: Vec<_> = failures.iter().take(10).collect();
    assert!(failures.is_empty(), "{first:#?}");
    assert!(met * 2 > plans.len() as u64, "most faults are met: {met}");
}

#[test]
fn no_short_write_is_success() {
    let world = World::new();
    let runs = library::size("SHORT_WRITES", 240, 12_000);
    let tally = Mutex::new((0u64, Vec::new()));
    library::in_parallel(runs, |number| {
        let command = ["init", "backup", "restore"][number as usize % 3];
        let most_bytes = number * 6000 / runs;
        let judged = world.run_limited(number, command, most_bytes);
        let mut tally = tally.lock();
        match judged {
            Ok(success) => tally.0 += u64::from(success),
            Err(failure) => tally.1.push(format!("{command}, {most_bytes} bytes: {failure}")),
        }
    });
    let (successes, failures) = tally.into_inner();
    println!("short writes: {runs} runs, {successes} needed no longer file, {} wrongly", failures.len());
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(successes > 0 && successes < runs);
}
