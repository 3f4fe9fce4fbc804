//! Every format version that was ever written can be read: repositories made by tests/golden/make.

use bakfs_testing::cli::{Bakfs, json_of};
use bakfs_testing::process::{Outcome, tool};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

const VERSIONS: [&str; 2] = ["v1", "v2"];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

#[test]
fn every_golden_version_is_read() {
    let mut found: Vec<_> = std::fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap()).collect();
    found.retain(|entry| entry.file_type().unwrap().is_dir());
    let mut names: Vec<_> = found.iter().map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, VERSIONS, "each version here is tested");
    for version in VERSIONS {
        for encryption in ["aes256", "none"] {
            read(version, encryption);
        }
    }
}

fn read(version: &str, encryption: &str) {
    let bakfs = Bakfs::empty();
    let repo = bakfs.repo();
    // The repository as git keeps it: without its empty folders.
    let kept = golden().join(version).join(encryption);
    tool("cp", [OsStr::new("-r"), kept.as_os_str(), repo.as_os_str()]).expect(0);
    for shard in 0..256 {
        std::fs::create_dir_all(repo.join(format!("packs/{shard:02x}"))).unwrap();
    }
    std::fs::create_dir_all(repo.join("keys")).unwrap();
    let password = golden().join(version).join("aes256.key");
    let key = [OsStr::new("--password-file"), password.as_os_str()];
    // Where there is no encryption a key would be a sign that the repository was exchanged.
    let key = if encryption == "none" { &[][..] } else { &key };
    let ok = |args: &[&OsStr]| -> Outcome { bakfs.ok([key, args].concat()) };
    ok(&["check".as_ref(), "--read-data".as_ref()]);
    let listed = json_of(ok(&["snapshots".as_ref(), "--json".as_ref()]));
    assert_eq!(listed[0]["name"], "2026-11-19T03-00-00Z");
    assert_eq!(listed[0]["tags"][0], "first");
    assert_eq!(listed[1]["name"], "2026-11-20T03-00-00Z");
    let source = std::fs::read_to_string(golden().join(version).join("source-path")).unwrap();
    for (snapshot, hello) in [("2026-11-19T03-00-00Z", "hello\n"), ("2026-11-20T03-00-00Z", "hello\nmore\n")] {
        let target = bakfs.path(snapshot);
        ok(&["restore".as_ref(), snapshot.as_ref(), target.as_os_str()]);
        check_tree(&target.join(source.trim().trim_start_matches('/')), hello);
    }
}

fn check_tree(tree: &Path, hello: &str) {
    let stat = |name: &str| std::fs::symlink_metadata(tree.join(name)).unwrap();
    assert_eq!(std::fs::read_to_string(tree.join("hello")).unwrap(), hello);
    let numbers: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    assert!(std::fs::read_to_string(tree.join("numbers")).unwrap() == numbers);
    assert_eq!(stat("numbers").mode() & 0o7777, 0o4750);
    assert_eq!((stat("numbers").mtime(), stat("numbers").mtime_nsec()), (1_580_608_922, 123_456_789));
    assert_eq!((stat("hello").ino(), stat("hello").nlink()), (stat("sub/hello-again").ino(), 2));
    assert_eq!(std::fs::read_link(tree.join("sub/link")).unwrap(), Path::new("../hello"));
    assert!(stat("pipe").file_type().is_fifo() && stat("device").file_type().is_char_device());
    let sparse = std::fs::read(tree.join("sparse")).unwrap();
    assert!(
        sparse.len() == 3_000_001 && sparse[3_000_000] == b'x' && sparse[..3_000_000].iter().all(|byte| *byte == 0)
    );
    assert!(stat("sparse").blocks() * 512 < 100_000, "holes stay holes");
    let odd = tree.join(OsStr::from_bytes(b"name-\xff\xfe"));
    assert_eq!(std::fs::read(odd).unwrap(), b"bytes");
    for n in 1..=300 {
        assert_eq!(std::fs::read_to_string(tree.join(format!("sub/many-{n}"))).unwrap(), n.to_string());
    }
    assert!(std::fs::read_dir(tree.join("sub/empty")).unwrap().next().is_none());
    let mut value = [0; 16];
    let len = rustix::fs::getxattr(tree.join("hello"), "user.comment", &mut value).unwrap();
    assert_eq!(&value[..len], b"golden");
}
