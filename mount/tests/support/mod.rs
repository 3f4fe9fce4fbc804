//! A tree in memory, with what a test needs to disturb and to count.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bakfs_mount::tree::{Attr, Fault, Ino, Kind, ListedEntry, Neighbour, ROOT_INO, SeekTo, Time, Tree, Usage, Wait};
use bakfs_mount::{Mount, Options};
use parking_lot::{Condvar, Mutex, RwLock};
use rustix::fs::FlockOperation;

/// What an inode holds.
pub enum Content {
    /// Names in listing order (`None`: removed) and by name.
    Dir(Vec<Option<(Vec<u8>, Ino)>>, HashMap<Vec<u8>, usize>),
    /// Bytes, and the ranges of them that are holes.
    File(Arc<[u8]>, Vec<Range<u64>>),
    Link(Vec<u8>),
    Special,
}

pub struct Node {
    pub attr: Attr,
    pub parent: Ino,
    pub content: Content,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub changes: bool,
}

#[derive(Default)]
struct Disturbed {
    /// Nothing is in memory: every call that may not wait is refused.
    cold: bool,
    /// Calls on these inodes wait for as long as they are in here.
    stalled: HashSet<Ino>,
    panicking: HashSet<Ino>,
    broken: HashSet<Ino>,
    /// Calls that may not wait find everything damaged, and others find it sound.
    shaky: bool,
}

/// The tree. Inode numbers are positions in `nodes`.
pub struct Model {
    pub nodes: RwLock<Vec<Node>>,
    refs: RwLock<HashMap<Ino, AtomicU64>>,
    disturbed: Mutex<Disturbed>,
    disturbed_any: AtomicBool,
    released: Condvar,
    /// Calls of lookup, attr and list outside changing directories.
    pub walked: AtomicU64,
    /// Calls that are blocked now.
    pub blocked: AtomicU64,
    pub small_scans: AtomicU64,
}

fn attr(ino: Ino, kind: Kind, perm: u16) -> Attr {
    let time = Time { secs: 1_700_000_000 + ino as i64, nanos: 123_456_789 };
    Attr {
        ino,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        size_bytes: 0,
        blocks: 0,
        atime: time,
        mtime: time,
        ctime: Time { secs: -5, nanos: 250_000_000 },
    }
}

/// Returns bytes that differ from place to place and from seed to seed.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

impl Model {
    pub fn new() -> Model {
        let root = Node {
            attr: attr(ROOT_INO, Kind::Directory, 0o755),
            parent: ROOT_INO,
            content: Content::Dir(Vec::new(), HashMap::new()),
            xattrs: BTreeMap::new(),
            changes: true,
        };
        let unused = Node {
            attr: attr(0, Kind::File, 0),
            parent: 0,
            content: Content::Special,
            xattrs: BTreeMap::new(),
            changes: false,
        };
        Model {
            nodes: RwLock::new(vec![unused, root]),
            refs: RwLock::default(),
            disturbed: Mutex::default(),
            disturbed_any: AtomicBool::new(false),
            released: Condvar::new(),
            walked: AtomicU64::new(0),
            blocked: AtomicU64::new(0),
            small_scans: AtomicU64::new(0),
        }
    }

    fn add(&self, dir: Ino, name: &[u8], kind: Kind, perm: u16, content: Content) -> Ino {
        let mut nodes = self.nodes.write();
        let ino = nodes.len() as Ino;
        let mut attr = attr(ino, kind, perm);
        match &content {
            Content::File(bytes, holes) => {
                attr.size_bytes = bytes.len() as u64;
                let held = attr.size_bytes - holes.iter().map(|h| h.end - h.start).sum::<u64>();
                attr.blocks = held.div_ceil(512);
            }
            Content::Link(target) => attr.size_bytes = target.len() as u64,
            Content::Dir(..) => attr.nlink = 2,
            Content::Special => {}
        }
        nodes.push(Node { attr, parent: dir, content, xattrs: BTreeMap::new(), changes: false });
        let Content::Dir(list, by_name) = &mut nodes[dir as usize].content else { panic!("no directory") };
        list.push(Some((name.to_vec(), ino)));
        by_name.insert(name.to_vec(), list.len() - 1);
        ino
    }

    pub fn dir(&self, dir: Ino, name: &str) -> Ino {
        self.add(dir, name.as_bytes(), Kind::Directory, 0o755, Content::Dir(Vec::new(), HashMap::new()))
    }

