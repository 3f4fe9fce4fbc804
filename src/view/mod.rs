//! The history as a tree of files: what the mount shows. docs/semantics.md says what it promises.
//!
//! Above the snapshots lies a small layout of directories and links that changes as snapshots come
//! (`layout`); below each dated directory everything is immutable and read from the repository on
//! demand (`nodes` remembers only what the kernel refers to).

mod ahead;
mod identity;
mod layout;
mod nodes;
mod read_ahead;
mod tree;
pub mod watch;

use crate::error::{Error, ErrorKind, Result};
use crate::format::tree::{Directory, Entry, Meta, Node};
use crate::repo::Repository;
use crate::repo::read::tree::Leaf;
use crate::repo::shared::listed::ListedSnapshot;
use crate::repo::shared::scope::{Scope, ahead_warning};
use crate::store::{Room, Wait};
use ahead::Ahead;
use bakfs_mount::Threads;
use bakfs_mount::tree::{Attr, Failure, Fault, Ino, Kind, Time};
use identity::PathHash;
use layout::Layout;
pub use layout::NOTE_NAME;
use nodes::{DirIndex, Nodes};
use parking_lot::{Mutex, RwLock};
use read_ahead::ReadAhead;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Tells whether snapshots may have come or gone since it was asked last; cheap, and never wrongly false.
pub type Changed = Box<dyn Fn() -> bool + Send + Sync>;

/// After so many pages or reads the memory their lookups took is given back: 64 KiB each (fault-around),
/// so that a mount's memory does not grow with the index.
const LOOKUPS_KEPT: u32 = 128;

/// What a view tells by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Something that a person should know of: snapshots dated ahead, or attributes that cannot be shown yet.
    Warning(String),
    /// A request of the kernel that was answered with EIO.
    Failure(Failure),
}

impl std::fmt::Display for News {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            News::Warning(text) => f.write_str(text),
            News::Failure(failure) => failure.fmt(f),
        }
    }
}

/// Takes a view's news. It is called by threads that owe the kernel an answer: it returns at once, and asks neither the
/// view nor the mount.
pub type Tell = Box<dyn Fn(News) + Send + Sync>;

/// The history of a repository as a tree.
pub struct View {
    repository: Arc<Repository>,
    /// Whose snapshots are shown.
    scope: Scope,
    layout: RwLock<Arc<Layout>>,
    nodes: Mutex<Nodes>,
    changed: Changed,
    /// Held while it is asked whether something changed: what one thread has heard, all others know.
    changes: Mutex<Changes>,
    /// Held while the store is asked what is new, and until that is shown: nothing older is shown after it.
    asking: Mutex<()>,
    /// What the kernel has not been told yet; held while the layout is replaced, and never while a store is waited for.
    untold: Mutex<Vec<LayoutChange>>,
    /// Lookups in the index since its memory was given back.
    lookups: AtomicU32,
    /// Whether the kernel is answered when it asks for extended attributes; settled for the life of a session.
    xattrs: bool,
    /// Whether they are wanted: where there were none at first they are hidden when they come.
    wants_xattrs: bool,
    /// The room where the repository is, as of the last look.
    room: Mutex<Option<Room>>,
    /// Where the store is far away: who reads a file in order.
    ahead: Option<Ahead>,
    /// Where the store is far away: who goes through directories.
    read_ahead: Option<ReadAhead>,
    threads: Threads,
    tell: Tell,
}

/// How often something may have changed, and how many of these changes the layout shows.
#[derive(Default)]
struct Changes {
    heard: u64,
    shown: u64,
}

/// What changed in the layout: a directory and the names that came, went or lead elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutChange {
    /// The directory.
    pub dir: Ino,
    /// The names.
    pub names: Vec<Vec<u8>>,
}

/// A directory of a snapshot, resolved.
#[derive(Clone)]
struct Dir {
    index: DirIndex,
    ino: Ino,
    parent: Ino,
    directory: Directory,
    path: PathHash,
}

/// An inode of a snapshot, resolved to its entry.
struct Found {
    leaf: Leaf,
    position: u64,
}

impl Found {
    fn entry(&self) -> Result<&Entry, Fault> {
        self.leaf.entry(self.position).ok_or(Fault::NotFound)
    }
}

