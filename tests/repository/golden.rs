//! Every format version that was ever written can be read: repositories made by tests/golden/make.

use bakfs_testing::cli::{Bakfs, json_of};
use bakfs_testing::process::{Outcome, tool};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

const VERSIONS: [&str; 2] = ["v1", "v2"];

/// The snapshots of each, with the content of one file.
const DAYS: [(&str, &str); 2] = [("2026-11-19T03-00-00Z", "hello\n"), ("2026-11-20T03-00-00Z", "hello\nmore\n")];

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

/// Who reads one of the golden repositories, and with which key.
struct Reader {
    bakfs: Bakfs,
    key: Vec<OsString>,
    /// The path of its source.
    source: String,
}

impl Reader {
    fn new(version: &str, encryption: &str) -> Reader {
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
        // Where there is no encryption a key would be a sign that the repository was exchanged.
        let key = if encryption == "none" { vec![] } else { vec!["--password-file".into(), password.into()] };
        let source = std::fs::read_to_string(golden().join(version).join("source-path")).unwrap().trim().to_owned();
        Reader { bakfs, key, source }
    }

    fn ok(&self, args: &[&OsStr]) -> Outcome {
        let key: Vec<_> = self.key.iter().map(|word| &**word).collect();
        self.bakfs.ok([&key, args].concat())
    }

    fn check(&self) {
        self.ok(&["check".as_ref(), "--read-data".as_ref()]);
        let listed = json_of(self.ok(&["snapshots".as_ref(), "--json".as_ref()]));
        assert_eq!(listed[0]["name"], DAYS[0].0);
        assert_eq!(listed[0]["tags"][0], "first");
        assert_eq!(listed[1]["name"], DAYS[1].0);
    }
}

#[test]
fn anyone_checks_every_golden_version_and_reads_its_files() {
    for (version, encryption) in VERSIONS.iter().flat_map(|version| [(version, "aes256"), (version, "none")]) {
        let reader = Reader::new(version, encryption);
        reader.check();
        for (snapshot, hello) in DAYS {
            let dump = |name: &str| {
                let path = format!("{snapshot}:{}/{name}", reader.source);
                reader.ok(&["dump".as_ref(), path.as_ref()]).text()
            };
            assert_eq!(dump("hello"), hello);
            assert_eq!(dump("sub/many-7"), "7");
            assert!(dump("numbers") == numbers());
        }
    }
}

fn numbers() -> String {
    (1..=200_000).map(|n| format!("{n}\n")).collect()
}

fn read(version: &str, encryption: &str) {
    let reader = Reader::new(version, encryption);
    reader.check();
    for (snapshot, hello) in DAYS {
        let target = reader.bakfs.path(snapshot);
        reader.ok(&["restore".as_ref(), snapshot.as_ref(), target.as_os_str()]);
        check_tree(&target.join(reader.source.trim_start_matches('/')), hello);
    }
}

fn check_tree(tree: &Path, hello: &str) {
    let stat = |name: &str| std::fs::symlink_metadata(tree.join(name)).unwrap();
    assert_eq!(std::fs::read_to_string(tree.join("hello")).unwrap(), hello);
    assert!(std::fs::read_to_string(tree.join("numbers")).unwrap() == numbers());
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
