//! Promise: a mount is a service of the library. A process mounts several repositories without the program, follows each,
//! is told of each apart, and ends each alone; nothing is left of one that has ended.

use bakfs::error::{Error, ErrorKind, Result};
use bakfs::format::header::Suite;
use bakfs::id::RepositoryId;
use bakfs::repo::index::load::IndexLoad;
use bakfs::repo::open;
use bakfs::repo::shared::scope::Scope;
use bakfs::repo::{Memory, Repository};
use bakfs::serve::{Note, Options, Service};
use bakfs::store::{Decorator, Object, Store, Wait};
use bakfs_mount::find_mount;
use bakfs_testing::library::{self, Source, TINY_CHUNKS, back_up};
use bakfs_testing::stores::MemStore;
use bakfs_testing::{SOON, until};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::fs;
use std::io::{Read, Seek};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Nothing but the watch can show what is new soon enough.
const NEVER: Option<Duration> = Some(Duration::from_secs(3600));

/// Held by each of these tests: they count the threads of the process.
static ALONE: Mutex<()> = Mutex::new(());

/// A repository in a folder with a source of one file, and a directory to mount it at.
struct Sample {
    dir: tempfile::TempDir,
    days: i64,
    notes: Arc<Mutex<Vec<Note>>>,
    _alone: Option<MutexGuard<'static, ()>>,
}

