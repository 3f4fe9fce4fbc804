//! The view as the mount's driver sees it.

use super::identity::{self, Identity};
use super::layout::{NOTE_INO, NOTE_TEXT};
use super::nodes::Referred;
use super::read_ahead::{Child, MAX_CHILDREN};
use super::{Dir, News, View, fault, wait as own_wait};
use crate::format::page::check_extents;
use crate::format::tree::{Content, Entry, Node};
use crate::store::Wait as OwnWait;
use bakfs_mount::tree::{Attr, Failure, Fault, Ino, ListedEntry, Neighbour, ROOT_INO, SeekTo, Tree, Usage, Wait};
use std::ops::Range;

/// Positions in listings of a snapshot's directories start above those of `.` and `..`.
const FIRST_COOKIE: u64 = 3;

/// How many bytes reading a file would fetch from a store far away now; no list of attributes shows it.
const FETCH_BYTES: &[u8] = b"user.bakfs.fetch_bytes";
/// What was asked of the store since the mount began, as JSON, on the mount's root.
const TRAFFIC: &[u8] = b"user.bakfs.traffic";

/// What df(1) shows as free at a place that does not tell: 1 PiB, as rclone's mount has it. None at all would be a full
/// disk, and no size a broken one, to every monitor.
const UNKNOWN_FREE_BYTES: u64 = 1 << 50;
const UNKNOWN_FREE_FILES: u64 = 1 << 32;

impl View {
    /// Asks for what whoever reads a file in order will read next.
    fn go_ahead(&self, ino: Ino, content: &Content, read: Range<u64>, size_bytes: u64, wait: Wait) {
        // Once for each read: one that may not wait and must is made again by a call that may.
        let Some(ahead) =
            self.ahead.as_ref().filter(|_| wait == Wait::Allowed || matches!(content, Content::Extents(_)))
        else {
            return;
        };
        if wait == Wait::Allowed && read.start < size_bytes {
            self.repository.want_chunks(content, read.start..read.end.min(size_bytes));
        }
        if let Some(next) = ahead.next(ino, read, size_bytes) {
            self.repository.want_content(content, next);
        }
    }

    /// Returns the directories in a directory of a snapshot, none if there are many; `None` if they cannot be read.
    fn directories_of(&self, dir: Ino) -> Option<Vec<Child>> {
        let mut found = Vec::new();
        let dir = self.dir(dir, OwnWait::Never).ok()?;
        let mut position = 0;
        while let Some(leaf) = self.repository.leaf_at(&dir.directory, position, OwnWait::Allowed).ok()? {
            while let Some(entry) = leaf.entry(position) {
                position += 1;
                if let Node::Directory(directory) = entry.node {
                    found.push(Child { ino: identity::of_entry(dir.ino, &dir.path, entry).ino, directory });
                }
            }
            if found.len() > MAX_CHILDREN || position > 4 * MAX_CHILDREN as u64 {
                return Some(Vec::new());
            }
        }
        Some(found)
    }

    /// Returns the number of an entry: its own, or another where that stands for something else.
    fn identify(&self, dir: &Dir, entry: &Entry) -> Identity {
        let mut identity = identity::of_entry(dir.ino, &dir.path, entry);
        while !self.nodes.lock().fits(identity) {
            identity = identity::next(identity, dir.ino, &entry.name);
        }
        identity
    }

    /// Returns the number of an entry, to which the kernel refers once more from now on.
    fn refer(&self, dir: &Dir, entry: &Entry, position: u64) -> Ino {
        let mut identity = identity::of_entry(dir.ino, &dir.path, entry);
        while self.nodes.lock().refer(identity, dir.index, position) == Referred::Taken {
            identity = identity::next(identity, dir.ino, &entry.name);
        }
        identity.ino
    }

