//! Whether anybody can write where something lies: on a file system that is mounted read-only nobody can, whatever the
//! mode. Secrets that are handed to containers lie so.

use crate::source::filesystem::{is_elsewhere, unescape};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One line of mountinfo (proc_pid_mountinfo(5)).
struct Mount {
    device: Vec<u8>,
    /// What of the file system is shown.
    root: PathBuf,
    point: PathBuf,
    is_read_only: bool,
    kind: String,
    /// Whether the file system itself is read-only, however it is mounted elsewhere.
    is_whole_read_only: bool,
}

impl Mount {
    fn parse(line: &[u8]) -> Option<Mount> {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let path = |field: &[u8]| PathBuf::from(OsString::from_vec(unescape(field)));
        // Optional fields end with a dash.
        let dash = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
        let has_ro = |options: &[u8]| options.split(|byte| *byte == b',').any(|option| option == b"ro");
        Some(Mount {
            device: fields[2].to_vec(),
            root: path(fields[3]),
            point: path(fields[4]),
            is_read_only: has_ro(fields[5]),
            kind: String::from_utf8_lossy(fields.get(dash + 1)?).into_owned(),
            is_whole_read_only: has_ro(fields.get(dash + 3)?),
        })
    }

    /// Returns whether the mount shows a path of its file system and lets it be written.
    fn lets_write(&self, device: &[u8], path: &Path) -> bool {
        self.device == device && !self.is_read_only && !self.is_whole_read_only && path.starts_with(&self.root)
    }
}

/// Returns whether nobody can write to what a real path names, as a table of mounts tells. Where only the mount is
/// read-only, and not the file system, no other mount of the table may show the same; and the table must be that of the
/// machine or container (`is_own` tells) and not of a service, whose mounts may be read-only for it alone
/// (systemd.exec(5), ReadOnlyPaths=). What servers and other programs change is never known to be unwritable.
fn is_unwritable_by(table: &[u8], path: &Path, is_own: impl Fn() -> bool) -> bool {
    let mounts: Vec<Mount> = table.split(|byte| *byte == b'\n').filter_map(Mount::parse).collect();
    // Of several at one place the last is seen.
    let deepest = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    let Some(mount) = deepest.max_by_key(|mount| mount.point.components().count()) else { return false };
    if is_elsewhere(&mount.kind) {
        return false;
    }
    let shown = mount.root.join(path.strip_prefix(&mount.point).unwrap_or(Path::new("")));
    mount.is_whole_read_only
        || mount.is_read_only && !mounts.iter().any(|other| other.lets_write(&mount.device, &shown)) && is_own()
}

/// Returns whether nobody can write to what a real path (without links) names.
pub fn is_unwritable(path: &Path) -> bool {
    let asked = rustix::fs::statvfs(path);
    if !asked.is_ok_and(|found| found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY)) {
        return false;
    }
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    let is_own = || namespace("1").is_some() && namespace("1") == namespace("self");
    is_unwritable_by(&std::fs::read("/proc/self/mountinfo").unwrap_or_default(), path, is_own)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A container of Kubernetes with a secret, a folder of the host, and a service's view of a machine.
    const TABLE: &str = "\
1 0 0:50 / / rw,relatime - overlay overlay rw,lowerdir=/l\n\
2 1 0:60 / /etc/secrets ro,relatime - tmpfs tmpfs rw,size=4k\n\
3 1 8:1 /var/lib/docker/hosts /etc/hosts rw,relatime - ext4 /dev/sda1 rw\n\
4 1 8:1 /srv/secrets /run/host\\040secrets ro,relatime - ext4 /dev/sda1 rw\n\
5 1 8:1 /srv/shared /both ro,relatime - ext4 /dev/sda1 rw\n\
6 1 8:1 /srv/shared/deep /deep rw,relatime - ext4 /dev/sda1 rw\n\
7 1 7:0 / /snap ro - squashfs /dev/loop0 ro\n\
8 1 0:70 / /nfs ro - nfs4 server:/x ro\n";

    #[test]
    fn what_no_mount_lets_write_is_unwritable() {
        let told = |path: &str, is_own: bool| is_unwritable_by(TABLE.as_bytes(), Path::new(path), || is_own);
        for (path, of_container, of_service) in [
            ("/etc/passwd", false, false),
            ("/etc/secrets/..2026/key", true, false),
            ("/etc/hosts", false, false),
            ("/run/host secrets/key", true, false),
            ("/both/file", true, false),
            ("/both/deep/file", false, false),
            ("/snap/file", true, true),
            ("/nfs/file", false, false),
        ] {
            assert_eq!((told(path, true), told(path, false)), (of_container, of_service), "{path}");
        }
        for odd in ["", "1 2 3", "1 0 0:1 / / rw", "1 0 0:1 / / rw - x"] {
            assert!(!is_unwritable_by(odd.as_bytes(), Path::new("/a"), || true));
        }
    }
}
