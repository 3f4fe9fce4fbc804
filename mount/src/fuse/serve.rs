//! Asks the tree, at once or on a thread that may wait, and replies.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use super::Errno;
use super::reply::{Fail, Listing, directory, file_attr};
use crate::awake::Awake;
use crate::deadline::{Pending, Workers};
use crate::guard::{guarded, note_failure};
use crate::push::Pusher;
use crate::requests::Counters;
use crate::tree::{ENDLESS, Failure, Fault, Ino, Kind, ListedEntry, Tree, Wait};

/// How long the kernel may keep an entry of a directory that changes. They are the few virtual ones,
/// so a lookup a second costs nothing, and a name that depends on the time is right without anybody
/// telling the kernel.
const CHANGING: Duration = Duration::from_secs(1);

/// Memory a thread keeps for its next reply.
const KEPT_SCRATCH_BYTES: usize = 2 << 20;

thread_local! {
    /// Where READ replies are put together.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What the receiving threads, the I/O threads and the owner of the mount share.
pub(crate) struct Core<T: Tree> {
    pub(crate) tree: Arc<T>,
    pub(crate) workers: Workers,
    pub(crate) counters: Arc<Counters>,
    pub(crate) awake: Awake,
    /// `None` when small files are not pushed.
    pub(crate) pusher: Option<Arc<Pusher>>,
    /// Fixed for the mount's life: ENOSYS to getxattr(2) makes the kernel never ask again.
    pub(crate) xattrs: bool,
    /// Whether getxattr(2) is answered all the same; likewise fixed.
    pub(crate) hidden_xattrs: bool,
}

impl<T: Tree> Core<T> {
    /// Returns what the kernel is told of a fault, and tells the tree of one that is EIO.
    pub(super) fn errno(&self, operation: &'static str, ino: Ino, fault: &Fault) -> Errno {
        match fault {
            Fault::NotFound => Errno::ENOENT,
            Fault::NotDirectory => Errno::ENOTDIR,
            Fault::IsDirectory => Errno::EISDIR,
            Fault::Invalid => Errno::EINVAL,
            Fault::NoAttribute => Errno::ENODATA,
            Fault::NoData => Errno::ENXIO,
            Fault::Damaged(_) | Fault::WouldWait => {
                note_failure(&*self.tree, &Failure { operation, ino, why: fault.to_string() });
                Errno::EIO
            }
        }
    }

    /// Asks the tree without waiting, and again on an I/O thread if that gives no answer; then replies. So EIO is only
    /// ever said by who was allowed to wait, and to read again.
    ///
    /// `late` undoes what an answer that came after the deadline left behind in the tree.
    pub(super) fn serve<R: Fail, A: 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        ino: Ino,
        reply: R,
        ask: impl Fn(&T, Wait, &mut Vec<u8>) -> Result<A, Fault> + Send + 'static,
        answer: impl FnOnce(&Self, R, A, &[u8]) + Send + 'static,
        late: fn(&T, A),
    ) {
        self.awake.note();
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            match guarded(|| ask(&self.tree, Wait::Never, scratch)) {
                Ok(found) => answer(self, reply, found, scratch),
                Err(fault) if fault.is_answer() => reply.fail(self.errno(operation, ino, &fault)),
                Err(_) => {
                    Counters::add(&self.counters.handed_over, 1);
                    let pending = Pending::new(reply);
                    let (core, owed) = (self.clone(), pending.clone());
                    self.workers.submit(operation, ino, pending, move || {
                        core.serve_waiting(operation, ino, &owed, ask, answer, late);
                    });
                }
            }
            scratch.shrink_to(KEPT_SCRATCH_BYTES);
        });
    }

    fn serve_waiting<R: Fail, A>(
        &self,
        operation: &'static str,
        ino: Ino,
        owed: &Pending<R>,
        ask: impl Fn(&T, Wait, &mut Vec<u8>) -> Result<A, Fault>,
        answer: impl FnOnce(&Self, R, A, &[u8]),
        late: fn(&T, A),
    ) {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            let found = guarded(|| ask(&self.tree, Wait::Allowed, scratch));
            match (owed.take(), found) {
                (Some(reply), Ok(found)) => answer(self, reply, found, scratch),
                (Some(reply), Err(fault)) => reply.fail(self.errno(operation, ino, &fault)),
                (None, Ok(found)) => late(&self.tree, found),
                (None, Err(_)) => {}
            }
            scratch.shrink_to(KEPT_SCRATCH_BYTES);
        });
    }

    pub(super) fn forget(&self, ino: Ino, count: u64) {
        let outcome = guarded(|| {
            self.tree.forget(ino, count);
            Ok(())
        });
        if let Err(fault) = outcome {
            tracing::error!(inode = ino, %fault, "Dropping references failed");
        }
    }

    /// Says whether a directory's entries may change; a tree that cannot say is taken to.
    pub(super) fn changes(&self, dir: Ino) -> bool {
        guarded(|| Ok(self.tree.changes(dir))).unwrap_or(true)
    }

    /// Returns how long the kernel may keep an entry. Where entries change, links such as `latest` are
    /// asked for each time: what they name just now is what a reader wants.
    pub(super) fn entry_lifetime(&self, dir: Ino, kind: Kind) -> Duration {
        match kind {
            Kind::Symlink if self.changes(dir) => Duration::ZERO,
            _ => self.lifetime(dir),
        }
    }

    pub(super) fn lifetime(&self, ino: Ino) -> Duration {
        if self.changes(ino) { CHANGING } else { ENDLESS }
    }

    /// Lists a directory into a reply.
    pub(super) fn list<R: Listing>(self: &Arc<Self>, dir: Ino, offset: u64, mut reply: R) {
        self.awake.note();
        let kept = Lifetimes { entries: self.lifetime(dir), links: self.entry_lifetime(dir, Kind::Symlink) };
        match guarded(|| self.dots(dir, offset, Wait::Never)) {
            Ok(dots) => {
                if add_dots(&mut reply, &dots, kept) {
                    return reply.finish();
                }
            }
            Err(fault) if fault.is_answer() => return reply.fail(self.errno("readdir", dir, &fault)),
            Err(_) => return self.list_on_thread(dir, offset, reply, kept),
        }
        let cookie = after_dots(offset);
        let mut taken = 0usize;
        let found = guarded(|| {
            self.tree.list(dir, cookie, R::COUNTED, Wait::Never, &mut |entry| {
                let full = reply.add(entry.name, &file_attr(&entry.attr), entry.next_cookie, kept.of(entry.attr.kind));
                taken += usize::from(!full);
                !full
            })
        });
        if taken == 0 && found.as_ref().is_err_and(|fault| !fault.is_answer()) {
            self.list_on_thread(dir, offset.max(LAST_DOT), reply, kept);
        } else {
            // The kernel asks once more at the end, when it has taken in all entries.
            let ended = found.is_ok() && taken == 0 && cookie != 0;
            self.conclude(dir, reply, found, taken);
            if ended && let Some(pusher) = &self.pusher {
                pusher.note_listed(&*self.tree, dir);
            }
        }
    }

    /// Returns `.` and `..`, as far as a listing from `offset` on has them.
    fn dots(&self, dir: Ino, offset: u64, wait: Wait) -> Result<Vec<(u64, &'static str, Ino)>, Fault> {
        if offset >= LAST_DOT {
            return Ok(Vec::new());
        }
        let dots = [(1, ".", dir), (LAST_DOT, "..", self.tree.parent(dir, wait)?)];
        Ok(dots.into_iter().filter(|(cookie, _, _)| offset < *cookie).collect())
    }

    /// Has a directory listed by a thread that may wait.
    fn list_on_thread<R: Listing>(self: &Arc<Self>, dir: Ino, offset: u64, reply: R, kept: Lifetimes) {
        Counters::add(&self.counters.handed_over, 1);
        let pending = Pending::new(reply);
        let (core, owed) = (self.clone(), pending.clone());
        self.workers.submit("readdir", dir, pending, move || core.list_waiting(dir, offset, &owed, kept));
    }

    fn list_waiting<R: Listing>(&self, dir: Ino, offset: u64, owed: &Pending<R>, kept: Lifetimes) {
        let full = match guarded(|| self.dots(dir, offset, Wait::Allowed)) {
            Ok(dots) => owed.with(|reply| add_dots(reply, &dots, kept)),
            Err(fault) => {
                owed.take().into_iter().for_each(|reply| reply.fail(self.errno("readdir", dir, &fault)));
                return;
            }
        };
        if full != Some(false) {
            owed.take().into_iter().for_each(R::finish);
            return;
        }
        let mut taken = Vec::new();
        let found = guarded(|| {
            self.tree.list(dir, after_dots(offset), R::COUNTED, Wait::Allowed, &mut |entry: ListedEntry<'_>| {
                let attr = file_attr(&entry.attr);
                let lifetime = kept.of(entry.attr.kind);
                let full = owed.with(|reply| reply.add(entry.name, &attr, entry.next_cookie, lifetime));
                if full == Some(false) {
                    taken.push(entry.attr.ino);
                }
                full == Some(false)
            })
        });
        match owed.take() {
            Some(reply) => self.conclude(dir, reply, found, taken.len()),
            // The kernel was told EIO and knows nothing of the references counted for it.
            None if R::COUNTED => taken.into_iter().for_each(|ino| self.forget(ino, 1)),
            None => {}
        }
    }

    /// Replies with the entries taken; a fault after some of them shows up in the request that follows.
    fn conclude<R: Listing>(&self, dir: Ino, reply: R, found: Result<(), Fault>, taken: usize) {
        match found {
            Err(fault) if taken == 0 => reply.fail(self.errno("readdir", dir, &fault)),
            _ => reply.finish(),
        }
    }
}

/// The cookie of `..`, after which come the entries of the tree.
const LAST_DOT: u64 = 2;

/// Returns where in the tree's own listing a listing goes on.
fn after_dots(offset: u64) -> u64 {
    if offset <= LAST_DOT { 0 } else { offset }
}

/// Adds `.` and `..`; returns whether the reply is full.
fn add_dots<R: Listing>(reply: &mut R, dots: &[(u64, &'static str, Ino)], kept: Lifetimes) -> bool {
    dots.iter().any(|(cookie, name, ino)| reply.add(name.as_bytes(), &directory(*ino), *cookie, kept.entries))
}

/// How long the kernel may keep the entries of one directory.
#[derive(Clone, Copy)]
struct Lifetimes {
    entries: Duration,
    links: Duration,
}

impl Lifetimes {
    fn of(&self, kind: Kind) -> Duration {
        if kind == Kind::Symlink { self.links } else { self.entries }
    }
}
