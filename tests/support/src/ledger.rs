//! What a repository owes its user: judged after every run that was cut short. Runs the real binary.

use super::cli::Bakfs;
use super::library::{self, Shown};
use bakfs::format::header::Suite;
use bakfs::repo::Repository;
use bakfs::store::local::LocalStore;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// A command that is cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Makes a repository in a new folder.
    Init,
    /// Backs the source up.
    Backup,
    /// Hides the oldest snapshot.
    Forget,
    /// Deletes what nothing needs; before it the oldest snapshot is forgotten, where there are several.
    Prune,
    /// Makes the index again, which was lost.
    Repair,
}

/// A repository, its source, and every snapshot that must be in it.
pub struct Ledger<'a> {
    bakfs: &'a Bakfs,
    folder: PathBuf,
    source: PathBuf,
    truth: BTreeMap<String, Shown>,
    runs: u64,
}

impl<'a> Ledger<'a> {
    /// Makes a repository in `folder`, of a source that is kept elsewhere.
    pub fn new(bakfs: &'a Bakfs, folder: &Path, source: &Path) -> Self {
        library::plant(source, 0);
        let (folder, source) = (folder.to_owned(), source.to_owned());
        let ledger = Ledger { bakfs, folder, source, truth: BTreeMap::new(), runs: 0 };
        let store = LocalStore::new(&ledger.repo());
        store.create_folders().unwrap();
        library::init(&store, Suite::Plain, 0, library::TINY_CHUNKS).unwrap();
        ledger
    }

    /// Returns the repository's folder.
    pub fn repo(&self) -> PathBuf {
        self.folder.join("repo")
    }

    fn new_repo(&self) -> PathBuf {
        self.folder.join(format!("repo-{}", self.runs))
    }

    /// Returns how many snapshots there must be.
    pub fn snapshots(&self) -> usize {
        self.truth.len()
    }

    /// Changes the source and does what comes before a piece of work.
    pub fn prepare(&mut self, work: Work) {
        self.runs += 1;
        library::plant(&self.source, self.runs);
        if work == Work::Prune && self.truth.len() > 2 {
            let repository = library::open(Arc::new(LocalStore::new(&self.repo()))).unwrap();
            let name = library::forget_oldest(&repository).unwrap();
            self.truth.remove(&name).unwrap();
        }
        if work == Work::Repair {
            for (object, _) in super::files_below(&self.repo().join("index")) {
                std::fs::remove_file(object).unwrap();
            }
        }
    }

    /// Returns the name of the oldest snapshot, if there is another.
    fn oldest(&self) -> Option<&str> {
        self.truth.keys().next().filter(|_| self.truth.len() > 1).map(String::as_str)
    }

    /// Returns the command of a piece of work, run by `program` with `options` before it where they are given.
    pub fn command(&self, work: Work, program: Option<(&str, &[String])>) -> Command {
        let repo = if work == Work::Init { self.new_repo() } else { self.repo() };
        let args: &[&OsStr] = match work {
            Work::Init => &["init".as_ref(), "--encryption".as_ref(), "none".as_ref()],
            Work::Backup => &["backup".as_ref(), "--host".as_ref(), "host".as_ref(), self.source.as_ref()],
            // By rules where nothing may be forgotten: the command has to have something to do.
            Work::Forget => match self.oldest() {
                Some(name) => &["forget".as_ref(), name.as_ref()],
                None => &["forget".as_ref(), "--keep-last".as_ref(), "9".as_ref()],
            },
            Work::Repair => &["repair".as_ref()],
            Work::Prune => &["prune".as_ref(), "--max-waste".as_ref(), "0%".as_ref()],
        };
        let global = [OsString::from("--repo"), repo.into(), "--cache-dir".into(), self.folder.join("cache").into()];
        let mut command = match program {
            None => self.bakfs.command([""; 0]),
            Some((program, options)) => {
                let mut command = self.bakfs.wrap(program);
                command.args(options).arg(super::cli::program());
                command
            }
        };
        command.args(global).args(args);
        command
    }

