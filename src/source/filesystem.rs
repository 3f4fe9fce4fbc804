//! Which file system a directory is on: the same one tonight as last night, whatever its device and wherever it is
//! mounted, and what its times can be compared with.

use super::ioctls;
use super::stat::Stat;
use crate::format::tree::Time;
use rustix::fs::{AtFlags, StatxFlags};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Types that only show a kernel's or a daemon's state, or what is kept elsewhere, and keep nothing themselves: those of
/// util-linux's `is_pseudo_fs` (libmount/src/utils.c) and systemd's `@basic-api` (src/basic/filesystems-gperf.gperf)
/// that are neither memory nor storage; sysbox-fs, xdg-document-portal, KIO FUSE and xrdp by the names they mount under.
/// As they stand in mountinfo; sorted.
const SHOWN: [&str; 45] = [
    "autofs",
    "binder",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "cpuset",
    "debugfs",
    "devfs",
    "devpts",
    "devtmpfs",
    "dlmfs",
    "efivarfs",
    "fuse.cgmfs",
    "fuse.dumpfs",
    "fuse.gvfs-fuse-daemon",
    "fuse.gvfsd-fuse",
    "fuse.kio-fuse",
    "fuse.lxcfs",
    "fuse.portal",
    "fuse.sysboxfs",
    "fuse.vmware-vmblock",
    "fuse.xrdp-chansrv",
    "fuse.xwmfs",
    "fusectl",
    "hugetlbfs",
    "ipathfs",
    "mqueue",
    "nfsd",
    "nsfs",
    "ocfs2_dlmfs",
    "openpromfs",
    "proc",
    "pstore",
    "resctrl",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "spufs",
    "sysfs",
    "tracefs",
    "usbfs",
    "xenfs",
];
/// Types without `.`'s subtype that say by their source what they are.
const SHOWN_FUSE_SOURCES: [&str; 2] = ["lxcfs", "sysboxfs"];
/// Types whose files others change by clocks of their own: servers, clusters and programs (see also [`is_elsewhere`]).
const ELSEWHERE: [&str; 16] = [
    "9p",
    "afs",
    "bcachefs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "gfs2",
    "glusterfs",
    "lustre",
    "ncpfs",
    "nfs",
    "ocfs2",
    "orangefs",
    "vboxsf",
    "virtiofs",
];
/// Types in memory or over several devices whose changes are this kernel's alone; those on one block device are too.
const LOCAL_WITHOUT_DEVICE: [&str; 6] = ["btrfs", "overlay", "ramfs", "tmpfs", "ubifs", "zfs"];
/// File systems that show the kernel's state and keep nothing (magic numbers: include/uapi/linux/magic.h).
const PSEUDO: [u32; 19] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x1cd1,      // devpts
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0x6165_676c, // pstore
    0xcafe_4a11, // bpf
    0x6265_6570, // configfs
    0x1980_0202, // mqueue
    0x9584_58f6, // hugetlbfs
    0xde5e_81e4, // efivarfs
    0x4249_4e4d, // binfmt_misc
    0x6573_5543, // fusectl
    0x0187,      // autofs
    0x6e73_6673, // nsfs
    0xf97c_ff8c, // selinuxfs
];
/// Devices lie upon one another no deeper than this.
const MAX_DEVICE_DEPTH: usize = 8;

/// Whose clock gives the times of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// This machine's.
    Own,
    /// That of a server, a program or another machine: it may be ahead or behind.
    Other,
}

/// What is known of a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// What it is: two that share one of these are one file system, or snapshots of it. Type, UUID and what is behind it;
    /// empty where that cannot be told.
    pub kin: Vec<Vec<u8>>,
    /// The one mount it is seen through, as no other mount is called until the machine starts again: what is seen
    /// through it is one state that goes on. `None` where that cannot be told, or others change it too.
    pub mount: Option<Vec<u8>>,
    /// Whose clock its times are by.
    pub clock: Clock,
    /// When the snapshot that it is was taken (btrfs).
    pub taken: Option<Time>,
    /// Whether it only shows what the kernel or a daemon knows, and keeps nothing.
    pub is_shown: bool,
}

/// File systems met by one walk.
#[derive(Debug, Default)]
pub struct FileSystems {
    known: HashMap<(u64, u64), Arc<FileSystem>>,
    table: Vec<u8>,
}

impl FileSystems {
    /// Returns the file system that the open directory `fd`, in the state `stat`, is on.
    pub fn of(&mut self, fd: BorrowedFd<'_>, stat: &Stat) -> Arc<FileSystem> {
        if let Some(known) = self.known.get(&(stat.mount_id, stat.dev)) {
            return known.clone();
        }
        let mut mount = Mount::find(&self.table, stat.mount_id);
        if mount.is_none() {
            // Mounted since: an automount, or the first one.
            self.table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
            mount = Mount::find(&self.table, stat.mount_id);
        }
        let found = Arc::new(look(fd, stat, mount.as_ref()));
        self.known.insert((stat.mount_id, stat.dev), found.clone());
        found
    }

