//! The parts of the writer and the reader by themselves, in bytes per second on one thread:
//! `cargo bench --bench micro`.
#![allow(missing_docs, clippy::unwrap_used)]

use bakfs::chunk::Chunker;
use bakfs::crypto::keys::{Keys, Secret};
use bakfs::crypto::seal::{FramePlace, Opener, Role, Sealer};
use bakfs::format::codec::encode;
use bakfs::format::config::CHUNK_SIZES;
use bakfs::format::frame::{Decoder, Encoder};
use bakfs::format::header::{Kind, Suite};
use bakfs::format::index::{ChunkEntry, FrameEntry, PackEntry, Segment, SegmentBuilder};
use bakfs::format::page::Page;
use bakfs::format::tree::{Content, Entry, Extent, Meta, Node};
use bakfs::id::RepositoryId;
use bakfs::id::{ChunkId, ObjectId};
use bakfs::store::cached::CachedStore;
use bakfs::store::local::LocalStore;
use bakfs::store::{Object, Store, Wait};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use std::sync::Arc;

const PACK_BYTES: usize = 32 << 20;

fn main() {
    divan::main();
}

fn keys() -> Keys {
    Keys::derive(&Secret([7; 32]))
}

/// Text as a database dump has it: compresses about three and a half times.
fn dump(len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 100);
    let mut state = 1u64;
    while bytes.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let row = format!("{}\t{}\t{}\t\\N\n", bytes.len() / 40, state >> 44, (state >> 20) as i32 % 5000);
        bytes.extend_from_slice(row.as_bytes());
    }
    bytes.truncate(len);
    bytes
}

#[divan::bench]
fn cut(bencher: Bencher<'_, '_>) {
    let (chunker, bytes) = (Chunker::new(&keys(), CHUNK_SIZES), dump(8 << 20));
    bencher.counter(BytesCount::new(bytes.len())).bench(|| {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            rest = &rest[chunker.cut(rest)..];
        }
    });
}

#[divan::bench(args = [4 << 10, 256 << 10])]
fn chunk_id(bencher: Bencher<'_, '_>, len: usize) {
    let (keys, bytes) = (keys(), dump(len));
    bencher.counter(BytesCount::new(len)).bench(|| keys.chunk_id(&bytes));
}

#[divan::bench(args = [1, 2, 3, 5])]
fn compress_256_kib(bencher: Bencher<'_, '_>, level: i32) {
    let (mut encoder, bytes, mut out) = (Encoder::new(level), dump(256 << 10), Vec::new());
    bencher.counter(BytesCount::new(bytes.len())).bench_local(|| {
        out.clear();
        encoder.encode(&bytes, &mut out)
    });
}

#[divan::bench(args = [64 << 10, 256 << 10])]
fn decompress(bencher: Bencher<'_, '_>, len: usize) {
    let (bytes, mut encoded, mut out, mut decoder) = (dump(len), Vec::new(), Vec::new(), Decoder::default());
    let codec = Encoder::new(3).encode(&bytes, &mut encoded);
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        out.clear();
        decoder.decode(codec, &encoded, len, &mut out).unwrap();
    });
}

#[divan::bench(args = [4 << 10, 256 << 10])]
fn seal(bencher: Bencher<'_, '_>, len: usize) {
    let mut sealer = Sealer::new(&keys(), Kind::DataPack, Suite::Aes256GcmSiv, RepositoryId([0; 16]));
    let mut bytes = dump(len);
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        bytes.truncate(len);
        sealer.seal(Role::Frame, 0, len as u32, &mut bytes, 0)
    });
}

#[divan::bench(args = [4 << 10, 256 << 10])]
fn open(bencher: Bencher<'_, '_>, len: usize) {
    let keys = keys();
    let mut sealer = Sealer::new(&keys, Kind::DataPack, Suite::Aes256GcmSiv, RepositoryId([0; 16]));
    let mut sealed = dump(len);
    let number = sealer.seal(Role::Frame, 0, len as u32, &mut sealed, 0);
    let opener = Opener::new(&keys, sealer.header()).unwrap();
    let place = FramePlace { role: Role::Frame, number, codec: 0, plain_bytes: len as u32 };
    bencher
        .counter(BytesCount::new(len))
        .with_inputs(|| sealed.clone())
        .bench_local_values(|mut sealed| opener.open(place, &mut sealed).unwrap().len());
}

#[divan::bench(args = [10_000, 1_000_000])]
fn find_in_index(bencher: Bencher<'_, '_>, chunks: u32) {
    let id = |n: u32| ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes());
    let segment = SegmentBuilder {
        packs: vec![PackEntry { id: ObjectId([0; 32]), kind: Kind::DataPack, len_bytes: 1 }],
        frames: vec![FrameEntry { pack: 0, number: 0, offset: 0, stored_bytes: 1, plain_bytes: 1, codec: 0 }],
        chunks: (0..chunks).map(|n| ChunkEntry { id: id(n), frame: 0, offset: 0, len_bytes: 1 }).collect(),
    };
    let bytes = segment.encode();
    let len = bytes.len();
    let segment = Segment::new(bytes, len).unwrap();
    let wanted: Vec<_> = (0..1000).map(|n| id(n * (chunks / 1000))).collect();
    bencher
        .counter(ItemsCount::new(wanted.len()))
        .bench(|| wanted.iter().filter(|id| segment.find(id).is_some()).count());
}

/// A pack of 32 MiB in a local folder, and read through a cache that has all of it; far away is that folder.
fn pack_near_and_cached() -> (tempfile::TempDir, Object, [Box<dyn Store>; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let local = || LocalStore::new(&folder.path().join("repo"));
    local().create_folders().unwrap();
    let object = Object::Pack(ObjectId([7; 32]));
    local().put(object, &dump(PACK_BYTES)).unwrap();
    let cached = CachedStore::open(Arc::new(local()), Some(folder.path()), 1 << 30);
    let stores: [Box<dyn Store>; 2] = [Box::new(local()), Box::new(cached)];
    let mut all = vec![0; PACK_BYTES];
    stores.iter().for_each(|store| store.read_at(object, 0, &mut all, Wait::Allowed).unwrap());
    (folder, object, stores)
}

/// Reads of frames anywhere in a pack that is in memory: 0 from a local folder, 1 through a warm cache.
#[divan::bench(args = [(0, 64 << 10), (1, 64 << 10), (0, 256 << 10), (1, 256 << 10)])]
fn read_pack_local_or_cached(bencher: Bencher<'_, '_>, (which, len): (usize, usize)) {
    let (_folder, object, stores) = pack_near_and_cached();
    let (mut buffer, mut at) = (vec![0; len], 1u64);
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let offset = (at >> 33) % (PACK_BYTES - len) as u64;
        stores[which].read_at(object, offset, &mut buffer, Wait::Never).unwrap();
    });
}

#[divan::bench]
fn decode_page_of_64_entries(bencher: Bencher<'_, '_>) {
    let entry = |n: u64| Entry {
        name: format!("name-{n:06}").as_bytes().into(),
        meta: Meta { mode: 0o644, ino: n, nlink: 1, size_bytes: 9, ..Meta::default() },
        node: Node::File(Content::Extents(vec![Extent { chunk: ChunkId([1; 32]), len_bytes: 9 }])),
    };
    let bytes = encode(&Page::Leaf((0..64).map(entry).collect()));
    bencher.counter(ItemsCount::new(64usize)).bench(|| Page::<Entry>::decode(&bytes).unwrap());
}
