//! One look at owner and mode of files that are trusted, and of the folders they lie in: as ssh(1) and sudo(8) look.
//!
//! *Changeable* is what others than this user and root could write to, or put something else in the place of; *shared*
//! is what others could read. Access lists show in the mode: its group bits are their mask (acl(5)).

use super::read_only::is_unwritable;
use super::words;
use crate::accounts;
use crate::error::{Context, Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Groups below this are the distribution's own (Debian Policy, 9.2.2), such as `staff`, which may write below
/// `/usr/local`: of folders that is taken for meant so.
const FIRST_FREE_GROUP: u32 = 100;
/// The kernel reads no more of a script to find its interpreter (execve(2)).
const MAX_FIRST_LINE_BYTES: u64 = 255;

/// Why a file is not trusted, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// What is so, as `others could change it (mode 0666)`.
    pub what: String,
    /// The command that mends it.
    pub remedy: String,
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: `{}`", self.what, self.remedy)
    }
}

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Returns whether a group is the one that bears this user's name and is theirs alone by convention; nobody but root is
/// in root's, but root is not asked.
fn is_own_group(gid: u32) -> bool {
    let me = me();
    let name = |found: std::io::Result<Option<Vec<u8>>>| found.ok().flatten();
    me != 0 && name(accounts::user_name(me)).is_some_and(|own| name(accounts::group_name(gid)) == Some(own))
}

/// Returns whether an owner is root of the machine, seen from a namespace that has no number for it (user_namespaces(7),
/// "Unmapped user and group IDs"): so is everybody else who has none, whom nobody in it can become.
fn is_unmapped(owner: u32) -> bool {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let is_whole = read("/proc/self/uid_map").split_whitespace().eq(["0", "0", "4294967295"]);
    !is_whole && read("/proc/sys/kernel/overflowuid").trim().parse() == Ok(owner)
}

fn of_owner(path: &Path, found: &Metadata) -> Option<Flaw> {
    let (owner, me) = (found.uid(), me());
    (owner != 0 && owner != me && !is_unmapped(owner)).then(|| Flaw {
        what: format!("{} belongs to user {owner}, who could change it", path.display()),
        remedy: format!("chown {me} {}", path.display()),
    })
}

fn of_writers(path: &Path, found: &Metadata, is_folder: bool) -> Option<Flaw> {
    let mode = found.mode();
    // In a sticky folder nobody replaces what is another's (unlink(2)).
    if is_folder && mode & 0o1000 != 0 {
        return None;
    }
    let is_trusted_group = is_own_group(found.gid()) || is_folder && found.gid() < FIRST_FREE_GROUP;
    let by_group = mode & 0o020 != 0 && !is_trusted_group;
    (by_group || mode & 0o002 != 0).then(|| Flaw {
        what: format!("others could change {} (mode {:04o})", path.display(), mode & 0o7777),
        remedy: format!("chmod go-w {}", path.display()),
    })
}

fn real(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

/// Returns what is wrong with something, unless it lies where nobody can write.
fn unless_unwritable(path: &Path, flaw: Option<Flaw>) -> Option<Flaw> {
    flaw.filter(|_| !is_unwritable(&real(path)))
}

/// Returns a path with the links above its last name followed, that name being a link or not.
fn place_of(link: &Path) -> PathBuf {
    let folder = link.parent().and_then(|folder| std::fs::canonicalize(folder).ok());
    folder.map_or_else(|| link.to_path_buf(), |folder| folder.join(link.file_name().unwrap_or_default()))
}

fn of_link(path: &Path) -> Option<Flaw> {
    let link = std::fs::symlink_metadata(path).ok().filter(Metadata::is_symlink)?;
    of_owner(path, &link).filter(|_| !is_unwritable(&place_of(path)))
}

/// Returns the folders and links that decide what file a path names: those it is written with, and those it leads to.
fn on_the_way(path: &Path) -> BTreeSet<PathBuf> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let real = std::fs::canonicalize(path).ok();
    let above = |path: &Path| path.ancestors().skip(1).map(Path::to_path_buf).collect::<Vec<_>>();
    above(&absolute).into_iter().chain(real.iter().flat_map(|real| above(real))).collect()
}

