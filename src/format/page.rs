//! Pages: sorted lists cut by content, so that one change rewrites one page of each level.
//!
//! A list's items are put into leaf pages in order. A page ends after an item whose hash says so, once
//! it has [`MIN_PAGE_BYTES`], or before it would pass [`MAX_PAGE_BYTES`]. The references to the pages
//! of one level are the items of the next, until one page is left: the root. Equal lists make equal
//! pages, whatever their history.

use super::codec::{self, DecodeError};
use super::tree::{Entry, Extent, NAME_MAX_BYTES};
use crate::id::ChunkId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A page is not ended by a hash before it has this many bytes.
pub const MIN_PAGE_BYTES: usize = 4 << 10;
/// A page of more than one item has at most this many bytes.
pub const MAX_PAGE_BYTES: usize = 64 << 10;
/// One item alone may be longer (an entry with large attributes), up to this.
pub const MAX_LONE_PAGE_BYTES: usize = 4 << 20;
/// Levels above the leaves; 2 items on each page already hold 2^24 pages.
pub const MAX_LEVEL: u32 = 24;
/// One item in 64 ends a page.
const CUT_MASK: u64 = 63;

/// An item of a list.
pub trait Item: Serialize + DeserializeOwned + Clone {
    /// What a page's key is compared by.
    const WHAT: &'static str;
    /// Returns the hash that decides on cuts; level `n` uses the bits from `6 n` on.
    fn cut_hash(&self) -> u64;
    /// Returns what is added up in the references to pages: items and bytes.
    fn weight(&self) -> (u64, u64);
    /// Returns the key of references to pages that start with this item.
    fn key(&self) -> Vec<u8>;
}

/// A reference to a page of the level below.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// The page.
    pub page: ChunkId,
    /// The key of its first item: an entry's name; empty in lists of extents.
    pub first: codec::Bytes,
    /// Cut hash of its first item.
    pub cut_hash: u64,
    /// Leaf items below it.
    pub items: u64,
    /// Bytes of content in the extents below it; 0 in directories.
    pub content_bytes: u64,
}

/// One page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Page<T> {
    /// Items.
    Leaf(Vec<T>),
    /// References to pages of the level below; their level is one less than `level`.
    Inner {
        /// 1 above the leaves.
        level: u32,
        /// The pages in order.
        children: Vec<Child>,
    },
}

fn first_u64(hash: blake3::Hash) -> u64 {
    u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("32 bytes"))
}

impl Item for Entry {
    const WHAT: &'static str = "directory page";
    fn cut_hash(&self) -> u64 {
        first_u64(blake3::hash(&self.name))
    }
    fn weight(&self) -> (u64, u64) {
        (1, 0)
    }
    fn key(&self) -> Vec<u8> {
        self.name.0.clone()
    }
}

