//! What no honest writer stores, sealed with the right keys.

use bakfs::crypto::seal::Role;
use bakfs::format::codec::{self, Bytes};
use bakfs::format::frame::ZSTD;
use bakfs::format::header::Kind;
use bakfs::format::index::{SegmentBuilder, segment_head};
use bakfs::format::page::{Child, Page};
use bakfs::format::snapshot::Snapshot;
use bakfs::format::tree::{Content, Directory, Entry, Extent, HOLE, Meta, Node, Time, Xattr};
use bakfs::id::ChunkId;
use bakfs::repo::Repository;
use bakfs::repo::objects::{object_id, seal_object};
use bakfs::repo::read::chunk_kind::ChunkKind;
use bakfs::repo::shared::dated;
use bakfs::repo::shared::session::Session;
use bakfs::repo::write::pack::PackBuilder;
use bakfs::repo::write::{WriteOptions, Writer};
use bakfs::store::{Names, Object, ObjectKind};
use std::path::Path;
use std::sync::Arc;

/// One hostile repository.
pub struct Attack {
    /// What is hostile about it.
    pub name: &'static str,
    /// Stores the hostile snapshot; the path is a folder it may try to write to.
    pub store: fn(&Arc<Repository>, &Path),
    /// Whether there is so much of it that reading it all never ends.
    pub is_endless: bool,
}

const fn attack(name: &'static str, store: fn(&Arc<Repository>, &Path)) -> Attack {
    Attack { name, store, is_endless: false }
}

const fn endless(name: &'static str, store: fn(&Arc<Repository>, &Path)) -> Attack {
    Attack { name, store, is_endless: true }
}

