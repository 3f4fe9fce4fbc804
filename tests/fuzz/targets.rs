//! Parsers of stored bytes, each with real objects to begin from.

use bakfs::crypto::keys::Secret;
use bakfs::crypto::seal::Role;
use bakfs::crypto::slot::{self, Credential};
use bakfs::format::config::Stored;
use bakfs::format::frame::{Decoder, RAW, ZSTD};
use bakfs::format::header::{Header, Kind, Suite};
use bakfs::format::index::Segment;
use bakfs::format::mark::Mark;
use bakfs::format::pack::{Directory, TRAILER_BYTES, Trailer};
use bakfs::format::page::Page;
use bakfs::format::snapshot::Snapshot;
use bakfs::format::tree::{Content, Entry, Extent, Node};
use bakfs::id::{ChunkId, ObjectId};
use bakfs::repo::Repository;
use bakfs::repo::index::on_demand::LazySegment;
use bakfs::repo::objects::{object_id, open_object, seal_object, seal_whole};
use bakfs::repo::read::chunk_kind::ChunkKind;
use bakfs::repo::read::pack::read_directory;
use bakfs::repo::write::{WriteOptions, Writer};
use bakfs::store::{ListedObject, Object, ObjectKind, Store, Wait};
use bakfs_testing::library::{self, Source, TINY_CHUNKS};
use bakfs_testing::stores::{MemStore, Objects};
use std::sync::Arc;

/// A parser and inputs it knows.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Real inputs.
    pub seeds: Vec<Vec<u8>>,
    /// Takes an input and tells what came of it.
    pub run: Run,
}

type Run = Box<dyn Fn(&[u8]) -> String>;
type Plant = Box<dyn Fn(&[u8])>;

/// A repository in memory with everything in it.
struct World {
    objects: Objects,
    repository: Arc<Repository>,
}

impl World {
    fn new() -> World {
        let source = Source::new();
        let store = Arc::new(MemStore::default());
        library::init(&*store, Suite::Aes256GcmSiv, 0, TINY_CHUNKS).unwrap();
        for day in 0..3 {
            library::plant(&source.path(), day);
            let repository = library::open(store.clone()).unwrap();
            library::back_up(&repository, &source.path(), day as i64).unwrap();
        }
        library::forget_oldest(&library::open(store.clone()).unwrap()).unwrap();
        let newest = library::open(store.clone()).unwrap();
        newest.pin(newest.snapshots().unwrap()[1].id, "kept").unwrap();
        World { objects: store.objects(), repository: library::open(store).unwrap() }
    }

    fn stored(&self, kind: ObjectKind) -> Vec<(ObjectId, Vec<u8>)> {
        let listed = self.repository.store().list(kind).unwrap();
        let read = |id| self.repository.store().read_whole(kind.object(id), 1 << 30).unwrap();
        listed.iter().map(|listed| (listed.id, read(listed.id))).collect()
    }

    fn plain(&self, stored: ObjectKind, kind: Kind) -> Vec<Vec<u8>> {
        let open = |bytes| open_object(self.repository.vault(), kind, bytes, 1 << 26).unwrap();
        self.stored(stored).into_iter().map(|(_, bytes)| open(bytes)).collect()
    }

    fn directories(&self) -> Vec<(Kind, Directory)> {
        let (store, vault) = (&**self.repository.store(), self.repository.vault());
        let packs = self.stored(ObjectKind::Pack);
        let read = |(pack, bytes): (ObjectId, Vec<u8>)| {
            let (entry, directory) = read_directory(store, vault, pack, bytes.len() as u64).unwrap();
            (entry.kind, directory)
        };
        packs.into_iter().map(read).collect()
    }

    /// Returns all pages of trees: of entries, and of extents.
    fn pages(&self) -> [Vec<Vec<u8>>; 2] {
        let mut pages = [Vec::new(), Vec::new()];
        for (_, directory) in self.directories().into_iter().filter(|(kind, _)| *kind == Kind::TreePack) {
            for chunk in directory.chunks {
                let mut bytes = Vec::new();
                let range = 0..chunk.len_bytes as usize;
                self.repository.read_chunk(ChunkKind::Page, &chunk.id, range, Wait::Allowed, &mut bytes).unwrap();
                let is_of_entries = Page::<Entry>::decode(&bytes).is_ok();
                pages[usize::from(!is_of_entries)].push(bytes);
            }
        }
        assert!(pages.iter().all(|pages| !pages.is_empty()));
        pages
    }

    /// Reads and checks a repository of these objects, and says what it shows.
    fn look(objects: Objects) -> String {
        match library::open(Arc::new(MemStore::of(objects))) {
            Ok(repository) => shown(&repository),
            Err(error) => error.chain(),
        }
    }