impl Sample {
    /// Makes one with a snapshot.
    fn new(id: u8) -> Sample {
        let dir = tempfile::Builder::new().prefix("bakfs-service-").tempdir().unwrap();
        for name in ["source", "mnt"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let repo = dir.path().join("repo");
        open::init_with_id(&repo, RepositoryId([id; 16]), Suite::Plain, &[]).unwrap();
        let mut sample = Sample { dir, days: 0, notes: Arc::default(), _alone: None };
        sample.back_up(&format!("first of {id}"));
        sample
    }

    /// Makes one for a test that counts what is left.
    fn alone(id: u8) -> Sample {
        let alone = ALONE.lock();
        Sample { _alone: Some(alone), ..Sample::new(id) }
    }

    fn repo(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    fn mountpoint(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// Returns the file as a snapshot shows it.
    fn shown(&self, snapshot: &str) -> PathBuf {
        let file = self.dir.path().join("source/f");
        self.mountpoint().join(snapshot).join(file.strip_prefix("/").unwrap())
    }

    fn back_up(&mut self, text: &str) -> String {
        fs::write(self.dir.path().join("source/f"), text).unwrap();
        self.days += 1;
        back_up(&open(&self.repo()), &self.dir.path().join("source"), self.days).unwrap().snapshot.name
    }

    fn start(&self, repository: &Arc<Repository>, options: &Options) -> Result<Service> {
        let notes = self.notes.clone();
        Service::start(repository.clone(), &self.mountpoint(), options, move |note| notes.lock().push(note))
    }

    /// Mounts a repository of its own, which is followed by its watch alone.
    fn mount(&self) -> Service {
        let options = Options { folder: Some(self.repo()), refresh: NEVER, ..Options::default() };
        self.start(&open(&self.repo()), &options).unwrap()
    }

    fn is_followed(&mut self, text: &str) {
        self.back_up(text);
        let shown = self.shown("latest");
        until("the new snapshot is shown", SOON, || fs::read_to_string(&shown).is_ok_and(|is| is == text));
    }

    /// Says whether a file of the repository is open in this process or mapped.
    fn is_open(&self) -> bool {
        let repo = self.repo();
        let links = fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        links.into_iter().any(|to| to.starts_with(&repo)) || maps.contains(repo.to_str().unwrap())
    }
}

fn open(repo: &Path) -> Arc<Repository> {
    let options = open::Options { index: IndexLoad::OnDemand, ..open::Options::default() };
    Arc::new(Repository::open(repo, &options, |_| Ok(Vec::new())).unwrap())
}

/// Returns the names of this process's threads that serve mounts.
fn serving_threads() -> Vec<String> {
    let names = fs::read_dir("/proc/self/task").unwrap();
    let names = names.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names
        .map(|name| name.trim().to_owned())
        .filter(|name| name.starts_with("bakfs-") || name.starts_with("fuser"))
        .collect()
}

/// Says that no thread is left. The kernel shows one for a moment after its end.
fn no_thread_is_left() {
    until("no thread is left", SOON, || serving_threads().is_empty());
}

#[test]
fn two_repositories_in_one_process_are_followed_and_each_ends_alone() {
    bakfs_testing::need_root();
    let (mut one, mut other) = (Sample::alone(1), Sample::new(2));
    let (first, second) = (one.mount(), other.mount());
    assert_eq!(first.path(), one.mountpoint().canonicalize().unwrap());
    assert_eq!(fs::read_to_string(one.shown("latest")).unwrap(), "first of 1");
    assert_eq!(fs::read_to_string(other.shown("latest")).unwrap(), "first of 2");
    for service in [&first, &second] {
        let requests = service.requests();
        assert!(service.is_serving() && requests.reads > 0 && requests.lookups > 0, "{requests:?}");
    }
    one.is_followed("second of 1");
    other.is_followed("second of 2");
    for name in ["bakfs-keeper", "bakfs-index", "bakfs-mount"] {
        let count = serving_threads().iter().filter(|thread| *thread == name).count();
        assert_eq!(count, 2, "{name} in {:?}", serving_threads());
    }

    let repository = first.repository().clone();
    first.end().unwrap();
    assert!(find_mount(&one.mountpoint()).is_none());
    assert_eq!(fs::read_dir(one.mountpoint()).unwrap().count(), 0);
    assert_eq!(Arc::strong_count(&repository), 1, "nothing of the service holds the repository");
    drop(repository);
    assert!(!one.is_open());
    other.is_followed("third of 2");
    assert!(second.is_serving());

    // It is mounted again while the other is, and dropped this time.
    drop(one.mount());
    assert!(find_mount(&one.mountpoint()).is_none() && !one.is_open());
    assert_eq!(fs::read_to_string(other.shown("latest")).unwrap(), "third of 2");
    second.end().unwrap();
    assert!(find_mount(&other.mountpoint()).is_none() && !other.is_open());
    no_thread_is_left();
    for sample in [&one, &other] {
        assert_eq!(*sample.notes.lock(), []);
    }
}

#[test]
fn a_service_whose_mount_another_takes_away_ends_by_itself() {
    bakfs_testing::need_root();
    let sample = Sample::alone(1);
    let service = sample.mount();
    let repository = service.repository().clone();
    assert!(!service.wait_for(Duration::from_millis(20)));
    rustix::mount::unmount(sample.mountpoint(), rustix::mount::UnmountFlags::empty()).unwrap();
    service.wait();
    assert!(!service.is_serving());
    no_thread_is_left();
    service.end().unwrap();
    assert_eq!(Arc::strong_count(&repository), 1);
}

#[test]
fn a_mount_in_use_gives_its_directory_back_and_ends_with_its_last_user() {
    bakfs_testing::need_root();
    let sample = Sample::alone(1);
    let service = sample.mount();
    let repository = service.repository().clone();
    let mut file = fs::File::open(sample.shown("latest")).unwrap();
    let refused = service.end().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Busy, "{refused}");
    assert!(find_mount(&sample.mountpoint()).is_none());
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "first of 1");

    // Another takes its place meanwhile.
    let again = sample.mount();
    assert_eq!(fs::read_to_string(sample.shown("latest")).unwrap(), "first of 1");
    again.end().unwrap();
    drop(file);
    no_thread_is_left();
    assert_eq!(Arc::strong_count(&repository), 1);
}

#[test]
fn a_service_that_cannot_start_leaves_nothing() {
    bakfs_testing::need_root();
    let sample = Sample::alone(1);
    let repository = open(&sample.repo());
    let start = |options: &Options| sample.start(&repository, options).map(drop).unwrap_err();
    let scope = Scope { host: Some("nobody".into()), ..Scope::default() };
    let unknown = start(&Options { scope, ..Options::default() });
    assert!(unknown.chain().contains("nobody"), "{}", unknown.chain());
    let inside = Service::start(repository.clone(), &sample.repo(), &Options::default(), |_| {}).map(drop).unwrap_err();
    assert_eq!(inside.kind(), ErrorKind::Usage, "{inside}");
    let service = sample.start(&repository, &Options::default()).unwrap();
    let taken = start(&Options::default());
    assert!(taken.chain().contains("mounted at"), "{}", taken.chain());
    assert_eq!(fs::read_to_string(sample.shown("latest")).unwrap(), "first of 1");
    service.end().unwrap();
    assert_eq!(Arc::strong_count(&repository), 1);
    no_thread_is_left();
}

#[test]
fn each_service_tells_its_own_notes() {
    bakfs_testing::need_root();
    let (mut one, other) = (Sample::alone(1), Sample::new(2));
    let (first, second) = (one.mount(), other.mount());
    // A pack that is another's: it is not what its name says.
    let name = one.back_up("changed where it is stored");
    for (pack, _) in bakfs_testing::files_below(&one.repo().join("packs")) {
        let bytes = fs::read(&pack).unwrap();
        fs::write(&pack, vec![0xa5; bytes.len()]).unwrap();
    }
    until("the snapshot is shown", SOON, || one.mountpoint().join(&name).exists());
    let failed = fs::read(one.shown(&name)).unwrap_err();
    assert_eq!(failed.raw_os_error(), Some(libc::EIO));
    let of_reads = |sample: &Sample| sample.notes.lock().iter().any(|note| matches!(note, Note::Failure(_)));
    assert!(of_reads(&one) && !of_reads(&other), "{:?}", other.notes.lock());

    let away = one.dir.path().join("away");
    fs::rename(one.repo(), &away).unwrap();
    let is_told = |wanted: fn(&Note) -> bool| one.notes.lock().iter().any(wanted);
    until("it is missed", SOON, || is_told(|note| matches!(note, Note::LookFailed(_))));
    assert_eq!(fs::read_to_string(other.shown("latest")).unwrap(), "first of 2");
    fs::rename(&away, one.repo()).unwrap();
    until("it is back", SOON, || is_told(|note| matches!(note, Note::LookSucceeded(1..))));
    first.end().unwrap();
    second.end().unwrap();
    assert_eq!(*other.notes.lock(), []);
}

/// What holds up every read while it is down.
#[derive(Default)]
struct Network {
    is_down: Mutex<bool>,
    is_back: Condvar,
}

/// A store behind a network, of which nothing is in memory.
struct Far {
    inner: Arc<MemStore>,
    network: Arc<Network>,
}

impl Far {
    fn wait_for_network(&self) {
        let mut is_down = self.network.is_down.lock();
        self.network.is_back.wait_while(&mut is_down, |is_down| *is_down);
    }
}

impl Decorator for Far {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }
    fn read_at(&self, object: Object, offset: u64, buffer: &mut [u8], wait: Wait) -> Result<()> {
        if wait == Wait::Never {
            return Err(Error::new(ErrorKind::WouldWait, "nothing is in memory"));
        }
        self.wait_for_network();
        self.inner.read_at(object, offset, buffer, wait)
    }
    fn read_through(&self, object: Object, range: Range<u64>, each: &mut dyn FnMut(u64, &[u8])) -> Result<()> {
        self.wait_for_network();
        self.inner.read_through(object, range, each)
    }
    fn read_whole(&self, object: Object, max_bytes: u64) -> Result<Vec<u8>> {
        self.wait_for_network();
        self.inner.read_whole(object, max_bytes)
    }
    fn is_far(&self) -> bool {
        true
    }
}

