//! The world of one seed: who may act, what the store really holds, and what was promised to whom.

use crate::design::Design;
use crate::random::{self, Random, mix};
use bakfs::crypto::keys::{Keys, Secret};
use bakfs::crypto::vault::Vault;
use bakfs::format::config::{CHUNK_SIZES, Config};
use bakfs::format::header::{Kind, Suite};
use bakfs::format::mark::{self, MAX_MARK_BYTES, Mark, MarkId};
use bakfs::format::tree::Time;
use bakfs::id::{ObjectId, RepositoryId};
use bakfs::repo::objects::{object_id, open_object, seal_object};
use bakfs::repo::shared::session;
use bakfs::store::{Object, ObjectKind};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The id of every simulated repository.
pub const REPOSITORY: RepositoryId = RepositoryId([7; 16]);
/// More operations than this are a run that does not end.
const MAX_OPERATIONS: u64 = 10_000_000;

const YEAR_SECS: i64 = 31_557_600;

/// What a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Writer,
    Pruner,
    User,
    Reader,
    /// Sees the store as it is, at once, and meets no faults.
    Auditor,
}

/// How hostile a seed is; rates are so many in ten thousand.
#[derive(Debug, Clone)]
pub struct Profile {
    pub crash: u64,
    pub lost_reply: u64,
    pub late_put: u64,
    /// How often a put without an answer is told to be worth trying under another name.
    pub uncertain: u64,
    pub transient: u64,
    pub stale: u64,
    pub sleep: u64,
    pub switch_at_change: u64,
    pub switch_at_read: u64,
    /// How often a living session is judged dead.
    pub premature: u64,
    /// Whether living processes look gone to other machines.
    pub wrong_pids: bool,
    /// How often a mark that was deleted is put back, at each step.
    pub replay: u64,
    /// How often a listing that a prune makes is short.
    pub short: u64,
}

impl Profile {
    fn draw(random: &mut Random) -> Self {
        let faults = random.pick(&[0, 1, 1, 3]);
        Profile {
            crash: faults * random.pick(&[0, 60, 150]),
            lost_reply: faults * random.pick(&[0, 40, 100]),
            late_put: faults * random.pick(&[0, 40, 100]),
            uncertain: random.pick(&[0, 5000, 10_000]),
            transient: faults * random.pick(&[0, 20]),
            stale: random.pick(&[0, 3000, 7000]),
            sleep: random.pick(&[0, 20, 100]),
            switch_at_change: random.pick(&[500, 2000, 5000]),
            switch_at_read: random.pick(&[20, 200, 1000]),
            premature: random.pick(&[0, 500, 3000]),
            wrong_pids: random.chance(1500),
            replay: random.pick(&[0, 0, 10, 50]),
            short: random.pick(&[0, 0, 0, 300]),
        }
    }
}

/// One participant: a machine that runs one process after another.
struct Actor {
    weight: u64,
    wakes_at: u64,
    is_done: bool,
    /// The last process.
    generation: u64,
    /// How far the clock is off.
    skew_secs: i64,
}

pub struct Process {
    pub actor: usize,
    pub role: Role,
    pub is_dead: bool,
    /// What listings have shown it.
    pub shown: HashSet<usize>,
}

/// An object that was put, until it is gone for good.
pub struct Stored {
    pub object: Object,
    pub bytes: Arc<Vec<u8>>,
    pub mark: Option<Mark>,
    pub put_by: usize,
    /// Whether everybody sees that it was put.
    pub is_settled: bool,
    /// Who deleted it, until everybody sees that.
    pub deleted_by: Option<usize>,
    pub is_gone: bool,
}

pub struct Late {
    pub due: u64,
    pub object: Object,
    pub bytes: Arc<Vec<u8>>,
    pub by: usize,
}

/// How far a promise about an acknowledged snapshot goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Live,
    Forgotten,
    /// A command about it failed: it may be there or not.
    Unknown,
}

