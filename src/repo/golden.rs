//! The examples of docs/format.md, compared with what the program writes.

use crate::crypto::keys::{Keys, Secret};
use crate::crypto::seal::{FramePlace, Opener, Role, Sealer};
use crate::format::codec::{Bytes, encode};
use crate::format::config::{CHUNK_SIZES, Config};
use crate::format::feature::{Feature, LAST_COMMON_MARK, Required};
use crate::format::header::{Header, Kind, PIECES_VERSION, Suite, VERSION};
use crate::format::index::{ChunkEntry, FrameEntry, PackEntry, SegmentBuilder};
use crate::format::mark::{Bundle, Bundled, IndexBundle, Mark};
use crate::format::pack::{ChunkRecord, Directory, FrameRecord, Trailer};
use crate::format::page::Page;
use crate::format::tree::{Content, Entry, Extent, HOLE, Meta, Node, Time};
use crate::id::{ChunkId, ObjectId, RepositoryId};
use crate::repo::index::pieces::seal_with;
use crate::repo::objects::object_id;

const FORMAT: &str = include_str!("../../docs/format.md");

/// Writes bytes as the page shows them: 32 a line.
fn hex(bytes: &[u8]) -> String {
    let lines: Vec<_> = bytes.chunks(32).map(crate::id::to_hex).collect();
    lines.join("\n")
}

fn check(name: &str, bytes: &[u8]) {
    let start = format!("```hex {name}\n");
    let (_, after) = FORMAT.split_once(&start).unwrap_or_else(|| panic!("docs/format.md has no example {name}"));
    let (example, _) = after.split_once("```").unwrap();
    assert_eq!(example.trim(), hex(bytes), "docs/format.md, example {name}");
}

fn keys() -> Keys {
    Keys::derive(&Secret([7; 32]))
}

fn entry() -> Entry {
    let time = Time { secs: 1_700_000_000, nanos: 123_456_789 };
    let extents = vec![Extent { chunk: ChunkId([3; 32]), len_bytes: 5 }, Extent { chunk: HOLE, len_bytes: 4096 }];
    let meta = Meta {
        mode: 0o644,
        uid: 1000,
        gid: 100,
        mtime: time,
        ctime: time,
        btime: Some(time),
        ino: 42,
        nlink: 1,
        size_bytes: 4101,
        blocks: 8,
        ..Meta::default()
    };
    Entry { name: Bytes(b"a".to_vec()), meta, node: Node::File(Content::Extents(extents)) }
}

#[test]
fn header() {
    let sealer = Sealer::with_salt_and_key(
        &keys(),
        (Kind::DataPack, VERSION),
        Suite::Aes256GcmSiv,
        RepositoryId([9; 16]),
        [5; 32],
        Secret([6; 32]),
    );
    check("header", &sealer.header().encode());
}

#[test]
fn config() {
    let created = Time { secs: 1_700_000_000, nanos: 0 };
    let config = Config { created, features: Vec::new(), chunk_sizes: CHUNK_SIZES, open_key: None };
    check("config", &config.encode(RepositoryId([9; 16]), Suite::Aes256GcmSiv, |bytes| keys().config_mac(bytes)));
}

#[test]
fn pack() {
    let chunk = |id, offset| ChunkRecord { id: ChunkId([id; 32]), frame: 0, offset, len_bytes: 50 };
    let frames = vec![FrameRecord { offset: 112, stored_bytes: 116, plain_bytes: 100, codec: 0 }];
    let directory = Directory { frames, chunks: vec![chunk(3, 0), chunk(4, 50)] };
    check("directory", &directory.encode());
    check("trailer", &Trailer { directory_bytes: 128, codec: 0, plain_bytes: 112, number: 1 }.encode());
    assert_eq!(Directory::decode(&directory.encode(), 400).unwrap(), directory);
}