    fn with(&self, object: Object, bytes: Vec<u8>) -> Objects {
        let mut objects = self.objects.clone();
        objects.insert(object.path(), Arc::new(bytes));
        objects
    }

    fn seal(&self, kind: Kind, plain: &[u8]) -> Vec<u8> {
        seal_object(self.repository.vault(), kind, plain)
    }
}

fn shown(repository: &Arc<Repository>) -> String {
    let mut said = String::new();
    match library::read_all(repository) {
        Ok(history) => {
            said.extend(history.warnings);
            said.extend(history.snapshots.into_values().flat_map(|(_, shown)| shown.errors));
        }
        Err(error) => said.push_str(&error.chain()),
    }
    match library::check(repository) {
        Ok(report) => said.extend(report.findings.into_iter().flat_map(|finding| finding.problems)),
        Err(error) => said.push_str(&error.chain()),
    }
    said
}

fn told<T, E: std::fmt::Display>(result: Result<T, E>) -> String {
    result.map_or_else(|error| error.to_string(), |_| String::new())
}

/// Asks everything of a segment.
fn look_up(bytes: &[u8]) -> String {
    let segment = match Segment::new(bytes, bytes.len()) {
        Ok(segment) => segment,
        Err(error) => return error.to_string(),
    };
    let packs = (0..segment.pack_count()).filter_map(|at| segment.pack(at)).count();
    let frames = (0..segment.frame_count()).filter_map(|at| segment.frame(at)).count();
    for chunk in (0..segment.chunk_count()).filter_map(|at| segment.chunk(at)) {
        segment.find(&chunk.id);
        segment.find_all(&chunk.id).count();
    }
    segment.find_all(&ChunkId([0xff; 32])).count();
    format!("{} {}", packs == segment.pack_count(), frames == segment.frame_count())
}

/// Looks chunks up in an index object where it is stored.
fn on_demand(world: &World, stored: &[u8], ids: impl Iterator<Item = ChunkId>) -> String {
    let listed = ListedObject { id: object_id(stored), len_bytes: stored.len() as u64 };
    let store: Arc<dyn Store> = Arc::new(MemStore::of(world.with(Object::Index(listed.id), stored.to_vec())));
    let vault = world.repository.vault();
    match LazySegment::open(&store, vault, listed, &Arc::default()) {
        Ok(Some(segment)) => {
            ids.map(|id| told(segment.find_all(&id, Wait::Allowed).map_err(|error| error.chain()))).collect()
        }
        Ok(None) => "not in pieces".into(),
        Err(error) => error.chain(),
    }
}

/// Codec, plaintext length and the encoded bytes of a frame.
fn decode_frame(bytes: &[u8]) -> String {
    let Some((head, encoded)) = bytes.split_first_chunk::<5>() else { return String::new() };
    let plain_bytes = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let mut out = Vec::new();
    let said = told(Decoder::default().decode(head[0], encoded, plain_bytes, &mut out));
    assert!(out.len() <= plain_bytes, "more came out than was asked for");
    said
}

fn frames() -> Vec<Vec<u8>> {
    let text = b"row row row your boat ".repeat(300);
    let head = |codec: u8| [&[codec][..], &(text.len() as u32).to_le_bytes()].concat();
    let compressed = |level| [head(ZSTD), zstd::bulk::compress(&text, level).unwrap()].concat();
    vec![[head(RAW), text.clone()].concat(), compressed(1), compressed(19)]
}

/// Returns a pack with the right seals around bytes that stand for its directory.
fn pack_around(world: &World, kind: Kind, directory: &[u8], frames: u32) -> Vec<u8> {
    let repository = &world.repository;
    let mut sealer = repository.vault().sealer(kind);
    let mut bytes = sealer.header().encode();
    for _ in 0..frames.clamp(1, 64) {
        let from = bytes.len();
        bytes.extend_from_slice(&[7; 1024]);
        sealer.seal(Role::Frame, RAW, 1024, &mut bytes, from);
    }
    let from = bytes.len();
    let plain_bytes = directory.len() as u32;
    bytes.extend_from_slice(directory);
    let number = sealer.seal(Role::Directory, RAW, plain_bytes, &mut bytes, from);
    let directory_bytes = (bytes.len() - from) as u32;
    bytes.extend_from_slice(&Trailer { directory_bytes, codec: RAW, plain_bytes, number }.encode());
    bytes
}

