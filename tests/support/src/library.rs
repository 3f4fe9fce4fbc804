//! Drives the library in process: small repositories in any store, and everything that can be read of one.

use super::noise;
use bakfs::backup;
use bakfs::check::{self, Report};
use bakfs::crypto::keys::{Keys, Secret};
use bakfs::crypto::slot::{self, Credential};
use bakfs::error::{Error, ErrorKind, Result};
use bakfs::format::config::{ChunkSizes, Config};
use bakfs::format::header::Suite;
use bakfs::format::snapshot::Snapshot;
use bakfs::format::tree::{Entry, Node, Time};
use bakfs::id::RepositoryId;
use bakfs::monitor::Silent;
use bakfs::prune;
use bakfs::quantity::Share;
use bakfs::repo::index::load::IndexLoad;
use bakfs::repo::objects::object_id;
use bakfs::repo::open::Options;
use bakfs::repo::read::walk::Visitor;
use bakfs::repo::write::WriteOptions;
use bakfs::repo::{Memory, Repository};
use bakfs::store::{Names, Object, Store, Wait};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The key every repository of these tests opens with, and a second one.
pub const KEYS: [[u8; 32]; 2] = [[0x11; 32], [0x22; 32]];

/// Chunks so small that files of some KiB have many.
pub const TINY_CHUNKS: ChunkSizes = ChunkSizes { min_bytes: 256, avg_bytes: 512, max_bytes: 1024 };

/// Makes a repository in an empty store; its master key follows from `seed`.
pub fn init(store: &dyn Store, suite: Suite, seed: u8, chunk_sizes: ChunkSizes) -> Result<()> {
    let (id, master) = (RepositoryId([seed; 16]), Secret([seed ^ 0x5a; 32]));
    if suite == Suite::Aes256GcmSiv {
        for key in KEYS {
            let bytes = slot::seal(id, &master, &Credential::Key(Secret(key)));
            store.put(Object::Key(object_id(&bytes)), &bytes)?;
        }
    }
    store.barrier(Names::Mine)?;
    let config = Config {
        created: Time { secs: 1_700_000_000, nanos: 0 },
        features: Vec::new(),
        chunk_sizes,
        open_key: (suite == Suite::Plain).then_some(master.0),
    };
    let keys = Keys::derive(&master);
    store.put(Object::Config, &config.encode(id, suite, |bytes| keys.config_mac(bytes)))?;
    store.barrier(Names::Mine)
}

/// Opens a repository with the first key and no cache.
pub fn open(store: Arc<dyn Store>) -> Result<Arc<Repository>> {
    open_with(store, None)
}

/// Opens a repository with the first key.
pub fn open_with(store: Arc<dyn Store>, cache_base: Option<&Path>) -> Result<Arc<Repository>> {
    open_indexed(store, cache_base, IndexLoad::default())
}

/// Opens a repository with the first key, its index whole or, as a mount does, on demand.
pub fn open_indexed(store: Arc<dyn Store>, cache_base: Option<&Path>, index: IndexLoad) -> Result<Arc<Repository>> {
    let options = Options { cache_base, memory: Memory::default(), index, ..Options::default() };
    Repository::unlock(store, &options, |_| Ok(vec![Credential::Key(Secret(KEYS[0]))])).map(Arc::new)
}

/// Backs a folder up as it is on a day counted from 2026-03-01.
pub fn back_up(repository: &Arc<Repository>, source: &Path, day: i64) -> Result<backup::Outcome> {
    let options = backup::Options {
        paths: vec![source.to_owned()],
        host: "host".into(),
        tags: vec!["proof".into()],
        time: Some(Time { secs: 1_772_334_000 + day * 86_400, nanos: 0 }),
        write: WriteOptions { threads: 1, ..WriteOptions::default() },
        ..backup::Options::default()
    };
    backup::run(repository, &options, &Silent)
}

/// Checks everything that is stored.
pub fn check(repository: &Repository) -> Result<Report> {
    let read = Some(check::Selection { share: Share::All, before_secs: None });
    check::run(repository, check::Options { read, threads: 1 }, None, &Silent)
}

/// Hides the oldest snapshot that is shown; returns its name.
pub fn forget_oldest(repository: &Repository) -> Result<String> {
    let snapshots = repository.snapshots()?;
    let warnings = repository.take_warnings();
    // One that cannot be read may be the oldest.
    let unsure = || Error::new(ErrorKind::NotFound, format!("which is the oldest is not known: {warnings:?}"));
    let oldest = snapshots.first().filter(|_| warnings.is_empty()).ok_or_else(unsure)?;
    repository.forget(&[oldest.id])?;
    Ok(oldest.snapshot.name.clone())
}

/// Prunes, copying every pack that is not all used; all other sessions are taken for dead.
pub fn prune(repository: &Arc<Repository>) -> Result<prune::Report> {
    prune_as(repository, true)
}

/// Prunes as well, and waits for all other sessions.
pub fn prune_waiting(repository: &Arc<Repository>) -> Result<prune::Report> {
    prune_as(repository, false)
}

fn prune_as(repository: &Arc<Repository>, are_dead: bool) -> Result<prune::Report> {
    let options = prune::Options {
        max_waste: 0.0,
        dry_run: false,
        forgotten: &[],
        accept_missing: false,
        scratch: None,
        write: WriteOptions { threads: 1, ..WriteOptions::default() },
        is_dead: &|_| are_dead,
    };
    prune::run(repository, &options, &Silent)
}