/// All of them.
pub const ATTACKS: &[Attack] = &[
    attack("names that lead out", |repository, outside| {
        let long = "n".repeat(256);
        let absolute = outside.join("planted");
        for name in
            ["..", ".", "", "a/b", "../planted", "../../planted", "nul\0name", &long, absolute.to_str().unwrap()]
        {
            entries(repository, vec![file(repository, name, b"planted")]);
            let below = directory(repository, vec![file(repository, "planted", b"planted")]);
            entries(repository, vec![named(name, Node::Directory(below))]);
        }
    }),
    attack("a link and a directory of one name", |repository, outside| {
        let link = || named("name", Node::Symlink(path_bytes(outside)));
        let below = directory(repository, vec![file(repository, "planted", b"planted")]);
        entries(repository, vec![link(), named("name", Node::Directory(below))]);
        entries(repository, vec![named("name", Node::Directory(below)), link()]);
        entries(repository, vec![link(), file(repository, "name", b"planted")]);
    }),
    attack("a link and a directory of one name in two pages", |repository, outside| {
        let below = directory(repository, vec![file(repository, "planted", b"planted")]);
        let link = leaf(repository, &[named("name", Node::Symlink(path_bytes(outside)))]);
        let inner = leaf(repository, &[named("name", Node::Directory(below))]);
        for firsts in [["name", "name"], ["name", "namf"], ["a", "b"]] {
            let children = [(link, firsts[0]), (inner, firsts[1])].map(|(page, first)| child(page, first, 1, 0)).into();
            root(repository, Directory { page: inner_page(repository, 1, children), entries: 2, ..EMPTY });
        }
    }),
    attack("hard links to a directory, a link and to other content", |repository, outside| {
        let linked = |name: &str, node: Node, size: u64| {
            let meta = Meta { ino: 7, link_device: 9, nlink: 5, size_bytes: size, mode: 0o755, ..Meta::default() };
            Entry { name: name.as_bytes().into(), meta, node }
        };
        let below = directory(repository, vec![file(repository, "planted", b"planted")]);
        let a = file(repository, "a", b"first");
        let b = file(repository, "b", b"second");
        let list = vec![
            linked("a", a.node, 5),
            linked("b", b.node, 6),
            linked("c", Node::Directory(below), 0),
            linked("d", Node::Symlink(path_bytes(outside)), 0),
            linked("e", Node::Directory(below), 0),
            linked("f", Node::Fifo, 0),
        ];
        let mut reversed: Vec<_> = list.iter().rev().cloned().collect();
        for (entry, name) in reversed.iter_mut().zip(["a", "b", "c", "d", "e", "f"]) {
            entry.name = name.as_bytes().into();
        }
        entries(repository, list);
        entries(repository, reversed);
    }),
    attack("directories 100 000 deep", |repository, _| {
        let mut below = directory(repository, vec![named("planted", Node::Fifo)]);
        let mut writer = writer(repository);
        for level in 0..100_000 {
            let page = put_page(repository, &mut writer, &Page::Leaf(vec![named("d", Node::Directory(below))]));
            below = Directory { page, entries: 1, total_files: level + 2, total_bytes: 0 };
        }
        writer.finish().unwrap();
        root(repository, below);
    }),
    endless("two names for each directory, 60 deep", |repository, _| {
        let mut below = directory(repository, vec![named("planted", Node::Fifo)]);
        for _ in 0..60 {
            let both = ["a", "b"].map(|name| named(name, Node::Directory(below)));
            let total_files = below.total_files * 2 + 2;
            below = Directory { total_files, ..directory(repository, both.into()) };
        }
        root(repository, below);
    }),
    endless("a file of 2^60 bytes of one chunk", |repository, _| {
        let chunk = data(repository, &[7; 1024]);
        let extents = vec![Extent { chunk, len_bytes: 1024 }; 64];
        let mut page = put(repository, &Page::Leaf(extents));
        let (mut items, mut bytes) = (64, 64 << 10);
        for level in 1..=9 {
            page = inner_page(repository, level, vec![child(page, "", items, bytes); 32]);
            (items, bytes) = (items * 32, bytes * 32);
        }
        let meta = Meta { mode: 0o644, size_bytes: bytes, ..Meta::default() };
        entries(repository, vec![Entry { name: b"planted"[..].into(), meta, node: Node::File(Content::List(page)) }]);
    }),
    attack("holes of any length", |repository, _| {
        for len_bytes in [1 << 40, 1 << 62, u64::MAX >> 1, u64::MAX] {
            let extents = vec![Extent { chunk: HOLE, len_bytes }];
            entries(repository, vec![sized("planted", Content::Extents(extents), len_bytes)]);
        }
        let twice = vec![Extent { chunk: HOLE, len_bytes: u64::MAX }; 2];
        entries(repository, vec![sized("planted", Content::Extents(twice), u64::MAX)]);
    }),
    attack("lengths that lie", |repository, _| {
        let chunk = data(repository, b"planted");
        for len_bytes in [0, 6, 8, 4 << 20, (4 << 20) + 1, 1 << 63, u64::MAX] {
            let extents = vec![Extent { chunk, len_bytes }];
            entries(repository, vec![sized("planted", Content::Extents(extents.clone()), len_bytes)]);
            entries(repository, vec![sized("planted", Content::Extents(extents.clone()), 7)]);
            let list = put(repository, &Page::Leaf(extents));
            entries(repository, vec![sized("planted", Content::List(list), len_bytes)]);
            entries(repository, vec![sized("planted", Content::List(list), 7)]);
            let inner = inner_page(repository, 1, vec![child(list, "", 1, 7)]);
            entries(repository, vec![sized("planted", Content::List(inner), 7)]);
            let inner = inner_page(repository, 1, vec![child(list, "", len_bytes, len_bytes); 2]);
            entries(repository, vec![sized("planted", Content::List(inner), len_bytes)]);
        }
    }),
    attack("counts that lie", |repository, _| {
        let honest = directory(repository, vec![file(repository, "planted", b"planted")]);
        for number in [0, 2, 1 << 40, u64::MAX] {
            root(repository, Directory { entries: number, ..honest });
            root(repository, Directory { total_files: number, total_bytes: number, ..honest });
            let below = Directory { entries: number, total_files: number, total_bytes: number, ..honest };
            entries(repository, ["a", "b"].map(|name| named(name, Node::Directory(below))).into());
            let page = inner_page(repository, 1, vec![child(honest.page, "planted", number, 0)]);
            root(repository, Directory { page, entries: number, ..honest });
        }
    }),
    attack("pages that are no pages, or of the wrong kind or level", |repository, _| {
        let honest = directory(repository, vec![file(repository, "planted", b"planted")]);
        let chunk = data(repository, b"planted");
        for page in [chunk, HOLE, ChunkId([0xee; 32]), put_bytes(repository, b""), put_bytes(repository, &[0xff; 5000])]
        {
            root(repository, Directory { page, ..honest });
            entries(repository, vec![sized("planted", Content::List(page), 7)]);
        }
        entries(repository, vec![sized("planted", Content::List(honest.page), 7)]);
        for level in [0, 2, 24, 25, u32::MAX] {
            let page = inner_page(repository, level, vec![child(honest.page, "planted", 1, 0)]);
            let above = inner_page(repository, 2, vec![child(page, "planted", 1, 0)]);
            root(repository, Directory { page, ..honest });
            root(repository, Directory { page: above, ..honest });
        }
        root(repository, Directory { page: inner_page(repository, 1, Vec::new()), ..honest });
        // A count of items that no page can have.
        let mut bytes = codec::encode(&Page::<Entry>::Leaf(Vec::new()));
        bytes[4..12].copy_from_slice(&u64::MAX.to_le_bytes());
        root(repository, Directory { page: put_bytes(repository, &bytes), ..honest });
        entries(repository, vec![named("b", Node::Fifo), named("a", Node::Fifo)]);
    }),
    attack("frames that are bombs", |repository, _| {
        let bomb = zstd::bulk::compress(&vec![0; 256 << 20], 3).unwrap();
        for plain_bytes in [7, 4 << 20, (4 << 20) + 1, u32::MAX] {
            let chunk = ChunkId([plain_bytes as u8 ^ 0x77; 32]);
            pack(repository, Kind::DataPack, &bomb, plain_bytes, chunk);
            let len_bytes = u64::from(plain_bytes).min(4 << 20);
            let extents = vec![Extent { chunk, len_bytes }];
            entries(repository, vec![sized("planted", Content::Extents(extents), len_bytes)]);
            let page = ChunkId([plain_bytes as u8 ^ 0x33; 32]);
            pack(repository, Kind::TreePack, &bomb, plain_bytes, page);
            root(repository, Directory { page, entries: 1, ..EMPTY });
        }
    }),
    attack("snapshots and index segments that are bombs", |repository, _| {
        let bomb = zstd::bulk::compress(&vec![0; 256 << 20], 3).unwrap();
        for plain_bytes in [64, 16 << 20, 48 << 20, u32::MAX] {
            for kind in [Kind::Snapshot, Kind::Index] {
                single_frame(repository, kind, &bomb, plain_bytes);
            }
        }
    }),
    attack("attributes beyond all bounds", |repository, _| {
        let xattr = |name: &[u8], len: usize| Xattr { name: name.into(), value: Bytes(vec![b'x'; len]) };
        let many = (0..20_000).map(|n| xattr(format!("user.{n:05}").as_bytes(), 20)).collect();
        let odd = [&b""[..], b"nodot", b"user.", b"user.\0nul", b"user.a/b", b"trusted.overlay.opaque", &[0xff; 300]];
        let odd = odd.map(|name| xattr(name, 10)).into();
        let acl = vec![xattr(b"system.posix_acl_access", 3), xattr(b"system.posix_acl_default", 60_000)];
        for xattrs in [vec![xattr(b"user.large", 3 << 20)], many, odd, acl] {
            let meta =
                Meta { mode: 0o644, nlink: u32::MAX, ino: u64::MAX, blocks: u64::MAX, xattrs, ..Meta::default() };
            entries(repository, vec![Entry { name: b"planted"[..].into(), meta, node: Node::Fifo }]);
        }
        for mode in [0o7777, 0o10000, u32::MAX] {
            let meta = Meta { mode, uid: u32::MAX, gid: u32::MAX, marks: u32::MAX, ..Meta::default() };
            entries(repository, vec![Entry { name: b"planted"[..].into(), meta, node: Node::Socket }]);
        }
    }),
    attack("times beyond all calendars", |repository, _| {
        for secs in [1 << 40, 1 << 60, i64::MAX, i64::MIN, -1] {
            for nanos in [0, 999_999_999, 1_000_000_000, u32::MAX] {
                let time = Time { secs, nanos };
                let meta = Meta { mode: 0o644, mtime: time, ctime: time, btime: Some(time), ..Meta::default() };
                entries(repository, vec![Entry { name: b"planted"[..].into(), meta, node: Node::Fifo }]);
                let below = directory(repository, vec![named("planted", Node::Fifo)]);
                let name = format!("of-{}", repository.store().list(ObjectKind::Snapshot).unwrap().len());
                plant(repository, Snapshot { name, time, started: time, ended: time, ..snapshot(below) });
            }
        }
    }),
    attack("links and devices beyond all bounds", |repository, _| {
        for target in [&b""[..], b"nul\0", &[b'x'; 4096], &[b'x'; 100_000]] {
            entries(repository, vec![named("planted", Node::Symlink(target.into()))]);
        }
        for (major, minor) in [(u32::MAX, u32::MAX), (1 << 12, 1 << 20)] {
            entries(
                repository,
                vec![
                    named("block", Node::BlockDevice { major, minor }),
                    named("character", Node::CharDevice { major, minor }),
                ],
            );
        }
    }),
    attack("snapshots whose own words are hostile", |repository, _| {
        let below = directory(repository, vec![file(repository, "planted", b"planted")]);
        let hostile = ["..", ".", "", "a/b", "\u{1b}[2J", "line\nbreak", "\u{202e}", "nul\0", "latest", "hosts"];
        for text in hostile {
            plant(repository, Snapshot { name: text.into(), ..snapshot(below) });
            let tags = vec![text.to_string(); 3];
            plant(repository, Snapshot { host: text.into(), tags, program: text.into(), ..snapshot(below) });
            let name = Bytes(text.into());
            let users = vec![(u32::MAX, name.clone()), (0, name.clone()), (0, name.clone())];
            let (sources, groups, parent) = (vec![name], users.clone(), Some(text.to_string()));
            plant(repository, Snapshot { sources, users, groups, parent, ..snapshot(below) });
        }
        plant(repository, Snapshot { tags: (0..5000).map(|n| format!("tag-{n}")).collect(), ..snapshot(below) });
        plant(repository, Snapshot { host: "h".repeat(1 << 20), ..snapshot(below) });
        let summary =
            bakfs::format::snapshot::Summary { files: u64::MAX, content_bytes: u64::MAX, ..Default::default() };
        plant(repository, Snapshot { summary, ..snapshot(below) });
    }),
    attack("index segments that lie", |repository, _| {
        let chunk = data(repository, b"planted");
        entries(repository, vec![sized("planted", Content::Extents(vec![Extent { chunk, len_bytes: 7 }]), 7)]);
        let honest = repository.index().find(&chunk).unwrap();
        for (offset, len_bytes, frame_offset, stored) in
            [(0, 6, 64, 100), (u32::MAX, u32::MAX, u32::MAX, u32::MAX), (1, 7, 0, 4 << 20), (0, 0, 0, 0)]
        {
            let mut builder = SegmentBuilder::default();
            builder.packs.push(honest.pack);
            let frame = bakfs::format::index::FrameEntry {
                pack: 0,
                offset: frame_offset,
                stored_bytes: stored,
                ..honest.frame
            };
            builder.frames.push(frame);
            let entry = bakfs::format::index::ChunkEntry { frame: 0, offset, len_bytes, ..honest.chunk };
            // Many places, all of them wrong.
            builder.chunks.extend(std::iter::repeat_n(entry, 2000));
            put_index(repository, builder.encode());
        }
    }),
    attack("index segments whose heads lie about their pieces", |repository, _| {
        // 2 978 chunks take 131 096 bytes, in three pieces.
        for counts in [[0; 3], [1; 3], [u32::MAX as usize; 3], [0, 0, 1 << 18], [0, 0, 2978]] {
            for len_bytes in [0, 1, 63, 64, 65_536, 65_537, 131_072, 131_096] {
                let [packs, frames, chunks] = counts;
                let mut plain = segment_head(packs, frames, chunks).to_vec();
                plain.resize(len_bytes, 0);
                let vault = repository.vault();
                let bytes = seal_object(vault, Kind::Index, &plain);
                repository.store().put(Object::Index(object_id(&bytes)), &bytes).unwrap();
            }
        }
        repository.store().barrier(Names::Mine).unwrap();
    }),
];

