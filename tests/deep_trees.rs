//! Promise: no repository can overflow the stack: trees deeper than any path are told, not followed.
#![allow(clippy::unwrap_used)]

mod support;

use bakfs::format::page::PageWriter;
use bakfs::format::snapshot::Snapshot;
use bakfs::format::tree::{Directory, Entry, HOLE, Meta, Node, Time};
use bakfs::repo::open::Options;
use bakfs::repo::write::{WriteOptions, Writer};
use bakfs::repo::{Memory, Repository, names};
use std::sync::Arc;
use support::cli::Bakfs;

/// Stores a snapshot of directories in directories, `depth` deep, with a file in the last.
fn store_deep(repository: &Arc<Repository>, depth: u64, file: &str, day: i64) {
    let mut writer = Writer::new(repository.clone(), WriteOptions::default());
    let meta = Meta { mode: 0o755, nlink: 1, ..Meta::default() };
    let mut entry = Entry { name: file.as_bytes().into(), meta: meta.clone(), node: Node::Fifo };
    let mut root = Directory { page: HOLE, entries: 0, total_files: 0, total_bytes: 0 };
    for level in 0..depth {
        let mut pages = PageWriter::default();
        pages.push(&entry, &mut writer).unwrap();
        let (page, entries) = pages.finish(&mut writer).unwrap();
        root = Directory { page, entries, total_files: level + 1, total_bytes: 0 };
        entry = Entry { name: b"d"[..].into(), meta: meta.clone(), node: Node::Directory(root) };
    }
    writer.finish().unwrap();
    let time = Time { secs: 1_772_334_000 + day * 86_400, nanos: 0 };
    let snapshot = Snapshot {
        name: names::dated(time),
        time,
        started: time,
        ended: time,
        host: "host".into(),
        tags: Vec::new(),
        sources: Vec::new(),
        parent: None,
        root_meta: meta,
        root,
        users: Vec::new(),
        groups: Vec::new(),
        has_xattrs: false,
        summary: Default::default(),
        troubles: Vec::new(),
        program: String::new(),
    };
    let mut session = bakfs::repo::session::Session::begin_backup(repository).unwrap();
    repository.commit(&mut session, snapshot).unwrap();
}

fn world() -> (Bakfs, Arc<Repository>) {
    let bakfs = Bakfs::empty();
    bakfs.ok(["init", "--encryption", "none"]);
    let options = Options { cache_base: None, memory: Memory::default(), ..Options::default() };
    let repository = Repository::open(&bakfs.repo(), &options, |_| Ok(Vec::new())).unwrap();
    (bakfs, Arc::new(repository))
}

#[test]
fn trees_deeper_than_any_path_are_told_and_not_followed() {
    let (bakfs, repository) = world();
    store_deep(&repository, 5000, "one", 0);
    store_deep(&repository, 5000, "two", 1);
    let deep = "d/d/d/d";
    for args in [&["ls", "-R", "latest"][..], &["find", "one"], &["diff", "latest~1", "latest"]] {
        bakfs.run(args).expect(3).says("4096 deep").says(deep);
    }
    bakfs.run(["dump", "latest:/", "--archive", "tar"]).expect(1).says("4096 deep");
    let check = bakfs.run(["check"]).expect(1);
    assert!(check.text().contains("4096 directories deep"), "{check}");
}

#[test]
fn trees_as_deep_as_a_path_are_followed_to_the_end() {
    let (bakfs, repository) = world();
    store_deep(&repository, 2000, "one", 0);
    store_deep(&repository, 2000, "two", 1);
    assert!(bakfs.ok(["ls", "-R", "latest"]).text().trim_end().ends_with("/two"));
    let diff = bakfs.run(["diff", "latest~1", "latest"]).expect(1).text();
    assert_eq!(diff.lines().count(), 2, "{diff}");
    bakfs.ok(["check", "--read-data"]);
    bakfs.ok(["dump", "latest:/", "--archive", "tar"]);
}
