//! The assembler: takes events in tree order and builds pages, extents and the summary.

use super::budget::Budget;
use super::content::Piece;
use super::event::{Change, Counts, Event};
use crate::error::{Error, ErrorKind, Result};
use crate::format::codec::Bytes;
use crate::format::page::PageWriter;
use crate::format::snapshot::{MAX_TROUBLES, Summary, Trouble};
use crate::format::tree::{Content, Directory, Entry, Extent, HOLE, MAX_INLINE_EXTENTS, Meta, Node, add_totals};
use crate::monitor::Monitor;
use crate::repo::read::chunk_kind::ChunkKind;
use crate::repo::write::{Writer, Written};
use crate::source::stat::Stat;
use crossbeam_channel::Receiver;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Makes an empty directory's place in a tree.
const EMPTY: Directory = Directory { page: HOLE, entries: 0, total_files: 0, total_bytes: 0 };

/// A complete tree.
pub struct Assembled {
    /// `/`.
    pub root: Entry,
    /// What could not be read, at most [`MAX_TROUBLES`] of it.
    pub troubles: Vec<Trouble>,
    /// Paths of files whose content could not be stored, at most [`MAX_TROUBLES`].
    pub lost: Vec<Bytes>,
    /// What was counted.
    pub summary: Summary,
    /// What was stored.
    pub written: Written,
    /// Whether anything has extended attributes.
    pub has_xattrs: bool,
}

/// A directory that is open.
struct Open {
    name: Bytes,
    meta: Meta,
    pages: PageWriter<Entry>,
    /// Files below it, and their bytes.
    totals: (u64, u64),
}

/// A file with several names, until all of them were seen.
struct Linked {
    content: Content,
    meta: Meta,
    names_left: u32,
}

/// Builds a tree.
pub struct Assembler<'a> {
    writer: Option<Writer>,
    budget: &'a Budget,
    monitor: &'a dyn Monitor,
    is_watched: bool,
    open: Vec<Open>,
    /// Entries of the root that were complete before their turn came.
    early: BTreeMap<Vec<u8>, Entry>,
    linked: HashMap<(u64, u64), Linked>,
    troubles: Vec<Trouble>,
    lost: Vec<Bytes>,
    summary: Summary,
    has_xattrs: bool,
}

impl<'a> Assembler<'a> {
    /// Makes an assembler; without a writer nothing is stored.
    pub fn new(writer: Option<Writer>, budget: &'a Budget, monitor: &'a dyn Monitor) -> Self {
        Assembler {
            writer,
            budget,
            monitor,
            is_watched: monitor.is_watched(),
            open: Vec::new(),
            early: BTreeMap::new(),
            linked: HashMap::new(),
            troubles: Vec::new(),
            lost: Vec::new(),
            summary: Summary::default(),
            has_xattrs: false,
        }
    }

    /// Takes all events and makes what they tell durable.
    pub fn run(mut self, events: Receiver<Event>) -> Result<Assembled> {
        let mut root = None;
        for event in events {
            match event {
                Event::Enter(name, meta) => self.enter(name, *meta),
                Event::Leave => root = self.leave()?,
                Event::LeaveEarly => {
                    let entry = self.close()?;
                    self.early.insert(entry.name.to_vec(), entry);
                }
                Event::Entry(entry, change) => self.entry(*entry, change)?,
                Event::Reused(entry) => self.push(*entry)?,
                Event::Counted(counts) => self.count(counts),
                Event::File { name, stat, change, pieces, permit_bytes } => {
                    let taken = self.file(name, &stat, change, pieces);
                    self.budget.give(permit_bytes);
                    taken?;
                }
                Event::Link(name, stat, change) => self.link(name, &stat, change)?,
                Event::Trouble(name, message) => self.trouble(&name, message),
                Event::Failed(error) => return Err(error),
            }
        }
        let root = root.ok_or_else(|| Error::new(ErrorKind::Io, "The walk ended early"))?;
        let written = match self.writer {
            Some(writer) => writer.finish()?,
            None => Written::default(),
        };
        let Assembler { troubles, lost, summary, has_xattrs, .. } = self;
        Ok(Assembled { root, troubles, lost, summary, written, has_xattrs })
    }

