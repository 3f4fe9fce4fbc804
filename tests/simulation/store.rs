//! The simulated store: what each process sees of the world, and what goes wrong on the way.

use crate::design::Design;
use crate::world::{Role, State, World, kind_of};
use bakfs::error::{Error, ErrorKind, Result};
use bakfs::format::mark::{Mark, SessionKind};
use bakfs::repo::shared::session::Process;
use bakfs::store::{Hints, ListedObject, Names, Object, ObjectKind, Store, Wait};
use parking_lot::MutexGuard;
use std::collections::HashSet;
use std::sync::Arc;

/// One process's way to the store.
pub struct SimStore {
    world: Arc<World>,
    actor: usize,
    process: usize,
    role: Role,
}

/// What goes wrong with a call that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// No effect, and an error.
    Refused,
    /// An effect, and an error.
    LostReply,
    /// An error, and an effect at a later time.
    Late,
    /// The process stops: without an effect, or after it.
    CrashBefore,
    CrashAfter,
}

impl SimStore {
    /// Starts a process.
    pub fn start(world: &Arc<World>, actor: usize, role: Role) -> Arc<Self> {
        let process = world.start_process(actor, role);
        Arc::new(SimStore { world: world.clone(), actor, process, role })
    }

    /// Ends the process.
    pub fn end(&self) {
        if !self.is_dead() {
            self.world.end_process(self.process);
        }
    }

    /// Names the process as it is told to others.
    pub fn process(&self) -> Process {
        self.world.process(self.process)
    }

    pub fn is_dead(&self) -> bool {
        self.world.now().processes[self.process].is_dead
    }

    fn turn(&self, is_change: bool) -> Result<MutexGuard<'_, State>> {
        if self.is_dead() {
            return Err(self.failure("the process has stopped"));
        }
        Ok(self.world.turn(self.actor, is_change))
    }

    fn failure(&self, what: &str) -> Error {
        Error::new(ErrorKind::Io, format!("Simulated: {what}"))
    }

    fn fault(&self, state: &mut State, is_put: bool) -> Fault {
        if matches!(self.role, Role::Auditor | Role::Reader) {
            return Fault::None;
        }
        let profile = state.profile.clone();
        if state.random.chance(profile.crash) {
            state.counts.crashes += 1;
            return state.random.pick(&[Fault::CrashBefore, Fault::CrashAfter]);
        }
        if state.random.chance(profile.lost_reply) {
            state.counts.lost_replies += 1;
            return Fault::LostReply;
        }
        if is_put && state.random.chance(profile.late_put) {
            state.counts.late_puts += 1;
            return Fault::Late;
        }
        if state.random.chance(profile.transient) { Fault::Refused } else { Fault::None }
    }

    /// Does a change, or part of it.
    fn change(&self, verb: &str, object: Option<Object>, bytes: Option<&[u8]>, act: impl Fn(&mut State)) -> Result<()> {
        let mut state = self.turn(true)?;
        let fault = self.fault(&mut state, bytes.is_some());
        match fault {
            Fault::None | Fault::LostReply | Fault::CrashAfter => act(&mut state),
            Fault::Refused | Fault::CrashBefore => {}
            Fault::Late => {
                let (object, bytes) = object.zip(bytes).expect("only what is put comes late");
                if matches!(object, Object::Mark(_)) {
                    // Known for the trace, and not there.
                    act(&mut state);
                    let at = state.names[&object];
                    state.stored[at].is_gone = true;
                }
                state.put_late(object, Arc::new(bytes.to_vec()), self.process);
            }
        }
        state.record(self.process, verb, object, if fault == Fault::None { "" } else { "FAULT" });
        if fault != Fault::None {
            state.note(format!("  ^ {fault:?}"));
        }
        let uncertain = state.profile.uncertain;
        match fault {
            Fault::None => Ok(()),
            Fault::CrashBefore | Fault::CrashAfter => {
                state.end_process(self.process, &self.world.vault);
                Err(self.failure("the process stops"))
            }
            Fault::LostReply | Fault::Late if bytes.is_some() && state.random.chance(uncertain) => {
                state.counts.uncertain_puts += 1;
                Err(Error::new(ErrorKind::Uncertain, "Simulated: there is no answer"))
            }
            Fault::Refused | Fault::LostReply | Fault::Late => Err(self.failure("the network fails")),
        }
    }

    fn put_once(&self, object: Object, bytes: &[u8], mark: Option<&Mark>) -> Result<()> {
        self.change("put", Some(object), Some(bytes), |state| {
            if let Some(at) = state.find(object).filter(|at| state.stored[*at].deleted_by.is_none()) {
                state.stored[at].is_settled = true;
                return;
            }
            let is_settled = self.role == Role::Auditor;
            state.insert(object, Arc::new(bytes.to_vec()), mark.cloned(), self.process, is_settled);
            if let Some(Mark::Session(session)) = mark {
                state.sessions.push((session.id, self.process));
                if state.profile.wrong_pids && state.random.chance(3000) {
                    state.show_dead(self.process, &self.world.vault);
                }
            }
        })
    }

    /// Returns whether this process sees an object in a listing.
    fn sees(&self, state: &mut State, at: usize) -> bool {
        let stored = &state.stored[at];
        if stored.is_gone {
            return false;
        }
        let (put_by, deleted_by, is_settled) = (stored.put_by, stored.deleted_by, stored.is_settled);
        if self.role == Role::Auditor || deleted_by == Some(self.process) {
            return deleted_by.is_none();
        }
        let (mut is_seen, stale) = (true, state.profile.stale);
        if !is_settled && put_by != self.process {
            is_seen = !state.random.chance(stale);
            state.counts.stale_listings += u64::from(!is_seen);
        }
        if deleted_by.is_some() {
            is_seen &= state.random.chance(stale);
            state.counts.stale_listings += u64::from(is_seen);
        }
        is_seen
    }

    fn bytes(&self, object: Object) -> Result<Arc<Vec<u8>>> {
        let missing = || Error::new(ErrorKind::NotFound, format!("Simulated: there is no {object}"));
        let mut state = self.turn(false)?;
        let (stale, transient) = (state.profile.stale, state.profile.transient / 10);
        if !matches!(self.role, Role::Auditor | Role::Reader) && state.random.chance(transient) {
            state.record(self.process, "read", Some(object), "FAULT");
            return Err(self.failure("the network fails"));
        }
        let at = state.find(object).ok_or_else(missing)?;
        let is_there = match state.stored[at].deleted_by {
            None => true,
            Some(by) if by == self.process || self.role == Role::Auditor => false,
            Some(_) => state.random.chance(stale),
        };
        state.record(self.process, "read", Some(object), if is_there { "" } else { "missing" });
        if is_there { Ok(state.stored[at].bytes.clone()) } else { Err(missing()) }
    }
}

