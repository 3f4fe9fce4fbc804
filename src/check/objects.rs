//! Objects one by one: that they are there, what their names say, and that they can be opened.

use super::damage::Damage;
use super::told;
use crate::crypto::slot;
use crate::error::{ErrorKind, Result};
use crate::format::header::{Header, Kind};
use crate::format::index::{Segment, SegmentBuilder};
use crate::format::mark::MAX_MARK_BYTES;
use crate::format::snapshot::MAX_SNAPSHOT_BYTES;
use crate::id::ObjectId;
use crate::quantity::counted;
use crate::repo::Repository;
use crate::repo::index::cache;
use crate::repo::index::segment::SEGMENT_CHUNKS;
use crate::repo::index::segment::{MAX_INDEX_BYTES, MAX_INDEX_OBJECT_BYTES, add_pack};
use crate::repo::index::{Index, Loaded};
use crate::repo::objects::{object_id, open_object};
use crate::repo::read::pack;
use crate::repo::shared::listed::ListedSnapshot;
use crate::store::{Object, ObjectKind, Store};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

const MAX_KEY_BYTES: u64 = 64 << 10;
/// Room for an object's header and seal.
const SEALING_BYTES: u64 = 4096;
const WRONG_NAME: &str = "its bytes are not those its name stands for (SHA-256)";

/// What there is.
pub struct Objects {
    /// Packs and their lengths.
    pub packs: HashMap<ObjectId, u64>,
    /// Packs no index object names.
    pub leftover: Vec<ObjectId>,
    /// Packs that index objects name and that nothing is taken from: what `bakfs repair` has set aside.
    pub set_aside: HashSet<ObjectId>,
    /// Snapshots that can be read, oldest first.
    pub snapshots: Vec<ListedSnapshot>,
    /// Objects that no program with the repository's key has written, and why.
    pub foreign: Vec<(Object, String)>,
    /// Marks of kinds that only a newer bakfs knows: no damage, but nobody here knows what they say.
    pub newer_marks: HashSet<ObjectId>,
}

/// Tells what can be told without a key about why a repository does not open: key slots whose bytes are
/// not those their names stand for, and a configuration that no key slot belongs to.
pub fn check_unopened(store: &dyn Store) -> Result<Vec<(Object, String)>> {
    let mut wrong = Vec::new();
    let mut repositories = Vec::new();
    for listed in store.list(ObjectKind::Key)? {
        let object = Object::Key(listed.id);
        let Ok(bytes) = store.read_whole(object, MAX_KEY_BYTES) else { continue };
        if object_id(&bytes) != listed.id {
            wrong.push((object, WRONG_NAME.into()));
        } else if let Ok(repository) = slot::check(&bytes) {
            repositories.push(repository);
        }
    }
    let config = store.read_whole(Object::Config, MAX_KEY_BYTES)?;
    if let Ok(header) = Header::decode(&config)
        && wrong.is_empty()
        && !repositories.is_empty()
        && !repositories.contains(&header.repository)
    {
        wrong.push((Object::Config, "the configuration is of another repository than every key slot".into()));
    }
    Ok(wrong)
}

/// Reads an object and compares its bytes with its name. `None` if it cannot be read, which is told.
fn read(
    repository: &Repository,
    object: Object,
    id: ObjectId,
    max: u64,
    damage: &mut Damage,
) -> Result<Option<Vec<u8>>> {
    match repository.store().read_whole(object, max) {
        Ok(bytes) => {
            if object_id(&bytes) != id {
                damage.object(object, WRONG_NAME.into());
            }
            Ok(Some(bytes))
        }
        Err(error) if !repository.is_damage(&error) => Err(error),
        Err(error) => {
            damage.object(object, told(&error));
            Ok(None)
        }
    }
}