    fn path(&self, name: &[u8]) -> Vec<u8> {
        let mut path = Vec::new();
        for part in self.open.iter().map(|open| &open.name[..]).chain([name]).filter(|part| !part.is_empty()) {
            path.push(b'/');
            path.extend_from_slice(part);
        }
        if path.is_empty() { b"/".to_vec() } else { path }
    }

    fn trouble(&mut self, name: &[u8], message: String) {
        let path = told_path(self.path(name));
        self.monitor.trouble(Path::new(OsStr::from_bytes(&path)), &message);
        self.summary.errors += 1;
        if self.troubles.len() < MAX_TROUBLES {
            self.troubles.push(Trouble { path: Bytes(path), message });
        }
    }

    /// Tells of a file that is not in the tree.
    fn lose(&mut self, name: &[u8], message: String) {
        if self.lost.len() < MAX_TROUBLES {
            self.lost.push(Bytes(self.path(name)));
        }
        self.trouble(name, message);
    }

    fn enter(&mut self, name: Bytes, meta: Meta) {
        self.has_xattrs |= !meta.xattrs.is_empty();
        self.open.push(Open { name, meta, pages: PageWriter::default(), totals: (0, 0) });
    }

    /// Ends the directory that began last; returns it if it is the root.
    fn leave(&mut self) -> Result<Option<Entry>> {
        if self.open.len() == 1 {
            self.push_early(None)?;
        }
        let entry = self.close()?;
        if self.open.is_empty() {
            return Ok(Some(entry));
        }
        self.push(entry)?;
        Ok(None)
    }

    /// Adds what comes before a name of the root; without a name, all that is left.
    fn push_early(&mut self, name: Option<&[u8]>) -> Result<()> {
        while let Some(next) = self.early.first_entry()
            && name.is_none_or(|name| &next.key()[..] < name)
        {
            let entry = next.remove();
            self.add(entry)?;
        }
        Ok(())
    }

    /// Ends the directory that began last.
    fn close(&mut self) -> Result<Entry> {
        let Some(open) = self.open.pop() else {
            return Err(Error::new(ErrorKind::Io, "The walk left what it never entered"));
        };
        let (total_files, total_bytes) = open.totals;
        let directory = match &mut self.writer {
            Some(writer) => {
                let (page, entries) = open.pages.finish(writer)?;
                Directory { page, entries, total_files, total_bytes }
            }
            None => Directory { total_files, total_bytes, ..EMPTY },
        };
        let entry = Entry { name: open.name, meta: open.meta, node: Node::Directory(directory) };
        self.monitor.advance(1, 0);
        Ok(entry)
    }

    fn push(&mut self, entry: Entry) -> Result<()> {
        if self.open.len() == 1 {
            self.push_early(Some(&entry.name))?;
        }
        self.add(entry)
    }

    fn add(&mut self, entry: Entry) -> Result<()> {
        let Some(open) = self.open.last_mut() else {
            return Err(Error::new(ErrorKind::Io, "An entry has no directory"));
        };
        add_totals(&mut open.totals, entry.totals());
        match &mut self.writer {
            Some(writer) => open.pages.push(&entry, writer),
            None => Ok(()),
        }
    }

    fn count(&mut self, counts: Counts) {
        self.has_xattrs |= counts.has_xattrs;
        self.summary.files_unmodified += counts.files;
        self.monitor.advance(counts.entries, counts.bytes);
    }

    fn entry(&mut self, entry: Entry, change: Change) -> Result<()> {
        self.has_xattrs |= !entry.meta.xattrs.is_empty();
        match change {
            Change::New => self.summary.files_new += 1,
            Change::Changed => self.summary.files_changed += 1,
            Change::Unmodified => self.summary.files_unmodified += 1,
        }
        let bytes = if matches!(entry.node, Node::File(_)) { entry.meta.size_bytes } else { 0 };
        self.push(entry)?;
        if change == Change::Unmodified {
            self.monitor.advance(1, bytes);
        } else {
            // The bytes of what was read are told as they come.
            self.monitor.advance(1, 0);
        }
        Ok(())
    }