impl View {
    /// Makes the view of a repository as it is now; `xattrs` says whether extended attributes are wanted.
    pub fn new(repository: Arc<Repository>, xattrs: bool, changed: Changed) -> Result<Self> {
        View::of(repository, Scope::default(), xattrs, changed)
    }

    /// Makes the view of those snapshots of a repository that are in a scope. Fails where there are others only.
    pub fn of(repository: Arc<Repository>, scope: Scope, wants_xattrs: bool, changed: Changed) -> Result<Self> {
        // Asked before the first look, so that nothing that comes meanwhile is missed.
        changed();
        let all = repository.snapshots()?;
        let snapshots = scope.of(&all)?.into_iter().cloned().collect();
        let layout = Layout::build(&Layout::default(), snapshots, &jiff::Zoned::now());
        let xattrs = wants_xattrs && layout.has_xattrs();
        let threads = Threads::default();
        Ok(View {
            room: Mutex::new(repository.store().room()),
            ahead: repository.store().is_far().then(Ahead::default),
            read_ahead: repository.store().is_far().then(|| ReadAhead::start(repository.clone(), &threads)),
            threads,
            tell: Box::new(|news| tracing::warn!("{news}")),
            repository,
            scope,
            layout: RwLock::new(Arc::new(layout)),
            nodes: Mutex::new(Nodes::default()),
            changed,
            changes: Mutex::default(),
            asking: Mutex::default(),
            untold: Mutex::default(),
            lookups: AtomicU32::new(0),
            xattrs,
            wants_xattrs,
        })
    }

    /// Has the view's news told otherwise than in the log.
    pub fn telling(self, tell: Tell) -> Self {
        View { tell, ..self }
    }

    /// Says whether extended attributes or ACLs are wanted and have come, and the kernel was told that there are none:
    /// for the life of its session. Another view, in another session, shows them.
    pub fn hides_xattrs(&self) -> bool {
        self.hides(&self.layout())
    }

    fn hides(&self, layout: &Layout) -> bool {
        self.wants_xattrs && !self.xattrs && layout.has_xattrs()
    }

    /// Asks the store how much room there is. May wait for a disk or a network.
    pub fn look_at_room(&self) {
        let room = self.repository.store().room();
        *self.room.lock() = room;
    }

    fn layout(&self) -> Arc<Layout> {
        self.layout.read().clone()
    }

    /// Takes in snapshots that came or went, the turn of the day, and what is no longer dated ahead.
    pub fn refresh(&self) -> Result<()> {
        // Nobody waits for a network at midnight: [`Self::look_again`] sees what is new.
        let asking = self.ahead.is_none().then(|| self.asking.lock());
        if self.is_current() {
            return Ok(());
        }
        let heard = self.changes.lock().heard;
        self.show(asking.as_ref().map(|_| self.ask()).transpose()?);
        // Only now: whoever looks meanwhile must wait for what is new.
        self.changes.lock().shown = heard;
        Ok(())
    }

    /// Asks the store what is new, whatever was heard: for a store that does not tell of changes.
    pub fn look_again(&self) -> Result<()> {
        let _asking = self.asking.lock();
        self.show(Some(self.ask()?));
        Ok(())
    }

    fn ask(&self) -> Result<Vec<ListedSnapshot>> {
        let old = self.layout();
        self.repository.require_same()?;
        let mut snapshots = self.repository.snapshots()?;
        snapshots.retain(|listed| self.scope.has(&listed.snapshot));
        let is_known = |listed: &ListedSnapshot| old.snapshots().iter().any(|old| old.id == listed.id);
        if !snapshots.iter().all(is_known) {
            // A snapshot is stored after its index: what the new one needs is there to be read.
            self.repository.refresh_index()?;
        }
        Ok(snapshots)
    }

