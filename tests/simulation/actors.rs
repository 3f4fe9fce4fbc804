//! Who acts: writers, pruners, a user who forgets and brings back, and readers. All run the product's own code.

use crate::audit;
use crate::store::SimStore;
use crate::world::{Acknowledged, Life, Role, World};
use bakfs::error::{Error, ErrorKind, Result};
use bakfs::format::page::PageWriter;
use bakfs::format::snapshot::Snapshot;
use bakfs::format::tree::{Content, Directory, Entry, Extent, Meta, Node, Time};
use bakfs::id::ObjectId;
use bakfs::monitor::Silent;
use bakfs::prune;
use bakfs::repo::open::Options;
use bakfs::repo::read::chunk_kind::ChunkKind;
use bakfs::repo::shared::dated;
use bakfs::repo::shared::listed::ListedSnapshot;
use bakfs::repo::shared::session::Session;
use bakfs::repo::write::{WriteOptions, Writer};
use bakfs::repo::{Memory, Repository};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Different pieces of content there are, so that writers have much in common.
const POOL: u64 = 14;
const WRITE: WriteOptions = WriteOptions { level: 1, threads: 1 };

pub fn open(store: &Arc<SimStore>) -> Result<Arc<Repository>> {
    let memory = Memory { frames_bytes: 1 << 16, pages_bytes: 1 << 16 };
    let options = Options { cache_base: None, memory, ..Options::default() };
    let mut repository = Repository::unlock(store.clone(), &options, |_| Ok(Vec::new()))?;
    repository.act_as(store.process());
    Ok(Arc::new(repository))
}

/// Returns a piece of content by its number.
pub fn content(number: u8) -> Vec<u8> {
    format!("piece {number} ").repeat(usize::from(number % 5) + 1).into_bytes()
}

fn draw(world: &World, bound: u64) -> u64 {
    world.now().random.below(bound)
}

/// Returns the numbers of the pieces a snapshot holds.
pub fn pieces(repository: &Repository, snapshot: &Snapshot) -> Result<Vec<u8>> {
    let mut pieces = Vec::new();
    repository.for_each_entry(&snapshot.root, |entry| {
        let name = std::str::from_utf8(&entry.name).ok().and_then(|name| name.parse().ok());
        pieces.push(name.ok_or_else(|| Error::damaged("a name that was never stored"))?);
        Ok(())
    })?;
    Ok(pieces)
}

/// Backs up now and then.
pub fn writer(world: &Arc<World>, me: usize, rounds: u64) {
    for _ in 0..rounds {
        world.sleep(me, draw(world, 300));
        let store = SimStore::start(world, me, Role::Writer);
        if let Err(error) = open(&store).and_then(|repository| back_up(world, &repository)) {
            let mut state = world.now();
            state.counts.backups_failed += 1;
            state.note(format!("backup failed: {}", error.chain()));
        }
        store.end();
    }
}

/// Makes a snapshot and returns once it is acknowledged.
pub fn back_up(world: &World, repository: &Arc<Repository>) -> Result<()> {
    let mut session = Session::begin_backup(repository)?;
    let mut wanted = BTreeSet::new();
    let snapshots = repository.snapshots()?;
    if !snapshots.is_empty() {
        let parent = &snapshots[draw(world, snapshots.len() as u64) as usize];
        // What the parent cannot tell is read again, as the product does.
        let pieces = pieces(repository, &parent.snapshot).unwrap_or_default();
        wanted.extend(pieces.into_iter().filter(|_| draw(world, 10) < 7));
    }
    for _ in 0..1 + draw(world, 4) {
        wanted.insert(draw(world, POOL) as u8);
    }
    let mut writer = Writer::new(repository.clone(), WRITE);
    let mut pages = PageWriter::default();
    for number in &wanted {
        let bytes = content(*number);
        let id = repository.keys().chunk_id(&bytes);
        // Taken over where it is held, else stored again.
        writer.add(ChunkKind::Data, id, &bytes)?;
        let len_bytes = bytes.len() as u64;
        let meta = Meta { mode: 0o644, nlink: 1, size_bytes: len_bytes, ..Meta::default() };
        let node = Node::File(Content::Extents(vec![Extent { chunk: id, len_bytes }]));
        pages.push(&Entry { name: format!("{number:03}").as_bytes().into(), meta, node }, &mut writer)?;
    }
    let (page, entries) = pages.finish(&mut writer)?;
    writer.finish()?;
    let root = Directory { page, entries, total_files: entries, total_bytes: 0 };
    let time = Time { secs: 1_790_000_000 + draw(world, 4) as i64, nanos: 0 };
    let (id, _) = repository.commit(&mut session, snapshot(root, time))?;
    {
        let mut state = world.now();
        let chunks = wanted.into_iter().collect();
        let known = Acknowledged { id, chunks, life: Life::Live, is_pinned: false, version: 0 };
        state.acknowledged.push(known);
        state.counts.acknowledged += 1;
        state.note(format!("acknowledged {id}"));
    }
    // It is safe, whatever becomes of the session's marks.
    let _ = session.end();
    Ok(())
}