const EMPTY: Directory = Directory { page: HOLE, entries: 0, total_files: 1, total_bytes: 0 };

fn path_bytes(path: &Path) -> Bytes {
    Bytes(path.as_os_str().as_encoded_bytes().to_vec())
}

fn named(name: &str, node: Node) -> Entry {
    let meta = Meta { mode: 0o755, nlink: 1, ..Meta::default() };
    Entry { name: name.as_bytes().into(), meta, node }
}

fn sized(name: &str, content: Content, size_bytes: u64) -> Entry {
    let meta = Meta { mode: 0o644, nlink: 1, size_bytes, ..Meta::default() };
    Entry { name: name.as_bytes().into(), meta, node: Node::File(content) }
}

fn child(page: ChunkId, first: &str, items: u64, content_bytes: u64) -> Child {
    Child { page, first: first.as_bytes().into(), cut_hash: 0, items, content_bytes }
}

fn writer(repository: &Arc<Repository>) -> Writer {
    Writer::new(repository.clone(), WriteOptions { threads: 1, ..WriteOptions::default() })
}

fn put_page<T: serde::Serialize>(repository: &Repository, writer: &mut Writer, page: &Page<T>) -> ChunkId {
    let bytes = codec::encode(page);
    let id = repository.keys().page_id(&bytes);
    writer.add(ChunkKind::Page, id, &bytes).unwrap();
    id
}

