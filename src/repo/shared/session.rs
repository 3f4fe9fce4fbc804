//! Sessions: how a process that writes makes itself seen, and notices that it was taken for dead.

use crate::error::{Error, ErrorKind, Result};
use crate::format::feature::Act;
use crate::format::mark::{self, Mark, MarkId, SessionKind};
use crate::host::host_name;
use crate::id::ObjectId;
use crate::random::fill_random;
use crate::repo::Repository;
use crate::repo::shared::marks::Marks;
use crate::store::{Names, Object, ObjectKind};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// So often marks are listed where a listing lacks those of this process.
const MAX_LISTINGS: usize = 4;

/// An announcement that this process writes, taken back when it is dropped.
pub struct Session {
    repository: Arc<Repository>,
    id: MarkId,
    marks: Vec<ObjectId>,
    /// Marks that could not be read when the session began: they concern others.
    unreadable: HashSet<ObjectId>,
    /// Of a backup: the verdicts that were listed when it began.
    verdicts: Option<HashSet<ObjectId>>,
    /// Whether something was stored of which it is not known whether it will appear.
    is_uncertain: bool,
}

/// Returns a new random id.
pub fn random_id() -> MarkId {
    let mut id = MarkId::default();
    fill_random(&mut id.0);
    id
}

impl Session {
    /// Announces a session; what others have announced is read after it.
    pub fn begin(repository: &Arc<Repository>, kind: SessionKind) -> Result<Session> {
        if !repository.index().lazy().is_empty() {
            return Err(Error::usage("Whoever writes needs the whole index: the repository was opened for reading"));
        }
        let mut id = random_id();
        // An id of its own for every attempt: whoever has taken a mark that was given up for that of a dead process,
        // has fenced its session and cleaned up after it, has not met this one.
        let mark = repository.put_mark_of(&mut || {
            id = random_id();
            Mark::Session(describe(id, kind, &repository.shared.process))
        })?;
        Ok(Session {
            repository: repository.clone(),
            id,
            marks: vec![mark],
            unreadable: HashSet::new(),
            verdicts: None,
            is_uncertain: false,
        })
    }

    /// Announces a prune or a repair, of which one runs at a time; fails with [`ErrorKind::Busy`] where another does.
    ///
    /// Two that begin at once see one another, and at least one of them stops. Those that `is_dead` takes for dead
    /// are fenced; a wrong answer costs them their work.
    pub fn begin_alone(repository: &Arc<Repository>, is_dead: &dyn Fn(&mark::SessionMark) -> bool) -> Result<Session> {
        let session = Session::begin(repository, SessionKind::Prune)?;
        let others = || -> Result<Vec<(ObjectId, mark::SessionMark)>> {
            let marks = repository.marks()?;
            repository.require(Act::Remove, &marks)?;
            let open = marks.sessions(SessionKind::Prune);
            let open = open.filter(|(_, other)| other.id != session.id && !marks.is_fenced(&other.id));
            Ok(open.map(|(object, other)| (object, other.clone())).collect())
        };
        let mut open = Vec::new();
        for (object, other) in others()? {
            match is_dead(&other) {
                true => drop(repository.put_mark(Mark::Fence { session: other.id })?),
                false => open.push((object, other)),
            }
        }
        let again = others()?;
        // One that is not listed any more has ended, if it is not there by its name.
        open.retain(|(object, _)| !again.iter().any(|(listed, _)| listed == object));
        let lacking: Vec<_> = open.iter().map(|(object, _)| Object::Mark(*object)).collect();
        let stored = repository.find_stored(&lacking)?;
        open.retain(|(object, _)| stored.contains(&Object::Mark(*object)));
        open.extend(again);
        match open.first().map(|(_, other)| other) {
            None => Ok(session),
            Some(other) => Err(Error::new(
                ErrorKind::Busy,
                format!(
                    "Another prune or repair runs: {}: wait for it; if it died on another machine, `bakfs prune \
                     --dead-after 1h` takes it for dead",
                    told(other)
                ),
            )),
        }
    }