impl Item for Extent {
    const WHAT: &'static str = "page of extents";
    fn cut_hash(&self) -> u64 {
        first_u64(blake3::hash(&self.chunk.0))
    }
    fn weight(&self) -> (u64, u64) {
        (1, self.len_bytes)
    }
    fn key(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// Cuts a list into pages as its items come; memory is bounded by one open page a level.
pub struct PageWriter<T> {
    leaf: Open<T>,
    inner: Vec<Open<Child>>,
}

struct Open<T> {
    items: u64,
    weight: (u64, u64),
    first: Option<(Vec<u8>, u64)>,
    bytes: Vec<u8>,
    marker: std::marker::PhantomData<T>,
}

impl<T> Default for Open<T> {
    fn default() -> Self {
        Open { items: 0, weight: (0, 0), first: None, bytes: Vec::new(), marker: std::marker::PhantomData }
    }
}

/// Where finished pages go: stores the bytes of a page and returns its id.
pub trait PageSink {
    /// The sink's error.
    type Error;
    /// Stores a page.
    fn store(&mut self, page: Vec<u8>) -> Result<ChunkId, Self::Error>;
}

impl<T: Item> Default for PageWriter<T> {
    fn default() -> Self {
        PageWriter { leaf: Open::default(), inner: Vec::new() }
    }
}

fn leaf_page(items: u64, bytes: &[u8]) -> Vec<u8> {
    let mut page = Vec::with_capacity(12 + bytes.len());
    page.extend_from_slice(&0u32.to_le_bytes());
    page.extend_from_slice(&items.to_le_bytes());
    page.extend_from_slice(bytes);
    page
}

fn inner_page(level: u32, items: u64, bytes: &[u8]) -> Vec<u8> {
    let mut page = Vec::with_capacity(16 + bytes.len());
    page.extend_from_slice(&1u32.to_le_bytes());
    page.extend_from_slice(&level.to_le_bytes());
    page.extend_from_slice(&items.to_le_bytes());
    page.extend_from_slice(bytes);
    page
}

impl<T: Item> PageWriter<T> {
    /// Adds the next item.
    pub fn push<S: PageSink>(&mut self, item: &T, sink: &mut S) -> Result<(), S::Error> {
        let encoded = codec::encode(item);
        if self.leaf.items > 0 && self.leaf.bytes.len() + encoded.len() > MAX_PAGE_BYTES {
            self.end_leaf(sink)?;
        }
        let hash = item.cut_hash();
        let leaf = &mut self.leaf;
        leaf.first.get_or_insert_with(|| (item.key(), hash));
        leaf.items += 1;
        let (items, bytes) = item.weight();
        leaf.weight = (leaf.weight.0 + items, leaf.weight.1 + bytes);
        leaf.bytes.extend_from_slice(&encoded);
        if leaf.bytes.len() >= MIN_PAGE_BYTES && hash & CUT_MASK == 0 {
            self.end_leaf(sink)?;
        }
        Ok(())
    }

    fn end_leaf<S: PageSink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        let leaf = std::mem::take(&mut self.leaf);
        let page = sink.store(leaf_page(leaf.items, &leaf.bytes))?;
        self.add_child(0, child(page, leaf.first, leaf.weight), sink)
    }

    fn add_child<S: PageSink>(&mut self, at: usize, child: Child, sink: &mut S) -> Result<(), S::Error> {
        if self.inner.len() == at {
            self.inner.push(Open::default());
        }
        let encoded = codec::encode(&child);
        if self.inner[at].items > 1 && self.inner[at].bytes.len() + encoded.len() > MAX_PAGE_BYTES {
            self.end_inner(at, sink)?;
        }
        let open = &mut self.inner[at];
        let hash = child.cut_hash;
        open.first.get_or_insert_with(|| (child.first.0.clone(), hash));
        open.items += 1;
        open.weight = (open.weight.0 + child.items, open.weight.1 + child.content_bytes);
        open.bytes.extend_from_slice(&encoded);
        let bits = hash >> (6 * (at as u32 + 1)).min(58);
        if open.items > 1 && open.bytes.len() >= MIN_PAGE_BYTES && bits & CUT_MASK == 0 {
            self.end_inner(at, sink)?;
        }
        Ok(())
    }

    fn end_inner<S: PageSink>(&mut self, at: usize, sink: &mut S) -> Result<(), S::Error> {
        let open = std::mem::take(&mut self.inner[at]);
        let page = sink.store(inner_page(at as u32 + 1, open.items, &open.bytes))?;
        self.add_child(at + 1, child(page, open.first, open.weight), sink)
    }

    /// Ends the list and returns its root page and the number of items.
    pub fn finish<S: PageSink>(mut self, sink: &mut S) -> Result<(ChunkId, u64), S::Error> {
        if self.inner.is_empty() {
            let page = sink.store(leaf_page(self.leaf.items, &self.leaf.bytes))?;
            return Ok((page, self.leaf.items));
        }
        if self.leaf.items > 0 {
            self.end_leaf(sink)?;
        }
        let mut at = 0;
        loop {
            let open = &self.inner[at];
            let top = at + 1 == self.inner.len();
            if top && open.items == 1 {
                // A single page below needs no page above it.
                let child: Child =
                    codec::decode("child", &open.bytes).unwrap_or_else(|_| unreachable!("encoded above"));
                return Ok((child.page, child.items));
            }
            if top {
                let page = sink.store(inner_page(at as u32 + 1, open.items, &open.bytes))?;
                return Ok((page, open.weight.0));
            }
            if open.items > 0 {
                self.end_inner(at, sink)?;
            }
            at += 1;
        }
    }
}

fn child(page: ChunkId, first: Option<(Vec<u8>, u64)>, weight: (u64, u64)) -> Child {
    let (first, cut_hash) = first.expect("a page that is ended has an item");
    Child { page, first: codec::Bytes(first), cut_hash, items: weight.0, content_bytes: weight.1 }
}

/// Returns whether a name can be a directory entry's.
pub fn is_valid_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= NAME_MAX_BYTES
        && name != b"."
        && name != b".."
        && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

impl Page<Entry> {
    /// Decodes a page of a directory and checks names, their order and the levels.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let page: Self = decode_bounded(bytes)?;
        let wrong = |reason: &str| DecodeError { what: Entry::WHAT, reason: reason.into() };
        match &page {
            Page::Leaf(entries) => {
                if !entries.iter().all(|entry| is_valid_name(&entry.name)) {
                    return Err(wrong("a name is not a valid file name"));
                }
                if !entries.is_sorted_by(|a, b| a.name < b.name) {
                    return Err(wrong("its names are not in order"));
                }
                for entry in entries {
                    entry.check().map_err(wrong)?;
                }
            }
            Page::Inner { level, children } => {
                check_inner(*level, children).map_err(wrong)?;
                if !children.is_sorted_by(|a, b| a.first < b.first) {
                    return Err(wrong("its pages are not in order"));
                }
            }
        }
        Ok(page)
    }
}

