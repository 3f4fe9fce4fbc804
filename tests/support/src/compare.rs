//! An exact comparer of two trees. It walks by directory handles, so that paths of any length and any
//! bytes are fine, and asks the kernel itself: it shares no code with what it judges.

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, SeekFrom, Statx, StatxFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What must be equal beside types, modes, owners, sizes, times, targets, xattrs, contents and the
/// grouping of hard links.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// `st_blocks` of everything, and `st_size` and `st_nlink` of directories.
    pub layout: bool,
    /// `st_ctime`.
    pub ctime: bool,
    /// Where files have holes (SEEK_HOLE).
    pub holes: bool,
}

impl Rules {
    /// The mount shows the source's own attributes.
    pub const MOUNT: Rules = Rules { layout: true, ctime: true, holes: true };
    /// A copy has its own change times, and its file system its own layout.
    pub const COPY: Rules = Rules { layout: false, ctime: false, holes: true };
    /// cp(1) looks for holes only where `st_blocks` is smaller than the length.
    pub const CP: Rules = Rules { holes: false, ..Rules::COPY };
}

/// What a comparison saw.
#[derive(Debug, Default)]
pub struct Report {
    /// One line for each difference.
    pub differences: Vec<String>,
    /// Names compared.
    pub names: u64,
    /// Content bytes compared, holes left out.
    pub content_bytes: u64,
}

impl Report {
    /// Panics with the differences, if there are any.
    #[track_caller]
    pub fn assert_same(&self, what: &str) {
        let first: Vec<_> = self.differences.iter().take(40).cloned().collect();
        let count = self.differences.len();
        assert!(count == 0, "{what}: {count} differences:\n{}", first.join("\n"));
        assert!(self.names > 0, "{what}: nothing was compared");
    }
}

/// Compares all below two directories, and the directories themselves.
pub fn trees(left: &Path, right: &Path, rules: Rules) -> Report {
    let mut comparer = Comparer { rules, report: Report::default(), links: Links::default() };
    let sides = [left, right].map(|path| open_dir(CWD, path.as_os_str().as_encoded_bytes()));
    match sides {
        [Ok(left), Ok(right)] => comparer.roots(&left, &right),
        [left, right] => {
            let errors = [left.err(), right.err()];
            comparer.report.differences.push(format!("cannot open the roots: {errors:?}"));
        }
    }
    comparer.report
}

/// Which inode of one side stands for which of the other.
#[derive(Default)]
struct Links {
    right_of: HashMap<(u64, u64), (u64, u64)>,
    left_of: HashMap<(u64, u64), (u64, u64)>,
}

struct Comparer {
    rules: Rules,
    report: Report,
    links: Links,
}

/// Both sides of one name.
struct Pair {
    path: Vec<u8>,
    left: OwnedFd,
    right: OwnedFd,
}

impl Comparer {
    fn roots(&mut self, left: &OwnedFd, right: &OwnedFd) {
        let [left, right] = [left, right].map(|fd| handle(fd.as_fd(), b"."));
        if let (Ok(left), Ok(right)) = (left, right) {
            self.entry(&Pair { path: b".".to_vec(), left, right });
        }
    }

    fn say(&mut self, path: &[u8], what: &str) {
        let shown = if path.len() > 300 { &path[path.len() - 300..] } else { path };
        let name = shown.escape_ascii().to_string();
        self.report.differences.push(format!("{name}: {what}"));
    }

    fn entry(&mut self, pair: &Pair) {
        self.report.names += 1;
        let stats = [&pair.left, &pair.right].map(stat);
        let [left, right] = match stats {
            [Ok(left), Ok(right)] => [left, right],
            [left, right] => {
                return self.say(&pair.path, &format!("statx: {:?} {:?}", left.err(), right.err()));
            }
        };
        let kind = FileType::from_raw_mode(left.stx_mode.into());
        if kind != FileType::from_raw_mode(right.stx_mode.into()) {
            let modes = (left.stx_mode, right.stx_mode);
            return self.say(&pair.path, &format!("types differ, modes {:o} {:o}", modes.0, modes.1));
        }
        let text = self.attributes(kind, &left, &right);
        if !text.is_empty() {
            self.say(&pair.path, &text);
        }
        self.group(&pair.path, &left, &right);
        let attributes = [&pair.left, &pair.right].map(xattrs);
        if attributes[0] != attributes[1] {
            self.say(&pair.path, &format!("xattrs: {}", show_xattrs(&attributes)));
        }
        match kind {
            FileType::Directory => self.directory(pair),
            FileType::RegularFile => self.file(pair, &left),
            FileType::Symlink => {
                let targets = [&pair.left, &pair.right].map(|fd| rustix::fs::readlinkat(fd, "", Vec::new()));
                if targets[0] != targets[1] {
                    self.say(&pair.path, &format!("link targets: {targets:?}"));
                }
            }
            _ => {}
        }
    }

