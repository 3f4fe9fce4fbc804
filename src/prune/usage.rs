//! Which chunks snapshots need: one bit for each record of the index, set by walking every tree once.

use super::catalog::{Catalog, Copy};
use crate::error::{Error, Result};
use crate::format::page::Page;
use crate::format::tree::{Content, Entry, Extent, Node};
use crate::id::{ChunkId, ObjectId};
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::repo::read::chunk_kind::ChunkKind;
use crate::repo::read::walk::MAX_DEPTH;
use crate::repo::shared::listed::ListedSnapshot;
use crate::store::Wait;
use std::collections::HashSet;
use std::sync::Arc;

/// After so many lookups the memory they took is given back, so that it does not grow with the index.
const LOOKUPS_KEPT: u32 = 128 << 10;

/// Counts lookups in the index, and gives back the memory they took.
#[derive(Debug, Default)]
pub struct Lookups(u32);

impl Lookups {
    /// Takes note of one.
    pub fn note(&mut self, repository: &Repository, catalog: &Catalog) {
        self.0 += 1;
        if self.0 == LOOKUPS_KEPT {
            self.0 = 0;
            catalog.release_memory();
            repository.index().release_memory();
        }
    }
}

/// What a walk does with a chunk; returns whether it is met for the first time.
pub type Meet<'a> = dyn FnMut(ChunkKind, &ChunkId) -> Result<bool> + 'a;

/// One bit for each record of each index object.
#[derive(Debug, Default)]
pub struct Bits(Vec<Vec<u64>>);

impl Bits {
    /// Returns whether a bit is set.
    pub fn has(&self, copy: &Copy) -> bool {
        let words = self.0.get(copy.object);
        words.and_then(|words| words.get(copy.record / 64)).is_some_and(|word| word >> (copy.record % 64) & 1 == 1)
    }

    /// Sets a bit; returns whether it was not set.
    pub fn set(&mut self, copy: &Copy) -> bool {
        if self.0.len() <= copy.object {
            self.0.resize_with(copy.object + 1, Vec::new);
        }
        let words = &mut self.0[copy.object];
        if words.len() <= copy.record / 64 {
            words.resize(copy.record / 64 + 1, 0);
        }
        let bit = 1 << (copy.record % 64);
        let is_new = words[copy.record / 64] & bit == 0;
        words[copy.record / 64] |= bit;
        is_new
    }
}

/// Packs that are no place for what snapshots need.
#[derive(Debug, Clone, Default)]
pub struct Avoided {
    /// Packs that were condemned: they stay if something is nowhere else.
    pub condemned: HashSet<ObjectId>,
    /// Packs of which some verdict says that they go: somebody may be deleting them.
    pub doomed: HashSet<ObjectId>,
}

impl Avoided {
    fn rank(&self, pack: &ObjectId) -> u8 {
        match (self.doomed.contains(pack), self.condemned.contains(pack)) {
            (true, _) => 2,
            (false, true) => 1,
            (false, false) => 0,
        }
    }
}

/// The chunks that snapshots need, each in the copy that stays.
#[derive(Debug, Default)]
pub struct Usage {
    bits: Bits,
    /// Chunks of content that no pack there is has.
    pub missing: HashSet<ChunkId>,
    /// Condemned packs that have the only copy of something.
    pub held: HashSet<ObjectId>,
    /// Chunks that are in doomed packs only: to be copied before those go.
    pub endangered: Vec<(ChunkKind, ChunkId, u32)>,
}

impl Usage {
    /// Returns whether a record is the copy that stays.
    pub fn keeps(&self, copy: &Copy) -> bool {
        self.bits.has(copy)
    }

    /// Takes a chunk as needed, in the place that is least to be avoided; returns whether it is new.
    ///
    /// Of several copies one is taken that can be read: the others are about to go.
    fn need(
        &mut self,
        repository: &Repository,
        catalog: &Catalog,
        avoided: &Avoided,
        kind: ChunkKind,
        id: &ChunkId,
    ) -> Result<bool> {
        let mut best: Option<Copy> = None;
        let mut is_only = true;
        for copy in catalog.copies(id).filter(|copy| copy.pack.kind == kind.pack_kind()) {
            if self.bits.has(&copy) {
                return Ok(false);
            }
            is_only = best.is_none();
            if best.is_none_or(|best| avoided.rank(&copy.pack.id) < avoided.rank(&best.pack.id)) {
                best = Some(copy);
            }
        }
        if !is_only {
            let mut readable = Vec::new();
            for copy in catalog.copies(id).filter(|copy| copy.pack.kind == kind.pack_kind()) {
                let place = catalog.place(&copy);
                if place.map_or(Ok(false), |place| repository.is_readable_at(kind, &place))? {
                    readable.push(copy);
                }
            }
            best = readable.into_iter().min_by_key(|copy| avoided.rank(&copy.pack.id)).or(best);
        }
        let Some(copy) = best else {
            return Ok(self.missing.insert(*id));
        };
        match avoided.rank(&copy.pack.id) {
            0 => {}
            1 => drop(self.held.insert(copy.pack.id)),
            _ => self.endangered.push((kind, *id, copy.len_bytes)),
        }
        Ok(self.bits.set(&copy))
    }