#[derive(Debug, Clone)]
pub struct Acknowledged {
    pub id: ObjectId,
    pub chunks: Vec<u8>,
    pub life: Life,
    pub is_pinned: bool,
    /// Counts what was done to it.
    pub version: u64,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub operations: u64,
    pub acknowledged: u64,
    pub backups_failed: u64,
    pub prunes: u64,
    pub prunes_busy: u64,
    pub prunes_waiting: u64,
    pub prunes_failed: u64,
    pub packs_deleted: u64,
    pub crashes: u64,
    pub lost_replies: u64,
    pub late_puts: u64,
    pub uncertain_puts: u64,
    pub stale_listings: u64,
    pub short_listings: u64,
    pub replays: u64,
    pub fences: u64,
    pub undone: u64,
    pub reads: u64,
    pub unsteady_reads: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        self.operations += other.operations;
        self.acknowledged += other.acknowledged;
        self.backups_failed += other.backups_failed;
        self.prunes += other.prunes;
        self.prunes_busy += other.prunes_busy;
        self.prunes_waiting += other.prunes_waiting;
        self.prunes_failed += other.prunes_failed;
        self.packs_deleted += other.packs_deleted;
        self.crashes += other.crashes;
        self.lost_replies += other.lost_replies;
        self.late_puts += other.late_puts;
        self.uncertain_puts += other.uncertain_puts;
        self.stale_listings += other.stale_listings;
        self.short_listings += other.short_listings;
        self.replays += other.replays;
        self.fences += other.fences;
        self.undone += other.undone;
        self.reads += other.reads;
        self.unsteady_reads += other.unsteady_reads;
    }
}

pub struct State {
    pub random: Random,
    pub profile: Profile,
    pub design: Design,
    pub step: u64,
    current: usize,
    exclusive: Option<usize>,
    actors: Vec<Actor>,
    pub processes: Vec<Process>,
    pub stored: Vec<Stored>,
    pub names: HashMap<Object, usize>,
    pub late: Vec<Late>,
    pub sessions: Vec<(MarkId, usize)>,
    pub acknowledged: Vec<Acknowledged>,
    pub violations: Vec<String>,
    pub counts: Counts,
    pub trace: Option<Vec<String>>,
    pub trace_hash: u64,
    seed: u64,
}

pub struct World {
    state: Mutex<State>,
    turns: Vec<Condvar>,
    pub vault: Vault,
}

impl World {
    pub fn new(seed: u64, design: Design, actors: usize, traced: bool) -> Self {
        let mut random = Random::new(mix(seed));
        let mut profile = Profile::draw(&mut random);
        design.adjust(&mut profile);
        let actors: Vec<_> = (0..actors)
            .map(|_| Actor {
                weight: random.pick(&[1, 3, 10, 30]),
                wakes_at: 0,
                is_done: false,
                generation: 0,
                skew_secs: random.pick(&[0, 3600, -10 * YEAR_SECS, 10 * YEAR_SECS]),
            })
            .collect();
        let master = Secret([9; 32]);
        let keys = Keys::derive(&master);
        let mut world = World {
            turns: actors.iter().map(|_| Condvar::new()).collect(),
            vault: Vault::new(keys, Suite::Plain, REPOSITORY),
            state: Mutex::new(State {
                random,
                profile,
                design,
                step: 0,
                current: 0,
                exclusive: None,
                actors,
                processes: vec![Process { actor: 0, role: Role::Auditor, is_dead: true, shown: HashSet::new() }],
                stored: Vec::new(),
                names: HashMap::new(),
                late: Vec::new(),
                sessions: Vec::new(),
                acknowledged: Vec::new(),
                violations: Vec::new(),
                counts: Counts::default(),
                trace: traced.then(Vec::new),
                trace_hash: 0,
                seed,
            }),
        };
        let config = Config {
            created: Time { secs: 1_790_000_000, nanos: 0 },
            features: Vec::new(),
            chunk_sizes: CHUNK_SIZES,
            open_key: Some(master.0),
        };
        let bytes = config.encode(REPOSITORY, Suite::Plain, |bytes| world.vault.keys().config_mac(bytes));
        let state = world.state.get_mut();
        state.insert(Object::Config, Arc::new(bytes), None, 0, true);
        state.publish();
        world
    }