    /// Lays these snapshots out, or those that are shown now, as of today.
    fn show(&self, snapshots: Option<Vec<ListedSnapshot>>) {
        let mut untold = self.untold.lock();
        let old = self.layout();
        let snapshots = snapshots.unwrap_or_else(|| old.snapshots().to_vec());
        let mut new = Layout::build(&old, snapshots, &jiff::Zoned::now());
        if self.hides(&new) {
            new.add_note(&old);
        }
        let mut warnings = Vec::new();
        if self.hides(&new) && !self.hides(&old) {
            let text = "The newest snapshot is the first with extended attributes or ACLs: they are shown as soon as nobody \
                        uses the mount";
            warnings.push(text.to_string());
        }
        let is_told = |listed: &ListedSnapshot| old.ahead().iter().any(|told| told.id == listed.id);
        if !new.ahead().iter().all(is_told) {
            warnings.extend(ahead_warning(&new.ahead().iter().collect::<Vec<_>>()));
        }
        untold.extend(new.changes_since(&old));
        *self.layout.write() = Arc::new(new);
        drop(untold);
        warnings.into_iter().for_each(|text| (self.tell)(News::Warning(text)));
    }

    /// Returns the newest snapshot that is not dated ahead.
    pub fn newest(&self) -> Option<ListedSnapshot> {
        self.layout().newest().cloned()
    }

    /// Tells of snapshots dated more than a day ahead; nothing where there are none.
    pub fn ahead_warning(&self) -> Option<String> {
        ahead_warning(&self.layout().ahead().iter().collect::<Vec<_>>())
    }

    /// Returns the view's own threads, which end with it.
    pub fn threads(&self) -> Threads {
        self.threads.clone()
    }

    /// Returns the directories that are shown and not stored: what is in them follows the repository.
    pub fn virtual_directories(&self) -> Vec<Ino> {
        self.layout().folder_inos()
    }

    /// Takes what the kernel must forget.
    pub fn take_changes(&self) -> Vec<LayoutChange> {
        std::mem::take(&mut self.untold.lock())
    }

    /// Returns whether the layout is as the repository and the calendar have it; asks no disk and no network.
    fn is_current(&self) -> bool {
        let mut changes = self.changes.lock();
        if (self.changed)() {
            changes.heard += 1;
        }
        changes.heard == changes.shown && self.layout().is_as_of(&jiff::Zoned::now())
    }

    /// Takes note that a page or a file's content is looked up.
    fn note_lookup(&self) {
        if self.lookups.fetch_add(1, Ordering::Relaxed) % LOOKUPS_KEPT == LOOKUPS_KEPT - 1 {
            self.repository.index().release_memory();
        }
    }

    fn dir(&self, ino: Ino, wait: Wait) -> Result<Dir, Fault> {
        if let Some(dir) = self.nodes.lock().dir(ino) {
            return Ok(dir);
        }
        if let Some(listed) = self.layout().snapshot(ino) {
            let path = PathHash::root();
            let dir = (listed.snapshot.root, path);
            return Ok(self.nodes.lock().add_root(ino, dir.0, dir.1));
        }
        // A directory the kernel knows of whose place was not worked out yet.
        let found = self.find(ino, wait)?;
        match &found.entry()?.node {
            Node::Directory(directory) => {
                self.nodes.lock().open_dir(ino, *directory, &found.entry()?.name).ok_or(Fault::NotFound)
            }
            _ => Err(Fault::NotDirectory),
        }
    }

    /// Finds the entry an inode stands for.
    fn find(&self, ino: Ino, wait: Wait) -> Result<Found, Fault> {
        let Some((directory, position)) = self.nodes.lock().place(ino) else { return Err(Fault::NotFound) };
        let leaf = self.repository.leaf_at(&directory, position, wait).map_err(fault)?;
        let leaf = leaf.ok_or_else(|| Fault::Damaged(format!("inode {ino:#x} is past the end of its directory")))?;
        Ok(Found { leaf, position })
    }
}

/// Translates an error for the kernel.
fn fault(error: Error) -> Fault {
    match error.kind() {
        ErrorKind::WouldWait => Fault::WouldWait,
        _ => Fault::Damaged(error.chain()),
    }
}

fn wait(wait: bakfs_mount::tree::Wait) -> Wait {
    match wait {
        bakfs_mount::tree::Wait::Never => Wait::Never,
        bakfs_mount::tree::Wait::Allowed => Wait::Allowed,
    }
}

