//! What the kernel refers to: where each inode it knows is found.
//!
//! A node is a directory and a position in it, 25 bytes; a directory that was entered has a record of
//! its own. A record lives while the kernel refers to it or anything is found through it, so memory
//! follows what the kernel keeps, not what the repository holds.

use super::Dir;
use super::identity::{Identity, PathHash};
use crate::format::tree::Directory;
use bakfs_mount::tree::Ino;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Position of a directory's record.
pub type DirIndex = u32;

/// Many small tables, so that growing one is a small step.
const SHARDS: usize = 64;

/// Numbers are dealt out in so many shares. A table doubles when it is full: the last one gets twice the
/// shares of the first, so that they do it one after the other and two thirds of all room are always used.
const SHARES: usize = 4096;

fn deal() -> Box<[u8]> {
    let table = |share| (SHARDS as f64 * (1.0 + share as f64 / SHARES as f64).log2()) as u8;
    (0..SHARES).map(table).collect()
}

/// Inode numbers are hashes already.
#[derive(Default)]
pub struct Identical(u64);

impl Hasher for Identical {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u32(&mut self, half: u32) {
        // Spreads the bits: the table takes the low ones, and the highest seven.
        self.0 = (self.0.rotate_left(32) ^ u64::from(half)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

type Table<V> = HashMap<Key, V, BuildHasherDefault<Identical>>;

/// An inode number in two halves: a table of them needs no padding.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key(u32, u32);

fn key(ino: Ino) -> Key {
    Key(ino as u32, (ino >> 32) as u32)
}

#[derive(Clone, Copy)]
struct Node {
    dir: DirIndex,
    position: u32,
    references: u32,
    check: u32,
}

struct DirRecord {
    ino: Ino,
    parent: Ino,
    directory: Directory,
    path: PathHash,
    /// Nodes found through it, and directories entered below it.
    users: u64,
}

/// All nodes.
pub struct Nodes {
    shards: Vec<Table<Node>>,
    dealt: Box<[u8]>,
    dirs: Vec<Option<Box<DirRecord>>>,
    free: Vec<DirIndex>,
    by_ino: Table<DirIndex>,
}

impl Default for Nodes {
    fn default() -> Self {
        Nodes {
            shards: (0..SHARDS).map(|_| Table::default()).collect(),
            dealt: deal(),
            dirs: Vec::new(),
            free: Vec::new(),
            by_ino: Table::default(),
        }
    }
}

/// What became of the wish to refer to an inode.
#[derive(Debug, PartialEq, Eq)]
pub enum Referred {
    /// It is referred to.
    Done,
    /// The number stands for something else.
    Taken,
}

impl Nodes {
    fn shard_of(&self, ino: Ino) -> usize {
        usize::from(self.dealt[(ino >> 40) as usize % SHARES])
    }

    fn shard(&mut self, ino: Ino) -> &mut Table<Node> {
        let at = self.shard_of(ino);
        &mut self.shards[at]
    }

    fn record(&self, index: DirIndex) -> Option<&DirRecord> {
        self.dirs.get(index as usize)?.as_deref()
    }

    fn resolved(&self, index: DirIndex) -> Option<Dir> {
        let record = self.record(index)?;
        Some(Dir { index, ino: record.ino, parent: record.parent, directory: record.directory, path: record.path })
    }

    /// Returns a directory that was entered.
    pub fn dir(&self, ino: Ino) -> Option<Dir> {
        self.resolved(*self.by_ino.get(&key(ino))?)
    }

    /// Adds a snapshot's root. It stays for as long as the mount: there is one for each snapshot visited.
    pub fn add_root(&mut self, ino: Ino, directory: Directory, path: PathHash) -> Dir {
        let index = self.add(DirRecord { ino, parent: bakfs_mount::tree::ROOT_INO, directory, path, users: 1 });
        self.resolved(index).expect("it was just added")
    }

    fn add(&mut self, record: DirRecord) -> DirIndex {
        if let Some(index) = self.by_ino.get(&key(record.ino)) {
            return *index;
        }
        let ino = record.ino;
        let index = match self.free.pop() {
            Some(index) => {
                self.dirs[index as usize] = Some(Box::new(record));
                index
            }
            None => {
                self.dirs.push(Some(Box::new(record)));
                DirIndex::try_from(self.dirs.len() - 1).expect("the kernel has memory for fewer than 2^32 directories")
            }
        };
        self.by_ino.insert(key(ino), index);
        index
    }

    /// Enters a directory the kernel refers to.
    pub fn open_dir(&mut self, ino: Ino, directory: Directory, name: &[u8]) -> Option<Dir> {
        let node = *self.shard(ino).get(&key(ino))?;
        let parent = self.record(node.dir)?;
        let (parent_ino, path) = (parent.ino, parent.path.join(name));
        let index = self.add(DirRecord { ino, parent: parent_ino, directory, path, users: 0 });
        self.resolved(index)
    }

    /// Returns the directory an inode is found in, and its position there.
    pub fn place(&self, ino: Ino) -> Option<(Directory, u64)> {
        let node = self.shards[self.shard_of(ino)].get(&key(ino))?;
        Some((self.record(node.dir)?.directory, u64::from(node.position)))
    }

    /// Returns the directory an inode is found in.
    pub fn dir_of(&self, ino: Ino) -> Option<Ino> {
        let node = self.shards[self.shard_of(ino)].get(&key(ino))?;
        Some(self.record(node.dir)?.ino)
    }

    /// Returns whether the kernel refers to an inode.
    pub fn is_known(&self, ino: Ino) -> bool {
        self.shards[self.shard_of(ino)].get(&key(ino)).is_some_and(|node| node.references > 0)
    }

    /// Returns whether a number is free or stands for the same.
    pub fn fits(&self, identity: Identity) -> bool {
        let shard = &self.shards[self.shard_of(identity.ino)];
        shard.get(&key(identity.ino)).is_none_or(|node| node.check == identity.check)
    }

    /// Notes one reference of the kernel to what is at a position of a directory.
    pub fn refer(&mut self, identity: Identity, dir: DirIndex, position: u64) -> Referred {
        let position = u32::try_from(position).expect("a directory has fewer than 2^32 entries");
        let node = self.shard(identity.ino).entry(key(identity.ino));
        match node {
            std::collections::hash_map::Entry::Occupied(mut node) => {
                if node.get().check != identity.check {
                    return Referred::Taken;
                }
                let references = &mut node.get_mut().references;
                *references = references.saturating_add(1);
            }
            std::collections::hash_map::Entry::Vacant(node) => {
                node.insert(Node { dir, position, references: 1, check: identity.check });
                if let Some(Some(record)) = self.dirs.get_mut(dir as usize) {
                    record.users += 1;
                }
            }
        }
        Referred::Done
    }

    /// Drops references of the kernel; what nobody needs any more is forgotten.
    pub fn forget(&mut self, ino: Ino, count: u64) {
        let Some(node) = self.shard(ino).get_mut(&key(ino)) else { return };
        // A count that was too large to keep is never reached: such a node stays.
        if node.references < u32::MAX {
            node.references = node.references.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        }
        self.collect(ino);
    }

    fn collect(&mut self, ino: Ino) {
        let mut ino = ino;
        loop {
            let Some(node) = self.shard(ino).get(&key(ino)).copied() else { return };
            if node.references > 0 {
                return;
            }
            if let Some(index) = self.by_ino.get(&key(ino)).copied() {
                if self.record(index).is_some_and(|record| record.users > 0) {
                    return;
                }
                self.by_ino.remove(&key(ino));
                self.dirs[index as usize] = None;
                self.free.push(index);
            }
            self.shard(ino).remove(&key(ino));
            let Some(Some(parent)) = self.dirs.get_mut(node.dir as usize) else { return };
            parent.users -= 1;
            if parent.users > 0 {
                return;
            }
            ino = parent.ino;
        }
    }

    /// Returns the numbers of nodes and of directory records.
    #[cfg(test)]
    fn len(&self) -> (usize, usize) {
        (self.shards.iter().map(HashMap::len).sum(), self.by_ino.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tree::HOLE;

    const DIRECTORY: Directory = Directory { page: HOLE, entries: 0, total_files: 0, total_bytes: 0 };

    fn id(ino: Ino) -> Identity {
        Identity { ino, check: ino as u32 }
    }

    #[test]
    fn a_shared_file_keeps_the_directory_it_is_found_through_until_it_is_forgotten() {
        let mut nodes = Nodes::default();
        let [a, b] = [100, 200].map(|ino| nodes.add_root(ino, DIRECTORY, PathHash::root()));
        for (root, dir) in [(&a, 1000), (&b, 2000)] {
            assert_eq!(nodes.refer(id(dir), root.index, 0), Referred::Done);
            let entered = nodes.open_dir(dir, DIRECTORY, b"d").unwrap();
            assert_eq!(nodes.refer(id(5000), entered.index, 7), Referred::Done);
        }
        assert_eq!(nodes.dir_of(5000), Some(1000));
        nodes.forget(1000, 1);
        assert!(nodes.place(5000).is_some(), "the kernel still refers to the file");
        nodes.forget(2000, 1);
        nodes.forget(5000, 1);
        assert!(nodes.is_known(5000));
        nodes.forget(5000, 1);
        assert_eq!(nodes.len(), (0, 2), "only the roots are left");
    }

    #[test]
    fn memory_follows_the_number_of_nodes() {
        let mut nodes = Nodes::default();
        let root = nodes.add_root(100, DIRECTORY, PathHash::root());
        for number in 1..=300_000u32 {
            let hash = blake3::hash(&number.to_le_bytes());
            let ino = u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap()) >> 1;
            assert_eq!(nodes.refer(id(ino), root.index, u64::from(number)), Referred::Done);
            if number % 25_000 == 0 {
                let room: usize = nodes.shards.iter().map(HashMap::capacity).sum();
                assert!(room < number as usize * 8 / 5, "room for {room} where there are {number}");
            }
        }
    }

    #[test]
    fn a_number_that_stands_for_something_else_is_told() {
        let mut nodes = Nodes::default();
        let root = nodes.add_root(100, DIRECTORY, PathHash::root());
        assert_eq!(nodes.refer(id(7), root.index, 0), Referred::Done);
        assert_eq!(nodes.refer(Identity { ino: 7, check: 99 }, root.index, 1), Referred::Taken);
    }
}