impl Page<Extent> {
    /// Decodes a page of extents and checks lengths and levels.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let page: Self = decode_bounded(bytes)?;
        let wrong = |reason: &str| DecodeError { what: Extent::WHAT, reason: reason.into() };
        match &page {
            Page::Leaf(extents) => {
                check_extents(extents).map_err(wrong)?;
            }
            Page::Inner { level, children } => check_inner(*level, children).map_err(wrong)?,
        }
        Ok(page)
    }
}

/// Checks that no extent is empty or a chunk longer than a frame, and that the lengths can be added up.
pub fn check_extents(extents: &[Extent]) -> Result<u64, &'static str> {
    let mut total = 0u64;
    for extent in extents {
        if extent.len_bytes == 0 || (!extent.is_hole() && extent.len_bytes > super::frame::MAX_FRAME_BYTES as u64) {
            return Err("an extent's length is out of range");
        }
        total = total.checked_add(extent.len_bytes).ok_or("its lengths add up to more than a file can have")?;
    }
    Ok(total)
}

fn decode_bounded<T: Item>(bytes: &[u8]) -> Result<Page<T>, DecodeError> {
    if bytes.len() > MAX_LONE_PAGE_BYTES {
        return Err(DecodeError { what: T::WHAT, reason: "it is too long".into() });
    }
    codec::decode(T::WHAT, bytes)
}

fn check_inner(level: u32, children: &[Child]) -> Result<(), &'static str> {
    if level == 0 || level > MAX_LEVEL {
        return Err("its level is out of range");
    }
    if children.is_empty() {
        return Err("it has no pages below it");
    }
    let sums = children.iter().try_fold((0u64, 0u64), |(items, bytes), child| {
        Some((items.checked_add(child.items)?, bytes.checked_add(child.content_bytes)?))
    });
    if sums.is_none() || children.iter().any(|child| child.items == 0) {
        return Err("its counts are out of range");
    }
    Ok(())
}