impl Store for SimStore {
    fn put(&self, object: Object, bytes: &[u8]) -> Result<()> {
        let mark = matches!(object, Object::Mark(_)).then(|| self.world.read_mark(bytes));
        self.put_once(object, bytes, mark.as_ref())
    }

    fn barrier(&self, names: Names) -> Result<()> {
        self.change("barrier", None, None, |state| {
            if state.design != Design::NoBarriers || state.random.chance(3000) {
                state.settle(self.process, names == Names::All);
            }
        })
    }

    fn len_bytes(&self, object: Object) -> Result<u64> {
        Ok(self.bytes(object)?.len() as u64)
    }

    fn read_at(&self, object: Object, offset: u64, buffer: &mut [u8], _: Wait) -> Result<()> {
        let bytes = self.bytes(object)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let Some(found) = bytes.get(from..from.saturating_add(buffer.len())) else {
            return Err(Error::damaged(format!("Simulated: {object} ends before")));
        };
        buffer.copy_from_slice(found);
        Ok(())
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<ListedObject>> {
        let mut state = self.turn(kind == ObjectKind::Mark)?;
        let transient = state.profile.transient;
        if !matches!(self.role, Role::Auditor | Role::Reader) && state.random.chance(transient) {
            state.record(self.process, "list", None, "FAULT");
            return Err(self.failure("the network fails"));
        }
        let short = state.profile.short;
        let is_short = self.role == Role::Pruner && state.random.chance(short);
        let kept = if is_short && kind == ObjectKind::Snapshot { state.kept() } else { HashSet::new() };
        let mut listed = Vec::new();
        let (mut told, mut is_first) = (String::new(), true);
        for at in 0..state.stored.len() {
            if kind_of(state.stored[at].object) != Some(kind) || !self.sees(&mut state, at) {
                continue;
            }
            let stored = &state.stored[at];
            if let Some(mark) = &stored.mark {
                let is_backup = matches!(mark, Mark::Session(session) if session.kind == SessionKind::Backup);
                if state.design.hides(self.role, mark, stored.put_by == self.process, is_first) {
                    continue;
                }
                is_first &= !is_backup;
            }
            let (Object::Pack(id) | Object::Index(id) | Object::Snapshot(id) | Object::Mark(id)) = stored.object else {
                continue;
            };
            // Of marks what it has shown before, of snapshots what an earlier prune has seen; of the others anything.
            let may_lack = match kind {
                ObjectKind::Mark => state.processes[self.process].shown.contains(&at),
                ObjectKind::Snapshot => kept.contains(&id),
                _ => true,
            };
            if is_short && may_lack && state.random.chance(2000) {
                state.counts.short_listings += 1;
                continue;
            }
            state.processes[self.process].shown.insert(at);
            listed.push(ListedObject { id, len_bytes: state.stored[at].bytes.len() as u64 });
            if state.trace.is_some() {
                told += &format!(" {at}");
            }
        }
        let hash = listed.len().to_string();
        state.record(self.process, &format!("list {}", kind.folder()), None, &hash);
        state.note(format!("  ^{told}"));
        Ok(listed)
    }

    fn delete(&self, object: Object) -> Result<()> {
        self.change("delete", Some(object), None, |state| {
            if let Some(at) = state.find(object) {
                let stored = &mut state.stored[at];
                // Whoever of two waits for a barrier, both are told the truth.
                stored.is_gone = self.role == Role::Auditor || stored.deleted_by.is_some();
                stored.deleted_by = Some(self.process);
            }
        })
    }

    fn sweep(&self) -> Result<u64> {
        Ok(0)
    }

    fn location(&self) -> String {
        "a simulated store".into()
    }
}

impl Hints for SimStore {}
