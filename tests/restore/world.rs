//! A repository with a source, everything a source can hold, and the comparison of two trees.

use bakfs::source::listing::Listing;
use bakfs::source::stat::{Kind, Stat};
use bakfs::source::walk::Walk;
use bakfs::source::{read, xattr};
use bakfs_testing::cli::Bakfs;
use bakfs_testing::zoo::build_zoo;
use rustix::fs::CWD;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A repository and a source, both temporary.
pub struct World {
    pub bakfs: Bakfs,
    pub source: PathBuf,
}

impl World {
    pub fn new() -> World {
        let (bakfs, source) = Bakfs::with_source();
        World { bakfs, source }
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.bakfs.path(name)
    }

    pub fn back_up(&self) {
        self.bakfs.backup([&self.source]);
    }

    /// Restores into `target` of this world and returns the counters of the JSON report.
    pub fn restore(&self, what: &str, target: &str, options: &[&str], code: i32) -> Restored {
        let target = self.at(target);
        let args = [&["restore", "--json", what, target.to_str().unwrap()], options].concat();
        let outcome = self.bakfs.run(args).expect(code);
        let counts = serde_json::from_slice(&outcome.stdout).unwrap_or_default();
        Restored { root: join(&target, &self.source), counts, said: outcome.stderr }
    }
}

/// What a restore made of the source, counted and said.
pub struct Restored {
    pub root: PathBuf,
    counts: serde_json::Value,
    pub said: String,
}

impl Restored {
    pub fn count(&self, name: &str) -> u64 {
        self.counts[name].as_u64().unwrap()
    }
}

pub fn join(target: &Path, source: &Path) -> PathBuf {
    target.join(source.strip_prefix("/").unwrap())
}

pub fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new_derive_key("noise").finalize_xof().fill(&mut bytes);
    bytes
}

fn list(path: &Path) -> Listing {
    Walk::new(0, 1).request_root(path).take().unwrap()
}

type Shown = BTreeMap<Vec<u8>, String>;

/// Shows everything a restore can bring back of each file below `root`, by path.
pub fn show(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let (mut shown, mut inodes) = (Shown::new(), HashMap::new());
    show_dir(root, b"", &mut shown, &mut inodes);
    let meta = fs::metadata(root).unwrap();
    shown.insert(Vec::new(), format!("{:o} {}.{}", meta.mode(), meta.mtime(), meta.mtime_nsec()));
    shown
}

fn show_dir(dir: &Path, above: &[u8], shown: &mut Shown, inodes: &mut HashMap<u64, Vec<u8>>) {
    let listing = list(dir);
    for scanned in &listing.entries {
        let (name, stat) = (&scanned.name, &scanned.stat);
        let path = [above, b"/", name].concat();
        let xattrs = xattr::of_name(listing.dir.as_fd(), name).list;
        // The first name of a file stands for all.
        let first = inodes.entry(stat.ino).or_insert_with(|| path.clone()).escape_ascii().to_string();
        let own = match stat.kind {
            Kind::Directory => String::new(),
            _ => format!("{} links, first {first}, {}", stat.nlink, show_own(&listing, name, stat)),
        };
        let Stat { kind, mode, uid, gid, mtime, .. } = stat;
        shown.insert(path.clone(), format!("{kind:?} {mode:o} {uid}:{gid} {mtime:?} {xattrs:?} {own}"));
        if *kind == Kind::Directory {
            show_dir(&dir.join(OsStr::from_bytes(name)), &path, shown, inodes);
        }
    }
}

fn show_own(dir: &Listing, name: &[u8], stat: &Stat) -> String {
    match stat.kind {
        Kind::File => {
            let file = read::open(dir.dir.as_fd(), name, stat).unwrap();
            let mut hasher = blake3::Hasher::new();
            let mut runs = Vec::new();
            for run in file.segments() {
                let run = run.unwrap();
                runs.push((run.offset, run.len_bytes, run.is_hole));
                if !run.is_hole {
                    let mut data = vec![0; run.len_bytes as usize];
                    assert_eq!(file.read_at(run.offset, &mut data).unwrap(), data.len());
                    hasher.update(&data);
                }
            }
            // Neighbouring runs of data may be told apart or not.
            let data: u64 = runs.iter().filter(|run| !run.2).map(|run| run.1).sum();
            format!("{} bytes, {data} no hole, {}", stat.size_bytes, hasher.finalize())
        }
        Kind::Symlink => format!("{:?}", read::read_link(dir.dir.as_fd(), name).unwrap()),
        _ => format!("{},{}", stat.rdev_major, stat.rdev_minor),
    }
}

pub fn assert_same(one: &Path, two: &Path) {
    let (one, two) = (show(one), show(two));
    for (path, shown) in &one {
        assert_eq!(two.get(path), Some(shown), "{}", path.escape_ascii());
    }
    assert_eq!(one.len(), two.len());
}

/// Makes one of everything, of some more than one, and names and times of which a restore has to keep account.
pub fn build_large_zoo(root: &Path) {
    build_zoo(root);
    let at = |name: &str| root.join(name);
    // Stored zeros, which are no hole.
    fs::File::options().write(true).open(at("sparse")).unwrap().write_all_at(&[0; 65536], 4 << 20).unwrap();
    let holes = fs::File::create(at("many holes")).unwrap();
    (0..40).for_each(|at| holes.write_all_at(&[7; 4096], at << 16).unwrap());
    holes.sync_all().unwrap();
    fs::write(at("large"), noise(21 << 20)).unwrap();
    fs::hard_link(at("large"), at("large too")).unwrap();
    for number in 0..40 {
        fs::hard_link(at("0640"), at(&format!("dir/link {number}"))).unwrap();
    }
    fs::hard_link(at("root"), at("dir/root")).unwrap();
    fs::hard_link(at("fifo"), at("dir/read-only/below/fifo")).unwrap();
    fs::create_dir_all(at("dir/many")).unwrap();
    (0..900).for_each(|number| fs::write(at(&format!("dir/many/{number}")), number.to_string()).unwrap());
    for (name, secs) in [("0640", -5), ("large", 1), ("dir/many", 0x1_0000_0001)] {
        let time = rustix::fs::Timespec { tv_sec: secs, tv_nsec: 123_456_789 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, at(name), &times, rustix::fs::AtFlags::empty()).unwrap();
    }
}