    /// Locks the state without giving others a turn; only for who is acting.
    pub fn now(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Waits for the first turn.
    pub fn begin(&self, me: usize) {
        let mut state = self.state.lock();
        self.turns[me].wait_while(&mut state, |state| state.current != me);
    }

    /// Lets others act first, or not; then it is this participant's turn.
    pub fn turn(&self, me: usize, is_change: bool) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        state.counts.operations += 1;
        if state.exclusive == Some(me) {
            return state;
        }
        if let Some(next) = state.choose(me, is_change).filter(|next| *next != me) {
            state.current = next;
            state.publish();
            self.turns[next].notify_all();
            self.turns[me].wait_while(&mut state, |state| state.current != me);
        }
        state
    }

    /// Ends a participant.
    pub fn finish(&self, me: usize) {
        let mut state = self.state.lock();
        state.actors[me].is_done = true;
        if let Some(next) = state.choose(me, true) {
            state.current = next;
            state.publish();
            self.turns[next].notify_all();
        }
    }

    /// Sleeps for a number of steps of others.
    pub fn sleep(&self, me: usize, steps: u64) {
        {
            let mut state = self.state.lock();
            state.actors[me].wakes_at = state.step + steps;
        }
        drop(self.turn(me, true));
    }

    /// Acts while nobody else does.
    pub fn alone<T>(&self, me: usize, act: impl FnOnce() -> T) -> T {
        let become_alone = |alone| {
            let mut state = self.state.lock();
            state.exclusive = alone;
            state.publish();
        };
        become_alone(Some(me));
        let done = act();
        become_alone(None);
        done
    }

    /// Names a process as it is told to others.
    pub fn process(&self, process: usize) -> session::Process {
        let actor = self.state.lock().processes[process].actor;
        session::Process {
            host: format!("machine-{actor}"),
            space: "simulated".into(),
            pid: process as u32,
            started: 2,
        }
    }

    /// Starts a process of a participant.
    pub fn start_process(&self, me: usize, role: Role) -> usize {
        let mut state = self.state.lock();
        state.processes.push(Process { actor: me, role, is_dead: false, shown: HashSet::new() });
        state.actors[me].generation = state.processes.len() as u64;
        state.publish();
        state.processes.len() - 1
    }

    /// Ends a process: what nobody has made durable may vanish, stay or come later.
    pub fn end_process(&self, process: usize) {
        self.state.lock().end_process(process, &self.vault);
    }

    /// Judges whether a session is dead, as somebody does who cannot know.
    pub fn judge(&self, session: &MarkId) -> bool {
        let mut state = self.state.lock();
        let owner = state.sessions.iter().find(|(id, _)| id == session).map(|(_, process)| *process);
        let is_dead = owner.is_none_or(|process| state.processes[process].is_dead);
        let rate = if is_dead { 8000 } else { state.profile.premature };
        let judged = state.random.chance(rate);
        state.counts.fences += u64::from(judged);
        judged
    }

    pub fn read_mark(&self, bytes: &[u8]) -> Mark {
        let plain = open_object(&self.vault, Kind::Mark, bytes.to_vec(), MAX_MARK_BYTES);
        Mark::decode(&plain.expect("the product sealed it")).expect("the product encoded it")
    }

    pub fn violation(&self, text: String) {
        let mut state = self.state.lock();
        state.note(format!("!! {text}"));
        state.violations.push(text);
    }
}

impl State {
    /// Tells from what the numbers of threads follow that are started now, and what the clock shows.
    fn publish(&self) {
        let actor = &self.actors[self.exclusive.unwrap_or(self.current)];
        let steps = i64::try_from(self.step).unwrap_or_default();
        let key = mix(mix(self.seed) ^ actor.generation) | 1;
        random::set_key(key, 1_790_000_000 + actor.skew_secs + steps * 60);
    }

