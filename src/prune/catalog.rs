//! What the repository holds, from the stored objects themselves: a cached index may not decide what is deleted.

use crate::error::{Error, ErrorKind, Result};
use crate::format::index::{PackEntry, Segment};
use crate::id::{ChunkId, ObjectId};
use crate::repo::Repository;
use crate::repo::index::cache::{self, Cache};
use crate::repo::index::location::{Location, locate};
use crate::repo::index::{Loaded, SegmentBytes};
use crate::store::{Object, ObjectKind};
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// How often a listing is made again because an index object it shows was removed.
const MAX_LISTINGS: usize = 20;

/// A copy of a chunk: the number of its index object and its record there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy {
    /// Position in [`Catalog::objects`].
    pub object: usize,
    /// Position in the object's table of chunks.
    pub record: usize,
    /// The pack.
    pub pack: PackEntry,
    /// The chunk's length.
    pub len_bytes: u32,
}

/// Index objects, mapped from a scratch folder, and the packs that are listed.
pub struct Catalog {
    scratch: Option<Cache>,
    objects: Vec<Loaded>,
    /// The index objects of the last listing.
    listed: HashSet<ObjectId>,
    packs: HashMap<ObjectId, u64>,
    /// Packs that were looked for by their names and are not there.
    gone: HashSet<ObjectId>,
}

impl Catalog {
    /// Reads all index objects and lists the packs.
    ///
    /// `scratch` is a folder for mapped copies; without one they are held in memory, 44 bytes a chunk and 24 a frame.
    pub fn load(repository: &Repository, scratch: Option<&Path>) -> Result<Self> {
        let scratch = scratch.and_then(|folder| Cache::open(folder, &repository.id()).ok());
        let mut catalog = Catalog {
            scratch,
            objects: Vec::new(),
            listed: HashSet::new(),
            packs: HashMap::new(),
            gone: HashSet::new(),
        };
        catalog.update(repository)?;
        Ok(catalog)
    }

    /// Takes in what was stored since. Index objects that were removed stay known: positions never change.
    pub fn update(&mut self, repository: &Repository) -> Result<()> {
        let mut listings = 0;
        while !self.add_new(repository)? {
            listings += 1;
            if listings == MAX_LISTINGS {
                return Err(Error::new(ErrorKind::Io, "The index changes all the time: run the prune again"));
            }
        }
        // After the index: whatever it names is stored before it.
        let packs = repository.store().list(ObjectKind::Pack)?;
        self.packs = packs.into_iter().map(|listed| (listed.id, listed.len_bytes)).collect();
        self.look_for_packs(repository)
    }

    /// Fails if a pack that the index names is there and was not listed: what is unlisted would be dropped from the
    /// index.
    fn look_for_packs(&mut self, repository: &Repository) -> Result<()> {
        let named = self.objects().filter(|(id, _)| self.listed.contains(id));
        let packs = named.flat_map(|(_, segment)| (0..segment.pack_count()).filter_map(|at| segment.pack(at)));
        let lacks = |id: &ObjectId| !self.packs.contains_key(id) && !self.gone.contains(id);
        let lacking: HashSet<_> = packs.map(|pack| pack.id).filter(lacks).collect();
        let lacking: Vec<_> = lacking.into_iter().map(Object::Pack).collect();
        if let Some(object) = repository.find_stored(&lacking)?.first() {
            return Err(super::guard::short_listing("packs", object));
        }
        self.gone.extend(lacking.iter().filter_map(|object| match object {
            Object::Pack(id) => Some(*id),
            _ => None,
        }));
        Ok(())
    }

    /// Reads the index objects that are not known yet; returns false if one went away after it was listed.
    fn add_new(&mut self, repository: &Repository) -> Result<bool> {
        let known: HashSet<_> = self.objects.iter().flat_map(|loaded| loaded.covers.iter().copied()).collect();
        let all = repository.store().list(ObjectKind::Index)?;
        self.listed = all.iter().map(|listed| listed.id).collect();
        for listed in all {
            if known.contains(&listed.id) {
                continue;
            }
            let plain = match repository.read_index_object(listed.id) {
                Ok(plain) => plain,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
                Err(error) => {
                    let object = Object::Index(listed.id);
                    let message = format!(
                        "{object} cannot be read, so what its packs hold is not known and nothing is deleted: \
                         run `bakfs repair`"
                    );
                    return Err(Error::new(error.kind(), message).because(error));
                }
            };
            let covers = vec![listed.id];
            self.objects.push(match &self.scratch {
                Some(scratch) => scratch.add(plain, covers)?,
                None => cache::heap(plain, covers)?,
            });
        }
        Ok(true)
    }

    /// Returns the index objects with the ids they are stored under.
    pub fn objects(&self) -> impl ExactSizeIterator<Item = (ObjectId, &Segment<SegmentBytes>)> {
        self.objects.iter().map(|loaded| (loaded.covers[0], &loaded.segment))
    }

    /// Returns the packs there are, with their lengths.
    pub fn packs(&self) -> &HashMap<ObjectId, u64> {
        &self.packs
    }

    /// Returns whether a pack is there as an index object says.
    pub fn has(&self, pack: &PackEntry) -> bool {
        self.packs.get(&pack.id) == Some(&pack.len_bytes)
    }

    /// Returns the packs that no index object names.
    pub fn unnamed(&self) -> HashSet<ObjectId> {
        let mut unnamed: HashSet<_> = self.packs.keys().copied().collect();
        for (_, segment) in self.objects() {
            (0..segment.pack_count()).filter_map(|at| segment.pack(at)).for_each(|pack| {
                unnamed.remove(&pack.id);
            });
        }
        unnamed
    }

    /// Gives back the memory that lookups have taken, until they take it again.
    pub fn release_memory(&self) {
        self.objects.iter().for_each(|loaded| loaded.segment.bytes().release_memory());
    }

    /// Returns the place of a copy.
    pub fn place(&self, copy: &Copy) -> Option<Location> {
        let segment = &self.objects.get(copy.object)?.segment;
        locate(segment, segment.chunk(copy.record)?)
    }

    /// Finds every copy of a chunk in a pack there is, always in the same order.
    pub fn copies<'a>(&'a self, id: &'a ChunkId) -> impl Iterator<Item = Copy> + 'a {
        self.objects.iter().enumerate().flat_map(move |(object, loaded)| {
            loaded.segment.positions(id).filter_map(move |record| {
                let chunk = loaded.segment.chunk(record)?;
                let place = locate(&loaded.segment, chunk).filter(|place| self.has(&place.pack))?;
                Some(Copy { object, record, pack: place.pack, len_bytes: chunk.len_bytes })
            })
        })
    }
}