    pub fn file(&self, dir: Ino, name: &str, bytes: impl Into<Arc<[u8]>>) -> Ino {
        self.add(dir, name.as_bytes(), Kind::File, 0o644, Content::File(bytes.into(), Vec::new()))
    }

    pub fn sparse(&self, dir: Ino, name: &str, mut bytes: Vec<u8>, holes: Vec<Range<u64>>) -> Ino {
        for hole in &holes {
            bytes[hole.start as usize..hole.end as usize].fill(0);
        }
        self.add(dir, name.as_bytes(), Kind::File, 0o644, Content::File(bytes.into(), holes))
    }

    pub fn link(&self, dir: Ino, name: &str, target: &str) -> Ino {
        self.add(dir, name.as_bytes(), Kind::Symlink, 0o777, Content::Link(target.into()))
    }

    pub fn special(&self, dir: Ino, name: &str, kind: Kind, rdev: u32) -> Ino {
        let ino = self.add(dir, name.as_bytes(), kind, 0o640, Content::Special);
        self.nodes.write()[ino as usize].attr.rdev = rdev;
        ino
    }

    pub fn change(&self, ino: Ino, change: impl FnOnce(&mut Node)) {
        change(&mut self.nodes.write()[ino as usize]);
    }

    pub fn remove(&self, dir: Ino, name: &str) {
        let mut nodes = self.nodes.write();
        let Content::Dir(list, by_name) = &mut nodes[dir as usize].content else { panic!("no directory") };
        let place = by_name.remove(name.as_bytes()).unwrap();
        list[place] = None;
    }

    pub fn set_xattr(&self, ino: Ino, name: &str, value: &[u8]) {
        self.change(ino, |node| {
            node.xattrs.insert(name.into(), value.into());
        });
    }

    pub fn bytes(&self, ino: Ino) -> Arc<[u8]> {
        match &self.nodes.read()[ino as usize].content {
            Content::File(bytes, _) => bytes.clone(),
            _ => panic!("no file"),
        }
    }

    fn disturb(&self, change: impl FnOnce(&mut Disturbed)) {
        change(&mut self.disturbed.lock());
        self.disturbed_any.store(true, SeqCst);
        self.released.notify_all();
    }

    pub fn set_cold(&self, cold: bool) {
        self.disturb(|d| d.cold = cold);
    }

    pub fn stall(&self, ino: Ino) {
        self.disturb(|d| {
            d.stalled.insert(ino);
        });
    }

    pub fn release_all(&self) {
        self.disturb(|d| d.stalled.clear());
    }

    pub fn set_panicking(&self, ino: Ino) {
        self.disturb(|d| {
            d.panicking.insert(ino);
        });
    }

    pub fn set_broken(&self, ino: Ino) {
        self.disturb(|d| {
            d.broken.insert(ino);
        });
    }

    pub fn set_shaky(&self, shaky: bool) {
        self.disturb(|d| d.shaky = shaky);
    }

    fn admit(&self, ino: Ino, wait: Wait) -> Result<(), Fault> {
        if !self.disturbed_any.load(SeqCst) {
            return Ok(());
        }
        let mut disturbed = self.disturbed.lock();
        if disturbed.panicking.contains(&ino) {
            drop(disturbed);
            panic!("a bug in the tree");
        }
        if disturbed.broken.contains(&ino) {
            return Err(Fault::Damaged(format!("inode {ino} is damaged")));
        }
        if wait == Wait::Never && disturbed.shaky {
            return Err(Fault::Damaged(format!("what is in memory of inode {ino} is damaged")));
        }
        if wait == Wait::Never && (disturbed.cold || disturbed.stalled.contains(&ino)) {
            return Err(Fault::WouldWait);
        }
        while disturbed.stalled.contains(&ino) {
            self.blocked.fetch_add(1, SeqCst);
            self.released.wait(&mut disturbed);
            self.blocked.fetch_sub(1, SeqCst);
        }
        Ok(())
    }

    fn refer(&self, ino: Ino) {
        if let Some(count) = self.refs.read().get(&ino) {
            count.fetch_add(1, SeqCst);
            return;
        }
        self.refs.write().entry(ino).or_default().fetch_add(1, SeqCst);
    }

    /// Returns the inodes the kernel holds references on.
    pub fn referred(&self) -> Vec<Ino> {
        let refs = self.refs.read();
        refs.iter().filter(|(_, count)| count.load(SeqCst) > 0).map(|(ino, _)| *ino).collect()
    }