/// Stores a page under its right id, and a snapshot that uses it.
fn plant_page(world: &World, page: &[u8], as_content: bool) -> String {
    let store = Arc::new(MemStore::of(world.objects.clone()));
    let repository = match library::open(store.clone()) {
        Ok(repository) => repository,
        Err(error) => return error.chain(),
    };
    let mut snapshot = (*repository.snapshots().unwrap()[0].snapshot).clone();
    let id = repository.keys().page_id(page);
    let mut writer = Writer::new(repository.clone(), WriteOptions { threads: 1, ..WriteOptions::default() });
    writer.add(ChunkKind::Page, id, page).unwrap();
    snapshot.root.page = id;
    if as_content {
        let meta = bakfs::format::tree::Meta { size_bytes: 9000, ..Default::default() };
        let entry = Entry { name: b"file"[..].into(), meta, node: Node::File(Content::List(id)) };
        let leaf = bakfs::format::codec::encode(&Page::Leaf(vec![entry]));
        snapshot.root.page = repository.keys().page_id(&leaf);
        writer.add(ChunkKind::Page, snapshot.root.page, &leaf).unwrap();
    }
    snapshot.root.entries = match Page::<Entry>::decode(page) {
        Ok(Page::Leaf(entries)) if !as_content => entries.len() as u64,
        Ok(Page::Inner { children, .. }) if !as_content => children.iter().map(|child| child.items).sum(),
        _ => 1,
    };
    writer.finish().unwrap();
    let bytes = world.seal(Kind::Snapshot, &snapshot.encode());
    store.put(Object::Snapshot(object_id(&bytes)), &bytes).unwrap();
    shown(&library::open(store).unwrap())
}

/// All targets.
pub fn all() -> Vec<Target> {
    let world = Arc::new(World::new());
    let mut targets = bare(&world);
    targets.extend(sealed(&world));
    targets.extend(cached(&world));
    targets
}

fn target(name: &'static str, seeds: Vec<Vec<u8>>, run: impl Fn(&[u8]) -> String + 'static) -> Target {
    Target { name, seeds, run: Box::new(run) }
}

/// Parsers by themselves.
fn bare(world: &World) -> Vec<Target> {
    let all = |kind| world.stored(kind).into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>();
    let headers: Vec<_> =
        ObjectKind::ALL.iter().flat_map(|kind| all(*kind)).map(|bytes| bytes[..112].to_vec()).collect();
    let configuration = vec![world.objects["config"].to_vec()];
    let id = world.repository.id();
    let (directories, trailers): (Vec<_>, Vec<_>) = world
        .directories()
        .iter()
        .zip(all(ObjectKind::Pack))
        .map(|((_, directory), pack)| (directory.encode(), pack[pack.len() - TRAILER_BYTES..].to_vec()))
        .unzip();
    let [pages, extents] = world.pages();
    vec![
        target("header", headers, |bytes| told(Header::decode(bytes))),
        target("configuration", configuration, |bytes| told(Stored::decode(bytes))),
        target("key slot", all(ObjectKind::Key), move |bytes| {
            told(slot::check(bytes)) + &told(slot::open(bytes, id, &Credential::Key(Secret(library::KEYS[0]))))
        }),
        target("pack directory", directories, |bytes| told(Directory::decode(bytes, 1 << 20))),
        target("pack trailer", trailers, |bytes| {
            bytes.first_chunk().map_or_else(String::new, |bytes| told(Trailer::decode(bytes)))
        }),
        target("index segment", world.plain(ObjectKind::Index, Kind::Index), look_up),
        target("page of entries", pages, |bytes| told(Page::<Entry>::decode(bytes))),
        target("page of extents", extents, |bytes| told(Page::<Extent>::decode(bytes))),
        target("snapshot", world.plain(ObjectKind::Snapshot, Kind::Snapshot), |bytes| told(Snapshot::decode(bytes))),
        target("mark", world.plain(ObjectKind::Mark, Kind::Mark), |bytes| told(Mark::decode(bytes))),
        target("frame", frames(), decode_frame),
    ]
}

