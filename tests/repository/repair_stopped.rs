//! Promise: a repair that is stopped anywhere has done no harm, and the next one goes on.

use bakfs::error::{Error, ErrorKind, Result};
use bakfs::id::ObjectId;
use bakfs::monitor::Silent;
use bakfs::repair::{self, Options};
use bakfs::repo::{Memory, Repository, open};
use bakfs::store::local::LocalStore;
use bakfs::store::{Decorator, Names, Object, Store};
use bakfs_testing::cli::{Bakfs, json_of};
use bakfs_testing::process::{run, test_again, tool};
use bakfs_testing::{files_below, noise};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A store that fails from its n-th change on, as if the process had been killed there.
struct Stops {
    inner: LocalStore,
    left: AtomicU64,
}

impl Stops {
    fn change(&self) -> Result<()> {
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| Some(left.saturating_sub(1)));
        if left == Ok(0) { Err(Error::new(ErrorKind::Io, "stopped")) } else { Ok(()) }
    }
}

impl Decorator for Stops {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }
    fn put(&self, object: Object, bytes: &[u8]) -> Result<()> {
        self.change()?;
        self.inner.put(object, bytes)
    }
    fn barrier(&self, names: Names) -> Result<()> {
        self.change()?;
        self.inner.barrier(names)
    }
    fn delete(&self, object: Object) -> Result<()> {
        self.change()?;
        self.inner.delete(object)
    }
}

/// What the process that is stopped is told: the repository, the number of changes, the damaged pack.
const TOLD: &str = "BAKFS_TEST_STOPPED_REPAIR";

/// The process that is stopped; on its own it does nothing.
#[test]
fn a_process_that_is_stopped() {
    let Some(told) = std::env::var_os(TOLD) else { return };
    let told = told.into_string().unwrap();
    let [repo, changes, suspect] = told.split('|').collect::<Vec<_>>().try_into().unwrap();
    let suspect = ObjectId::from_hex(suspect).unwrap();
    let ended = repair(Path::new(repo), changes.parse().unwrap(), suspect);
    std::process::exit(if ended { 0 } else { 3 });
}

/// Repairs in a process that stops after some changes; returns whether it came to its end.
fn stopped_repair(repo: &Path, changes: u64, suspect: ObjectId) -> bool {
    let mut command = test_again(module_path!(), "a_process_that_is_stopped");
    command.env(TOLD, format!("{}|{changes}|{}", repo.display(), suspect.to_hex()));
    let outcome = run(command);
    assert!(matches!(outcome.code, 0 | 3), "{outcome}");
    outcome.code == 0
}

fn repair(repo: &Path, changes: u64, suspect: ObjectId) -> bool {
    let store = Arc::new(Stops { inner: LocalStore::new(repo), left: AtomicU64::new(changes) });
    let options = open::Options { cache_base: None, memory: Memory::default(), ..open::Options::default() };
    let repository = Repository::unlock(store, &options, |_| Ok(Vec::new())).unwrap();
    let options = Options { suspects: vec![suspect], dry_run: false };
    repair::run(&Arc::new(repository), &options, &Silent).is_ok()
}

/// Returns the files of the source that cannot be read from the newest snapshot; panics at wrong bytes.
fn lost(bakfs: &Bakfs, source: &Path) -> BTreeSet<PathBuf> {
    let is_lost = |path: &PathBuf| {
        let dump = bakfs.run(["dump", &format!("latest:{}", path.display())]);
        assert!(dump.code != 0 || dump.stdout == std::fs::read(path).unwrap(), "{path:?}");
        dump.code != 0
    };
    files_below(source).into_iter().map(|(path, _)| path).filter(is_lost).collect()
}

#[test]
fn a_repair_stopped_at_any_change_has_lost_nothing_and_the_next_one_ends_it() {
    let bakfs = Bakfs::empty();
    bakfs.ok(["init", "--encryption", "none"]);
    let source = bakfs.make_dir("source");
    let mut index = Vec::new();
    for day in 0..3u64 {
        for file in 0..4u64 {
            std::fs::write(source.join(format!("{day}-{file}")), noise(day * 10 + file, 150_000)).unwrap();
        }
        let known = bakfs.objects("index");
        bakfs.backup([source.as_os_str()]);
        index.extend(bakfs.objects("index").into_iter().filter(|object| !known.contains(object)));
    }
    // A damaged and a lost pack of content, and a damaged index object.
    let content: Vec<_> =
        bakfs.objects("packs").into_iter().filter(|(path, _)| std::fs::read(path).unwrap()[9] == 3).collect();
    let mut bytes = std::fs::read(&content[0].0).unwrap();
    bytes[200_000] ^= 1;
    std::fs::remove_file(&content[0].0).unwrap();
    std::fs::write(&content[0].0, bytes).unwrap();
    std::fs::remove_file(&content[1].0).unwrap();
    std::fs::remove_file(&index[1].0).unwrap();
    std::fs::write(&index[1].0, b"damage").unwrap();
    let damaged = ObjectId::from_hex(content[0].0.file_name().unwrap().to_str().unwrap()).unwrap();
    let before = lost(&bakfs, &source);
    assert!(!before.is_empty() && before.len() < 12, "{before:?}");
    let saved = bakfs.path("saved");
    let copy = |from: &Path, to: &Path| {
        let _ = std::fs::remove_dir_all(to);
        tool("cp", [OsStr::new("-a"), from.as_os_str(), to.as_os_str()]).expect(0);
    };
    copy(&bakfs.repo(), &saved);
    let good: Vec<_> = files_below(&saved.join("packs")).into_iter().map(|(path, _)| path).collect();
    let mut stops = 0;
    loop {
        copy(&saved, &bakfs.repo());
        let ended = stopped_repair(&bakfs.repo(), stops, damaged);
        for pack in &good {
            assert!(bakfs.repo().join(pack.strip_prefix(&saved).unwrap()).exists(), "{stops}: {pack:?} is kept");
        }
        assert_eq!(lost(&bakfs, &source), before, "stopped after {stops} changes");
        bakfs.run(["repair", "--read-data"]).expect(3);
        assert_eq!(lost(&bakfs, &source), before, "repaired after {stops} changes");
        let left = json_of(bakfs.run(["--json", "check", "--read-data"]).expect(1));
        let findings = left["findings"].as_array().unwrap();
        assert!(findings.iter().all(|found| found["object"] == "index"), "{stops}: only lost content: {left}");
        let named: usize = findings.iter().map(|found| found["affected"].as_array().unwrap().len()).sum();
        assert_eq!(named, before.len(), "{stops}: {left}");
        if ended {
            break;
        }
        stops += 1;
    }
    assert!(stops > 6, "a repair makes many changes: {stops}");
}