#[test]
fn a_thread_that_waits_for_a_network_keeps_no_directory_and_is_told_of() {
    bakfs_testing::need_root();
    let _alone = ALONE.lock();
    let (source, inner) = (Source::new(), Arc::new(MemStore::default()));
    library::init(&*inner, Suite::Plain, 0, TINY_CHUNKS).unwrap();
    back_up(&library::open(inner.clone()).unwrap(), &source.path(), 0).unwrap();
    let network = Arc::new(Network::default());
    let far = Far { inner, network: network.clone() };
    let memory = Memory { frames_bytes: 0, pages_bytes: 0 };
    let how = open::Options { memory, ..open::Options::default() };
    let repository = Arc::new(Repository::unlock(Arc::new(far), &how, |_| Ok(Vec::new())).unwrap());
    let mountpoint = source.beside("mnt");
    fs::create_dir(&mountpoint).unwrap();
    let options = Options { deadline: Duration::from_millis(500), refresh: NEVER, ..Options::default() };
    let notes: Arc<Mutex<Vec<Note>>> = Arc::default();
    let told = notes.clone();
    let service =
        Service::start(repository.clone(), &mountpoint, &options, move |note| told.lock().push(note)).unwrap();
    let shown = mountpoint.join("latest").join(source.path().strip_prefix("/").unwrap());
    assert_eq!(fs::read(shown.join("text")).unwrap(), fs::read(source.path().join("text")).unwrap());
    assert!(serving_threads().contains(&"bakfs-ahead".to_string()), "{:?}", serving_threads());

    *network.is_down.lock() = true;
    let failed = fs::read(shown.join("folder/long")).map(|bytes| bytes.len()).unwrap_err();
    assert_eq!(failed.raw_os_error(), Some(libc::EIO));
    assert!(notes.lock().iter().any(|note| note.to_string().contains("deadline")), "{:?}", notes.lock());
    let left = service.end().unwrap_err();
    assert!(left.kind() == ErrorKind::Busy && left.to_string().contains("has not ended"), "{left}");
    assert!(find_mount(&mountpoint).is_none());
    *network.is_down.lock() = false;
    network.is_back.notify_all();
    no_thread_is_left();
    assert_eq!(Arc::strong_count(&repository), 1);
}
