//! Promise: no repository can overflow the stack: trees deeper than any path are told, not followed.

use bakfs::format::page::PageWriter;
use bakfs::format::snapshot::Snapshot;
use bakfs::format::tree::{Directory, Entry, HOLE, Meta, Node, Time};
use bakfs::repo::open::Options;
use bakfs::repo::shared::dated;
use bakfs::repo::write::{WriteOptions, Writer};
use bakfs::repo::{Memory, Repository};
use bakfs_testing::cli::Bakfs;
use rustix::fs::{CWD, Mode, OFlags};
use std::sync::Arc;

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
        name: dated::dated(time),
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
    let mut session = bakfs::repo::shared::session::Session::begin_backup(repository).unwrap();
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
    bakfs.run(["dump", "latest:/", "--archive", "tar"]).expect(3).says("4096 deep").says(deep);
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

#[test]
fn a_deep_directory_of_one_user_cuts_nothing_of_the_others_short() {
    let (bakfs, source) = Bakfs::with_source();
    std::fs::create_dir(source.join("a")).unwrap();
    std::fs::create_dir(source.join("z")).unwrap();
    std::fs::write(source.join("z/of-another-user"), "mine").unwrap();
    let open = |dir: &rustix::fd::OwnedFd| rustix::fs::openat(dir, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
    let mut dir = rustix::fs::openat(CWD, source.join("a"), OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..4200 {
        rustix::fs::mkdirat(&dir, "d", Mode::RWXU).unwrap();
        dir = open(&dir);
    }
    drop(dir);
    bakfs.backup_outcome([&source]).expect(3).says("directories deep or deeper: it was left out");
    // What was left out is said once, by who left it out: everybody reads what is there to its end.
    bakfs.ok(["check"]);
    assert!(bakfs.ok(["find", "of-another-user"]).text().contains("/z/of-another-user"));
    let archive = bakfs.path("archive.tar");
    std::fs::write(&archive, bakfs.ok(["dump", "--archive", "tar", "latest"]).stdout).unwrap();
    let listed = bakfs_testing::process::tool("tar", ["-tf".as_ref(), archive.as_os_str()]).expect(0).text();
    assert!(listed.trim_end().ends_with("/z/of-another-user"), "{} members", listed.lines().count());
    let target = bakfs.path("target");
    bakfs.ok(["restore".as_ref(), "latest".as_ref(), target.as_os_str()]);
    let root = target.join(source.strip_prefix("/").unwrap());
    assert_eq!(std::fs::read(root.join("z/of-another-user")).unwrap(), b"mine");
}

#[test]
fn paths_of_a_mebibyte_spoil_no_snapshot() {
    let (bakfs, source) = Bakfs::with_source();
    std::fs::write(source.join("of-another-user"), "mine").unwrap();
    let name = "n".repeat(255);
    let mut dir = rustix::fs::openat(CWD, &source, OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..4096 - source.components().count() {
        rustix::fs::mkdirat(&dir, &name, Mode::RWXU).unwrap();
        dir = rustix::fs::openat(&dir, &name, OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    // Each is one too deep, and named: all paths together are longer than a snapshot may be.
    (0..40).for_each(|number| rustix::fs::mkdirat(&dir, format!("{number}"), Mode::RWXU).unwrap());
    drop(dir);
    let outcome = bakfs.backup_outcome([&source]).expect(3);
    assert_eq!(outcome.stderr.matches("it was left out").count(), 40);
    assert!(outcome.stderr.len() < 1 << 20, "{} bytes were told", outcome.stderr.len());
    bakfs.ok(["check"]);
    let file = format!("latest:{}", source.join("of-another-user").display());
    assert_eq!(bakfs.ok(["dump", &file]).stdout, b"mine");
}