    /// Chooses who acts next; `None` if all are done.
    fn choose(&mut self, me: usize, is_change: bool) -> Option<usize> {
        self.step += 1;
        assert!(self.counts.operations < MAX_OPERATIONS, "the simulation does not end");
        self.deliver_due();
        if self.random.chance(self.profile.replay) {
            self.replay();
        }
        if self.random.chance(self.profile.sleep) {
            let steps = self.random.pick(&[50, 500, 5_000, 1_000_000]);
            self.actors[me].wakes_at = self.step + self.random.below(steps) + 1;
        }
        let rate = if is_change { self.profile.switch_at_change } else { self.profile.switch_at_read };
        let is_ready = |actor: &Actor, step: u64| !actor.is_done && actor.wakes_at <= step;
        if is_ready(&self.actors[me], self.step) && !self.random.chance(rate) {
            return Some(me);
        }
        let waiting = self.actors.iter().filter(|actor| !actor.is_done).map(|actor| actor.wakes_at).min()?;
        self.step = self.step.max(waiting);
        self.deliver_due();
        let step = self.step;
        let ready = |actor: &&Actor| is_ready(actor, step);
        let total: u64 = self.actors.iter().filter(ready).map(|actor| actor.weight).sum();
        let mut at = self.random.below(total);
        let mut all = self.actors.iter().enumerate().filter(|(_, actor)| is_ready(actor, step));
        all.find_map(|(number, actor)| match at.checked_sub(actor.weight) {
            None => Some(number),
            Some(rest) => {
                at = rest;
                None
            }
        })
    }

    fn deliver_due(&mut self) {
        let step = self.step;
        while let Some(at) = self.late.iter().position(|late| late.due <= step) {
            self.deliver(at);
        }
    }

    /// Lets a late put take effect.
    pub fn deliver(&mut self, at: usize) {
        let late = self.late.swap_remove(at);
        if self.find(late.object).is_none() {
            self.insert(late.object, late.bytes, None, late.by, true);
        }
        self.note(format!("late: {} appears", self.tell(late.object)));
    }

    /// Puts a mark back that was there for all to see and was deleted.
    fn replay(&mut self) {
        let gone = |stored: &Stored| stored.is_gone && stored.is_settled && stored.mark.is_some();
        let gone: Vec<_> = (0..self.stored.len()).filter(|at| gone(&self.stored[*at])).collect();
        let gone: Vec<_> = gone.into_iter().filter(|at| self.find(self.stored[*at].object).is_none()).collect();
        if gone.is_empty() {
            return;
        }
        let at = self.random.pick(&gone);
        let (object, bytes) = (self.stored[at].object, self.stored[at].bytes.clone());
        self.insert(object, bytes, None, 0, true);
        self.counts.replays += 1;
        self.note(format!("replay: {} is there again", self.tell(object)));
    }

    /// Returns the snapshots that a verdict everybody sees has kept.
    pub fn kept(&self) -> HashSet<ObjectId> {
        let is_there = |stored: &&Stored| stored.is_settled && !stored.is_gone && stored.deleted_by.is_none();
        let kept = |stored: &Stored| match &stored.mark {
            Some(Mark::Verdict(verdict)) => verdict.kept.clone(),
            _ => Vec::new(),
        };
        self.stored.iter().filter(is_there).flat_map(kept).collect()
    }

    pub fn find(&self, object: Object) -> Option<usize> {
        self.names.get(&object).copied().filter(|at| !self.stored[*at].is_gone)
    }

    pub fn insert(&mut self, object: Object, bytes: Arc<Vec<u8>>, mark: Option<Mark>, by: usize, is_settled: bool) {
        let mark = mark.or_else(|| self.names.get(&object).and_then(|at| self.stored[*at].mark.clone()));
        let stored = Stored { object, bytes, mark, put_by: by, is_settled, deleted_by: None, is_gone: false };
        self.names.insert(object, self.stored.len());
        self.stored.push(stored);
    }

    /// Makes what a process did visible to everybody, and all index objects as a barrier does.
    pub fn settle(&mut self, process: usize, all: bool) {
        for stored in &mut self.stored {
            let is_index = matches!(stored.object, Object::Index(_));
            stored.is_settled |= all || is_index || stored.put_by == process;
            stored.is_gone |= stored.deleted_by == Some(process);
        }
    }