/// Returns whether a path is of what this process was handed as a descriptor: it was opened by whoever has started it.
fn is_handed_over(path: &Path) -> bool {
    path.starts_with("/dev") || path.starts_with("/proc")
}

/// Returns why others could put another file in the place of one, by its folders and links.
pub fn replaceable(path: &Path) -> Option<Flaw> {
    if is_handed_over(path) {
        return None;
    }
    if let Some(flaw) = of_link(path) {
        return Some(flaw);
    }
    on_the_way(path).iter().find_map(|folder| {
        of_link(folder).or_else(|| {
            let found = std::fs::metadata(folder).ok()?;
            unless_unwritable(folder, of_owner(folder, &found).or_else(|| of_writers(folder, &found, true)))
        })
    })
}

/// Returns why others could change a file or folder, or put another one in its place; `None` where nobody could, and
/// where there is none. What is no file and no folder was handed over by whoever has started this process.
pub fn changeable(path: &Path) -> Option<Flaw> {
    let found = std::fs::metadata(path).ok()?;
    if !(found.is_file() || found.is_dir()) || is_handed_over(path) {
        return None;
    }
    let flaw = of_owner(path, &found).or_else(|| of_writers(path, &found, found.is_dir()));
    unless_unwritable(path, flaw).or_else(|| replaceable(path))
}

/// Returns why others could read what is in a file of secrets; `None` where nobody could, and where there is none.
pub fn shared(path: &Path) -> Option<Flaw> {
    let found = std::fs::metadata(path).ok().filter(Metadata::is_file).filter(|_| !is_handed_over(path))?;
    is_shared(&found).then(|| Flaw {
        what: format!("others may read the secrets in {} (mode {:04o})", path.display(), found.mode() & 0o7777),
        remedy: format!("chmod 600 {}", path.display()),
    })
}

/// Returns whether others than a file's owner may reach what is in it.
fn is_shared(found: &Metadata) -> bool {
    found.mode() & 0o077 != 0
}

/// Returns why a file of secrets is not its owner's alone.
pub fn exposed(path: &Path) -> Option<Flaw> {
    shared(path).or_else(|| changeable(path))
}

/// Refuses what others could change, where it decides what this program does; `what` is its name, as `configuration`.
pub fn require_unchangeable(what: &str, path: &Path) -> Result<()> {
    changeable(path).map_or(Ok(()), |flaw| Err(refused(what, path, &flaw)))
}

/// Returns whether a file lies where neither its mode can be changed nor its content, as secrets that a container is
/// handed: that others may read it there is told, and refusing it would help nobody.
pub fn is_handed_in(path: &Path) -> bool {
    is_unwritable(&real(path))
}

/// Refuses a file of secrets that others could read or change.
pub fn require_secret(what: &str, path: &Path) -> Result<()> {
    match shared(path) {
        Some(flaw) if is_handed_in(path) => tell_once(path, &flaw),
        Some(flaw) => return Err(refused(what, path, &flaw)),
        None => {}
    }
    require_unchangeable(what, path)
}

/// Tells, once in this process, that others may read a file that is used all the same.
pub fn tell_once(path: &Path, flaw: &Flaw) {
    static TOLD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    if TOLD.lock().insert(path.to_path_buf()) {
        tracing::warn!("{}: have it mounted with mode 0400", flaw.what);
    }
}

fn refused(what: &str, path: &Path, flaw: &Flaw) -> Error {
    Error::new(ErrorKind::Denied, format!("The {what} {} is not trusted: {flaw}", path.display()))
}

/// Refuses a program that root would run, where others could change it. What is found by the PATH is not looked at, and
/// neither is what another user than root runs: they are asked for what root gives.
pub fn require_program(program: &Path) -> Result<()> {
    require_command(&[program])
}