    /// Announces a backup, and finds out which packs it may rely on: those that are there and not condemned.
    pub fn begin_backup(repository: &Arc<Repository>) -> Result<Session> {
        let mut session = Session::begin(repository, SessionKind::Backup)?;
        let marks = repository.marks()?;
        repository.require(Act::Add, &marks)?;
        repository.warn_of(&marks);
        session.unreadable.extend(marks.unreadable.iter().map(|(id, _)| *id));
        session.verdicts = Some(marks.verdicts().map(|(object, _)| object).collect());
        // After the marks: what a prune has copied elsewhere is then found at its new place.
        repository.refresh_index()?;
        let condemned = marks.condemned_packs();
        let listed = repository.store.list(ObjectKind::Pack)?;
        let lengths: HashMap<_, _> = listed.iter().map(|listed| (listed.id, listed.len_bytes)).collect();
        let mut packs: HashSet<ObjectId> = lengths.keys().copied().collect();
        for pack in repository.index().packs().filter(|pack| lengths.get(&pack.id) != Some(&pack.len_bytes)) {
            if !condemned.contains(&pack.id) {
                repository.warn(format!(
                    "{} is missing or of another length than the index says: what the source still has of it is \
                     stored again; run `bakfs check`",
                    Object::Pack(pack.id)
                ));
            }
            packs.remove(&pack.id);
        }
        // A mark that cannot be read may condemn any pack: then everything is stored again.
        let is_condemned = |id: &ObjectId| !marks.unreadable.is_empty() || condemned.contains(id);
        packs.retain(|id| !is_condemned(id));
        // What others are about to name is theirs: named twice it would only take room.
        let mut others = [SessionKind::Backup, SessionKind::Prune].into_iter().flat_map(|kind| marks.sessions(kind));
        let is_writing = |other: &mark::SessionMark| !marks.is_fenced(&other.id) && !is_surely_dead(other);
        let is_alone = !others.any(|(_, other)| other.id != session.id && is_writing(other));
        repository.adopt(if is_alone { &listed } else { &[] }, is_condemned)?;
        repository.shared.rely_on(packs);
        Ok(session)
    }

    /// Returns the session's id.
    pub fn id(&self) -> MarkId {
        self.id
    }

    /// Fails if the session was fenced, or its own mark is gone: a prune has then forgotten that it was fenced.
    pub fn check(&self) -> Result<()> {
        self.check_by(&self.repository.marks()?)
    }

    /// The same by marks that were listed after what is to count was stored.
    pub fn check_by(&self, marks: &Marks) -> Result<()> {
        let mut again;
        let mut marks = marks;
        for _ in 1..MAX_LISTINGS {
            // A listing that lacks this session, which is there, is not whole.
            let is_lacking = !marks.is_open(&self.id) && !marks.is_fenced(&self.id);
            if !is_lacking || self.repository.find_stored(&self.own_mark())?.is_empty() {
                break;
            }
            again = self.repository.marks()?;
            marks = &again;
        }
        // Of a feature that was raised since: whoever has raised it waits for this session, or has fenced it.
        let act = if self.verdicts.is_some() { Act::Add } else { Act::Remove };
        self.repository.require(act, marks)?;
        let unknown = marks.unreadable.iter().find(|(id, _)| !self.unreadable.contains(id));
        if let Some((id, reason)) = unknown {
            return Err(Error::damaged(format!(
                "{} appeared and cannot be read: run `bakfs repair`, then the backup again: {reason}",
                Object::Mark(*id)
            )));
        }
        if !marks.is_open(&self.id) {
            return Err(Error::new(
                ErrorKind::Fenced,
                "A prune has taken this run for dead, because it was silent for too long: nothing was committed; run \
                 it again",
            ));
        }
        match self.verdicts.as_ref().map(|seen| self.lost_pack(seen, marks)).transpose()?.flatten() {
            None => Ok(()),
            Some(pack) => Err(Error::new(
                ErrorKind::Fenced,
                format!(
                    "A prune that has not seen this run removes {}, which the run relies on: nothing was committed; \
                     run it again",
                    Object::Pack(pack)
                ),
            )),
        }
    }

    fn own_mark(&self) -> Vec<Object> {
        self.marks.first().map(|mark| Object::Mark(*mark)).into_iter().collect()
    }

