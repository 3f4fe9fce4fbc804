//! Reading trees: directories by pages, entries by name or position, a file's extents.

use crate::error::{Error, Result};
use crate::format::codec::DecodeError;
use crate::format::page::{MAX_LONE_PAGE_BYTES, Page};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Content, Directory, Entry, Extent, Node};
use crate::id::ChunkId;
use crate::quantity::counted;
use crate::repo::Repository;
use crate::repo::read::chunk_kind::ChunkKind;
use crate::store::Wait;
use lru::LruCache;
use parking_lot::Mutex;
use std::sync::Arc;

/// A decoded page takes about this many times its stored length.
const DECODED_FACTOR: usize = 3;

struct Pages {
    pages: LruCache<ChunkId, (Arc<Page<Entry>>, usize)>,
    used_bytes: usize,
}

/// Decoded pages of directories, the most recently used.
pub struct PageCache {
    pages: Mutex<Pages>,
    budget_bytes: usize,
}

impl PageCache {
    /// Makes a cache of about `budget_bytes`.
    pub fn new(budget_bytes: usize) -> Self {
        PageCache { pages: Mutex::new(Pages { pages: LruCache::unbounded(), used_bytes: 0 }), budget_bytes }
    }

    fn get(&self, id: &ChunkId) -> Option<Arc<Page<Entry>>> {
        self.pages.lock().pages.get(id).map(|(page, _)| page.clone())
    }

    fn put(&self, id: ChunkId, page: Arc<Page<Entry>>, bytes: usize) {
        let mut pages = self.pages.lock();
        if let Some((_, old)) = pages.pages.put(id, (page, bytes)) {
            pages.used_bytes -= old;
        }
        pages.used_bytes += bytes;
        while pages.used_bytes > self.budget_bytes && pages.pages.len() > 1 {
            let Some((_, (_, bytes))) = pages.pages.pop_lru() else {
                break;
            };
            pages.used_bytes -= bytes;
        }
    }
}

fn damaged(id: &ChunkId) -> impl Fn(DecodeError) -> Error + '_ {
    move |error| Error::damaged(format!("Page {id} is damaged: run `bakfs check`")).because(error)
}

/// A leaf page of a directory, with the position of its first entry.
#[derive(Clone)]
pub struct Leaf {
    page: Arc<Page<Entry>>,
    /// Position of its first entry in the directory.
    pub first: u64,
}

impl Leaf {
    /// Returns the entries.
    pub fn entries(&self) -> &[Entry] {
        match &*self.page {
            Page::Leaf(entries) => entries,
            Page::Inner { .. } => &[],
        }
    }

    /// Returns the entry at a position of the directory.
    pub fn entry(&self, position: u64) -> Option<&Entry> {
        self.entries().get(usize::try_from(position.checked_sub(self.first)?).ok()?)
    }
}