    fn walk(&self, dir: Ino) {
        if !self.changes(dir) {
            self.walked.fetch_add(1, SeqCst);
        }
    }
}

impl Tree for Model {
    fn lookup(&self, dir: Ino, name: &[u8], wait: Wait) -> Result<Attr, Fault> {
        self.walk(dir);
        self.admit(dir, wait)?;
        let nodes = self.nodes.read();
        let Content::Dir(list, by_name) = &nodes[dir as usize].content else {
            return Err(Fault::NotDirectory);
        };
        let place = *by_name.get(name).ok_or(Fault::NotFound)?;
        let ino = list[place].as_ref().unwrap().1;
        self.refer(ino);
        Ok(nodes[ino as usize].attr)
    }

    fn attr(&self, ino: Ino, wait: Wait) -> Result<Attr, Fault> {
        self.walk(ino);
        self.admit(ino, wait)?;
        self.nodes.read().get(ino as usize).map(|node| node.attr).ok_or(Fault::NotFound)
    }

    fn list(
        &self,
        dir: Ino,
        cookie: u64,
        counted: bool,
        wait: Wait,
        each: &mut dyn FnMut(ListedEntry<'_>) -> bool,
    ) -> Result<(), Fault> {
        self.walk(dir);
        self.admit(dir, wait)?;
        let nodes = self.nodes.read();
        let Content::Dir(list, _) = &nodes[dir as usize].content else {
            return Err(Fault::NotDirectory);
        };
        let from = cookie.saturating_sub(2) as usize;
        for (place, entry) in list.iter().enumerate().skip(from) {
            let Some((name, ino)) = entry else { continue };
            let attr = nodes[*ino as usize].attr;
            if self.disturbed_any.load(SeqCst) && self.disturbed.lock().stalled.contains(ino) {
                match self.admit(*ino, wait) {
                    Err(Fault::WouldWait) if place > from => return Ok(()),
                    other => other?,
                }
            }
            if counted {
                self.refer(*ino);
            }
            if !each(ListedEntry { name, attr, next_cookie: place as u64 + 3 }) {
                if counted {
                    self.forget(*ino, 1);
                }
                break;
            }
        }
        Ok(())
    }

    fn parent(&self, dir: Ino, wait: Wait) -> Result<Ino, Fault> {
        self.admit(dir, wait)?;
        Ok(self.nodes.read()[dir as usize].parent)
    }

    fn read_link(&self, ino: Ino, wait: Wait) -> Result<Vec<u8>, Fault> {
        self.admit(ino, wait)?;
        match &self.nodes.read()[ino as usize].content {
            Content::Link(target) => Ok(target.clone()),
            _ => Err(Fault::Invalid),
        }
    }

    fn read(&self, ino: Ino, offset: u64, len: u32, wait: Wait, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.admit(ino, wait)?;
        match &self.nodes.read()[ino as usize].content {
            Content::File(bytes, _) => {
                let start = offset.min(bytes.len() as u64) as usize;
                let end = (start + len as usize).min(bytes.len());
                out.extend_from_slice(&bytes[start..end]);
                Ok(())
            }
            _ => Err(Fault::Invalid),
        }
    }

    fn seek(&self, ino: Ino, offset: u64, to: SeekTo, wait: Wait) -> Result<u64, Fault> {
        self.admit(ino, wait)?;
        let nodes = self.nodes.read();
        let Content::File(bytes, holes) = &nodes[ino as usize].content else {
            return Err(Fault::Invalid);
        };
        let size = bytes.len() as u64;
        if offset >= size {
            return Err(Fault::NoData);
        }
        let hole = holes.iter().find(|hole| hole.end > offset);
        match (to, hole) {
            (SeekTo::Data, Some(hole)) if hole.contains(&offset) && hole.end >= size => Err(Fault::NoData),
            (SeekTo::Data, Some(hole)) if hole.contains(&offset) => Ok(hole.end),
            (SeekTo::Data, _) => Ok(offset),
            (SeekTo::Hole, Some(hole)) => Ok(hole.start.max(offset)),
            (SeekTo::Hole, None) => Ok(size),
        }
    }

    fn xattr(&self, ino: Ino, name: &[u8], wait: Wait) -> Result<Vec<u8>, Fault> {
        self.admit(ino, wait)?;
        self.nodes.read()[ino as usize].xattrs.get(name).cloned().ok_or(Fault::NoAttribute)
    }

    fn xattr_names(&self, ino: Ino, wait: Wait) -> Result<Vec<Vec<u8>>, Fault> {
        self.admit(ino, wait)?;
        Ok(self.nodes.read()[ino as usize].xattrs.keys().cloned().collect())
    }

    fn forget(&self, ino: Ino, count: u64) {
        if ino == ROOT_INO {
            return;
        }
        let before = self.refs.read()[&ino].fetch_sub(count, SeqCst);
        assert!(before >= count, "inode {ino}: {count} references dropped of {before}");
    }

    fn dir_of(&self, ino: Ino) -> Option<Ino> {
        self.nodes.read().get(ino as usize).map(|node| node.parent)
    }

    fn small_files(
        &self,
        dir: Ino,
        from: u64,
        limit: usize,
        max_bytes: u64,
    ) -> Result<(Vec<Neighbour>, Option<u64>), Fault> {
        self.small_scans.fetch_add(1, SeqCst);
        let (nodes, refs) = (self.nodes.read(), self.refs.read());
        let Content::Dir(list, _) = &nodes[dir as usize].content else {
            return Err(Fault::NotDirectory);
        };
        let mut found = Vec::new();
        for (place, entry) in list.iter().enumerate().skip(from as usize) {
            let Some((_, ino)) = entry else { continue };
            let attr = &nodes[*ino as usize].attr;
            let known = refs.get(ino).is_some_and(|count| count.load(SeqCst) > 0);
            if known && attr.kind == Kind::File && (1..=max_bytes).contains(&attr.size_bytes) {
                if found.len() == limit {
                    return Ok((found, Some(place as u64)));
                }
                found.push(Neighbour { ino: *ino, size_bytes: attr.size_bytes });
            }
        }
        Ok((found, None))
    }

    fn changes(&self, dir: Ino) -> bool {
        self.nodes.read().get(dir as usize).is_some_and(|node| node.changes)
    }

    fn usage(&self) -> Usage {
        let files = self.nodes.read().len() as u64 - 1;
        Usage { total_bytes: 12_345_678, files, ..Usage::default() }
    }

    fn has_xattrs(&self) -> bool {
        self.nodes.read().iter().any(|node| !node.xattrs.is_empty())
    }
}

/// Keeps tests that make the kernel forget apart from those that count on its memory, in whatever
/// process they run: the kernel's caches are one for all.
fn kernel_memory(how: FlockOperation) -> File {
    let path = std::env::temp_dir().join("bakfs-mount-tests.lock");
    let file = File::options().create(true).truncate(false).write(true).open(path).unwrap();
    rustix::fs::flock(&file, how).unwrap();
    file
}

/// A model mounted in a temporary directory, which is removed after the mount.
pub struct Mounted {
    pub mount: Mount,
    pub tree: Arc<Model>,
    dir: tempfile::TempDir,
    alone: bool,
    _memory: File,
}

impl Mounted {
    pub fn new(tree: Model) -> Mounted {
        Mounted::with(tree, &Options::default())
    }

