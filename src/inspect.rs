//! Looking inside a repository: stored objects decoded, and which packs a path needs. For maintainers, and for whoever
//! helps somebody else: secrets are never part of what is returned.

use crate::crypto::slot::{Derivation, Slot};
use crate::error::{Error, Result};
use crate::format::config::Stored;
use crate::format::header::{Kind, Suite};
use crate::format::index::Segment;
use crate::format::page::Page;
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Content, Directory, Entry, Node};
use crate::id::{ChunkId, ObjectId};
use crate::repo::Repository;
use crate::repo::open::MAX_CONFIG_BYTES;
use crate::repo::read::chunk_kind::ChunkKind;
use crate::repo::read::pack::read_directory;
use crate::repo::read::tree::root_entry;
use crate::repo::read::walk::MAX_DEPTH;
use crate::repo::unlock::MAX_KEY_BYTES;
use crate::store::{Object, ObjectKind, Wait};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::TreePack => "tree",
        _ => "data",
    }
}

/// Returns what a stored object says. Fails where it cannot be read, or does not verify.
pub fn object(repository: &Repository, object: Object) -> Result<Value> {
    let value = match object {
        Object::Config => config(repository)?,
        Object::Key(_) => key(repository, object)?,
        Object::Pack(id) => pack(repository, id)?,
        Object::Index(id) => index(repository, id)?,
        Object::Snapshot(id) => as_json(object, &repository.read_stored::<Snapshot>(id)?)?,
        Object::Mark(id) => as_json(object, &repository.read_mark(id)?)?,
    };
    Ok(value)
}

fn as_json(object: Object, value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::damaged(format!("Cannot show {object}")).because(error))
}

fn config(repository: &Repository) -> Result<Value> {
    let bytes = zeroize::Zeroizing::new(repository.store().read_whole(Object::Config, MAX_CONFIG_BYTES)?);
    let mut stored = Stored::decode(&bytes)
        .map_err(|error| Error::damaged("The configuration cannot be read".to_string()).because(error))?;
    stored.forget_key();
    let config = &stored.config;
    let sizes = config.chunk_sizes;
    Ok(json!({
        "repository": stored.repository,
        "is_encrypted": repository.suite() != Suite::Plain,
        "created": config.created,
        "features": config.features,
        "chunk_sizes": { "min_bytes": sizes.min_bytes, "avg_bytes": sizes.avg_bytes, "max_bytes": sizes.max_bytes },
    }))
}

fn key(repository: &Repository, object: Object) -> Result<Value> {
    let bytes = repository.store().read_whole(object, MAX_KEY_BYTES)?;
    let slot = Slot::parse(&bytes, repository.id())
        .map_err(|error| Error::damaged(format!("{object} cannot be read")).because(error))?;
    Ok(match slot.derivation() {
        Derivation::RandomKey => json!({ "kind": "key" }),
        Derivation::Passphrase { memory_kib, passes, lanes } => json!({
            "kind": "passphrase",
            "argon2id": { "memory_kib": memory_kib, "passes": passes, "lanes": lanes },
        }),
    })
}

fn pack(repository: &Repository, id: ObjectId) -> Result<Value> {
    let store = repository.store();
    let len_bytes = store.len_bytes(Object::Pack(id))?;
    let (entry, directory) = read_directory(&**store, repository.vault(), id, len_bytes)?;
    let frames = directory.frames.iter().map(|frame| {
        json!({
            "offset": frame.offset,
            "stored_bytes": frame.stored_bytes,
            "plain_bytes": frame.plain_bytes,
            "codec": frame.codec,
        })
    });
    let chunks = directory.chunks.iter().map(
        |chunk| json!({ "id": chunk.id, "frame": chunk.frame, "offset": chunk.offset, "len_bytes": chunk.len_bytes }),
    );
    Ok(json!({
        "kind": kind_name(entry.kind),
        "len_bytes": entry.len_bytes,
        "frames": frames.collect::<Vec<_>>(),
        "chunks": chunks.collect::<Vec<_>>(),
    }))
}

