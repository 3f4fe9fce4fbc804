//! The index: what it should say, and putting that in the place of what it says.

use super::judge::judge;
use super::{Options, Report};
use crate::error::{Error, ErrorKind, Result};
use crate::format::index::{ChunkEntry, FrameEntry, PackEntry, Segment, SegmentBuilder};
use crate::id::{ChunkId, ObjectId};
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::repo::index::segment::SEGMENT_CHUNKS;
use crate::repo::index::segment::{MAX_INDEX_OBJECT_BYTES, add_pack};
use crate::repo::objects::object_id;
use crate::repo::read::pack::read_directory;
use crate::repo::read::pack_scan::Counts;
use crate::repo::shared::session::Session;
use crate::store::{Names, Object, ObjectKind};
use std::collections::{HashMap, HashSet};

/// What there is, and what of it is to be put right.
pub struct Survey {
    /// Packs there are, and their lengths.
    pub packs: HashMap<ObjectId, u64>,
    /// Damaged packs: nothing is taken from them any more.
    pub aside: HashSet<ObjectId>,
    /// Those of them the index knows as such already.
    pub already_aside: HashSet<ObjectId>,
    /// Packs that are named and not there.
    missing: HashSet<ObjectId>,
    /// Sound packs the index does not name, or of which it says other things than they do.
    renew: Vec<ObjectId>,
    /// Index objects that can be read, and the packs they name.
    objects: Vec<(ObjectId, Vec<ObjectId>)>,
    /// Index objects that cannot.
    damaged: Vec<ObjectId>,
}