/// The same bytes behind valid seals, read and checked as a whole repository.
fn sealed(world: &Arc<World>) -> Vec<Target> {
    let run = |run: fn(&World, &[u8]) -> String| {
        let world = world.clone();
        move |bytes: &[u8]| run(&world, bytes)
    };
    let [pages, extents] = world.pages();
    let directories: Vec<_> = world.directories().iter().map(|(_, directory)| directory.encode()).collect();
    vec![
        target("sealed page of entries", pages, run(|world, bytes| plant_page(world, bytes, false))),
        target("sealed page of extents", extents, run(|world, bytes| plant_page(world, bytes, true))),
        target(
            "sealed index segment",
            world.plain(ObjectKind::Index, Kind::Index),
            run(|world, bytes| {
                let sealed = world.seal(Kind::Index, bytes);
                let mut objects = world.with(Object::Index(object_id(&sealed)), sealed);
                // It alone says where everything is.
                objects.retain(|path, _| !path.starts_with("index/") || !world.objects.contains_key(path));
                World::look(objects)
            }),
        ),
        target(
            "sealed index segment on demand",
            world.plain(ObjectKind::Index, Kind::Index),
            run(|world, bytes| {
                let records = bytes.rchunks_exact(44).take(100);
                let ids = records.map(|record| ChunkId(*record.first_chunk().unwrap()));
                on_demand(world, &world.seal(Kind::Index, bytes), ids.chain([ChunkId([0xff; 32])]))
            }),
        ),
        target(
            "index object",
            world.stored(ObjectKind::Index).into_iter().map(|(_, bytes)| bytes).collect(),
            run(|world, bytes| {
                let vault = world.repository.vault();
                told(open_object(vault, Kind::Index, bytes.to_vec(), 1 << 20).map_err(|error| error.chain()))
                    + &on_demand(world, bytes, [ChunkId([1; 32])].into_iter())
            }),
        ),
        target(
            "sealed index segment of format 1",
            world.plain(ObjectKind::Index, Kind::Index),
            run(|world, bytes| {
                let repository = &world.repository;
                let vault = repository.vault();
                let sealed = seal_whole(vault, Kind::Index, bytes);
                let mut objects = world.with(Object::Index(object_id(&sealed)), sealed);
                objects.retain(|path, _| !path.starts_with("index/") || !world.objects.contains_key(path));
                World::look(objects)
            }),
        ),
        target(
            "sealed snapshot",
            world.plain(ObjectKind::Snapshot, Kind::Snapshot),
            run(|world, bytes| {
                let sealed = world.seal(Kind::Snapshot, bytes);
                World::look(world.with(Object::Snapshot(object_id(&sealed)), sealed))
            }),
        ),
        target(
            "sealed mark",
            world.plain(ObjectKind::Mark, Kind::Mark),
            run(|world, bytes| {
                let sealed = world.seal(Kind::Mark, bytes);
                let store = Arc::new(MemStore::of(world.with(Object::Mark(object_id(&sealed)), sealed)));
                let repository = library::open(store).unwrap();
                shown(&repository) + &told(library::prune(&repository))
            }),
        ),
        target(
            "sealed pack directory",
            directories,
            run(|world, bytes| {
                let frames = bytes.first_chunk().map_or(1, |count| u32::from_le_bytes(*count));
                let kind = if bytes.len() % 2 == 0 { Kind::TreePack } else { Kind::DataPack };
                let pack = pack_around(world, kind, bytes, frames);
                let mut objects = world.with(Object::Pack(object_id(&pack)), pack);
                // Without an index packs are read by their own directories.
                objects.retain(|path, _| !path.starts_with("index/"));
                World::look(objects)
            }),
        ),
    ]
}

/// What the cache on this machine holds.
fn cached(world: &Arc<World>) -> Vec<Target> {
    let folder = tempfile::tempdir().unwrap();
    let cache = |objects: &Objects| {
        let repository = library::open_with(Arc::new(MemStore::of(objects.clone())), Some(folder.path())).unwrap();
        repository.snapshots().unwrap();
        let entries = std::fs::read_dir(folder.path().join(repository.id().to_string())).unwrap();
        entries.map(|entry| entry.unwrap().path()).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    };
    let files: Vec<(std::path::PathBuf, Vec<u8>)> = cache(&world.objects);
    let is_segment = |path: &std::path::Path| path.extension().is_some_and(|extension| extension == "seg");
    let segments: Vec<_> = files.iter().filter(|(path, _)| is_segment(path)).map(|(_, bytes)| bytes.clone()).collect();
    let (list, bytes) = files.iter().find(|(path, _)| !is_segment(path)).unwrap().clone();
    let folder = Arc::new(folder);
    let run = |plant: Plant| {
        let (world, folder) = (world.clone(), folder.clone());
        move |bytes: &[u8]| {
            plant(bytes);
            let store = Arc::new(MemStore::of(world.objects.clone()));
            match library::open_with(store, Some(folder.path())) {
                Ok(repository) => shown(&repository),
                Err(error) => error.chain(),
            }
        }
    };
    let segment = list.with_file_name("planted.seg");
    vec![
        target(
            "cached list of snapshots",
            vec![bytes[32..].to_vec()],
            run(Box::new(move |bytes| {
                let hash = blake3::hash(bytes);
                std::fs::write(&list, [hash.as_bytes(), bytes].concat()).unwrap();
            })),
        ),
        target(
            "cached index segment",
            segments,
            run(Box::new(move |bytes| {
                let folder = segment.parent().unwrap();
                for entry in std::fs::read_dir(folder).unwrap() {
                    let path = entry.unwrap().path();
                    if path.extension().is_some_and(|extension| extension == "seg") {
                        std::fs::remove_file(path).unwrap();
                    }
                }
                std::fs::write(&segment, bytes).unwrap();
            })),
        ),
    ]
}