/// Encodes a device number as the kernel does in 32 bits (`new_encode_dev`, include/linux/kdev_t.h).
fn encode_dev(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// Narrows a mode to what the file's ACL gives everybody it could apply to, for a mount that cannot
/// enforce the ACL itself: nobody gets more than at the source (acl(5); linux/posix_acl_xattr.h).
fn narrow(mode: u32, acl: &[u8]) -> u32 {
    const USER: u16 = 0x02;
    const GROUP_OBJ: u16 = 0x04;
    const GROUP: u16 = 0x08;
    const MASK: u16 = 0x10;
    let (mut group, mut users, mut groups, mut mask) = (7, 7, 7, 7);
    let entries = acl.get(4..).unwrap_or_default().chunks_exact(8);
    for entry in entries {
        let [tag, perm] = [0, 2].map(|at| u16::from_le_bytes([entry[at], entry[at + 1]]));
        let perm = u32::from(perm & 7);
        match tag {
            USER => users &= perm,
            GROUP_OBJ => group &= perm,
            GROUP => groups &= perm,
            MASK => mask &= perm,
            _ => {}
        }
    }
    let group = group & users & mask;
    let other = mode & users & groups & if users & groups == 7 { 7 } else { mask };
    (mode & !0o77) | (mode & (group << 3)) | (other & 7)
}

impl View {
    /// Returns an inode's attributes as this mount shows them.
    fn attr(&self, ino: Ino, meta: &Meta, node: &Node) -> Attr {
        let mut attr = attr_of(ino, meta, node);
        if !self.xattrs
            && let Some(acl) = meta.xattrs.iter().find(|xattr| xattr.name[..] == *b"system.posix_acl_access")
        {
            attr.perm = narrow(meta.mode, &acl.value) as u16 & 0o7777;
        }
        attr
    }
}

fn attr_of(ino: Ino, meta: &Meta, node: &Node) -> Attr {
    let time = |time: crate::format::tree::Time| Time { secs: time.secs, nanos: time.nanos };
    let (kind, rdev) = match node {
        Node::File(_) => (Kind::File, 0),
        Node::Directory(_) => (Kind::Directory, 0),
        Node::Symlink(_) => (Kind::Symlink, 0),
        Node::Fifo => (Kind::Fifo, 0),
        Node::Socket => (Kind::Socket, 0),
        Node::CharDevice { major, minor } => (Kind::CharDevice, encode_dev(*major, *minor)),
        Node::BlockDevice { major, minor } => (Kind::BlockDevice, encode_dev(*major, *minor)),
    };
    Attr {
        ino,
        kind,
        perm: (meta.mode & 0o7777) as u16,
        nlink: meta.nlink.max(1),
        uid: meta.uid,
        gid: meta.gid,
        rdev,
        size_bytes: meta.size_bytes,
        blocks: meta.blocks,
        atime: time(meta.mtime),
        mtime: time(meta.mtime),
        ctime: time(meta.ctime),
    }
}

#[cfg(test)]
mod tests {
    use super::narrow;

    fn acl(entries: &[(u16, u16)]) -> Vec<u8> {
        let mut bytes = 2u32.to_le_bytes().to_vec();
        for (tag, perm) in entries {
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&perm.to_le_bytes());
            bytes.extend_from_slice(&1000u32.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn a_narrowed_mode_gives_nobody_more_than_the_list() {
        // user::rw- user:1000:rwx group::r-- mask::rwx other::r--: the mode's group bits are the mask.
        let list = acl(&[(0x01, 6), (0x02, 7), (0x04, 4), (0x10, 7), (0x20, 4)]);
        assert_eq!(narrow(0o674, &list), 0o644);
        // A user who is shut out must not come in as one of the others.
        let list = acl(&[(0x01, 6), (0x02, 0), (0x04, 4), (0x10, 7), (0x20, 4)]);
        assert_eq!(narrow(0o674, &list), 0o600);
        // A group that is shut out likewise; the owning group keeps what it has.
        let list = acl(&[(0x01, 6), (0x04, 4), (0x08, 0), (0x10, 7), (0x20, 4)]);
        assert_eq!(narrow(0o4674, &list), 0o4640);
        assert_eq!(narrow(0o755, &acl(&[(0x01, 7), (0x04, 5), (0x20, 5)])), 0o755);
    }
}