impl Survey {
    /// Looks at all index objects and packs, and reads the suspect packs.
    pub fn new(
        repository: &Repository,
        options: &Options,
        report: &mut Report,
        monitor: &dyn Monitor,
    ) -> Result<Survey> {
        let store = repository.store();
        let mut objects = Vec::new();
        let mut damaged = Vec::new();
        // Named packs, and whether anything is taken from them.
        let mut named: HashMap<ObjectId, bool> = HashMap::new();
        // Listed before the packs: what an index object names is stored before it.
        for listed in store.list(ObjectKind::Index)? {
            let Some(plain) = read_twice(repository, listed.id)? else {
                damaged.push(listed.id);
                continue;
            };
            let Some(segment) = sensible(&plain) else {
                damaged.push(listed.id);
                continue;
            };
            let used: HashSet<u32> =
                (0..segment.frame_count()).filter_map(|at| segment.frame(at)).map(|frame| frame.pack).collect();
            let mut packs = Vec::with_capacity(segment.pack_count());
            for (at, pack) in (0..segment.pack_count()).filter_map(|at| Some((at, segment.pack(at)?))) {
                *named.entry(pack.id).or_insert(false) |= used.contains(&(at as u32));
                packs.push(pack.id);
            }
            objects.push((listed.id, packs));
        }
        let packs: HashMap<_, _> =
            store.list(ObjectKind::Pack)?.into_iter().map(|listed| (listed.id, listed.len_bytes)).collect();
        let missing = missing(repository, &named, &packs)?;
        let already_aside: HashSet<_> = packs.keys().filter(|pack| named.get(*pack) == Some(&false)).copied().collect();
        let mut suspects: Vec<_> =
            options.suspects.iter().chain(&already_aside).filter(|pack| packs.contains_key(*pack)).copied().collect();
        suspects.sort_unstable();
        suspects.dedup();
        monitor.expect(0, suspects.iter().map(|pack| packs[pack]).sum());
        let index = repository.index();
        let counts = Counts::new(&index);
        let mut aside = already_aside.clone();
        let mut renew = Vec::new();
        for pack in suspects {
            let judged = judge(repository, &index, &counts, pack, packs[&pack], monitor)?;
            if !judged.is_sound {
                aside.insert(pack);
            } else if judged.differs && !already_aside.contains(&pack) {
                renew.push(pack);
            }
        }
        let mut unnamed: Vec<_> =
            packs.keys().filter(|pack| !named.contains_key(*pack) && !aside.contains(*pack)).copied().collect();
        unnamed.sort_unstable();
        for pack in unnamed {
            match read_directory(&**store, repository.vault(), pack, packs[&pack]) {
                Ok((_, directory)) => {
                    let is_good =
                        |id: &ObjectId| named.contains_key(id) && packs.contains_key(id) && !aside.contains(id);
                    let has_other = |id: &ChunkId| index.find_all(id).any(|place| is_good(&place.pack.id));
                    if !directory.chunks.iter().all(|chunk| has_other(&chunk.id)) && !renew.contains(&pack) {
                        renew.push(pack);
                    }
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.kind() == ErrorKind::Damaged => report.unreadable_packs.push(pack),
                Err(error) => return Err(error),
            }
        }
        // Nothing tells what is in them: naming them would say so to nobody.
        for pack in aside.iter().filter(|pack| !named.contains_key(*pack)) {
            match read_directory(&**store, repository.vault(), *pack, packs[pack]) {
                Ok(_) => {}
                Err(error) if repository.is_damage(&error) => report.unreadable_packs.push(*pack),
                Err(error) => return Err(error),
            }
        }
        aside.retain(|pack| !report.unreadable_packs.contains(pack));
        report.damaged_index = damaged.clone();
        report.missing_packs = missing.iter().copied().collect();
        report.missing_packs.sort_unstable();
        report.set_aside_packs = aside.difference(&already_aside).copied().collect();
        report.set_aside_packs.sort_unstable();
        report.named_packs = renew.len() as u64;
        Ok(Survey { packs, aside, already_aside, missing, renew, objects, damaged })
    }

    /// Returns whether a chunk has a place in a pack that is there and not damaged.
    pub fn has_sound_place(&self, repository: &Repository, id: &ChunkId) -> bool {
        let is_sound = |pack: &ObjectId| self.packs.contains_key(pack) && !self.aside.contains(pack);
        repository.index().find_all(id).any(|place| is_sound(&place.pack.id))
    }
}

/// Reads an index object; `None` if it is damaged, or another than its name says, each of two times.
fn read_twice(repository: &Repository, id: ObjectId) -> Result<Option<Vec<u8>>> {
    let read = || {
        let plain = repository.read_index_object(id)?;
        let bytes = repository.store().read_whole(Object::Index(id), MAX_INDEX_OBJECT_BYTES)?;
        Ok((object_id(&bytes) == id).then_some(plain))
    };
    for _ in 0..2 {
        match read() as Result<_> {
            Ok(Some(plain)) => return Ok(Some(plain)),
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::Damaged => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Parses a segment in which all records make sense and lie in order.
fn sensible(plain: &[u8]) -> Option<Segment<&[u8]>> {
    let segment = Segment::new(plain, plain.len()).ok()?;
    (0..segment.pack_count()).try_for_each(|at| segment.pack(at).map(drop))?;
    for at in 0..segment.frame_count() {
        let frame = segment.frame(at)?;
        let end = u64::from(frame.offset) + u64::from(frame.stored_bytes);
        (end <= segment.pack(frame.pack as usize)?.len_bytes).then_some(())?;
    }
    let mut before = None;
    for at in 0..segment.chunk_count() {
        let chunk = segment.chunk(at)?;
        let end = u64::from(chunk.offset) + u64::from(chunk.len_bytes);
        let fits = end <= u64::from(segment.frame(chunk.frame as usize)?.plain_bytes);
        (fits && before.is_none_or(|before| before <= chunk.id)).then_some(())?;
        before = Some(chunk.id);
    }
    Some(segment)
}

/// Returns packs that are named and not there. Should all be gone, the disk they are on is.
fn missing(
    repository: &Repository,
    named: &HashMap<ObjectId, bool>,
    packs: &HashMap<ObjectId, u64>,
) -> Result<HashSet<ObjectId>> {
    let mut missing = HashSet::new();
    for pack in named.keys().copied().filter(|pack| !packs.contains_key(pack)) {
        match repository.store().len_bytes(Object::Pack(pack)) {
            Err(error) if error.kind() == ErrorKind::NotFound => missing.insert(pack),
            Err(error) => return Err(error),
            Ok(_) => {
                let message = format!("{} was not listed and is there: repair again", Object::Pack(pack));
                return Err(Error::new(ErrorKind::Io, message));
            }
        };
    }
    if packs.is_empty() && !missing.is_empty() {
        return Err(Error::damaged(format!(
            "The repository at {} has no packs at all: nothing was changed. Is the disk there on which they are? \
             Bring the folder `packs` back",
            repository.store().location()
        )));
    }
    Ok(missing)
}

/// Gathers records until they fill an index object.
struct Output<'a> {
    repository: &'a Repository,
    builder: SegmentBuilder,
    dry_run: bool,
    written: u64,
}

impl Output<'_> {
    /// Ends the object that is being made if so many chunks more would make it too long.
    fn make_room(&mut self, chunks: usize) -> Result<()> {
        if self.builder.chunks.len() + chunks > SEGMENT_CHUNKS { self.put() } else { Ok(()) }
    }

    fn put(&mut self) -> Result<()> {
        let builder = std::mem::take(&mut self.builder);
        if builder.packs.is_empty() {
            return Ok(());
        }
        self.written += 1;
        if self.dry_run {
            return Ok(());
        }
        self.repository.put_index_object(&builder.encode()).map(drop)
    }
}

/// Writes the index objects that are needed, makes them durable, and only then removes those they replace.
pub fn rewrite(
    repository: &Repository,
    survey: &Survey,
    new_packs: &SegmentBuilder,
    session: Option<&Session>,
    report: &mut Report,
) -> Result<()> {
    let dry_run = session.is_none();
    let store = repository.store();
    if !dry_run && !survey.renew.is_empty() {
        // What other, killed processes have stored is named from now on.
        store.barrier(Names::All)?;
    }
    let saved: HashSet<ChunkId> = new_packs.chunks.iter().map(|chunk| chunk.id).collect();
    let mut output = Output { repository, builder: new_packs.clone(), dry_run, written: 0 };
    let renew: HashSet<_> = survey.renew.iter().copied().collect();
    let newly_aside = |pack: &ObjectId| survey.aside.contains(pack) && !survey.already_aside.contains(pack);
    let is_wrong = |pack: &ObjectId| survey.missing.contains(pack) || renew.contains(pack) || newly_aside(pack);
    let mut lost = HashSet::new();
    let mut replaced = survey.damaged.clone();
    for (id, _) in survey.objects.iter().filter(|(_, packs)| packs.iter().any(is_wrong)) {
        let plain = repository.read_index_object(*id)?;
        let segment = Segment::new(&plain[..], plain.len())
            .map_err(|error| Error::damaged(format!("{} changed", Object::Index(*id))).because(error))?;
        output.make_room(segment.chunk_count())?;
        let fate = |pack: &ObjectId| match survey.packs.get(pack) {
            Some(len_bytes) if survey.aside.contains(pack) => Fate::Aside { len_bytes: *len_bytes },
            Some(_) if !renew.contains(pack) => Fate::Kept,
            _ => Fate::Dropped,
        };
        keep(&segment, &mut output.builder, fate, &mut |chunk| {
            if !saved.contains(chunk) && !survey.has_sound_place(repository, chunk) {
                lost.insert(*chunk);
            }
        });
        replaced.push(*id);
    }
    for pack in &survey.renew {
        let (entry, directory) = read_directory(&**store, repository.vault(), *pack, survey.packs[pack])?;
        output.make_room(directory.chunks.len())?;
        add_pack(&mut output.builder, entry, &directory);
    }
    let known: HashSet<ObjectId> = output.builder.packs.iter().map(|pack| pack.id).collect();
    let named: HashSet<ObjectId> = survey.objects.iter().flat_map(|(_, packs)| packs.iter().copied()).collect();
    for pack in survey.aside.iter().filter(|pack| !named.contains(*pack) && !known.contains(*pack)) {
        let (entry, _) = read_directory(&**store, repository.vault(), *pack, survey.packs[pack])?;
        output.builder.packs.push(entry);
    }
    output.put()?;
    report.index_written = output.written;
    report.index_removed = replaced.len() as u64;
    report.lost_chunks = lost.len() as u64;
    if dry_run || output.written + report.index_removed == 0 {
        return Ok(());
    }
    store.barrier(Names::Mine)?;
    // Whoever takes this repair for dead from now on sees the new index; whoever has done so before may have deleted
    // what it names.
    session.map_or(Ok(()), Session::check)?;
    for id in replaced {
        store.delete(Object::Index(id))?;
    }
    store.barrier(Names::Mine)
}

/// What becomes of a pack's records.
enum Fate {
    /// They stay.
    Kept,
    /// Only the pack's name stays, with the length it has now.
    Aside { len_bytes: u64 },
    /// Nothing stays.
    Dropped,
}

/// Adds what stays of a segment to a builder, and tells the chunks that do not.
fn keep(
    segment: &Segment<&[u8]>,
    builder: &mut SegmentBuilder,
    fate: impl Fn(&ObjectId) -> Fate,
    dropped: &mut dyn FnMut(&ChunkId),
) {
    let u32_of = |len: usize| u32::try_from(len).expect("a segment holds fewer than 2^32 records");
    let mut packs = Vec::with_capacity(segment.pack_count());
    for pack in (0..segment.pack_count()).filter_map(|at| segment.pack(at)) {
        let at = u32_of(builder.packs.len());
        match fate(&pack.id) {
            Fate::Kept => builder.packs.push(pack),
            Fate::Aside { len_bytes } => builder.packs.push(PackEntry { len_bytes, ..pack }),
            Fate::Dropped => {}
        }
        packs.push(matches!(fate(&pack.id), Fate::Kept).then_some(at));
    }
    let mut frames = Vec::with_capacity(segment.frame_count());
    for frame in (0..segment.frame_count()).filter_map(|at| segment.frame(at)) {
        let pack = packs.get(frame.pack as usize).copied().flatten();
        frames.push(pack.map(|_| u32_of(builder.frames.len())));
        if let Some(pack) = pack {
            builder.frames.push(FrameEntry { pack, ..frame });
        }
    }
    for chunk in (0..segment.chunk_count()).filter_map(|at| segment.chunk(at)) {
        match frames.get(chunk.frame as usize).copied().flatten() {
            Some(frame) => builder.chunks.push(ChunkEntry { frame, ..chunk }),
            None => dropped(&chunk.id),
        }
    }
}
