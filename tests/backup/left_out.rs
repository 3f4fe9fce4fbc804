//! What a backup never contains: itself, what the kernel only pretends to keep, and what is temporary; the folders of
//! all that it has.

use bakfs::settings::excludes::BUILT_IN;
use bakfs::source::exclude::Excludes;
use bakfs_testing::cli::{Bakfs, json_of};
use bakfs_testing::device::Device;
use bakfs_testing::process::tool;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

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

fn mode(path: &Path) -> (u32, u32) {
    let meta = std::fs::symlink_metadata(path).unwrap();
    (meta.mode(), meta.uid())
}

#[test]
fn the_folders_of_what_is_left_out_come_back() {
    bakfs_testing::need_root();
    let bakfs = Bakfs::new();
    let folders = ["/dev", "/proc", "/sys", "/run", "/tmp", "/var/tmp", "/var/run", "/var/cache"];
    let text = format!("repo = '{}'\n[profile.main]\nsources = {folders:?}\n", bakfs.repo().display());
    std::fs::write(bakfs.path("config/bakfs.toml"), text).unwrap();
    let own = tempfile::Builder::new().prefix("bakfs-test-").tempdir_in("/var/cache").unwrap();
    std::fs::create_dir(own.path().join("below")).unwrap();
    std::fs::set_permissions(own.path(), PermissionsExt::from_mode(0o2750)).unwrap();
    bakfs.ok(["run", "main"]);
    let target = bakfs.path("target");
    bakfs.ok(["restore".as_ref(), "latest".as_ref(), target.as_os_str()]);
    for folder in folders {
        let restored = target.join(&folder[1..]);
        assert_eq!(mode(&restored), mode(Path::new(folder)), "{folder}");
        // `/var/run` is a link on most machines, and stays one.
        let is_link = restored.is_symlink();
        assert!(is_link || folder == "/var/cache" || names(&restored).is_empty(), "{folder}");
    }
    let restored = target.join(own.path().strip_prefix("/").unwrap());
    assert_eq!((mode(&restored), names(&restored)), (mode(own.path()), Vec::new()));
    let answers = "var/cache/debconf/config.dat";
    assert_eq!(target.join(answers).exists(), Path::new("/").join(answers).exists());
}

#[test]
fn the_built_in_list_names_contents_and_no_folders() {
    let with = |more: &str| {
        let globs: Vec<String> = BUILT_IN.iter().map(|(glob, _)| *glob).chain([more]).map(str::to_string).collect();
        Excludes::new(&globs, &[]).unwrap()
    };
    let list = with("!/nothing more");
    for folder in [
        "/dev",
        "/proc",
        "/sys",
        "/run",
        "/tmp",
        "/var/tmp",
        "/var/run",
        "/var/cache",
        "/var/cache/nginx",
        "/var/cache/debconf",
        "/var/lib/apt/lists",
        "/root/.cache",
        "/home/x/.cache",
        "/mnt/history",
        "/home/x",
    ] {
        assert!(!list.excludes(Path::new(folder), true), "{folder} is kept");
    }
    for below in ["/dev/null", "/proc/1", "/run/user", "/tmp/x", "/var/cache/apt/archives", "/home/x/.cache/y"] {
        assert!(list.excludes(Path::new(below), false), "{below} is left out");
    }
    for kept in ["/var/cache/debconf/config.dat", "/etc/x", "/srv/tmp/x", "/var/lib/x"] {
        assert!(!list.excludes(Path::new(kept), false), "{kept} is kept");
    }
    // What somebody wants all the same is kept by either of two ways to say it.
    assert!(!with("!/var/cache/*/*").excludes(Path::new("/var/cache/apt/archives"), true));
    let bakfs = Bakfs::empty();
    let text = "[profile.main]\nsources = ['/']\nexclude = ['!/tmp']\n[[profile.main.mysql]]\n";
    std::fs::write(bakfs.path("config/bakfs.toml"), text).unwrap();
    let shown = bakfs.ok(["config", "show"]).text();
    assert!(!shown.lines().any(|line| line.split_whitespace().any(|word| word == "/tmp/*")), "{shown}");
    // What dumps stand for is the data folder a server names, not a path of the list.
    assert!(!shown.contains("/var/lib/mysql"), "{shown}");
}

#[test]
fn what_is_mounted_is_kept_with_the_mode_it_shows() {
    bakfs_testing::need_root();
    let (bakfs, source) = Bakfs::with_source();
    let disk = Device::memory(&source.join("tmp"), 1);
    std::fs::set_permissions(disk.path(), PermissionsExt::from_mode(0o1777)).unwrap();
    std::fs::write(disk.path().join("file"), "left out").unwrap();
    bakfs.ok(["backup".as_ref(), "-x".as_ref(), source.as_os_str()]);
    let target = bakfs.path("target");
    bakfs.ok(["restore".as_ref(), "latest".as_ref(), target.as_os_str()]);
    let restored = target.join(source.strip_prefix("/").unwrap()).join("tmp");
    assert_eq!((mode(&restored).0 & 0o7777, names(&restored)), (0o1777, Vec::new()));
}
