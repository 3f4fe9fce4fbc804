//! A source need not be a disk: a tree in memory, which has no file descriptor, goes through the same pipeline.

use bakfs::backup::{self, Dumps, Options, Outcome};
use bakfs::error::{Error, ErrorKind, Result};
use bakfs::format::codec::Bytes;
use bakfs::format::header::Suite;
use bakfs::format::tree::{Entry, Meta, Node, Time, Xattr, marks};
use bakfs::monitor::Silent;
use bakfs::repo::Repository;
use bakfs::repo::write::WriteOptions;
use bakfs::source::exclude::{CACHE_TAG_SIGNATURE, Excludes};
use bakfs::source::filesystem::{Clock, FileSystem};
use bakfs::source::listing::{DirRef, Listing, Scanned};
use bakfs::source::read::{self, Segment};
use bakfs::source::stat::{Kind, Stat};
use bakfs::source::walk::Walk;
use bakfs::source::xattr::{self, Xattrs};
use bakfs::source::{FoundPath, Source, SourceFile};
use bakfs::store::Wait;
use bakfs_testing::library::{self, TINY_CHUNKS};
use bakfs_testing::stores::MemStore;
use bakfs_testing::zoo::build_zoo;
use bakfs_testing::{need_root, noise, until_settled, write};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Something in memory.
#[derive(Debug, Clone)]
struct Item {
    stat: Stat,
    xattrs: Vec<Xattr>,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Folder(BTreeMap<Vec<u8>, Arc<Item>>),
    File { bytes: Vec<u8>, segments: Vec<Segment> },
    Link(Bytes),
    Other,
}

/// What happens to a file, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It cannot be opened, or listed.
    Locked,
    /// It cannot be read.
    Broken,
    /// It is another one each of the first so many times it was read.
    Changes(u64),
    /// Another one takes its name before it is opened.
    Replaced,
    /// It is gone before it is opened.
    Vanishes,
}

/// A tree in memory.
#[derive(Debug)]
struct Memory {
    root: Arc<Item>,
    faults: BTreeMap<&'static [u8], Fault>,
    opened: AtomicU64,
    /// By name, how often it was read.
    reads: Arc<Mutex<BTreeMap<Vec<u8>, u64>>>,
}