/// Checks everything but trees and the insides of packs.
pub fn check(repository: &Repository, damage: &mut Damage) -> Result<Objects> {
    let store = &**repository.store();
    let mut foreign = Vec::new();
    for listed in store.list(ObjectKind::Key)? {
        let object = Object::Key(listed.id);
        if let Some(bytes) = read(repository, object, listed.id, MAX_KEY_BYTES, damage)?
            // One of another repository is what an `init` that was interrupted left: it does no harm.
            && let Err(error) = slot::check(&bytes)
        {
            match object_id(&bytes) == listed.id {
                true => foreign.push((object, error.to_string())),
                false => damage.object(object, error.to_string()),
            }
        }
    }
    let newer_marks = marks(repository, damage, &mut foreign)?;
    let snapshots = snapshots(repository, damage, &mut foreign)?;
    // Where no snapshot opens the configuration may be that of another repository, and then all the others are good.
    if snapshots.is_empty() {
        for (object, reason) in foreign.extract_if(.., |(object, _)| matches!(object, Object::Snapshot(_))) {
            damage.object(object, reason);
        }
    }
    // ListedSnapshot before the packs: whatever an index object names is stored before it.
    let index = store.list(ObjectKind::Index)?;
    let packs: HashMap<_, _> =
        store.list(ObjectKind::Pack)?.into_iter().map(|listed| (listed.id, listed.len_bytes)).collect();
    let mut named = HashMap::new();
    for listed in index {
        let object = Object::Index(listed.id);
        let Some(bytes) = read(repository, object, listed.id, MAX_INDEX_OBJECT_BYTES, damage)? else { continue };
        match open_object(repository.vault(), Kind::Index, bytes, MAX_INDEX_BYTES) {
            Ok(plain) => {
                let is_gone =
                    |object| matches!(store.len_bytes(object), Err(error) if error.kind() == ErrorKind::NotFound);
                segment(object, &plain, &packs, &is_gone, &mut named, damage);
            }
            Err(error) => damage.object(object, told(&error)),
        }
    }
    let leftover = packs.keys().filter(|id| !named.contains_key(id)).copied().collect();
    let set_aside = packs.keys().filter(|id| named.get(id) == Some(&false)).copied().collect();
    Ok(Objects { packs, leftover, set_aside, snapshots, foreign, newer_marks })
}

/// Checks marks; returns those that only a newer bakfs understands.
fn marks(
    repository: &Repository,
    damage: &mut Damage,
    foreign: &mut Vec<(Object, String)>,
) -> Result<HashSet<ObjectId>> {
    for listed in repository.store().list(ObjectKind::Mark)? {
        let object = Object::Mark(listed.id);
        match repository.store().read_whole(object, MAX_MARK_BYTES as u64 + SEALING_BYTES) {
            Ok(bytes) if object_id(&bytes) != listed.id => damage.object(object, WRONG_NAME.into()),
            // What a running backup has announced, and takes back.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if !repository.is_damage(&error) => return Err(error),
            Err(error) => damage.object(object, told(&error)),
            Ok(_) => {}
        }
    }
    let marks = repository.marks()?;
    for (id, reason) in marks.unreadable {
        damage.object(Object::Mark(id), reason);
    }
    foreign.extend(marks.foreign.into_iter().map(|(id, reason)| (Object::Mark(id), reason)));
    Ok(marks.newer)
}

