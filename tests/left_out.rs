//! What a backup never contains: itself, and what the kernel only pretends to keep.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use support::cli::{Bakfs, json_of};
use support::process::tool;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_repository_its_cache_and_mounts_of_histories_are_left_out() {
    let (bakfs, source) = Bakfs::with_source();
    std::fs::write(source.join("file"), "kept").unwrap();
    let everything = bakfs.path("source/..").canonicalize().unwrap();
    bakfs.backup([&everything]);
    let mounted = bakfs.mount();
    bakfs.backup([&everything]);
    // All of the world's folders but `repo`, `cache` and `mnt`.
    let folders = ["config", "data", "home", "run", "source", "state"];
    assert_eq!(names(&mounted.at("latest", &everything)), folders);
    assert_eq!(names(&mounted.at("latest", &source)), ["file"]);
    mounted.unmount();
}

#[test]
fn kernel_file_systems_are_kept_as_empty_directories() {
    let (bakfs, source) = Bakfs::with_source();
    let proc = bakfs.make_dir("source/proc");
    std::fs::write(source.join("file"), "kept").unwrap();
    let mut mount = bakfs.wrap("mount");
    mount.args(["-t", "proc", "proc"]).arg(&proc);
    assert!(mount.status().unwrap().success(), "this test mounts proc, which takes root");
    let backup = bakfs.backup_outcome([&source]);
    tool("umount", [&proc]).expect(0);
    let summary = json_of(backup.expect(0));
    assert_eq!(summary["files_new"], 1, "{summary}");
    assert_eq!(summary["read_bytes"], 4);
}