    /// Brings the layout up to date, or says that this takes waiting.
    fn bring_up_to_date(&self, wait: Wait) -> Result<(), Fault> {
        if self.is_current() {
            return Ok(());
        }
        match wait {
            Wait::Never => Err(Fault::WouldWait),
            Wait::Allowed => self.refresh().map_err(fault),
        }
    }
}

impl Tree for View {
    fn lookup(&self, dir: Ino, name: &[u8], wait: Wait) -> Result<Attr, Fault> {
        if self.layout().folder(dir).is_some() {
            self.bring_up_to_date(wait)?;
            let layout = self.layout();
            let child = layout.folder(dir).and_then(|folder| folder.find(name)).ok_or(Fault::NotFound)?;
            return layout.attr(child.ino).ok_or(Fault::NotFound);
        }
        let dir = self.dir(dir, own_wait(wait))?;
        let found = self.repository.find_entry(&dir.directory, name, own_wait(wait)).map_err(fault)?;
        let (leaf, position) = found.ok_or(Fault::NotFound)?;
        let entry = leaf.entry(position).ok_or(Fault::NotFound)?;
        Ok(View::attr(self, self.refer(&dir, entry, position), &entry.meta, &entry.node))
    }

    fn attr(&self, ino: Ino, wait: Wait) -> Result<Attr, Fault> {
        if let Some(attr) = self.layout().attr(ino) {
            return Ok(attr);
        }
        let found = self.find(ino, own_wait(wait))?;
        let entry = found.entry()?;
        Ok(View::attr(self, ino, &entry.meta, &entry.node))
    }

    fn list(
        &self,
        dir: Ino,
        cookie: u64,
        counted: bool,
        wait: Wait,
        each: &mut dyn FnMut(ListedEntry<'_>) -> bool,
    ) -> Result<(), Fault> {
        if self.layout().folder(dir).is_some() {
            if cookie == 0 {
                self.bring_up_to_date(wait)?;
            }
            let layout = self.layout();
            let Some(folder) = layout.folder(dir) else { return Ok(()) };
            for (name, child) in folder.after(cookie) {
                let Some(attr) = layout.attr(child.ino) else { continue };
                if !each(ListedEntry { name, attr, next_cookie: child.position }) {
                    break;
                }
            }
            return Ok(());
        }
        let dir = self.dir(dir, own_wait(wait))?;
        let mut position = cookie.saturating_sub(FIRST_COOKIE - 1);
        let first = position;
        let mut failure = None;
        'pages: loop {
            self.note_lookup();
            let leaf = match self.repository.leaf_at(&dir.directory, position, own_wait(wait)) {
                Ok(Some(leaf)) => leaf,
                Ok(None) => break,
                Err(error) => {
                    failure = Some(fault(error));
                    break;
                }
            };
            while let Some(entry) = leaf.entry(position) {
                let ino = match counted {
                    true => self.refer(&dir, entry, position),
                    false => self.identify(&dir, entry).ino,
                };
                let attr = View::attr(self, ino, &entry.meta, &entry.node);
                if !each(ListedEntry { name: &entry.name, attr, next_cookie: position + FIRST_COOKIE }) {
                    if counted {
                        self.nodes.lock().forget(ino, 1);
                    }
                    break 'pages;
                }
                position += 1;
            }
        }
        match failure {
            Some(failure) if position == first => Err(failure),
            _ => Ok(()),
        }
    }

    fn parent(&self, dir: Ino, wait: Wait) -> Result<Ino, Fault> {
        if let Some(folder) = self.layout().folder(dir) {
            return Ok(folder.parent);
        }
        self.dir(dir, own_wait(wait)).map(|dir| dir.parent)
    }

    fn read_link(&self, ino: Ino, wait: Wait) -> Result<Vec<u8>, Fault> {
        if let Some(target) = self.layout().target(ino) {
            return Ok(target.to_vec());
        }
        match &self.find(ino, own_wait(wait))?.entry()?.node {
            Node::Symlink(target) => Ok(target.0.clone()),
            _ => Err(Fault::Invalid),
        }
    }