    pub fn end_process(&mut self, process: usize, vault: &Vault) {
        self.processes[process].is_dead = true;
        for at in 0..self.stored.len() {
            let unsettled = !self.stored[at].is_settled && self.stored[at].put_by == process;
            if unsettled && !self.stored[at].is_gone {
                match self.random.below(3) {
                    0 => self.stored[at].is_settled = true,
                    1 => self.stored[at].is_gone = true,
                    _ => {
                        self.stored[at].is_gone = true;
                        let (object, bytes) = (self.stored[at].object, self.stored[at].bytes.clone());
                        self.put_late(object, bytes, process);
                    }
                }
            }
            if self.stored[at].deleted_by == Some(process) && !self.stored[at].is_gone {
                match self.random.below(2) {
                    0 => self.stored[at].is_gone = true,
                    _ => self.stored[at].deleted_by = None,
                }
            }
        }
        if self.random.chance(7000) {
            self.show_dead(process, vault);
        }
    }

    /// Lets the sessions of a process look as those of one that is gone on this machine. They are listed under the
    /// names of these other bytes; the process itself finds them by the names it knows.
    pub fn show_dead(&mut self, process: usize, vault: &Vault) {
        for (at, stored) in self.stored.iter_mut().enumerate().filter(|(_, stored)| stored.put_by == process) {
            if let Some(Mark::Session(session)) = &stored.mark {
                let session::Process { space: process_space, pid, .. } = session::Process::this();
                let gone = mark::SessionMark { process_space, pid, process_started: 1, ..session.clone() };
                let mark = Mark::Session(gone);
                stored.bytes = Arc::new(seal_object(vault, Kind::Mark, &mark.encode()));
                stored.object = Object::Mark(object_id(&stored.bytes));
                self.names.insert(stored.object, at);
            }
        }
    }

    pub fn put_late(&mut self, object: Object, bytes: Arc<Vec<u8>>, by: usize) {
        let delay = self.random.pick(&[20, 500, 5_000, 1 << 31]);
        let due = self.step + self.random.below(delay) + 1;
        self.late.push(Late { due, object, bytes, by });
    }

    /// Returns the snapshots that must be there, with their versions.
    pub fn live(&self) -> Vec<Acknowledged> {
        self.acknowledged.iter().filter(|known| known.life == Life::Live).cloned().collect()
    }

    pub fn known(&mut self, id: ObjectId) -> Option<&mut Acknowledged> {
        self.acknowledged.iter_mut().find(|known| known.id == id)
    }

    /// Names an object by the number of its putting.
    pub fn tell(&self, object: Object) -> String {
        let Some(at) = self.names.get(&object) else { return format!("{object:?}") };
        match &self.stored[*at].mark {
            Some(mark) => format!("mark {at} {mark:?}"),
            None => format!("{object} ({at})"),
        }
    }

    pub fn note(&mut self, line: String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>6} {line}", self.step));
        }
    }

    /// Takes an operation into the trace.
    pub fn record(&mut self, process: usize, verb: &str, object: Option<Object>, result: &str) {
        let at = object.and_then(|object| self.names.get(&object)).map_or(u64::MAX, |at| *at as u64);
        let word = |text: &str| text.bytes().fold(0u64, |hash, byte| mix(hash ^ u64::from(byte)));
        self.trace_hash = mix(self.trace_hash ^ mix(at) ^ mix(process as u64) ^ word(verb) ^ word(result));
        if self.trace.is_some() {
            let (actor, role) = (self.processes[process].actor, self.processes[process].role);
            let object = object.map_or(String::new(), |object| self.tell(object));
            self.note(format!("{role:?} {actor}.{process} {verb} {object} {result}"));
        }
    }
}

pub fn kind_of(object: Object) -> Option<ObjectKind> {
    match object {
        Object::Config => None,
        Object::Key(_) => Some(ObjectKind::Key),
        Object::Pack(_) => Some(ObjectKind::Pack),
        Object::Index(_) => Some(ObjectKind::Index),
        Object::Snapshot(_) => Some(ObjectKind::Snapshot),
        Object::Mark(_) => Some(ObjectKind::Mark),
    }
}