/// Refuses a command that root would run, where others could change its program or a file that this is handed, as in
/// `sh /path/of/script`, also in a line for the shell; or what a script of them names to be run by (`#!`).
pub fn require_command<S: AsRef<OsStr>>(words: &[S]) -> Result<()> {
    if me() != 0 {
        return Ok(());
    }
    let words: Vec<String> = words.iter().map(|word| word.as_ref().to_string_lossy().into_owned()).collect();
    for path in words::run_by(&words).iter().filter(|path| path.is_file()) {
        require_unchangeable("program", path)?;
        if let Some(interpreter) = interpreter_of(path) {
            require_unchangeable("program", &interpreter)?;
        }
    }
    Ok(())
}

/// Returns what the first line of a script names (execve(2), "Interpreter scripts").
fn interpreter_of(script: &Path) -> Option<PathBuf> {
    let mut head = Vec::new();
    std::fs::File::open(script).ok()?.take(MAX_FIRST_LINE_BYTES).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let path = line.trim_ascii_start().split(|byte| byte.is_ascii_whitespace()).next()?;
    Some(PathBuf::from(OsStr::from_bytes(path))).filter(|path| path.is_absolute())
}

/// Refuses a folder of this program's own that belongs to somebody else, or that others could write to.
pub fn require_own_folder(path: &Path) -> Result<()> {
    let found = std::fs::metadata(path).context(|| format!("Cannot look at the folder {}", path.display()))?;
    let flaw = (found.uid() != me()).then(|| Flaw {
        what: format!("{} belongs to user {}", path.display(), found.uid()),
        remedy: format!("chown {} {}", me(), path.display()),
    });
    let flaw = flaw.or_else(|| of_writers(path, &found, false)).or_else(|| replaceable(path));
    flaw.map_or(Ok(()), |flaw| Err(refused("folder", path, &flaw)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    const NOBODY: Option<u32> = Some(65534);

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_could_change_is_told_with_its_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("etc");
        let path = dir.join("file");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(&path, "x").unwrap();
        set_mode(&dir, 0o755);
        for (mode, is_well) in [(0o644, true), (0o600, true), (0o666, false), (0o602, false), (0o620, false)] {
            set_mode(&path, mode);
            assert_eq!(
                changeable(&path),
                (!is_well).then(|| of_writers(&path, &path.metadata().unwrap(), false)).flatten()
            );
            assert_eq!(
                changeable(&path).is_none(),
                is_well || is_own_group(path.metadata().unwrap().gid()) && mode & 2 == 0
            );
        }
        set_mode(&path, 0o644);
        set_mode(&dir, 0o777);
        assert_eq!(changeable(&path).unwrap().remedy, format!("chmod go-w {}", dir.display()));
        // Nobody replaces another's file there.
        set_mode(&dir, 0o1777);
        assert_eq!(changeable(&path), None);
        assert!(shared(&path).unwrap().remedy.starts_with("chmod 600 "));
        set_mode(&path, 0o600);
        assert_eq!(exposed(&path), None);
        assert_eq!(changeable(&dir.join("none")), None);
    }

    #[test]
    fn owners_of_files_folders_and_links_count() {
        if me() != 0 {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let [dir, theirs] = ["etc", "theirs"].map(|name| folder.path().join(name));
        let (path, link) = (dir.join("file"), folder.path().join("link"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::create_dir(&theirs).unwrap();
        std::fs::write(&path, "x").unwrap();
        chown(&theirs, NOBODY, NOBODY).unwrap();
        symlink(&path, theirs.join("link")).unwrap();
        symlink(&path, &link).unwrap();
        assert_eq!(changeable(&link), None);
        // Whose folder it is, may put another link there.
        assert_eq!(changeable(&theirs.join("link")).unwrap().remedy, format!("chown 0 {}", theirs.display()));
        std::os::unix::fs::lchown(&link, NOBODY, NOBODY).unwrap();
        assert_eq!(changeable(&link).unwrap().remedy, format!("chown 0 {}", link.display()));
        chown(&path, NOBODY, NOBODY).unwrap();
        assert_eq!(changeable(&path).unwrap().remedy, format!("chown 0 {}", path.display()));
        assert!(require_unchangeable("configuration", &path).unwrap_err().chain().contains("is not trusted"));
        assert!(require_own_folder(&theirs).is_err() && require_own_folder(&dir).is_ok());
    }
}