fn index(repository: &Repository, id: ObjectId) -> Result<Value> {
    let plain = repository.read_index_object(id)?;
    let segment = Segment::new(&plain[..], plain.len())
        .map_err(|error| Error::damaged(format!("{} cannot be read", Object::Index(id))).because(error))?;
    let packs = (0..segment.pack_count())
        .filter_map(|at| segment.pack(at))
        .map(|pack| json!({ "id": pack.id, "kind": kind_name(pack.kind), "len_bytes": pack.len_bytes }));
    let chunks = (0..segment.chunk_count()).filter_map(|at| segment.chunk(at)).map(
        |chunk| json!({ "id": chunk.id, "frame": chunk.frame, "offset": chunk.offset, "len_bytes": chunk.len_bytes }),
    );
    Ok(json!({
        "packs": packs.collect::<Vec<_>>(),
        "frames": segment.frame_count(),
        "chunks": chunks.collect::<Vec<_>>(),
    }))
}

/// Finds an object by its path in the store, of whose name the first digits are enough: `config`, `packs/1f3c`.
pub fn find(repository: &Repository, name: &str) -> Result<Object> {
    if name == "config" {
        return Ok(Object::Config);
    }
    let unknown = || {
        let folders = ObjectKind::ALL.map(|kind| format!("{}/ID", kind.folder())).join(", ");
        Error::usage(format!("`{name}` names no stored object: write config, {folders}; `bakfs debug list` has them"))
    };
    let (folder, rest) = name.split_once('/').ok_or_else(unknown)?;
    // Packs lie in folders of their first two digits.
    let prefix = rest.rsplit_once('/').map_or(rest, |(_, name)| name);
    let kind = ObjectKind::ALL.into_iter().find(|kind| kind.folder() == folder).ok_or_else(unknown)?;
    let listed = repository.store().list(kind)?;
    let mut found = listed.iter().filter(|listed| !prefix.is_empty() && listed.id.to_hex().starts_with(prefix));
    match (found.next(), found.next()) {
        (Some(listed), None) => Ok(kind.object(listed.id)),
        (Some(_), Some(_)) => {
            Err(Error::usage(format!("`{name}` begins more than one object: write more of its name")))
        }
        (None, _) => Err(unknown()),
    }
}

/// What a path needs of one pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// What the pack holds: data or pages of trees.
    pub kind: ChunkKind,
    /// How many of its chunks.
    pub chunks: u64,
    /// Their length before compression.
    pub plain_bytes: u64,
}

impl Need {
    /// Returns the word for what the pack holds.
    pub fn kind_name(&self) -> &'static str {
        if self.kind == ChunkKind::Page { "tree" } else { "data" }
    }
}

/// What a path of a snapshot needs.
#[derive(Debug, Default)]
pub struct Needs {
    /// By pack. A chunk that is in two counts for the one that is read.
    pub packs: BTreeMap<ObjectId, Need>,
    /// Chunks that are in no pack the index names.
    pub missing: Vec<ChunkId>,
    /// Packs that the index names and that are not there.
    pub missing_packs: Vec<ObjectId>,
    seen: HashSet<ChunkId>,
}

impl Serialize for Needs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Pack<'a> {
            pack: &'a ObjectId,
            kind: &'static str,
            chunks: u64,
            plain_bytes: u64,
        }
        let packs = self.packs.iter().map(|(pack, need)| Pack {
            pack,
            kind: need.kind_name(),
            chunks: need.chunks,
            plain_bytes: need.plain_bytes,
        });
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("packs", &packs.collect::<Vec<_>>())?;
        map.serialize_entry("missing_chunks", &self.missing)?;
        map.serialize_entry("missing_packs", &self.missing_packs)?;
        map.end()
    }
}