    fn attributes(&self, kind: FileType, left: &Statx, right: &Statx) -> String {
        let mut text = String::new();
        let mut check = |what: &str, left: i128, right: i128| {
            if left != right {
                let _ = write!(text, "{what} {left} -> {right}; ");
            }
        };
        let nanos =
            |time: rustix::fs::StatxTimestamp| i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
        let is_dir = kind == FileType::Directory;
        check("mode", left.stx_mode.into(), right.stx_mode.into());
        check("uid", left.stx_uid.into(), right.stx_uid.into());
        check("gid", left.stx_gid.into(), right.stx_gid.into());
        check("mtime", nanos(left.stx_mtime), nanos(right.stx_mtime));
        if !is_dir || self.rules.layout {
            check("size", left.stx_size.into(), right.stx_size.into());
            check("nlink", left.stx_nlink.into(), right.stx_nlink.into());
        }
        if self.rules.layout {
            check("blocks", left.stx_blocks.into(), right.stx_blocks.into());
        }
        if self.rules.ctime {
            check("ctime", nanos(left.stx_ctime), nanos(right.stx_ctime));
        }
        if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
            check("rdev major", left.stx_rdev_major.into(), right.stx_rdev_major.into());
            check("rdev minor", left.stx_rdev_minor.into(), right.stx_rdev_minor.into());
        }
        text
    }

    /// Checks that the inodes of both sides map one to one.
    fn group(&mut self, path: &[u8], left: &Statx, right: &Statx) {
        let key = |stat: &Statx| (u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor), stat.stx_ino);
        let (left, right) = (key(left), key(right));
        let known_right = *self.links.right_of.entry(left).or_insert(right);
        let known_left = *self.links.left_of.entry(right).or_insert(left);
        if known_right != right {
            self.say(path, "is a hard link on the left only");
        }
        if known_left != left {
            self.say(path, "shares its inode on the right only");
        }
    }

    fn directory(&mut self, pair: &Pair) {
        let listings = [&pair.left, &pair.right].map(names);
        let [left, right] = match listings {
            [Ok(left), Ok(right)] => [left, right],
            [left, right] => {
                let errors = (left.err(), right.err());
                return self.say(&pair.path, &format!("listing: {errors:?}"));
            }
        };
        let child = |name: &[u8]| [&pair.path, b"/".as_slice(), name].concat();
        for name in left.difference(&right) {
            self.say(&child(name), "is missing on the right");
        }
        for name in right.difference(&left) {
            self.say(&child(name), "is there on the right only");
        }
        for name in left.intersection(&right) {
            match [&pair.left, &pair.right].map(|dir| handle(dir.as_fd(), name)) {
                [Ok(left), Ok(right)] => self.entry(&Pair { path: child(name), left, right }),
                [left, right] => {
                    let errors = (left.err(), right.err());
                    self.say(&child(name), &format!("open: {errors:?}"));
                }
            }
        }
    }

    /// Where `st_blocks` covers the length, holes can only be blocks that were reserved and never
    /// written; whether lseek(2) calls them holes depends on what happens to be in the page cache.
    fn file(&mut self, pair: &Pair, left_stat: &Statx) {
        let is_sparse = left_stat.stx_blocks * 512 < left_stat.stx_size;
        let contents = [&pair.left, &pair.right].map(content);
        match contents {
            [Ok(left), Ok(right)] => {
                self.report.content_bytes += left.data_bytes;
                if left.hash != right.hash {
                    self.say(&pair.path, "contents differ");
                }
                if self.rules.holes && is_sparse && left.runs != right.runs {
                    let what = format!("data runs: {} -> {}", left.show(), right.show());
                    self.say(&pair.path, &what);
                }
            }
            [left, right] => {
                let errors = (left.err(), right.err());
                self.say(&pair.path, &format!("reading: {errors:?}"));
            }
        }
    }
}