    /// Returns where file systems are mounted now, as absolute paths.
    pub fn mount_points() -> Vec<Vec<u8>> {
        let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        table
            .split(|byte| *byte == b'\n')
            .filter_map(|line| Some(unescape(line.split(|c| *c == b' ').nth(4)?)))
            .collect()
    }
}

/// Returns where file systems should be mounted (fstab(5)); none where that cannot be read.
pub(super) fn listed_mount_points() -> HashSet<PathBuf> {
    let text = std::fs::read("/etc/fstab").unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii_start().starts_with(b"#"));
    let second = |line: &[u8]| {
        let word = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty()).nth(1)?;
        Some(PathBuf::from(OsString::from_vec(unescape(word))))
    };
    lines.filter_map(second).collect()
}

/// One line of mountinfo (proc_pid_mountinfo(5)).
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    kind: String,
    source: Vec<u8>,
    options: Vec<u8>,
}

impl Mount {
    fn find(table: &[u8], id: u64) -> Option<Mount> {
        let id = id.to_string();
        let mut lines = table.split(|byte| *byte == b'\n');
        let line = lines.find(|line| line.split(|byte| *byte == b' ').next() == Some(id.as_bytes()))?;
        // Optional fields end with a dash.
        let mut fields = line.split(|byte| *byte == b' ').skip(6).skip_while(|field| *field != b"-").skip(1);
        let kind = String::from_utf8_lossy(fields.next()?).into_owned();
        Some(Mount { kind, source: unescape(fields.next()?), options: fields.next()?.to_vec() })
    }
}

/// Undoes the octal escapes of mountinfo and of fstab(5) (`\040` for a blank).
pub fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

fn look(fd: BorrowedFd<'_>, stat: &Stat, mount: Option<&Mount>) -> FileSystem {
    let kind = mount.map_or("", |mount| family(&mount.kind));
    let is_own = !is_elsewhere(kind) && (is_block(stat.dev) || LOCAL_WITHOUT_DEVICE.contains(&kind));
    let subvolume = (kind == "btrfs").then(|| ioctls::subvolume(fd)).flatten();
    let kin = mount.map_or_else(Vec::new, |mount| kin(fd, stat, mount, subvolume.as_ref()));
    let own_name = kin.first().filter(|_| is_own);
    FileSystem {
        mount: own_name.and_then(|name| mount_name(fd, stat.dev, name)),
        kin,
        clock: if is_own { Clock::Own } else { Clock::Other },
        taken: subvolume.filter(|it| it.parent != [0; 16]).map(|it| it.made),
        is_shown: mount.is_some_and(is_shown),
    }
}

/// Returns one name for the types of one family.
fn family(kind: &str) -> &str {
    match kind {
        "ext2" | "ext3" | "ext4" => "ext",
        "nfs4" => "nfs",
        "smb3" => "cifs",
        kind => kind,
    }
}

/// Returns whether files of a type of file system are changed elsewhere too, by a server, a cluster or a program.
pub fn is_elsewhere(kind: &str) -> bool {
    ELSEWHERE.contains(&family(kind)) || kind.starts_with("fuse")
}

fn is_shown(mount: &Mount) -> bool {
    SHOWN.binary_search(&&*mount.kind).is_ok()
        || mount.kind == "fuse" && SHOWN_FUSE_SOURCES.iter().any(|source| source.as_bytes() == mount.source)
}

/// Returns whether an open directory only shows the kernel's state, by the file system's type alone.
pub(super) fn is_pseudo(dir: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatfs(dir).is_ok_and(|found| PSEUDO.contains(&(found.f_type as u32)))
}

/// Returns whether a device number is a disk's: file systems without one have numbers of major 0.
fn is_block(dev: u64) -> bool {
    rustix::fs::major(dev) != 0
}