impl Repository {
    fn page_bytes(&self, id: &ChunkId, wait: Wait) -> Result<Vec<u8>> {
        let location = self.place(id, wait)?;
        let Some(len) = location.map(|location| location.chunk.len_bytes as usize) else {
            // Says that the chunk is missing, after a second look at the index.
            let mut none = Vec::new();
            self.read_chunk(ChunkKind::Page, id, 0..0, wait, &mut none)?;
            return self.page_bytes(id, wait);
        };
        if len > MAX_LONE_PAGE_BYTES {
            return Err(Error::damaged(format!("Page {id} is longer than a page can be")));
        }
        let mut bytes = Vec::with_capacity(len);
        self.read_chunk(ChunkKind::Page, id, 0..len, wait, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads a page of a directory.
    pub(crate) fn page(&self, id: &ChunkId, wait: Wait) -> Result<Arc<Page<Entry>>> {
        if let Some(page) = self.caches.pages.get(id) {
            return Ok(page);
        }
        let bytes = self.page_bytes(id, wait)?;
        let page = Arc::new(Page::<Entry>::decode(&bytes).map_err(damaged(id))?);
        self.caches.pages.put(*id, page.clone(), bytes.len() * DECODED_FACTOR + 256);
        Ok(page)
    }

    fn check_level(parent: u32, page: &Page<Entry>, id: &ChunkId) -> Result<()> {
        let level = match page {
            Page::Leaf(_) => 0,
            Page::Inner { level, .. } => *level,
        };
        // Levels fall with every step: a cycle cannot be built.
        if level >= parent {
            return Err(Error::damaged(format!("Page {id} is of the wrong level: run `bakfs check`")));
        }
        Ok(())
    }

    /// Returns whether all pages of a directory are stored where something new may rely on them. A page
    /// that cannot be read counts as lost.
    pub fn holds_pages(&self, directory: &Directory) -> bool {
        self.holds_list(&directory.page, u32::MAX, &|id| self.page(id, Wait::Allowed))
    }

    /// Returns whether all pages of a file's list of extents are stored, likewise; the chunks are not looked at.
    pub fn holds_extent_pages(&self, page: &ChunkId) -> bool {
        self.holds_list(page, u32::MAX, &|id| self.extent_page(id, Wait::Allowed))
    }

    fn holds_list<T>(&self, id: &ChunkId, above: u32, read: &impl Fn(&ChunkId) -> Result<Arc<Page<T>>>) -> bool {
        let inner = |page: Arc<Page<T>>| match &*page {
            Page::Leaf(_) => true,
            Page::Inner { level: 1, children } if above > 1 => children.iter().all(|child| self.holds(&child.page)),
            // Levels fall with every step: a cycle cannot be built.
            Page::Inner { level, children } => {
                *level < above && children.iter().all(|child| self.holds_list(&child.page, *level, read))
            }
        };
        self.holds(id) && read(id).is_ok_and(inner)
    }

    fn descend(
        &self,
        root: &ChunkId,
        wait: Wait,
        mut choose: impl FnMut(&[crate::format::page::Child], u64) -> Option<(usize, u64)>,
    ) -> Result<Option<Leaf>> {
        let (mut id, mut first, mut above) = (*root, 0, u32::MAX);
        loop {
            let page = self.page(&id, wait)?;
            Self::check_level(above, &page, &id)?;
            match &*page {
                Page::Leaf(_) => return Ok(Some(Leaf { page, first })),
                Page::Inner { level, children } => {
                    let Some((at, before)) = choose(children, first) else {
                        return Ok(None);
                    };
                    (id, first, above) = (children[at].page, before, *level);
                }
            }
        }
    }

    /// Returns the leaf page that holds a position of a directory; `None` past its end.
    pub fn leaf_at(&self, directory: &Directory, position: u64, wait: Wait) -> Result<Option<Leaf>> {
        let leaf = self.descend(&directory.page, wait, |children, first| {
            let mut before = first;
            for (at, child) in children.iter().enumerate() {
                let after = before.saturating_add(child.items);
                if position < after {
                    return Some((at, before));
                }
                before = after;
            }
            None
        })?;
        Ok(leaf.filter(|leaf| leaf.entry(position).is_some()))
    }

    /// Finds an entry by name: its leaf and position.
    pub fn find_entry(&self, directory: &Directory, name: &[u8], wait: Wait) -> Result<Option<(Leaf, u64)>> {
        let leaf = self.descend(&directory.page, wait, |children, first| {
            let at = children.partition_point(|child| &child.first[..] <= name).checked_sub(1)?;
            let before = children[..at].iter().fold(first, |sum, child| sum.saturating_add(child.items));
            Some((at, before))
        })?;
        let Some(leaf) = leaf else { return Ok(None) };
        let found = leaf.entries().binary_search_by(|entry| entry.name[..].cmp(name)).ok();
        Ok(found.map(|at| (leaf.clone(), leaf.first + at as u64)))
    }

    /// Calls `each` for every entry of a directory in order; stops at its first error.
    pub fn for_each_entry(&self, directory: &Directory, mut each: impl FnMut(&Entry) -> Result<()>) -> Result<()> {
        let mut position = 0;
        while let Some(leaf) = self.leaf_at(directory, position, Wait::Allowed)? {
            for entry in leaf.entries() {
                each(entry)?;
            }
            position = leaf.first + leaf.entries().len() as u64;
        }
        if position != directory.entries {
            return Err(Error::damaged(format!(
                "Directory {} has {} instead of {}: run `bakfs check`",
                directory.page,
                counted(position, "entry"),
                directory.entries
            )));
        }
        Ok(())
    }

    /// Finds what a path of a snapshot names; `None` where there is nothing. The empty path is the root.
    pub fn resolve(&self, snapshot: &Snapshot, path: &[u8]) -> Result<Option<Entry>> {
        let mut entry = root_entry(snapshot);
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".") {
            let Node::Directory(directory) = &entry.node else {
                return Ok(None);
            };
            let Some((leaf, position)) = self.find_entry(directory, name, Wait::Allowed)? else {
                return Ok(None);
            };
            entry = leaf.entry(position).expect("the position was found in this leaf").clone();
        }
        Ok(Some(entry))
    }

    /// Calls `each` for the extents of a file that overlap `from..to`, with their offsets, until it says false.
    pub fn for_each_extent(
        &self,
        content: &Content,
        from: u64,
        to: u64,
        wait: Wait,
        each: &mut dyn FnMut(u64, &Extent) -> Result<bool>,
    ) -> Result<()> {
        match content {
            Content::Extents(extents) => each_extent(extents, 0, from, to, each).map(|_| ()),
            Content::List(page) => self.walk_list(page, u32::MAX, 0, from, to, wait, each).map(|_| ()),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the state of one descent")]
    fn walk_list(
        &self,
        id: &ChunkId,
        above: u32,
        offset: u64,
        from: u64,
        to: u64,
        wait: Wait,
        each: &mut dyn FnMut(u64, &Extent) -> Result<bool>,
    ) -> Result<bool> {
        match &*self.extent_page(id, wait)? {
            Page::Leaf(extents) => each_extent(extents, offset, from, to, each),
            Page::Inner { level, children } => {
                if *level >= above {
                    return Err(Error::damaged(format!("Page {id} is of the wrong level: run `bakfs check`")));
                }
                let mut offset = offset;
                for child in children {
                    let end = offset.saturating_add(child.content_bytes);
                    if end > from
                        && offset < to
                        && !self.walk_list(&child.page, *level, offset, from, to, wait, each)?
                    {
                        return Ok(false);
                    }
                    offset = end;
                }
                Ok(true)
            }
        }
    }

    /// Reads a page of extents.
    pub(crate) fn extent_page(&self, id: &ChunkId, wait: Wait) -> Result<Arc<Page<Extent>>> {
        if let Some(page) = self.caches.extent_pages.lock().get(id) {
            return Ok(page.clone());
        }
        let bytes = self.page_bytes(id, wait)?;
        let page = Arc::new(Page::<Extent>::decode(&bytes).map_err(damaged(id))?);
        self.caches.extent_pages.lock().put(*id, page.clone());
        Ok(page)
    }

    /// Appends the bytes of an extent that is no hole.
    pub fn read_extent(&self, extent: &Extent, out: &mut Vec<u8>) -> Result<()> {
        let location = self.place(&extent.chunk, Wait::Allowed)?;
        if location.is_some_and(|location| u64::from(location.chunk.len_bytes) != extent.len_bytes) {
            return Err(Error::damaged(format!("Chunk {} has another length than its file says", extent.chunk)));
        }
        let len = usize::try_from(extent.len_bytes).unwrap_or(usize::MAX);
        self.read_chunk(ChunkKind::Data, &extent.chunk, 0..len, Wait::Allowed, out)
    }

    /// Appends up to `len` bytes of a file of `size` bytes from `offset` on.
    pub fn read_content(
        &self,
        content: &Content,
        size: u64,
        offset: u64,
        len: usize,
        wait: Wait,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let end = size.min(offset.saturating_add(len as u64));
        let mut at = offset;
        if at >= end {
            return Ok(());
        }
        self.for_each_extent(content, offset, end, wait, &mut |start, extent| {
            let from = at - start;
            let to = (end - start).min(extent.len_bytes);
            let count = (to - from) as usize;
            if extent.is_hole() {
                out.resize(out.len() + count, 0);
            } else {
                let location = self.place(&extent.chunk, wait)?;
                if location.is_some_and(|location| u64::from(location.chunk.len_bytes) != extent.len_bytes) {
                    return Err(Error::damaged(format!(
                        "Chunk {} has another length than its file says",
                        extent.chunk
                    )));
                }
                self.read_chunk(ChunkKind::Data, &extent.chunk, from as usize..to as usize, wait, out)?;
            }
            at += count as u64;
            Ok(at < end)
        })?;
        if at != end {
            return Err(Error::damaged("The file's extents end before the file does: run `bakfs check`"));
        }
        Ok(())
    }
}

fn each_extent(
    extents: &[Extent],
    offset: u64,
    from: u64,
    to: u64,
    each: &mut dyn FnMut(u64, &Extent) -> Result<bool>,
) -> Result<bool> {
    let mut offset = offset;
    for extent in extents {
        let end = offset.saturating_add(extent.len_bytes);
        if offset >= to {
            return Ok(false);
        }
        if end > from && !each(offset, extent)? {
            return Ok(false);
        }
        offset = end;
    }
    Ok(true)
}

/// Returns the snapshot's `/` as an entry without a name.
pub fn root_entry(snapshot: &Snapshot) -> Entry {
    Entry { name: Default::default(), meta: snapshot.root_meta.clone(), node: Node::Directory(snapshot.root) }
}