    fn file(&mut self, name: Bytes, stat: &Stat, change: Change, pieces: Option<Receiver<Piece>>) -> Result<()> {
        let Some(pieces) = pieces else {
            let entry = Entry { name, meta: stat.to_meta(Vec::new()), node: Node::File(Content::Extents(Vec::new())) };
            return self.entry(entry, change);
        };
        if self.is_watched {
            self.monitor.at(Path::new(OsStr::from_bytes(&self.path(&name))));
        }
        let Some((content, meta)) = self.content(&name, pieces)? else { return Ok(()) };
        if meta.nlink > 1 {
            let linked = Linked { content: content.clone(), meta: meta.clone(), names_left: meta.nlink - 1 };
            self.linked.insert((stat.dev, stat.ino), linked);
        }
        self.entry(Entry { name, meta, node: Node::File(content) }, change)
    }

    /// Another name of a file that was read under its first one.
    fn link(&mut self, name: Bytes, stat: &Stat, change: Change) -> Result<()> {
        let key = (stat.dev, stat.ino);
        let Some(linked) = self.linked.get_mut(&key) else {
            if self.writer.is_some() {
                self.lose(&name, "is another name of a file that could not be read".into());
                return Ok(());
            }
            return self.file(name, stat, change, None);
        };
        let entry = Entry { name, meta: linked.meta.clone(), node: Node::File(linked.content.clone()) };
        linked.names_left -= 1;
        if linked.names_left == 0 {
            self.linked.remove(&key);
        }
        self.entry(entry, change)
    }

    /// Takes a file's pieces; `None` if it could not be read.
    fn content(&mut self, name: &Bytes, pieces: Receiver<Piece>) -> Result<Option<(Content, Meta)>> {
        let Some(writer) = &mut self.writer else { return Ok(None) };
        let mut extents = Extents::default();
        for piece in pieces {
            match piece {
                Piece::Data { bytes, chunks } => {
                    let mut offset = 0;
                    for (id, len) in chunks {
                        let end = offset + len as usize;
                        writer.add(ChunkKind::Data, id, &bytes[offset..end])?;
                        extents.push(Extent { chunk: id, len_bytes: u64::from(len) }, writer)?;
                        offset = end;
                    }
                    self.summary.read_bytes += bytes.len() as u64;
                    self.monitor.advance(0, bytes.len() as u64);
                }
                Piece::Hole(len_bytes) => {
                    self.monitor.advance(0, len_bytes);
                    extents.push(Extent { chunk: HOLE, len_bytes }, writer)?;
                }
                Piece::Again => extents = Extents::default(),
                Piece::End { mut meta, troubles } => {
                    meta.size_bytes = extents.len_bytes;
                    let content = extents.finish(writer)?;
                    for message in troubles {
                        self.trouble(name, message);
                    }
                    return Ok(Some((content, *meta)));
                }
                Piece::Failed(error) => {
                    self.lose(name, error.chain());
                    return Ok(None);
                }
            }
        }
        self.lose(name, "was not read: its reader ended early".into());
        Ok(None)
    }
}

/// The longest path that is told, and stored with a snapshot (PATH_MAX, limits.h).
const MAX_TOLD_BYTES: usize = 4096;

/// Leaves out the middle of a path that no program can use: a user's may have a mebibyte, and a thousand of them are
/// stored with a snapshot, which is to stay readable.
fn told_path(path: Vec<u8>) -> Vec<u8> {
    if path.len() <= MAX_TOLD_BYTES {
        return path;
    }
    let part = MAX_TOLD_BYTES / 2 - 8;
    [&path[..part], b"/[...]/", &path[path.len() - part..]].concat()
}

/// A file's extents: a few are kept, more go to pages.
#[derive(Default)]
struct Extents {
    first: Vec<Extent>,
    pages: Option<PageWriter<Extent>>,
    len_bytes: u64,
}

impl Extents {
    fn push(&mut self, extent: Extent, writer: &mut Writer) -> Result<()> {
        self.len_bytes += extent.len_bytes;
        match &mut self.pages {
            Some(pages) => pages.push(&extent, writer),
            None if self.first.len() < MAX_INLINE_EXTENTS => {
                self.first.push(extent);
                Ok(())
            }
            None => {
                let pages = self.pages.insert(PageWriter::default());
                for extent in self.first.drain(..).chain([extent]) {
                    pages.push(&extent, writer)?;
                }
                Ok(())
            }
        }
    }

    fn finish(self, writer: &mut Writer) -> Result<Content> {
        Ok(match self.pages {
            Some(pages) => Content::List(pages.finish(writer)?.0),
            None => Content::Extents(self.first),
        })
    }
}