/// Returns what a file system is, under each name that its snapshots may know it by.
fn kin(fd: BorrowedFd<'_>, stat: &Stat, mount: &Mount, subvolume: Option<&ioctls::Subvolume>) -> Vec<Vec<u8>> {
    let kind = family(&mount.kind);
    let name = |what: &[&[u8]]| [&[kind.as_bytes()], what].concat().join(&0);
    if is_elsewhere(kind) {
        return vec![name(&[&mount.source])];
    }
    if kind == "zfs" {
        // pool/data@snapshot is a state of pool/data.
        return vec![name(&[mount.source.split(|byte| *byte == b'@').next().unwrap_or_default()])];
    }
    if kind == "overlay" {
        let layers = mount.options.split(|byte| *byte == b',');
        let mut layers: Vec<&[u8]> =
            layers.filter(|it| it.starts_with(b"lowerdir") || it.starts_with(b"upperdir=")).collect();
        layers.sort_unstable();
        return if layers.is_empty() { Vec::new() } else { vec![name(&layers)] };
    }
    let device = if is_block(stat.dev) { Some(stat.dev) } else { device_of(&mount.source) };
    let behind = device.map_or_else(Vec::new, |device| behind(&sysfs_of(device), 0));
    if let Some(subvolume) = subvolume
        && let Some(uuid) = ioctls::btrfs_uuid(fd)
    {
        // A snapshot knows what it was taken of. Nights in a row have that in common, or one is of the other.
        let names = [subvolume.own, subvolume.parent].into_iter().filter(|id| *id != [0; 16]);
        return names.map(|id| name(&[&uuid, &behind, &id])).collect();
    }
    let uuid = match kind {
        // Made of the UUID (ext4_statfs), and told by every kernel.
        "ext" => rustix::fs::fstatvfs(fd).ok().map(|found| found.f_fsid.to_le_bytes().to_vec()),
        _ => ioctls::uuid(fd).or_else(|| device.and_then(linked_uuid)),
    };
    match uuid {
        Some(uuid) => vec![name(&[&uuid, &behind])],
        // A read-only image knows itself by where it lies, and a disk without a UUID by its device.
        None if device.is_some() && !behind.is_empty() => vec![name(&[b"", &behind])],
        None if device.is_some() => vec![name(&[b"", b"", &mount.source])],
        None => Vec::new(),
    }
}

fn device_of(source: &[u8]) -> Option<u64> {
    let path = Path::new(std::ffi::OsStr::from_bytes(source));
    let found = path.is_absolute().then(|| rustix::fs::stat(path).ok()).flatten()?;
    (found.st_mode & libc::S_IFMT == libc::S_IFBLK).then_some(found.st_rdev)
}

