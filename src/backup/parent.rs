//! What an earlier snapshot knows: its entries in step with a listing, to take unchanged files over.

use crate::format::tree::{Content, Directory, Entry};
use crate::repo::Repository;
use crate::repo::read::tree::Leaf;
use crate::store::Wait;

/// One directory of the parent snapshot, read in order.
pub struct Cursor<'a> {
    repository: &'a Repository,
    directory: Option<Directory>,
    leaf: Option<Leaf>,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at a directory's first entry; without a directory there are none.
    pub fn new(repository: &'a Repository, directory: Option<Directory>) -> Self {
        let mut cursor = Cursor { repository, directory, leaf: None, at: 0 };
        cursor.load(0);
        cursor
    }

    fn load(&mut self, position: u64) {
        let Some(directory) = &self.directory else { return };
        self.at = 0;
        self.leaf = match self.repository.leaf_at(directory, position, Wait::Allowed) {
            Ok(leaf) => leaf,
            Err(error) => {
                // What the parent cannot tell is read again: that is how a damaged history heals.
                tracing::warn!("An earlier snapshot cannot be used in part: {}", error.chain());
                None
            }
        };
    }

    /// Returns the entry of a name; names must be asked for in order.
    pub fn find(&mut self, name: &[u8]) -> Option<ParentEntry<'_>> {
        loop {
            let leaf = self.leaf.as_ref()?;
            if leaf.entries().last().is_none_or(|last| &last.name[..] < name) {
                let next = leaf.first + leaf.entries().len() as u64;
                self.load(next);
                continue;
            }
            break;
        }
        let leaf = self.leaf.as_ref()?;
        let entries = leaf.entries();
        while &entries[self.at].name[..] < name {
            self.at += 1;
        }
        let entry = Some(&entries[self.at]).filter(|entry| entry.name[..] == *name)?;
        Some(ParentEntry { entry, leaf, position: leaf.first + self.at as u64 })
    }
}

/// An entry of the parent snapshot.
#[derive(Clone, Copy)]
pub struct ParentEntry<'a> {
    /// The entry.
    pub entry: &'a Entry,
    /// The page it is on.
    pub leaf: &'a Leaf,
    /// Its position in its directory.
    pub position: u64,
}

/// Returns whether the repository still has all an entry's content is made of, as far as is known. A list
/// that cannot be read counts as lost: the file is read again.
pub fn is_stored(repository: &Repository, content: &Content) -> bool {
    if let Content::List(page) = content
        && !repository.holds_extent_pages(page)
    {
        return false;
    }
    let mut all = true;
    let walked = repository.for_each_extent(content, 0, u64::MAX, Wait::Allowed, &mut |_, extent| {
        all &= extent.is_hole() || repository.holds(&extent.chunk);
        Ok(all)
    });
    all && walked.is_ok()
}