    /// Adds everything that snapshots need, the newest first.
    pub fn add(
        &mut self,
        repository: &Repository,
        catalog: &Catalog,
        snapshots: &[ListedSnapshot],
        avoided: &Avoided,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let mut lookups = Lookups::default();
        for listed in snapshots.iter().rev() {
            walk(repository, listed, &mut |kind, id| {
                lookups.note(repository, catalog);
                self.need(repository, catalog, avoided, kind, id)
            })?;
            monitor.advance(1, 0);
        }
        Ok(())
    }
}

/// Meets every chunk of a snapshot in the order of its tree; what lies below a page that was met before is left out.
pub fn walk(repository: &Repository, listed: &ListedSnapshot, meet: &mut Meet<'_>) -> Result<()> {
    descend(repository, &listed.snapshot.root.page, meet).map_err(|error| {
        let name = &listed.snapshot.name;
        let message = format!(
            "Snapshot {name} cannot be read whole, so what it needs is not known and nothing is deleted: \
             run `bakfs check`, and back up again to heal it or `bakfs forget` it"
        );
        Error::new(error.kind(), message).because(error)
    })
}

/// A page on the way down, and how far it was read.
struct Step {
    page: Arc<Page<Entry>>,
    at: usize,
}

fn descend(repository: &Repository, root: &ChunkId, meet: &mut Meet<'_>) -> Result<()> {
    // Bounds the pages on the way, whatever a hostile writer nested: levels of each directory above the last.
    const MAX_STEPS: usize = MAX_DEPTH * 4;
    let mut steps: Vec<Step> = Vec::new();
    let mut next = Some(*root);
    loop {
        if let Some(id) = next.take()
            && meet(ChunkKind::Page, &id)?
        {
            if steps.len() == MAX_STEPS {
                return Err(crate::repo::read::walk::too_deep());
            }
            steps.push(Step { page: repository.page(&id, Wait::Allowed)?, at: 0 });
        }
        let Some(step) = steps.last_mut() else { return Ok(()) };
        let at = step.at;
        step.at += 1;
        match &*step.page {
            Page::Inner { children, .. } if at < children.len() => next = Some(children[at].page),
            Page::Leaf(entries) if at < entries.len() => match &entries[at].node {
                Node::Directory(directory) => next = Some(directory.page),
                Node::File(content) => meet_content(repository, content, meet)?,
                _ => {}
            },
            _ => {
                steps.pop();
            }
        }
    }
}

fn meet_content(repository: &Repository, content: &Content, meet: &mut Meet<'_>) -> Result<()> {
    match content {
        Content::Extents(extents) => meet_extents(extents, meet),
        Content::List(id) => meet_list(repository, id, u32::MAX, meet),
    }
}

fn meet_extents(extents: &[Extent], meet: &mut Meet<'_>) -> Result<()> {
    for extent in extents.iter().filter(|extent| !extent.is_hole()) {
        meet(ChunkKind::Data, &extent.chunk)?;
    }
    Ok(())
}

/// Meets the pages of a list of extents and what they name. Levels fall with every step: that bounds the recursion.
fn meet_list(repository: &Repository, id: &ChunkId, above: u32, meet: &mut Meet<'_>) -> Result<()> {
    if !meet(ChunkKind::Page, id)? {
        return Ok(());
    }
    match &*repository.extent_page(id, Wait::Allowed)? {
        Page::Leaf(extents) => meet_extents(extents, meet),
        Page::Inner { level, .. } if *level >= above => {
            Err(Error::damaged(format!("Page {id} is of the wrong level: run `bakfs check`")))
        }
        Page::Inner { level, children } => {
            children.iter().try_for_each(|child| meet_list(repository, &child.page, *level, meet))
        }
    }
}