fn sysfs_of(device: u64) -> PathBuf {
    let path = format!("/sys/dev/block/{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    std::fs::canonicalize(&path).unwrap_or_else(|_| path.into())
}

/// Returns udev's UUID of a device's file system, as lower-case hexadecimal digits.
fn linked_uuid(device: u64) -> Option<Vec<u8>> {
    let links = std::fs::read_dir("/dev/disk/by-uuid").ok()?.flatten();
    let is_of = |path: &Path| rustix::fs::stat(path).is_ok_and(|found| found.st_rdev == device);
    let name = links.map(|link| link.path()).find(|path| is_of(path))?.file_name()?.to_os_string().into_vec();
    Some(name.into_iter().filter(|byte| *byte != b'-').map(|byte| byte.to_ascii_lowercase()).collect())
}

/// Returns what a device shows: the image of a loop device, or of an LVM volume what its snapshots are taken of; empty
/// of a disk. `folder` is the device's in sysfs.
fn behind(folder: &Path, depth: usize) -> Vec<u8> {
    let read = |name: &str| std::fs::read(folder.join(name)).ok().map(|bytes| bytes.trim_ascii_end().to_vec());
    if depth > MAX_DEVICE_DEPTH {
        return Vec::new();
    }
    if let Some(image) = read("loop/backing_file") {
        return [b"loop:".as_slice(), &image].concat();
    }
    if let Some(number) = read("partition") {
        let disk = folder.parent().map_or_else(Vec::new, |disk| behind(disk, depth + 1));
        return if disk.is_empty() { disk } else { [disk, number].join(&b':') };
    }
    let Some(uuid) = read("dm/uuid") else { return Vec::new() };
    let slaves = || {
        let links = std::fs::read_dir(folder.join("slaves")).into_iter().flatten().flatten();
        links.filter_map(|link| std::fs::canonicalize(link.path()).ok())
    };
    if !uuid.starts_with(b"LVM-") {
        // Encryption, partitions and paths show what is below them.
        return slaves().next().map_or_else(Vec::new, |slave| behind(&slave, depth + 1));
    }
    // The hidden volume that an origin and its snapshots lie upon, or the pool of thin ones (lvmthin(7)).
    let of_slaves: Vec<_> = slaves().filter_map(|slave| std::fs::read(slave.join("dm/uuid")).ok()).collect();
    let mut of_slaves = of_slaves.iter().map(|uuid| uuid.trim_ascii_end());
    let origin = of_slaves.clone().find_map(|uuid| uuid.strip_suffix(b"-real"));
    let origin = origin.or_else(|| of_slaves.find(|uuid| uuid.ends_with(b"-tpool")));
    [b"lvm:".as_slice(), origin.unwrap_or(&uuid)].concat()
}

/// Names a mount as no other is named until the machine starts again (`STATX_MNT_ID_UNIQUE`, Linux 6.8).
fn mount_name(fd: BorrowedFd<'_>, dev: u64, name: &[u8]) -> Option<Vec<u8>> {
    const MNT_ID_UNIQUE: u32 = 0x4000;
    let mask = StatxFlags::from_bits_retain(MNT_ID_UNIQUE);
    let found = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, mask).ok()?;
    let id = (found.stx_mask & MNT_ID_UNIQUE != 0).then_some(found.stx_mnt_id)?;
    let boot = std::fs::read("/proc/sys/kernel/random/boot_id").ok()?;
    Some([boot.trim_ascii_end(), &id.to_le_bytes(), &dev.to_le_bytes(), name].concat())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    #[test]
    fn mountinfo_tells_type_source_and_options() {
        let table = b"22 27 0:21 / /proc rw - proc proc rw\n\
            36 35 98:0 /sub /mnt/a\\040b rw,noatime shared:1 master:2 - fuse.lxcfs lx\\134c rw,user_id=0\n";
        let mount = Mount::find(table, 36).unwrap();
        assert_eq!((&*mount.kind, &*mount.source), ("fuse.lxcfs", &b"lx\\c"[..]));
        assert!(is_shown(&mount) && is_shown(&Mount::find(table, 22).unwrap()));
        assert_eq!((Mount::find(table, 3), Mount::find(table, 2)), (None, None));
        let of = |kind: &str, source: &str| {
            is_shown(&Mount { kind: kind.into(), source: source.into(), options: Vec::new() })
        };
        assert!(
            of("fuse", "sysboxfs") && !of("fuse", "host:/data") && !of("fuse.sshfs", "lxcfs") && !of("ext4", "proc")
        );
        assert!(SHOWN.is_sorted() && ELSEWHERE.is_sorted());
    }

    #[test]
    fn snapshots_of_one_volume_are_its_kin_and_other_volumes_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let device = |name: &str, files: &[(&str, &str)], slaves: &[&str]| {
            let path = folder.path().join(name);
            for (file, text) in files {
                fs::create_dir_all(path.join(file).parent().unwrap()).unwrap();
                fs::write(path.join(file), format!("{text}\n")).unwrap();
            }
            fs::create_dir_all(path.join("slaves")).unwrap();
            for slave in slaves {
                std::os::unix::fs::symlink(folder.path().join(slave), path.join("slaves").join(slave)).unwrap();
            }
            path
        };
        let shown = |path: PathBuf| String::from_utf8(behind(&path, 0)).unwrap();
        device("real", &[("dm/uuid", "LVM-VG1home-real")], &["sda"]);
        device("cow1", &[("dm/uuid", "LVM-VG1one-cow")], &["sda"]);
        device("pool", &[("dm/uuid", "LVM-VG1pool-tpool")], &["sda"]);
        device("sda", &[], &[]);
        assert_eq!(shown(device("home", &[("dm/uuid", "LVM-VG1home")], &["real"])), "lvm:LVM-VG1home");
        assert_eq!(shown(device("night1", &[("dm/uuid", "LVM-VG1one")], &["cow1", "real"])), "lvm:LVM-VG1home");
        assert_eq!(shown(device("night2", &[("dm/uuid", "LVM-VG1two")], &["real"])), "lvm:LVM-VG1home");
        assert_eq!(shown(device("open", &[("dm/uuid", "CRYPT-LUKS2-0-x")], &["night1"])), "lvm:LVM-VG1home");
        assert_eq!(shown(device("thin", &[("dm/uuid", "LVM-VG1thin")], &["pool"])), "lvm:LVM-VG1pool-tpool");
        assert_eq!(shown(device("alone", &[("dm/uuid", "LVM-VG1alone")], &["sda"])), "lvm:LVM-VG1alone");
        assert_eq!(shown(device("loop3", &[("loop/backing_file", "/vm/a b.img")], &[])), "loop:/vm/a b.img");
        assert_eq!(shown(device("loop3/loop3p1", &[("partition", "1")], &[])), "loop:/vm/a b.img:1");
        assert_eq!(shown(device("sda/sda1", &[("partition", "1")], &[])), "");
    }

    #[test]
    fn one_mount_has_one_name_and_another_has_another() {
        let folder = tempfile::tempdir().unwrap();
        let of = |path: &Path| {
            let file = fs::File::open(path).unwrap();
            let fd = std::os::fd::AsFd::as_fd(&file);
            FileSystems::default().of(fd, &Stat::of(fd).unwrap())
        };
        let (here, proc) = (of(folder.path()), of(Path::new("/proc")));
        assert_eq!(here, of(folder.path()));
        assert!(proc.is_shown && !here.is_shown && here.kin != proc.kin);
    }
}