fn put<T: serde::Serialize>(repository: &Arc<Repository>, page: &Page<T>) -> ChunkId {
    put_bytes(repository, &codec::encode(page))
}

fn put_bytes(repository: &Arc<Repository>, bytes: &[u8]) -> ChunkId {
    let mut writer = writer(repository);
    let id = repository.keys().page_id(bytes);
    writer.add(ChunkKind::Page, id, bytes).unwrap();
    writer.finish().unwrap();
    id
}

fn data(repository: &Arc<Repository>, bytes: &[u8]) -> ChunkId {
    let mut writer = writer(repository);
    let id = repository.keys().chunk_id(bytes);
    writer.add(ChunkKind::Data, id, bytes).unwrap();
    writer.finish().unwrap();
    id
}

fn leaf(repository: &Arc<Repository>, entries: &[Entry]) -> ChunkId {
    put(repository, &Page::Leaf(entries.to_vec()))
}

fn inner_page(repository: &Arc<Repository>, level: u32, children: Vec<Child>) -> ChunkId {
    put(repository, &Page::<Entry>::Inner { level, children })
}

fn file(repository: &Arc<Repository>, name: &str, bytes: &[u8]) -> Entry {
    let extent = Extent { chunk: data(repository, bytes), len_bytes: bytes.len() as u64 };
    sized(name, Content::Extents(vec![extent]), extent.len_bytes)
}