impl Memory {
    fn new(root: Arc<Item>, faults: &[(&'static str, Fault)]) -> Arc<Self> {
        let faults = faults.iter().map(|(name, fault)| (name.as_bytes(), *fault)).collect();
        Arc::new(Memory { root, faults, opened: AtomicU64::new(0), reads: Arc::default() })
    }

    fn fault(&self, name: &[u8]) -> Option<Fault> {
        self.faults.get(name).copied()
    }

    fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    fn reads(&self, name: &str) -> u64 {
        self.reads.lock().get(name.as_bytes()).copied().unwrap_or(0)
    }
}

impl Item {
    fn below(&self, name: &[u8]) -> Result<&Arc<Item>> {
        let What::Folder(below) = &self.what else { return Err(Error::new(ErrorKind::NotFound, "is no folder")) };
        below.get(name).ok_or_else(|| Error::new(ErrorKind::NotFound, "is not there"))
    }

    fn found_xattrs(&self) -> Xattrs {
        Xattrs { list: self.xattrs.clone(), errors: Vec::new() }
    }
}

impl Source for Memory {
    type Dir = Item;
    type Names = Listing<Item>;
    type File = MemoryFile;

    fn find(&self, path: &Path) -> Result<FoundPath> {
        let names = path.as_os_str().as_bytes().split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        names.into_iter().try_fold(&self.root, |item, name| item.below(name))?;
        Ok(FoundPath { links: Vec::new(), path: path.to_path_buf(), target: None })
    }

    fn list(&self, at: &DirRef<Item>) -> Result<Listing<Item>> {
        let dir = match at {
            DirRef::Root(_) => &self.root,
            DirRef::Below { name, .. } if self.fault(name) == Some(Fault::Locked) => {
                return Err(Error::new(ErrorKind::Io, "has no key"));
            }
            DirRef::Below { parent, name, seen } => {
                let dir = parent.below(name)?;
                assert!(dir.stat.is_same_file(seen));
                dir
            }
        };
        let What::Folder(below) = &dir.what else { panic!("a file is listed") };
        let scanned =
            |(name, item): (&Vec<u8>, &Arc<Item>)| Scanned { name: Bytes(name.clone()), stat: item.stat.clone() };
        let entries = below.iter().map(scanned).collect();
        Ok(Listing { dir: dir.clone(), stat: dir.stat.clone(), entries, errors: Vec::new(), incomplete: None })
    }

    fn look_again(&self, dir: &Item, name: &[u8]) -> Result<Stat> {
        match self.fault(name) {
            Some(Fault::Vanishes) => Err(Error::new(ErrorKind::NotFound, "vanished from memory")),
            _ => Ok(Stat { ino: 77, ..dir.below(name)?.stat.clone() }),
        }
    }

    fn open(&self, dir: &Item, name: &[u8], expected: &Stat) -> Result<MemoryFile> {
        let item = dir.below(name)?.clone();
        let fault = self.fault(name);
        match fault {
            Some(Fault::Locked) => return Err(Error::new(ErrorKind::Io, "has no key")),
            Some(Fault::Replaced | Fault::Vanishes) if expected.ino != 77 => {
                return Err(Error::new(ErrorKind::Replaced, "was replaced"));
            }
            _ => {}
        }
        self.opened.fetch_add(1, Ordering::Relaxed);
        let opened = expected.clone();
        Ok(MemoryFile { item, opened, fault, name: name.to_vec(), reads: self.reads.clone() })
    }

    fn read_link(&self, dir: &Item, name: &[u8]) -> Result<Bytes> {
        let What::Link(target) = &dir.below(name)?.what else { panic!("what is no link is followed") };
        Ok(target.clone())
    }

    fn xattrs_of(&self, dir: &Item, name: &[u8]) -> Xattrs {
        dir.below(name).unwrap().found_xattrs()
    }

    fn xattrs_of_dir(&self, dir: &Item) -> Xattrs {
        dir.found_xattrs()
    }

    fn file_system(&self, _dir: &Item, _stat: &Stat) -> Arc<FileSystem> {
        let (kin, mount) = (vec![b"memory".to_vec()], Some(b"memory, and never another".to_vec()));
        Arc::new(FileSystem { kin, mount, clock: Clock::Own, taken: None, is_shown: false })
    }

    fn user_name(&self, uid: u32) -> Option<Vec<u8>> {
        Some(format!("user {uid} in memory").into_bytes())
    }
}

/// An open file in memory.
struct MemoryFile {
    item: Arc<Item>,
    opened: Stat,
    fault: Option<Fault>,
    name: Vec<u8>,
    reads: Arc<Mutex<BTreeMap<Vec<u8>, u64>>>,
}

impl MemoryFile {
    fn content(&self) -> (&[u8], &[Segment]) {
        let What::File { bytes, segments } = &self.item.what else { panic!("what is no file is read") };
        (bytes, segments)
    }
}

impl SourceFile for MemoryFile {
    fn opened_as(&self) -> &Stat {
        &self.opened
    }

    fn stat(&self) -> Result<Stat> {
        let mut reads = self.reads.lock();
        let times = reads.entry(self.name.clone()).or_default();
        *times += 1;
        let mut now = self.opened.clone();
        if let Some(Fault::Changes(most)) = self.fault
            && *times <= most
        {
            now.mtime.secs += 1;
        }
        Ok(now)
    }

    fn xattrs(&self) -> Xattrs {
        self.item.found_xattrs()
    }

    fn segments(&self) -> impl Iterator<Item = Result<Segment>> {
        self.content().1.iter().map(|segment| Ok(*segment))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        if self.fault == Some(Fault::Broken) {
            return Err(Error::new(ErrorKind::Io, format!("is broken at byte {offset}")));
        }
        let rest = &self.content().0[offset as usize..];
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}

/// Takes a folder of the disk into memory, with the folders above it.
fn loaded(path: &Path) -> Arc<Item> {
    let walk = Walk::new(0, 1);
    let mut item = loaded_folder(&walk, &walk.request_root(path).take().unwrap());
    let mut name = path.file_name();
    for above in path.ancestors().skip(1) {
        let listing = walk.request_root(above).take().unwrap();
        let below = BTreeMap::from([(name.unwrap().as_bytes().to_vec(), Arc::new(item))]);
        let xattrs = xattr::of_fd(listing.dir.as_fd()).list;
        item = Item { stat: listing.stat, xattrs, what: What::Folder(below) };
        name = above.file_name();
    }
    Arc::new(item)
}

fn loaded_folder(walk: &Walk, listing: &Listing) -> Item {
    let load = |Scanned { name, stat }: &Scanned| {
        let dir = listing.dir.as_fd();
        let what = match stat.kind {
            Kind::Directory => return loaded_folder(walk, &walk.request(&listing.dir, name, stat).take().unwrap()),
            Kind::File => {
                let file = read::open(dir, name, stat).unwrap();
                let mut bytes = vec![0; stat.size_bytes as usize];
                assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
                What::File { bytes, segments: file.segments().map(Result::unwrap).collect() }
            }
            Kind::Symlink => What::Link(read::read_link(dir, name).unwrap()),
            _ => What::Other,
        };
        Item { stat: stat.clone(), xattrs: xattr::of_name(dir, name).list, what }
    };
    let below = listing.entries.iter().map(|scanned| (scanned.name.to_vec(), Arc::new(load(scanned)))).collect();
    let xattrs = xattr::of_fd(listing.dir.as_fd()).list;
    Item { stat: listing.stat.clone(), xattrs, what: What::Folder(below) }
}

/// Makes a folder, file or link that no disk has ever had.
fn item(kind: Kind, size_bytes: u64, what: What) -> Arc<Item> {
    static INODES: AtomicU64 = AtomicU64::new(1000);
    let long_ago = Time { secs: 1_700_000_000, nanos: 1 };
    let ino = INODES.fetch_add(1, Ordering::Relaxed);
    let meta = Meta { mode: 0o750, mtime: long_ago, ctime: long_ago, ino, nlink: 1, size_bytes, ..Meta::default() };
    Arc::new(Item { stat: Stat::of_made(kind, &meta), xattrs: Vec::new(), what })
}

fn folder<const N: usize>(below: [(&str, Arc<Item>); N]) -> Arc<Item> {
    let below = below.into_iter().map(|(name, item)| (name.as_bytes().to_vec(), item)).collect();
    item(Kind::Directory, 0, What::Folder(below))
}

fn file(bytes: &[u8]) -> Arc<Item> {
    let len_bytes = bytes.len() as u64;
    let segments = vec![Segment { offset: 0, len_bytes, is_hole: false }];
    item(Kind::File, len_bytes, What::File { bytes: bytes.to_vec(), segments })
}

fn link(target: &str) -> Arc<Item> {
    item(Kind::Symlink, 0, What::Link(Bytes(target.into())))
}

/// A repository in memory, on a machine that keeps a cache.
struct World {
    repository: Arc<Repository>,
    _cache: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let (store, cache) = (Arc::new(MemStore::default()), tempfile::tempdir().unwrap());
        library::init(&*store, Suite::Aes256GcmSiv, 9, TINY_CHUNKS).unwrap();
        World { repository: library::open_with(store, Some(cache.path())).unwrap(), _cache: cache }
    }

    fn back_up(&self, memory: &Arc<Memory>, options: Options) -> Result<Outcome> {
        let write = WriteOptions { threads: 1, ..WriteOptions::default() };
        let options = Options { host: "memory".into(), write, ..options };
        backup::run_from(memory, &self.repository, &options, Dumps::default(), &Silent)
    }

    fn entry(&self, outcome: &Outcome, path: &Path) -> Option<Entry> {
        self.repository.resolve(&outcome.snapshot, path.as_os_str().as_bytes()).unwrap()
    }

    fn content(&self, outcome: &Outcome, path: &str) -> Vec<u8> {
        let entry = self.entry(outcome, Path::new(path)).unwrap_or_else(|| panic!("{path} is missing"));
        let Node::File(content) = &entry.node else { panic!("{path} is no file") };
        let (size, mut bytes) = (entry.meta.size_bytes, Vec::new());
        self.repository.read_content(content, size, 0, size as usize, Wait::Allowed, &mut bytes).unwrap();
        bytes
    }
}

#[test]
fn a_tree_in_memory_becomes_the_snapshot_that_the_same_tree_on_disk_becomes() {
    need_root();
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().canonicalize().unwrap().join("source");
    std::fs::create_dir(&source).unwrap();
    build_zoo(&source);
    write(&source.join("large"), noise(1, 700_000));
    std::fs::hard_link(source.join("large"), source.join("dir/another name")).unwrap();
    (0..300).for_each(|n| write(&source.join(format!("many/{}/{n}", n % 7)), noise(n, 100 + n as usize)));
    write(&source.join("cached/CACHEDIR.TAG"), CACHE_TAG_SIGNATURE);
    write(&source.join("cached/left out"), "x");
    write(&source.join("many/left out.skip"), "x");
    until_settled(&source);

    let world = World::new();
    let options = || Options {
        paths: vec![source.clone()],
        excludes: Excludes::new(&["*.skip".into()], &[]).unwrap(),
        exclude_caches: true,
        ..Options::default()
    };
    let on_disk = backup::run(&world.repository, &Options { host: "disk".into(), ..options() }, &Silent).unwrap();
    let memory = Memory::new(loaded(&source), &[]);
    drop(dir);
    let first = world.back_up(&memory, options()).unwrap();
    assert_eq!(first.snapshot.parent, None);
    let entry = world.entry(&on_disk, &source).unwrap();
    let Node::Directory(directory) = &entry.node else { panic!("the source is a folder") };
    assert!(directory.total_files > 320 && directory.total_bytes > 9 << 20, "{directory:?}");
    // Pages are named by what is in them: one that differed anywhere below would have another name.
    assert_eq!(world.entry(&first, &source).unwrap(), entry);
    let (disk, memory_too) = (&on_disk.snapshot, &first.snapshot);
    assert_eq!((disk.summary.errors, &disk.troubles), (0, &vec![]));
    assert_eq!((memory_too.summary.errors, &memory_too.troubles), (0, &vec![]));
    assert_eq!(disk.summary.files_new, memory_too.summary.files_new);
    assert_eq!(disk.summary.read_bytes, memory_too.summary.read_bytes);
    assert_eq!((&disk.sources, disk.has_xattrs), (&memory_too.sources, memory_too.has_xattrs));
    let names: Vec<_> = memory_too.users.iter().map(|(number, name)| (*number, name.to_vec())).collect();
    let of = |number: u32| (number, format!("user {number} in memory").into_bytes());
    assert_eq!(names, [0, 1, 4711].map(of), "the source knows its owners");

    // And what is unchanged is not even opened.
    let files = memory.opened();
    assert!(files > 300, "{files}");
    let second = world.back_up(&memory, options()).unwrap();
    assert_eq!(memory.opened(), files + 1, "only the tag of a cache is looked into");
    let summary = &second.snapshot.summary;
    assert_eq!((summary.files_new, summary.files_changed, summary.read_bytes, summary.added_bytes), (0, 0, 0, 0));
    assert_eq!(summary.files_unmodified, memory_too.summary.files_new);
    assert_eq!(world.entry(&second, &source).unwrap(), entry);
}

/// What of the machine's own folders is meant.
const PATHS: [&str; 2] = ["/etc", "/srv/link"];

fn with_faults() -> (Arc<Item>, Vec<(&'static str, Fault)>) {
    let etc = folder([
        ("broken", file(b"never read")),
        ("closed", folder([("inside", file(b"never listed"))])),
        ("hosts", file(b"not this machine's")),
        ("link", link("hosts")),
        ("locked", file(b"never opened")),
        ("once", file(b"changes once")),
        ("replaced", file(b"of the one that took the name")),
        ("restless", file(b"changes always")),
        ("vanishes", file(b"gone")),
    ]);
    let root = folder([("etc", etc), ("srv", folder([("link", link("/etc")), ("other", file(b"not asked for"))]))]);
    let faults = vec![
        ("broken", Fault::Broken),
        ("closed", Fault::Locked),
        ("locked", Fault::Locked),
        ("once", Fault::Changes(1)),
        ("replaced", Fault::Replaced),
        ("restless", Fault::Changes(u64::MAX)),
        ("vanishes", Fault::Vanishes),
    ];
    (root, faults)
}

#[test]
fn what_fails_or_changes_in_memory_is_told_as_it_is_on_disk() {
    let world = World::new();
    let (root, faults) = with_faults();
    let memory = Memory::new(root, &faults);
    let paths = || PATHS.iter().map(PathBuf::from).collect();
    let outcome = world.back_up(&memory, Options { paths: paths(), ..Options::default() }).unwrap();
    let told: Vec<(String, &str)> = outcome
        .snapshot
        .troubles
        .iter()
        .map(|trouble| (String::from_utf8(trouble.path.to_vec()).unwrap(), &*trouble.message))
        .collect();
    let expected = [
        ("/etc/broken", "is broken at byte 0"),
        ("/etc/closed", "has no key"),
        ("/etc/locked", "has no key"),
        ("/etc/restless", "changed each of the 3 times it was read: the copy may mix states"),
        ("/etc/vanishes", "vanished from memory"),
    ];
    assert_eq!(told, expected.map(|(path, message)| (path.to_string(), message)));
    assert_eq!(outcome.snapshot.summary.errors, 5);
    for (name, content, reads) in [
        ("hosts", "not this machine's", 1),
        ("once", "changes once", 2),
        ("replaced", "of the one that took the name", 1),
        ("restless", "changes always", 3),
    ] {
        assert_eq!(world.content(&outcome, &format!("/etc/{name}")), content.as_bytes(), "{name}");
        assert_eq!(memory.reads(name), reads, "{name}");
    }
    let marks_of = |path: &str| world.entry(&outcome, Path::new(path)).map(|entry| entry.meta.marks);
    assert_eq!(marks_of("/etc/restless"), Some(marks::CHANGED_WHILE_READ));
    assert_eq!((marks_of("/etc/once"), marks_of("/etc/replaced")), (Some(0), Some(0)));
    assert_eq!(marks_of("/etc/closed"), Some(marks::UNREADABLE));
    for path in ["/etc/broken", "/etc/locked", "/etc/vanishes", "/etc/closed/inside", "/srv/other"] {
        assert_eq!(marks_of(path), None, "{path}");
    }
    for (path, target) in [("/etc/link", "hosts"), ("/srv/link", "/etc")] {
        let entry = world.entry(&outcome, Path::new(path)).unwrap();
        assert_eq!(entry.node, Node::Symlink(Bytes(target.into())), "{path}");
    }

    // A night later all is well: what was not whole is read, and nothing else is.
    let well = Memory::new(memory.root.clone(), &[]);
    let later = world.back_up(&well, Options { paths: paths(), ..Options::default() }).unwrap();
    assert_eq!((later.snapshot.summary.errors, later.snapshot.parent.is_some()), (0, true));
    assert_eq!(world.content(&later, "/etc/closed/inside"), b"never listed");
    // Those that changed once, or were replaced, were stored as what they were then.
    let read: Vec<String> = well.reads.lock().keys().map(|name| String::from_utf8(name.clone()).unwrap()).collect();
    assert_eq!(read, ["broken", "inside", "locked", "once", "replaced", "restless", "vanishes"]);
}

#[test]
fn a_path_that_is_not_in_memory_is_refused_though_the_disk_has_it() {
    let world = World::new();
    let memory = Memory::new(with_faults().0, &[]);
    let options = Options { paths: vec!["/usr".into()], ..Options::default() };
    let error = world.back_up(&memory, options).unwrap_err();
    assert_eq!((error.kind(), error.chain()), (ErrorKind::NotFound, "is not there".to_string()));
}