fn snapshot(root: Directory, time: Time) -> Snapshot {
    Snapshot {
        name: dated::dated(time),
        time,
        started: time,
        ended: time,
        host: "host".into(),
        tags: Vec::new(),
        sources: Vec::new(),
        parent: None,
        root_meta: Meta { mode: 0o755, nlink: 1, ..Meta::default() },
        root,
        users: Vec::new(),
        groups: Vec::new(),
        has_xattrs: false,
        summary: Default::default(),
        troubles: Vec::new(),
        program: String::new(),
    }
}

/// Prunes now and then.
pub fn pruner(world: &Arc<World>, me: usize, rounds: u64) {
    for _ in 0..rounds {
        world.sleep(me, draw(world, 1500));
        let store = SimStore::start(world, me, Role::Pruner);
        let max_waste = [0.0, 0.1, 0.6][draw(world, 3) as usize];
        let is_dead = |session: &bakfs::format::mark::SessionMark| world.judge(&session.id);
        let done = prune_once(&store, max_waste, &is_dead);
        count(world, &done);
        store.end();
    }
}

pub fn prune_once(
    store: &Arc<SimStore>,
    max_waste: f64,
    is_dead: &dyn Fn(&bakfs::format::mark::SessionMark) -> bool,
) -> Result<prune::Report> {
    let options = prune::Options {
        max_waste,
        dry_run: false,
        accept_missing: false,
        forgotten: &[],
        scratch: None,
        write: WRITE,
        is_dead,
    };
    prune::run(&open(store)?, &options, &Silent)
}

fn count(world: &World, done: &Result<prune::Report>) {
    let mut state = world.now();
    match done {
        Ok(report) => {
            state.counts.packs_deleted += report.swept.packs;
            match report.waiting_for.is_empty() {
                true => state.counts.prunes += 1,
                false => state.counts.prunes_waiting += 1,
            }
            state.note(format!("prune done: {:?}", report.swept));
        }
        Err(error) if error.kind() == ErrorKind::Busy => state.counts.prunes_busy += 1,
        Err(error) => {
            state.counts.prunes_failed += 1;
            state.note(format!("prune failed: {}", error.chain()));
        }
    }
}

/// Forgets snapshots, brings them back and pins them.
pub fn user(world: &Arc<World>, me: usize, rounds: u64) {
    for _ in 0..rounds {
        world.sleep(me, draw(world, 600));
        let store = SimStore::start(world, me, Role::User);
        let repository = open(&store);
        let all: Vec<_> = world.now().acknowledged.clone();
        if let Ok(repository) = repository
            && !all.is_empty()
        {
            let some: BTreeSet<_> =
                (0..1 + draw(world, 3)).map(|_| all[draw(world, all.len() as u64) as usize].id).collect();
            let some: Vec<_> = some.into_iter().collect();
            match draw(world, 10) {
                0..6 => forget(world, &repository, &some),
                6..9 => undo(world, &repository, &some),
                _ => pin(world, &repository, some[0]),
            }
        }
        store.end();
    }
}