/// Returns which packs are read for a path of a snapshot and, where it is a directory, for all that is below it; the pages
/// on the way to it included. `None` where there is nothing at the path.
///
/// Memory: 32 bytes for each chunk.
pub fn why(repository: &Repository, snapshot: &Snapshot, path: &[u8]) -> Result<Option<Needs>> {
    let mut needs = Needs::default();
    let mut entry = root_entry(snapshot);
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        let Node::Directory(directory) = entry.node else { return Ok(None) };
        match needs.way(repository, &directory, name)? {
            Some(next) => entry = next,
            None => return Ok(None),
        }
    }
    let mut open = vec![(entry, 0)];
    while let Some((entry, depth)) = open.pop() {
        match &entry.node {
            Node::File(content) => needs.content(repository, content)?,
            Node::Directory(directory) if depth < MAX_DEPTH => {
                needs.pages(repository, &directory.page, u32::MAX, &|id| repository.page(id, Wait::Allowed))?;
                repository.for_each_entry(directory, |entry| {
                    open.push((entry.clone(), depth + 1));
                    Ok(())
                })?;
            }
            _ => {}
        }
    }
    needs.missing.sort_unstable();
    let packs: Vec<_> = needs.packs.keys().map(|id| Object::Pack(*id)).collect();
    let found: HashSet<_> = repository.find_stored(&packs)?.into_iter().collect();
    needs.missing_packs = needs.packs.keys().copied().filter(|id| !found.contains(&Object::Pack(*id))).collect();
    Ok(Some(needs))
}

impl Needs {
    /// Adds a chunk; returns whether it is the first time.
    fn add(&mut self, repository: &Repository, kind: ChunkKind, id: &ChunkId) -> Result<bool> {
        if !self.seen.insert(*id) {
            return Ok(false);
        }
        let Some(location) = repository.place(id, Wait::Allowed)? else {
            self.missing.push(*id);
            return Ok(true);
        };
        let need = self.packs.entry(location.pack.id).or_insert(Need { kind, chunks: 0, plain_bytes: 0 });
        need.chunks += 1;
        need.plain_bytes += u64::from(location.chunk.len_bytes);
        Ok(true)
    }

    /// Adds the pages that lead to a name, and returns its entry.
    fn way(&mut self, repository: &Repository, directory: &Directory, name: &[u8]) -> Result<Option<Entry>> {
        let (mut id, mut above) = (directory.page, u32::MAX);
        loop {
            self.add(repository, ChunkKind::Page, &id)?;
            match &*repository.page(&id, Wait::Allowed)? {
                Page::Inner { level, children } if *level < above => {
                    let at = children.partition_point(|child| &child.first[..] <= name);
                    let Some(at) = at.checked_sub(1) else { return Ok(None) };
                    (id, above) = (children[at].page, *level);
                }
                Page::Inner { .. } => return Err(wrong_level(&id)),
                Page::Leaf(entries) => return Ok(entries.iter().find(|entry| *entry.name == *name).cloned()),
            }
        }
    }

    /// Adds a page and those below it.
    fn pages<T>(
        &mut self,
        repository: &Repository,
        id: &ChunkId,
        above: u32,
        read: &impl Fn(&ChunkId) -> Result<Arc<Page<T>>>,
    ) -> Result<()> {
        self.add(repository, ChunkKind::Page, id)?;
        match &*read(id)? {
            Page::Leaf(_) => Ok(()),
            // Levels fall with every step: a cycle cannot be built.
            Page::Inner { level, children } if *level < above => {
                children.iter().try_for_each(|child| self.pages(repository, &child.page, *level, read))
            }
            Page::Inner { .. } => Err(wrong_level(id)),
        }
    }

    fn content(&mut self, repository: &Repository, content: &Content) -> Result<()> {
        if let Content::List(page) = content {
            self.pages(repository, page, u32::MAX, &|id| repository.extent_page(id, Wait::Allowed))?;
        }
        repository.for_each_extent(content, 0, u64::MAX, Wait::Allowed, &mut |_, extent| {
            if !extent.is_hole() {
                self.add(repository, ChunkKind::Data, &extent.chunk)?;
            }
            Ok(true)
        })
    }
}

fn wrong_level(id: &ChunkId) -> Error {
    Error::damaged(format!("Page {id} is of the wrong level: run `bakfs check`"))
}