fn segment_of(chunks: Vec<ChunkEntry>) -> Vec<u8> {
    let segment = SegmentBuilder {
        packs: vec![PackEntry { id: ObjectId([8; 32]), kind: Kind::DataPack, len_bytes: 400 }],
        frames: vec![FrameEntry { pack: 0, number: 0, offset: 112, stored_bytes: 116, plain_bytes: 100, codec: 0 }],
        chunks,
    };
    segment.encode()
}

#[test]
fn index_object() {
    let chunk = |id, offset| ChunkEntry { id: ChunkId([id; 32]), frame: 0, offset, len_bytes: 50 };
    let tables = segment_of(vec![chunk(4, 50), chunk(3, 0)]);
    check("segment", &tables);
    let kind = (Kind::Index, PIECES_VERSION);
    let seal = |tables: &[u8]| {
        let sealer = Sealer::with_salt_and_key(
            &keys(),
            kind,
            Suite::Aes256GcmSiv,
            RepositoryId([9; 16]),
            [5; 32],
            Secret([6; 32]),
        );
        seal_with(sealer, tables)
    };
    check("index-object", &seal(&tables));
    let many = (0..3000u32).map(|n| {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&n.swap_bytes().to_le_bytes());
        ChunkEntry { id: ChunkId(id), frame: 0, offset: n, len_bytes: 1 }
    });
    let tables = segment_of(many.collect());
    let object = seal(&tables);
    check("index-object-id", &object_id(&object).0);
    // As the page tells how to read them.
    let header = Header::decode(&object).unwrap();
    let opener = Opener::new(&keys(), &header).unwrap();
    for (number, plain) in tables.chunks(65_536).enumerate() {
        let start = header.len_bytes() + 65_552 * number;
        let (number, plain_bytes) = (number as u32, plain.len() as u32);
        let place = FramePlace { role: Role::Frame, number, codec: 0, plain_bytes };
        let mut piece = object[start..start + plain.len() + 16].to_vec();
        assert_eq!(opener.open(place, &mut piece).unwrap(), plain);
    }
}

#[test]
fn mark() {
    let time = Time { secs: 1_700_000_000, nanos: 0 };
    let mark = Mark::Pin { snapshot: ObjectId([8; 32]), time, reason: "audit".into() };
    check("mark", &mark.encode());
    assert_eq!(Mark::decode(&mark.encode()).unwrap(), mark);
    let recall = Mark::Recall { objects: vec![ObjectId([8; 32])] };
    check("recall", &recall.encode());
    let bundled = Bundled { id: ObjectId([8; 32]), plain: Bytes(b"snapshot".to_vec()) };
    let bundle = Mark::Bundle(Bundle { snapshots: vec![bundled] });
    check("bundle", &bundle.encode());
    let bundled = Bundled { id: ObjectId([8; 32]), plain: Bytes(b"segment".to_vec()) };
    let index_bundle = Mark::IndexBundle(IndexBundle { objects: vec![bundled] });
    check("index-bundle", &index_bundle.encode());
    let feature = Mark::Feature(Feature {
        number: 7,
        required: Required::ToWrite as u32,
        name: "example".into(),
        since: "9.0.0".into(),
        text: "For this page".into(),
        marks: vec![12],
        parameters: Bytes(b"abc".to_vec()),
        time,
        host: "here".into(),
    });
    check("feature", &feature.encode());
    assert_eq!(feature.encode()[..4], LAST_COMMON_MARK.to_le_bytes(), "what comes after it is new");
    for mark in [recall, bundle, index_bundle, feature] {
        assert_eq!(Mark::decode(&mark.encode()).unwrap(), mark);
    }
}

#[test]
fn tree() {
    check("entry", &encode(&entry()));
    check("page", &encode(&Page::Leaf(vec![entry()])));
    assert_eq!(Page::<Entry>::decode(&encode(&Page::Leaf(vec![entry()]))).unwrap(), Page::Leaf(vec![entry()]));
}