/// Plants a small tree with everything trees can hold but devices; `day` changes some of it.
pub fn plant(dir: &Path, day: u64) {
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.join(name), bytes).unwrap();
    std::fs::create_dir_all(dir.join("folder/deeper")).unwrap();
    write("text", "row row row your boat ".repeat(40).as_bytes());
    write("empty", b"");
    write("noise", &noise(7, 700));
    // More chunks than an entry lists itself.
    let mut long = noise(8, 9000);
    long[..200].copy_from_slice(&noise(100 + day, 200));
    write("folder/long", &long);
    write(&format!("folder/deeper/day-{day}"), format!("today is {day}").as_bytes());
    let sparse = std::fs::File::create(dir.join("folder/sparse")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"data after a hole", 512 << 10).unwrap();
    if !dir.join("link").is_symlink() {
        std::os::unix::fs::symlink("folder/long", dir.join("link")).unwrap();
        std::fs::hard_link(dir.join("noise"), dir.join("folder/noise")).unwrap();
    }
}

/// One file of a snapshot with its bytes; `None` for what has none.
pub type File = (Entry, Option<Vec<u8>>);

/// What a snapshot shows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Shown {
    /// Everything that could be read, by path.
    pub files: BTreeMap<Vec<u8>, File>,
    /// What could not.
    pub errors: Vec<String>,
}

/// What a repository shows: snapshots by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// Each with what it was listed with.
    pub snapshots: BTreeMap<String, (Snapshot, Shown)>,
    /// Snapshots that could not be read, and what else was said.
    pub warnings: Vec<String>,
}

struct Reader<'a> {
    repository: &'a Repository,
    shown: Shown,
}

impl Visitor for Reader<'_> {
    fn entry(&mut self, path: &[u8], entry: &Entry) -> Result<bool> {
        let bytes = match &entry.node {
            Node::File(content) => {
                let size = entry.meta.size_bytes;
                let mut bytes = Vec::new();
                let read = self.repository.read_content(content, size, 0, size as usize, Wait::Allowed, &mut bytes);
                if let Err(error) = read {
                    self.shown.errors.push(format!("{}: {}", path.escape_ascii(), error.chain()));
                    return Ok(false);
                }
                Some(bytes)
            }
            _ => None,
        };
        self.shown.files.insert(path.to_vec(), (entry.clone(), bytes));
        Ok(true)
    }

    fn damage(&mut self, path: &[u8], error: Error) -> Result<()> {
        self.shown.errors.push(format!("{}: {}", path.escape_ascii(), error.chain()));
        Ok(())
    }
}

/// Reads all of one snapshot.
pub fn read_snapshot(repository: &Repository, snapshot: &Snapshot) -> Shown {
    let mut reader = Reader { repository, shown: Shown::default() };
    if let Err(error) = repository.walk(b"", &snapshot.root, &mut reader) {
        reader.shown.errors.push(error.chain());
    }
    reader.shown
}

/// Reads all there is.
pub fn read_all(repository: &Repository) -> Result<History> {
    let mut history = History::default();
    for listed in repository.snapshots()? {
        let shown = read_snapshot(repository, &listed.snapshot);
        history.snapshots.insert(listed.snapshot.name.clone(), ((*listed.snapshot).clone(), shown));
    }
    history.warnings = repository.take_warnings();
    Ok(history)
}

impl History {
    /// Returns what `self` shows that `truth` does not: wrong bytes, whatever else may be missing.
    pub fn lies(&self, truth: &History) -> Vec<String> {
        let mut lies = Vec::new();
        for (name, (snapshot, shown)) in &self.snapshots {
            let Some((true_snapshot, true_shown)) = truth.snapshots.get(name) else {
                lies.push(format!("{name} never was"));
                continue;
            };
            if snapshot != true_snapshot {
                lies.push(format!("{name} was not so"));
            }
            for (path, file) in &shown.files {
                if true_shown.files.get(path) != Some(file) {
                    lies.push(format!("{name}:{} was not so", path.escape_ascii()));
                }
            }
        }
        lies
    }

    /// Returns whether something `truth` shows is missing without a word about it.
    pub fn is_silently_less(&self, truth: &History) -> bool {
        truth.snapshots.iter().any(|(name, (_, true_shown))| match self.snapshots.get(name) {
            None => self.warnings.is_empty(),
            Some((_, shown)) => shown.errors.is_empty() && shown.files.len() < true_shown.files.len(),
        })
    }

    /// Returns whether all of it could be read.
    pub fn is_whole(&self) -> bool {
        self.warnings.is_empty() && self.snapshots.values().all(|(_, shown)| shown.errors.is_empty())
    }
}

/// A folder that is removed at the end, with a source in it.
pub struct Source {
    dir: tempfile::TempDir,
}

impl Source {
    /// Plants the tree of day 0.
    pub fn new() -> Self {
        let source = Source { dir: tempfile::Builder::new().prefix("bakfs-proof-").tempdir().unwrap() };
        plant(&source.path(), 0);
        source
    }

    /// Returns the source.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    /// Returns a path beside the source.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Returns the size of a campaign: `BAKFS_<NAME>` where it is set, `long` under `tests/run --long`, else `short`.
pub fn size(name: &str, short: u64, long: u64) -> u64 {
    let asked = std::env::var(format!("BAKFS_{name}")).ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(if is_long() { long } else { short })
}

/// Returns whether this is the long form.
pub fn is_long() -> bool {
    std::env::var_os("BAKFS_LONG").is_some()
}

/// Counts the panics of all threads from now on.
pub fn count_panics() -> &'static AtomicU64 {
    static PANICS: AtomicU64 = AtomicU64::new(0);
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        tell(info);
    }));
    &PANICS
}

/// Runs `work` for every number below `count` on two threads.
pub fn in_parallel(count: u64, work: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    let run = || loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return;
        }
        work(number);
    };
    std::thread::scope(|scope| {
        scope.spawn(run);
        run();
    });
}