/// Opens a name without following it and without opening what it names (`O_PATH`).
fn handle(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn open_dir(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

fn stat(fd: &OwnedFd) -> rustix::io::Result<Statx> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::statx(fd, "", flags, StatxFlags::BASIC_STATS)
}

fn names(dir: &OwnedFd) -> rustix::io::Result<BTreeSet<Vec<u8>>> {
    let mut all = BTreeSet::new();
    for entry in Dir::new(open_dir(dir.as_fd(), b".")?)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            assert!(all.insert(name.clone()), "listed twice: {}", name.escape_ascii());
        }
    }
    Ok(all)
}

/// The path that leads to exactly what a handle names, symbolic links included (proc(5)).
fn magic(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn xattrs(fd: &OwnedFd) -> rustix::io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let path = magic(fd);
    let mut buffer = vec![0; 64 << 10];
    let len = match rustix::fs::listxattr(path.as_str(), &mut buffer[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        answer => answer?,
    };
    let mut all = BTreeMap::new();
    for name in buffer[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 << 10];
        let len = rustix::fs::getxattr(path.as_str(), name, &mut value[..])?;
        value.truncate(len);
        all.insert(name.to_vec(), value);
    }
    Ok(all)
}

fn show_xattrs(sides: &[rustix::io::Result<BTreeMap<Vec<u8>, Vec<u8>>>; 2]) -> String {
    let show = |side: &rustix::io::Result<BTreeMap<Vec<u8>, Vec<u8>>>| match side {
        Err(error) => error.to_string(),
        Ok(all) => {
            let one = |(name, value): (&Vec<u8>, &Vec<u8>)| {
                let hash = blake3::hash(value).to_hex();
                format!("{}={} bytes {}", name.escape_ascii(), value.len(), &hash[..8])
            };
            format!("[{}]", all.iter().map(one).collect::<Vec<_>>().join(", "))
        }
    };
    format!("{} -> {}", show(&sides[0]), show(&sides[1]))
}

/// What a regular file holds.
struct Content {
    /// Depends on the bytes and the length alone, not on where the holes are.
    hash: blake3::Hash,
    /// The runs of data: offset and end.
    runs: Vec<(u64, u64)>,
    data_bytes: u64,
}

impl Content {
    fn show(&self) -> String {
        format!("{} runs {:?}", self.runs.len(), &self.runs[..self.runs.len().min(6)])
    }
}

const BLOCK_BYTES: usize = 4096;

fn content(fd: &OwnedFd) -> rustix::io::Result<Content> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(magic(fd).as_str(), flags, Mode::empty())?;
    let runs = data_runs(&file)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut data_bytes = 0;
    let mut at = 0;
    for &(start, end) in &runs {
        data_bytes += end - start;
        at = at.max(start / BLOCK_BYTES as u64 * BLOCK_BYTES as u64);
        while at < end {
            let len = read_full(&file, &mut buffer, at)?;
            for (index, block) in buffer[..len].chunks(BLOCK_BYTES).enumerate() {
                if block != &[0; BLOCK_BYTES][..block.len()] {
                    hasher.update(&(at + (index * BLOCK_BYTES) as u64).to_le_bytes());
                    hasher.update(block);
                }
            }
            at += len as u64;
            if len < buffer.len() {
                break;
            }
        }
    }
    hasher.update(&rustix::fs::fstat(&file)?.st_size.to_le_bytes());
    Ok(Content { hash: hasher.finalize(), runs, data_bytes })
}

/// Reads from an offset until the buffer is full or the file ends.
fn read_full(file: &OwnedFd, buffer: &mut [u8], offset: u64) -> rustix::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::pread(file, &mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            len => filled += len,
        }
    }
    Ok(filled)
}

fn data_runs(file: &OwnedFd) -> rustix::io::Result<Vec<(u64, u64)>> {
    let mut runs = Vec::new();
    let mut at = 0;
    loop {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => return Ok(runs),
            answer => answer?,
        };
        at = rustix::fs::seek(file, SeekFrom::Hole(start))?;
        runs.push((start, at));
    }
}
