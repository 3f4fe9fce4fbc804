//! Which paths of which snapshots damage concerns.

use super::Part;
use super::damage::Damage;
use crate::error::Result;
use crate::format::page::Page;
use crate::format::tree::{Content, Directory, Node};
use crate::id::ChunkId;
use crate::repo::Repository;
use crate::repo::index::Index;
use crate::repo::read::cursor::{Cursor, Head};
use crate::repo::read::walk::{MAX_DEPTH, shown_path};
use crate::repo::shared::listed::ListedSnapshot;
use crate::repo::shared::names;
use crate::store::Wait;
use std::collections::HashSet;

struct Open<'a> {
    cursor: Cursor<'a>,
    directory: ChunkId,
    path_len: usize,
    is_sound: bool,
}

/// Walks all snapshots, each sound directory once, and adds the paths that findings concern.
pub fn attribute(
    repository: &Repository,
    index: &Index,
    snapshots: &[ListedSnapshot],
    damage: &mut Damage,
) -> Result<()> {
    let mut sound = HashSet::new();
    for (listed, name) in snapshots.iter().zip(names::shown(snapshots)) {
        let mut walk = Walk { repository, index, damage, sound: &mut sound, snapshot: &name, path: Vec::new() };
        walk.run(&listed.snapshot.root);
    }
    Ok(())
}

struct Walk<'a, 'd> {
    repository: &'a Repository,
    index: &'a Index,
    damage: &'d mut Damage,
    sound: &'d mut HashSet<ChunkId>,
    snapshot: &'d str,
    path: Vec<u8>,
}

impl<'a> Walk<'a, '_> {
    fn run(&mut self, root: &Directory) {
        let mut stack = Vec::new();
        self.enter(&mut stack, root);
        while let Some(open) = stack.last_mut() {
            self.path.truncate(open.path_len);
            let entry = match open.cursor.head() {
                Head::Entry(entry) => entry,
                Head::Page { .. } => {
                    let page = open.cursor.whole_page();
                    match page.and_then(|page| self.damage.of_chunk(self.index, &page)) {
                        Some(finding) => {
                            open.is_sound = false;
                            self.concerns(finding, Part::Entries);
                            open.cursor.skip();
                        }
                        // What cannot be read although nothing is known to be wrong was told before.
                        None => open.is_sound &= open.cursor.read().is_ok(),
                    }
                    continue;
                }
                Head::End => {
                    let is_sound = open.is_sound;
                    if is_sound {
                        self.sound.insert(open.directory);
                    }
                    stack.pop();
                    if let Some(parent) = stack.last_mut() {
                        parent.is_sound &= is_sound;
                    }
                    continue;
                }
            };
            self.path.push(b'/');
            self.path.extend_from_slice(&entry.name);
            let below = match &entry.node {
                Node::Directory(directory) => Some(*directory),
                Node::File(content) => {
                    if let Some(finding) = self.content(content) {
                        open.is_sound = false;
                        self.concerns(finding, Part::Content);
                    }
                    None
                }
                _ => None,
            };
            open.cursor.pass();
            if let Some(directory) = below {
                self.enter(&mut stack, &directory);
            }
        }
    }

    fn concerns(&mut self, finding: usize, part: Part) {
        self.damage.concerns(finding, shown_path(&self.path), part, self.snapshot);
    }

    fn enter(&self, stack: &mut Vec<Open<'a>>, directory: &Directory) {
        if !self.sound.contains(&directory.page) && stack.len() < MAX_DEPTH {
            let cursor = Cursor::new(self.repository, directory);
            stack.push(Open { cursor, directory: directory.page, path_len: self.path.len(), is_sound: true });
        }
    }

    fn content(&self, content: &Content) -> Option<usize> {
        match content {
            Content::Extents(extents) => {
                let chunks = extents.iter().filter(|extent| !extent.is_hole());
                chunks.filter_map(|extent| self.damage.of_chunk(self.index, &extent.chunk)).next()
            }
            Content::List(page) => self.list(page, u32::MAX),
        }
    }

    fn list(&self, id: &ChunkId, above: u32) -> Option<usize> {
        if let Some(finding) = self.damage.of_chunk(self.index, id) {
            return Some(finding);
        }
        match &*self.repository.extent_page(id, Wait::Allowed).ok()? {
            Page::Leaf(extents) => {
                let chunks = extents.iter().filter(|extent| !extent.is_hole());
                chunks.filter_map(|extent| self.damage.of_chunk(self.index, &extent.chunk)).next()
            }
            Page::Inner { level, children } if *level < above => {
                children.iter().find_map(|child| self.list(&child.page, *level))
            }
            Page::Inner { .. } => None,
        }
    }
}