    /// Returns a pack this backup relies on that a prune removes which has not waited for it, because its listing
    /// lacked this session or the backup's own lacked what was condemned. A prune that has seen it condemns none of
    /// them without it in its census, and has no verdict on any.
    fn lost_pack(&self, seen: &HashSet<ObjectId>, marks: &Marks) -> Result<Option<ObjectId>> {
        let relied = self.repository.shared.reliable.read();
        let Some(relied) = &*relied else { return Ok(None) };
        let has_missed = |id: &MarkId| marks.census(id).is_some_and(|census| !census.contains(&self.id));
        let condemned = marks.condemned().filter(|(_, condemn)| has_missed(&condemn.id));
        let new: Vec<_> = marks.verdicts().filter(|(object, _)| !seen.contains(object)).collect();
        let mut removed =
            condemned.flat_map(|(_, condemn)| &condemn.packs).chain(new.iter().flat_map(|(_, verdict)| &verdict.packs));
        if let Some(pack) = removed.find(|pack| relied.contains(*pack)) {
            return Ok(Some(*pack));
        }
        if new.is_empty() {
            return Ok(None);
        }
        // Of several prunes only the last one's verdict is left.
        let listed: HashSet<_> =
            self.repository.store.list(ObjectKind::Pack)?.into_iter().map(|listed| listed.id).collect();
        let lacking: Vec<_> = relied.difference(&listed).map(|pack| Object::Pack(*pack)).collect();
        let stored = self.repository.find_stored(&lacking)?;
        let lost = lacking.into_iter().find(|object| !stored.contains(object));
        Ok(lost.and_then(|object| if let Object::Pack(pack) = object { Some(pack) } else { None }))
    }

    /// Announces a snapshot that is about to be stored, and looks for a fence.
    pub fn announce(&mut self, snapshot: ObjectId) -> Result<()> {
        self.risk(|repository, id| repository.put_mark(Mark::Intent { session: id, snapshot }))
            .map(|mark| self.marks.push(mark))?;
        self.check()
    }

    /// Runs a step after whose failure nobody knows what will appear: the session then stays open, for a prune to
    /// fence, whatever succeeds later.
    pub fn risk<T>(&mut self, step: impl FnOnce(&Repository, MarkId) -> Result<T>) -> Result<T> {
        let was_uncertain = std::mem::replace(&mut self.is_uncertain, true);
        let done = step(&self.repository, self.id)?;
        self.is_uncertain = was_uncertain;
        Ok(done)
    }

    /// Returns whether the session stays open, for a prune to fence.
    pub fn is_uncertain(&self) -> bool {
        self.is_uncertain
    }

    /// Takes the announcements back and makes that durable.
    pub fn end(mut self) -> Result<()> {
        self.take_back()
    }

    fn take_back(&mut self) -> Result<()> {
        // Intents first: without its session an intent would have nobody to answer for it.
        for mark in std::mem::take(&mut self.marks).into_iter().rev() {
            self.repository.delete_mark(mark)?;
        }
        self.repository.store.barrier(Names::Mine)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.is_uncertain
            && !self.marks.is_empty()
            && let Err(error) = self.take_back()
        {
            tracing::warn!("The end of a session could not be told, a prune will see to it: {}", error.chain());
        }
    }
}

/// A process, told so that another one of the same machine can see whether it lives.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// The machine's name.
    pub host: String,
    /// What numbers of processes mean: this boot, and the namespace (pid_namespaces(7)).
    pub space: String,
    /// Its number.
    pub pid: u32,
    /// When it began, in ticks since boot (proc_pid_stat(5)).
    pub started: u64,
}

impl Process {
    /// Returns this process.
    pub fn this() -> Self {
        let pid = std::process::id();
        Process {
            host: host_name(),
            space: process_space().unwrap_or_default(),
            pid,
            started: process_started(pid).unwrap_or_default(),
        }
    }
}

fn describe(id: MarkId, kind: SessionKind, process: &Process) -> mark::SessionMark {
    mark::SessionMark {
        id,
        kind,
        host: process.host.clone(),
        process_space: process.space.clone(),
        pid: process.pid,
        process_started: process.started,
        started: crate::repo::shared::dated::time(jiff::Timestamp::now()),
    }
}