    fn read(&self, ino: Ino, offset: u64, len: u32, wait: Wait, out: &mut Vec<u8>) -> Result<(), Fault> {
        if ino == NOTE_INO {
            let text = NOTE_TEXT.as_bytes();
            let from = text.len().min(usize::try_from(offset).unwrap_or(usize::MAX));
            out.extend_from_slice(&text[from..text.len().min(from + len as usize)]);
            return Ok(());
        }
        self.note_lookup();
        let found = self.find(ino, own_wait(wait))?;
        let entry = found.entry()?;
        match &entry.node {
            Node::File(content) => {
                let size_bytes = entry.meta.size_bytes;
                self.go_ahead(ino, content, offset..offset.saturating_add(len.into()), size_bytes, wait);
                self.repository
                    .read_content(content, size_bytes, offset, len as usize, own_wait(wait), out)
                    .map_err(fault)
            }
            Node::Directory(_) => Err(Fault::IsDirectory),
            _ => Err(Fault::Invalid),
        }
    }

    fn seek(&self, ino: Ino, offset: u64, to: SeekTo, wait: Wait) -> Result<u64, Fault> {
        if ino == NOTE_INO {
            let end = NOTE_TEXT.len() as u64;
            return if offset >= end { Err(Fault::NoData) } else { Ok(if to == SeekTo::Data { offset } else { end }) };
        }
        let found = self.find(ino, own_wait(wait))?;
        let entry = found.entry()?;
        let Node::File(content) = &entry.node else { return Err(Fault::Invalid) };
        let size = entry.meta.size_bytes;
        if offset >= size {
            return Err(Fault::NoData);
        }
        if let (Content::Extents(extents), SeekTo::Hole) = (content, to)
            && extents.iter().all(|extent| !extent.is_hole())
            && check_extents(extents).is_ok()
        {
            return Ok(size);
        }
        let mut answer = None;
        let wanted = to == SeekTo::Hole;
        self.repository
            .for_each_extent(content, offset, size, own_wait(wait), &mut |start, extent| {
                if extent.is_hole() == wanted {
                    answer = Some(start.max(offset));
                }
                Ok(answer.is_none())
            })
            .map_err(fault)?;
        match (answer, to) {
            (Some(answer), _) => Ok(answer),
            (None, SeekTo::Hole) => Ok(size),
            (None, SeekTo::Data) => Err(Fault::NoData),
        }
    }

    fn xattr(&self, ino: Ino, name: &[u8], wait: Wait) -> Result<Vec<u8>, Fault> {
        if ino == ROOT_INO && name == TRAFFIC {
            return serde_json::to_vec(&self.repository.store().traffic()).map_err(|_| Fault::NoAttribute);
        }
        if self.layout().folder(ino).is_some() || self.layout().target(ino).is_some() {
            return Err(Fault::NoAttribute);
        }
        if name == FETCH_BYTES {
            let found = self.find(ino, own_wait(wait))?;
            let entry = found.entry()?;
            let Node::File(content) = &entry.node else { return Err(Fault::NoAttribute) };
            if wait == Wait::Never {
                return Err(Fault::WouldWait);
            }
            let fetch_bytes = self.repository.fetch_bytes(content, entry.meta.size_bytes).map_err(fault)?;
            return Ok(fetch_bytes.to_string().into_bytes());
        }
        let value = |xattrs: &[crate::format::tree::Xattr]| {
            let found = xattrs.iter().find(|xattr| xattr.name[..] == *name);
            found.map(|xattr| xattr.value.0.clone()).ok_or(Fault::NoAttribute)
        };
        if let Some(listed) = self.layout().snapshot(ino) {
            return value(&listed.snapshot.root_meta.xattrs);
        }
        value(&self.find(ino, own_wait(wait))?.entry()?.meta.xattrs)
    }