    pub fn with(tree: Model, options: &Options) -> Mounted {
        Mounted::start(tree, options, false)
    }

    /// Mounts for a test that makes the kernel forget.
    pub fn alone(tree: Model, options: &Options) -> Mounted {
        Mounted::start(tree, options, true)
    }

    fn start(tree: Model, options: &Options, alone: bool) -> Mounted {
        let how = if alone { FlockOperation::LockExclusive } else { FlockOperation::LockShared };
        let memory = kernel_memory(how);
        let dir = tempfile::tempdir().unwrap();
        let tree = Arc::new(tree);
        let mount = Mount::start(tree.clone(), dir.path(), options).unwrap();
        Mounted { mount, tree, dir, alone, _memory: memory }
    }

    /// Makes the kernel drop what it can: pages (1), directory entries and inodes (2); see
    /// proc_sys_vm(5), drop_caches.
    pub fn make_kernel_forget(&self, what: u8) {
        assert!(self.alone, "mount with `alone`");
        std::fs::write("/proc/sys/vm/drop_caches", what.to_string()).unwrap();
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.tree.release_all();
        // Before the directory is removed, or its removal would walk into the mount.
        if self.mount.unmount().is_err() {
            self.mount.unmount_lazily().unwrap();
        }
    }
}

/// Waits until a condition holds, and fails if it never does.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