/// Returns whose session it is, and since when, in words.
pub fn told(session: &mark::SessionMark) -> String {
    let since = crate::repo::shared::dated::dated(session.started);
    format!("process {} on {}, since {since}", session.pid, session.host)
}

/// Returns where the number of a process means that process, in three words: a machine (a hash of machine-id(5)),
/// its boot, and a namespace of processes (pid_namespaces(7)).
fn process_space() -> Option<String> {
    let machine = std::fs::read("/etc/machine-id").unwrap_or_default();
    let machine = match machine.trim_ascii() {
        // Anything else is no id, as `uninitialized`, which many images share.
        id if id.len() != 32 || !id.iter().all(u8::is_ascii_hexdigit) => UNKNOWN_MACHINE.into(),
        id => crate::id::to_hex(&blake3::derive_key("bakfs 2026-11-20 machine of a session", id)[..8]),
    };
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{machine} {} {}", boot.trim(), namespace.display()))
}

/// Stands for a machine without an id.
const UNKNOWN_MACHINE: &str = "-";

/// Returns when a process began (field 22 of proc_pid_stat(5)); `None` if there is no such process, or it has ended.
fn process_started(pid: u32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after_name = &stat[stat.iter().rposition(|byte| *byte == b')')? + 1..];
    let mut fields = std::str::from_utf8(after_name).ok()?.split_ascii_whitespace();
    // A zombie has ended; nobody has asked how.
    fields.next().filter(|state| !matches!(*state, "Z" | "X"))?;
    fields.nth(18)?.parse().ok()
}

/// Returns whether the process of a session is gone for certain: it ran on this machine before it was started anew,
/// or it would be seen from here and is not. Machines that share an id, as careless clones do, take one another for
/// dead: that costs a run its work.
pub fn is_surely_dead(session: &mark::SessionMark) -> bool {
    process_space().is_some_and(|here| is_dead_seen_from(&here, session))
}

/// Returns whether the process of a session runs for certain, as seen from here.
pub fn is_surely_alive(session: &mark::SessionMark) -> bool {
    process_space().is_some_and(|here| here == session.process_space)
        && process_started(session.pid) == Some(session.process_started)
}

fn is_dead_seen_from(here: &str, session: &mark::SessionMark) -> bool {
    let [here_words, there_words] = [here, &session.process_space].map(|space| space.split(' ').collect::<Vec<_>>());
    let ([machine, boot, _], [other_machine, other_boot, _]) = (&here_words[..], &there_words[..]) else {
        return false;
    };
    if machine == other_machine && *machine != UNKNOWN_MACHINE && boot != other_boot {
        return true;
    }
    here == session.process_space && !is_running(session.pid, session.process_started)
}

/// Returns whether a process runs. One that /proc hides (proc(5), hidepid) answers a signal all the same.
fn is_running(pid: u32, started: u64) -> bool {
    match process_started(pid) {
        Some(found) => found == started,
        None if Path::new(&format!("/proc/{pid}/stat")).exists() => false,
        None => {
            let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
            pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_are_told_from_the_living_and_the_unknown() {
        let living = describe(MarkId([1; 16]), SessionKind::Backup, &Process::this());
        assert!(!is_surely_dead(&living));
        let session = |space: &str, pid, process_started| mark::SessionMark {
            process_space: space.into(),
            pid,
            process_started,
            ..living.clone()
        };
        let here = living.process_space.clone();
        let own = (living.pid, living.process_started);
        assert!(is_surely_dead(&session(&here, own.0, own.1 + 1)), "another process has its number now");
        assert!(is_surely_dead(&session(&here, i32::MAX as u32, 5)), "no process has this number");
        let seen = |there: &str| is_dead_seen_from("m1 b2 n1", &session(there, own.0, own.1));
        assert!(seen("m1 b1 n1"), "the machine was started anew since");
        for there in ["m1 b2 n2", "m2 b1 n1", "", "m1 b1", "m1 b1 n1 x"] {
            assert!(!seen(there), "{there}: nobody knows from here");
        }
        assert!(!is_dead_seen_from("- b2 n1", &session("- b1 n1", own.0, own.1)), "which machine is not known");
    }
}
