//! What is mounted where: /proc/self/mountinfo (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
#[derive(Debug, PartialEq, Eq)]
pub struct Mounted {
    id: u64,
    parent_id: u64,
    /// `major:minor`, the value of `st_dev` below the mount.
    pub device: String,
    /// Where it is mounted.
    pub path: PathBuf,
    /// The file system's type, as `fuse.bakfs`.
    pub fs_type: String,
    /// What is mounted, as `mount` and `df` show it.
    pub source: String,
    /// Whose mount it is, where the file system tells (fuse.txt, `user_id=`).
    pub user_id: Option<u32>,
}

impl Mounted {
    pub(crate) fn parse(line: &[u8]) -> Option<Mounted> {
        let text = |field: &[u8]| String::from_utf8_lossy(&unescape(field)).into_owned();
        let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
        let fields: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
        // Optional fields end with a hyphen.
        let separator = fields.iter().position(|f| f == b"-")?;
        Some(Mounted {
            id: number(fields.first()?)?,
            parent_id: number(fields.get(1)?)?,
            device: text(fields.get(2)?),
            path: OsString::from_vec(unescape(fields.get(4)?)).into(),
            fs_type: text(fields.get(separator + 1)?),
            source: text(fields.get(separator + 2)?),
            user_id: fields
                .get(separator + 3)
                .and_then(|options| {
                    options.split(|byte| *byte == b',').find_map(|option| number(option.strip_prefix(b"user_id=")?))
                })
                .and_then(|id: u64| id.try_into().ok()),
        })
    }
}

/// Returns what is mounted at a path, the topmost where several are.
pub fn find_mount(real: &Path) -> Option<Mounted> {
    fs::read("/proc/self/mountinfo").ok().and_then(|table| find_in_table(&table, real))
}

/// Returns whether the kernel tells what is mounted: where /proc is not, nothing is found.
pub fn is_told() -> bool {
    Path::new("/proc/self/mountinfo").exists()
}

/// Returns the mounts of a type, as `fuse.bakfs`.
pub fn mounts_of_type(fs_type: &str) -> Vec<Mounted> {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    mounts(&table).filter(|mounted| mounted.fs_type == fs_type).collect()
}

/// The topmost is the one on which no other at the same path lies: lines are in no order that says so.
fn find_in_table(table: &[u8], real: &Path) -> Option<Mounted> {
    let here: Vec<Mounted> = mounts(table).filter(|mounted| mounted.path == real).collect();
    let covered: Vec<u64> = here.iter().map(|mounted| mounted.parent_id).collect();
    here.into_iter().rfind(|mounted| !covered.contains(&mounted.id))
}

fn mounts(table: &[u8]) -> impl DoubleEndedIterator<Item = Mounted> {
    table.split(|&b| b == b'\n').filter_map(Mounted::parse)
}

/// Undoes the octal escapes (`\040` for a blank) of mountinfo.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|d| byte == b'\\' && d.iter().all(|c| (b'0'..=b'7').contains(c)));
        match octal {
            Some(digits) => {
                out.push(digits.iter().fold(0u8, |v, d| v.wrapping_mul(8).wrapping_add(d - b'0')));
                rest = &tail[3..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn mountinfo_names_the_topmost_mount_and_undoes_escapes() {
        let table = b"36 35 98:0 / /a\\040b rw,noatime shared:1 master:2 - ext4 /dev/root rw\n\
                      40 42 0:51 / /a\\040b ro,nosuid - fuse.bakfs /the\\040repo ro,user_id=0\n\
                      41 35 0:52 / /other rw - tmpfs tmpfs rw\n\
                      42 36 0:53 / /a\\040b rw - autofs systemd-1 rw\n";
        let found = find_in_table(table, Path::new("/a b")).unwrap();
        assert_eq!((&*found.device, &*found.fs_type, &*found.source), ("0:51", "fuse.bakfs", "/the repo"));
        assert_eq!(found.user_id, Some(0));
        // With and without optional fields before the hyphen.
        let types: Vec<_> = mounts(table).map(|mounted| mounted.fs_type).collect();
        assert_eq!(types, ["ext4", "fuse.bakfs", "tmpfs", "autofs"]);
        assert_eq!(find_in_table(table, Path::new("/a")), None);
        assert_eq!(unescape(b"\\134\\x"), b"\\\\x");
    }
}