    fn xattr_names(&self, ino: Ino, wait: Wait) -> Result<Vec<Vec<u8>>, Fault> {
        if self.layout().folder(ino).is_some() || self.layout().target(ino).is_some() {
            return Ok(Vec::new());
        }
        let names = |xattrs: &[crate::format::tree::Xattr]| xattrs.iter().map(|xattr| xattr.name.0.clone()).collect();
        if let Some(listed) = self.layout().snapshot(ino) {
            return Ok(names(&listed.snapshot.root_meta.xattrs));
        }
        Ok(names(&self.find(ino, own_wait(wait))?.entry()?.meta.xattrs))
    }

    fn forget(&self, ino: Ino, count: u64) {
        self.nodes.lock().forget(ino, count);
    }

    fn dir_of(&self, ino: Ino) -> Option<Ino> {
        self.nodes.lock().dir_of(ino)
    }

    fn small_files(
        &self,
        dir: Ino,
        from: u64,
        limit: usize,
        max_bytes: u64,
    ) -> Result<(Vec<Neighbour>, Option<u64>), Fault> {
        let dir = self.dir(dir, OwnWait::Allowed)?;
        if let Some(read_ahead) = self.read_ahead.as_ref().filter(|_| from == 0) {
            read_ahead.visit(dir.parent, dir.ino, max_bytes, || self.directories_of(dir.parent));
        }
        let mut files = Vec::new();
        let mut position = from;
        while let Some(leaf) = self.repository.leaf_at(&dir.directory, position, OwnWait::Allowed).map_err(fault)? {
            while let Some(entry) = leaf.entry(position) {
                if files.len() >= limit {
                    return Ok((files, Some(position)));
                }
                position += 1;
                let size_bytes = entry.meta.size_bytes;
                if matches!(entry.node, Node::File(_)) && (1..=max_bytes).contains(&size_bytes) {
                    let identity = identity::of_entry(dir.ino, &dir.path, entry);
                    let nodes = self.nodes.lock();
                    if nodes.is_known(identity.ino) && nodes.fits(identity) {
                        files.push(Neighbour { ino: identity.ino, size_bytes });
                    }
                }
            }
        }
        Ok((files, None))
    }

    fn want(&self, files: &[Neighbour]) {
        if self.ahead.is_none() {
            return;
        }
        for file in files {
            // What is wrong with a file its reader is told.
            let Ok(found) = self.find(file.ino, OwnWait::Allowed) else { continue };
            if let Ok(Entry { node: Node::File(content), .. }) = found.entry() {
                self.repository.want_content(content, 0..file.size_bytes);
            }
        }
    }

    fn changes(&self, dir: Ino) -> bool {
        self.layout().folder(dir).is_some()
    }

    fn usage(&self) -> Usage {
        if let Some(room) = *self.room.lock() {
            return Usage {
                total_bytes: room.total_bytes,
                free_bytes: room.free_bytes,
                available_bytes: room.available_bytes,
                files: room.files,
                free_files: room.free_files,
            };
        }
        // What the repository takes, of a place nobody knows the end of.
        let used_bytes = self.repository.index().pack_bytes();
        let files = self.layout().newest().map_or(0, |newest| newest.snapshot.root.total_files);
        Usage {
            total_bytes: used_bytes + UNKNOWN_FREE_BYTES,
            free_bytes: UNKNOWN_FREE_BYTES,
            available_bytes: UNKNOWN_FREE_BYTES,
            files: files + UNKNOWN_FREE_FILES,
            free_files: UNKNOWN_FREE_FILES,
        }
    }

    fn note_failure(&self, failure: &Failure) {
        (self.tell)(News::Failure(failure.clone()));
    }

    fn has_xattrs(&self) -> bool {
        self.xattrs
    }

    fn has_hidden_xattrs(&self) -> bool {
        self.ahead.is_some()
    }
}