fn directory(repository: &Arc<Repository>, entries: Vec<Entry>) -> Directory {
    let count = entries.len() as u64;
    let total_bytes = entries.iter().map(|entry| entry.meta.size_bytes).fold(0, u64::saturating_add);
    Directory { page: leaf(repository, &entries), entries: count, total_files: count, total_bytes }
}

/// Stores a snapshot of these entries, in whatever order they are.
fn entries(repository: &Arc<Repository>, entries: Vec<Entry>) {
    root(repository, directory(repository, entries));
}

fn root(repository: &Arc<Repository>, directory: Directory) {
    let mut snapshot = snapshot(directory);
    // A time of its own: which is the latest must not depend on ids.
    snapshot.time.secs += repository.store().list(ObjectKind::Snapshot).unwrap().len() as i64;
    snapshot.name = dated::dated(snapshot.time);
    plant(repository, snapshot);
}

fn snapshot(root: Directory) -> Snapshot {
    let time = Time { secs: 1_772_334_000 + 86_400, nanos: 0 };
    Snapshot {
        name: dated::dated(time),
        time,
        started: time,
        ended: time,
        host: "host".into(),
        tags: Vec::new(),
        sources: Vec::new(),
        parent: None,
        root_meta: Meta { mode: 0o755, nlink: 2, ..Meta::default() },
        root,
        users: Vec::new(),
        groups: Vec::new(),
        has_xattrs: true,
        summary: Default::default(),
        troubles: Vec::new(),
        program: String::new(),
    }
}