/// Reads all snapshots, forgotten ones too: they can be brought back.
fn snapshots(
    repository: &Repository,
    damage: &mut Damage,
    foreign: &mut Vec<(Object, String)>,
) -> Result<Vec<ListedSnapshot>> {
    let mut all = Vec::new();
    let listing = repository.store().list(ObjectKind::Snapshot)?;
    // Read after the listing: what a prune removes is told before it goes.
    let void = repository.marks()?.void();
    for listed in listing.into_iter().filter(|listed| !void.contains(&listed.id)) {
        let object = Object::Snapshot(listed.id);
        let max = MAX_SNAPSHOT_BYTES as u64 + SEALING_BYTES;
        if read(repository, object, listed.id, max, damage)?.is_none() {
            continue;
        }
        match repository.snapshot(listed.id) {
            Ok(mut snapshot) => {
                snapshot.troubles = Vec::new();
                all.push(ListedSnapshot { id: listed.id, snapshot: Arc::new(snapshot) });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.kind() == ErrorKind::Foreign => foreign.push((object, told(&error))),
            Err(error) if !repository.is_damage(&error) => return Err(error),
            Err(error) => damage.object(object, told(&error)),
        }
    }
    all.sort_by_key(|listed: &ListedSnapshot| (listed.snapshot.time, listed.id));
    Ok(all)
}

/// Checks the records of an index object against the packs there are, and notes which packs it names and
/// whether it takes anything from them.
fn segment(
    object: Object,
    plain: &[u8],
    packs: &HashMap<ObjectId, u64>,
    is_gone: &dyn Fn(Object) -> bool,
    named: &mut HashMap<ObjectId, bool>,
    damage: &mut Damage,
) {
    let segment = match Segment::new(plain, plain.len()) {
        Ok(segment) => segment,
        Err(error) => return damage.object(object, error.to_string()),
    };
    let frames = (0..segment.frame_count()).filter_map(|at| segment.frame(at));
    let used: HashSet<u32> = frames.map(|frame| frame.pack).collect();
    for at in 0..segment.pack_count() {
        let Some(pack) = segment.pack(at) else {
            damage.object(object, format!("record {at} of its packs makes no sense"));
            continue;
        };
        let is_used = used.contains(&(at as u32));
        *named.entry(pack.id).or_insert(false) |= is_used;
        if !is_used {
            continue;
        }
        match packs.get(&pack.id) {
            // A prune removes index objects first and then the packs they name.
            None if is_gone(object) => return,
            None => damage.pack(pack.id, "it is missing".into()),
            Some(len) if *len != pack.len_bytes => {
                damage.object(
                    Object::Pack(pack.id),
                    format!("it has {} instead of {}", counted(*len, "byte"), pack.len_bytes),
                );
            }
            Some(_) => {}
        }
    }
    for at in 0..segment.frame_count() {
        let frame = segment.frame(at);
        let Some((frame, pack)) = frame.and_then(|frame| Some((frame, segment.pack(frame.pack as usize)?))) else {
            damage.object(object, format!("record {at} of its frames makes no sense"));
            continue;
        };
        let end = u64::from(frame.offset) + u64::from(frame.stored_bytes);
        if end > pack.len_bytes {
            damage.object(object, format!("record {at} of its frames lies outside its pack"));
        } else if packs.get(&pack.id).is_some_and(|len| end > *len) {
            damage.frame(pack.id, frame.number, "frames are cut off".into());
        }
    }
    let mut before = None;
    for at in 0..segment.chunk_count() {
        let Some(chunk) = segment.chunk(at) else { continue };
        let fits = segment
            .frame(chunk.frame as usize)
            .is_some_and(|frame| u64::from(chunk.offset) + u64::from(chunk.len_bytes) <= u64::from(frame.plain_bytes));
        if !fits || before.is_some_and(|before| before > chunk.id) {
            damage.object(object, format!("record {at} of its chunks lies outside its frame or is out of order"));
        }
        before = Some(chunk.id);
    }
}

/// Collects the chunks of packs that no index object names, from the packs' own directories.
pub fn spare_index(
    repository: &Repository,
    unnamed: Vec<Arc<Loaded>>,
    objects: &Objects,
    damage: &mut Damage,
) -> Result<Index> {
    let mut adopted = Index::new(unnamed);
    let known: HashSet<_> = adopted.packs().map(|pack| pack.id).collect();
    let mut builder = SegmentBuilder::default();
    for id in objects.leftover.iter().filter(|id| !known.contains(id)) {
        let len = objects.packs.get(id).copied().unwrap_or_default();
        match pack::read_directory(&**repository.store(), repository.vault(), *id, len) {
            Ok((entry, directory)) => add_pack(&mut builder, entry, &directory),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if !repository.is_damage(&error) => return Err(error),
            Err(error) => damage.object(Object::Pack(*id), format!("no index object names it, and {}", told(&error))),
        }
        if builder.chunks.len() >= SEGMENT_CHUNKS {
            adopted = adopted.with(cache::heap(std::mem::take(&mut builder).encode(), Vec::new())?);
        }
    }
    if !builder.packs.is_empty() {
        adopted = adopted.with(cache::heap(builder.encode(), Vec::new())?);
    }
    Ok(adopted)
}