impl Entry {
    /// Checks what a decoded entry says against itself.
    fn check(&self) -> Result<(), &'static str> {
        use super::tree::{Content, MAX_INLINE_EXTENTS, Node};
        if self.meta.mode > 0o7777 || self.meta.mtime.nanos >= 1_000_000_000 || self.meta.ctime.nanos >= 1_000_000_000 {
            return Err("an entry's mode or time is out of range");
        }
        match &self.node {
            Node::File(Content::Extents(extents)) => {
                if extents.len() > MAX_INLINE_EXTENTS {
                    return Err("an entry has too many extents of its own");
                }
                if check_extents(extents)? != self.meta.size_bytes {
                    return Err("an entry's extents do not add up to its size");
                }
            }
            Node::Symlink(target) if target.is_empty() || target.len() > 4095 || target.contains(&0) => {
                return Err("a link's target is out of range");
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tree::{Directory, HOLE, Meta, Node};
    use std::collections::HashMap;

    #[derive(Default)]
    struct Map(HashMap<ChunkId, Vec<u8>>, usize);

    impl PageSink for Map {
        type Error = std::convert::Infallible;
        fn store(&mut self, page: Vec<u8>) -> Result<ChunkId, Self::Error> {
            let id = ChunkId(*blake3::hash(&page).as_bytes());
            self.1 += page.len();
            self.0.insert(id, page);
            Ok(id)
        }
    }

    fn entry(name: &str, size: u64) -> Entry {
        let meta = Meta { mode: 0o644, size_bytes: size, ..Meta::default() };
        let directory = Directory { page: HOLE, entries: 0, total_files: 0, total_bytes: 0 };
        Entry { name: name.as_bytes().into(), meta, node: Node::Directory(directory) }
    }

    fn write(entries: &[Entry], map: &mut Map) -> (ChunkId, u64) {
        let mut writer = PageWriter::default();
        for entry in entries {
            writer.push(entry, map).unwrap();
        }
        writer.finish(map).unwrap()
    }

    fn read(map: &Map, page: ChunkId, out: &mut Vec<Entry>) {
        match Page::<Entry>::decode(&map.0[&page]).unwrap() {
            Page::Leaf(entries) => out.extend(entries),
            Page::Inner { children, .. } => children.iter().for_each(|child| read(map, child.page, out)),
        }
    }

    #[test]
    fn lists_of_every_length_read_back() {
        for count in [0, 1, 2, 63, 64, 65, 500, 20_000] {
            let entries: Vec<_> = (0..count).map(|n| entry(&format!("name{n:08}"), n)).collect();
            let mut map = Map::default();
            let (root, items) = write(&entries, &mut map);
            let mut back = Vec::new();
            read(&map, root, &mut back);
            assert_eq!(items, count);
            assert!(back == entries, "{count}");
            assert!(map.0.values().all(|page| page.len() <= MAX_PAGE_BYTES + 16));
        }
    }

    #[test]
    fn one_change_in_a_large_directory_rewrites_one_page_a_level() {
        let mut entries: Vec<_> = (0..100_000).map(|n| entry(&format!("name{n:08}"), n)).collect();
        let mut map = Map::default();
        write(&entries, &mut map);
        for change in 0..3 {
            match change {
                0 => entries[50_000].meta.size_bytes = 7,
                1 => drop(entries.remove(31_234)),
                _ => entries.insert(70_000, entry("name00070000b", 1)),
            }
            let before = map.0.len();
            write(&entries, &mut map);
            let added = map.0.len() - before;
            assert!((1..=6).contains(&added), "{added} pages were added by change {change}");
        }
    }

    #[test]
    fn bad_names_and_disorder_are_refused() {
        for names in [&["a/b"][..], &[".."], &["."], &[""], &["a\0"], &["b", "a"], &["a", "a"]] {
            let entries: Vec<_> = names.iter().map(|name| entry(name, 0)).collect();
            let bytes = codec::encode(&Page::Leaf(entries));
            assert!(Page::<Entry>::decode(&bytes).is_err(), "{names:?}");
        }
    }
}