    fn open(&self) -> Result<Arc<Repository>, String> {
        let store = Arc::new(LocalStore::new(&self.repo()));
        library::open(store).map_err(|error| format!("does not open: {}", error.chain()))
    }

    /// Judges what is there after a run that ended with `code`; `Err` tells the promise that was broken.
    pub fn judge(&mut self, work: Work, code: i32) -> Result<(), String> {
        if work == Work::Init {
            return self.judge_init(code);
        }
        if work == Work::Repair && code != 0 {
            // Everything is readable meanwhile, and the same command ends what it began.
            let repository = self.open()?;
            let history = library::read_all(&repository).map_err(|error| error.chain())?;
            let is_there = |(name, shown)| history.snapshots.get(name).is_some_and(|(_, now)| now == shown);
            if !self.truth.iter().all(is_there) {
                return Err(format!("not readable without an index: {:?}", history.warnings));
            }
            let again = super::process::run(self.command(Work::Repair, None));
            if again.code != 0 {
                return Err(format!("cannot be repaired: {again}"));
            }
        }
        let repository = self.open()?;
        let history = library::read_all(&repository).map_err(|error| error.chain())?;
        let report = library::check(&repository).map_err(|error| error.chain())?;
        if !history.is_whole() || !report.findings.is_empty() {
            let errors: Vec<_> = history.snapshots.values().flat_map(|(_, shown)| &shown.errors).collect();
            return Err(format!("damaged: {:?} {errors:?} {:?}", history.warnings, report.findings));
        }
        let mut found: BTreeMap<_, _> = history.snapshots.into_iter().map(|(name, (_, shown))| (name, shown)).collect();
        let forgotten = self.oldest().filter(|_| work == Work::Forget);
        for (name, shown) in &self.truth {
            match found.get(name) {
                None if forgotten == Some(name) => {}
                Some(_) if forgotten == Some(name) && code == 0 => return Err(format!("{name} was not forgotten")),
                None => return Err(format!("{name} is lost")),
                Some(now) if now != shown => return Err(format!("{name} has changed")),
                Some(_) => {}
            }
        }
        let new: Vec<_> = found.keys().filter(|name| !self.truth.contains_key(*name)).cloned().collect();
        let most = usize::from(work == Work::Backup);
        let least = usize::from(work == Work::Backup && code == 0);
        if !(least..=most).contains(&new.len()) {
            return Err(format!("exit code {code} and {} new snapshots", new.len()));
        }
        if let Some(wrong) = new.iter().find_map(|name| self.differs(&found[name])) {
            return Err(format!("{new:?} is not the source: {wrong}"));
        }
        std::mem::swap(&mut self.truth, &mut found);
        Ok(())
    }

    /// Names a file that a snapshot shows otherwise than the source has it.
    fn differs(&self, shown: &Shown) -> Option<String> {
        let files = super::files_below(&self.source);
        let wrong = files.into_iter().find(|(path, _)| {
            let stored = shown.files.get(path.as_os_str().as_encoded_bytes());
            stored.and_then(|(_, bytes)| bytes.as_ref()) != Some(&std::fs::read(path).unwrap())
        });
        wrong.map(|(path, _)| path.display().to_string())
    }

    /// A repository that was reported as made is there; any other is finished by the same command.
    fn judge_init(&self, code: i32) -> Result<(), String> {
        let repo = self.new_repo();
        if code != 0 && !repo.join("config").exists() {
            let again = super::process::run(self.command(Work::Init, None));
            if again.code != 0 {
                return Err(format!("cannot be finished: {again}"));
            }
        }
        let opened = library::open(Arc::new(LocalStore::new(&repo)));
        let repository = opened.map_err(|error| format!("init: {}", error.chain()))?;
        let stored = library::back_up(&repository, &self.source, 0);
        stored.map_err(|error| format!("a backup after init: {}", error.chain()))?;
        drop(repository);
        std::fs::remove_dir_all(&repo).unwrap();
        Ok(())
    }
}