/// Notes what became of snapshots.
fn set(world: &World, ids: &[ObjectId], life: impl Fn(&Acknowledged) -> Life) {
    let mut state = world.now();
    for id in ids {
        if let Some(known) = state.known(*id) {
            // What a failed command has stored may appear at any later time.
            known.life = if known.life == Life::Unknown { Life::Unknown } else { life(known) };
            known.version += 1;
        }
    }
}

/// Nothing that is or was to be hidden is promised any more: a mark may appear late that hides it.
fn give_up(world: &World, ids: &[ObjectId]) {
    let mut state = world.now();
    for known in state.acknowledged.iter_mut().filter(|known| ids.contains(&known.id) || known.life != Life::Live) {
        (known.life, known.version) = (Life::Unknown, known.version + 1);
    }
}

fn forget(world: &World, repository: &Repository, ids: &[ObjectId]) {
    let pinned: Vec<_> =
        world.now().acknowledged.iter().filter(|known| known.is_pinned).map(|known| known.id).collect();
    let before: Vec<_> = world.now().acknowledged.clone();
    let is_refused = ids.iter().any(|id| pinned.contains(id));
    if !is_refused {
        // From now on it may be hidden at any moment.
        set(world, ids, |_| Life::Forgotten);
    }
    match repository.forget(ids) {
        Ok(()) if is_refused => world.violation("a pinned snapshot was forgotten".into()),
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::Usage => {
            // Nothing was done: a pin whose reply was lost, or one that is.
            for known in before {
                set(world, &[known.id], |_| known.life);
            }
        }
        Err(_) => give_up(world, ids),
    }
}

fn undo(world: &World, repository: &Repository, ids: &[ObjectId]) {
    let Ok(hidden) = repository.forgotten_snapshots() else { return };
    let is_hidden = |id: &ObjectId| hidden.iter().any(|listed| listed.id == *id);
    let ids: Vec<_> = ids.iter().copied().filter(is_hidden).collect();
    match repository.undo_forget(&ids) {
        Ok(late) => {
            let back: Vec<_> = ids.iter().copied().filter(|id| !late.contains(id)).collect();
            world.now().counts.undone += back.len() as u64;
            set(world, &back, |_| Life::Live);
            set(world, &late, |_| Life::Forgotten);
        }
        // Nothing was done.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(_) => give_up(world, &ids),
    }
}

fn pin(world: &World, repository: &Repository, id: ObjectId) {
    match repository.pin(id, "kept") {
        Ok(()) => {
            set(world, &[id], |_| Life::Live);
            if let Some(known) = world.now().known(id) {
                known.is_pinned = true;
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        // A pin may appear late; it hides nothing.
        Err(_) => set(world, &[id], |known| if known.life == Life::Live { Life::Live } else { Life::Unknown }),
    }
}

/// Reads what is there, as a mount that is held open.
pub fn reader(world: &Arc<World>, me: usize, rounds: u64) {
    let store = SimStore::start(world, me, Role::Reader);
    let Ok(repository) = open(&store) else {
        return world.violation("a repository cannot be opened".into());
    };
    for _ in 0..rounds {
        world.sleep(me, draw(world, 800));
        let before = world.now().live();
        let known: Vec<ListedSnapshot> = match repository.snapshots() {
            Ok(listed) => listed,
            Err(error) => return world.violation(format!("the snapshots cannot be listed: {}", error.chain())),
        };
        let after = world.now().live();
        let is_steady =
            |promised: &Acknowledged| after.iter().any(|now| now.id == promised.id && now.version == promised.version);
        for promised in before.iter().filter(|promised| is_steady(promised)) {
            if !known.iter().any(|listed| listed.id == promised.id) {
                world.violation(format!("snapshot {} is not listed", promised.id));
            }
        }
        if !known.is_empty() {
            let listed = known[draw(world, known.len() as u64) as usize].clone();
            world.now().counts.reads += 1;
            if let Err(error) = audit::read_all(&repository, &listed) {
                let mut state = world.now();
                state.counts.unsteady_reads += u64::from(state.live().iter().any(|live| live.id == listed.id));
                state.note(format!("a reader fails at {}: {}", listed.id, error.chain()));
            }
        }
        world.alone(me, || audit::everything(world, me));
    }
    store.end();
}