/// Stores a snapshot as it is: its name need not be unique, nor safe.
fn plant(repository: &Arc<Repository>, snapshot: Snapshot) {
    let bytes = bakfs::repo::objects::seal_object(repository.vault(), Kind::Snapshot, &snapshot.encode());
    repository.store().put(Object::Snapshot(object_id(&bytes)), &bytes).unwrap();
    repository.store().barrier(Names::Mine).unwrap();
}

fn put_index(repository: &Arc<Repository>, plain: Vec<u8>) {
    let session = Session::begin_backup(repository).unwrap();
    repository.put_index(plain).unwrap();
    session.end().unwrap();
}

/// Stores a pack of one frame that is not what it says, and an index segment that names it.
fn pack(repository: &Arc<Repository>, kind: Kind, encoded: &[u8], plain_bytes: u32, chunk: ChunkId) {
    let mut builder = PackBuilder::new(repository.vault(), kind);
    builder.append(ZSTD, encoded, plain_bytes, &[(chunk, plain_bytes)]);
    let pack = builder.finish();
    repository.store().put(Object::Pack(pack.entry.id), &pack.bytes).unwrap();
    repository.store().barrier(Names::Mine).unwrap();
    let frame = pack.directory.frames[0];
    let mut segment = SegmentBuilder::default();
    segment.packs.push(pack.entry);
    segment.frames.push(bakfs::format::index::FrameEntry {
        pack: 0,
        number: 0,
        offset: frame.offset,
        stored_bytes: frame.stored_bytes,
        plain_bytes,
        codec: ZSTD,
    });
    segment.chunks.push(bakfs::format::index::ChunkEntry { id: chunk, frame: 0, offset: 0, len_bytes: plain_bytes });
    put_index(repository, segment.encode());
}

/// Stores a single-frame object whose plaintext is not as long as it says.
fn single_frame(repository: &Arc<Repository>, kind: Kind, encoded: &[u8], plain_bytes: u32) {
    let mut sealer = repository.vault().sealer(kind);
    let mut bytes = sealer.header().encode();
    bytes.extend_from_slice(&[ZSTD, 0, 0, 0]);
    bytes.extend_from_slice(&plain_bytes.to_le_bytes());
    let from = bytes.len();
    bytes.extend_from_slice(encoded);
    sealer.seal(Role::Frame, ZSTD, plain_bytes, &mut bytes, from);
    let id = object_id(&bytes);
    let object = if kind == Kind::Index { Object::Index(id) } else { Object::Snapshot(id) };
    repository.store().put(object, &bytes).unwrap();
    repository.store().barrier(Names::Mine).unwrap();
}
