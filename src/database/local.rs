//! What dumps need of this machine: accounts, programs, secrets nobody else reads, room for what is not streamed.

use crate::error::{Context, Error, ErrorKind, Result};
use crate::process::Account;
use crate::quantity::time;
use crate::trust::file;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// Returns the account programs run as, where that is another one than ours.
pub fn account(user: Option<&str>) -> Result<Option<Account>> {
    let Some(user) = user else { return Ok(None) };
    let account = Account::of_name(user)?;
    let own = rustix::process::geteuid();
    if account.uid == own.as_raw() {
        return Ok(None);
    }
    if !own.is_root() {
        let message = format!("Only root can run programs as the user `{user}`: run bakfs as root, or as that user");
        return Err(Error::new(ErrorKind::Denied, message));
    }
    Ok(Some(account))
}

/// Returns the user and group of what an account makes.
pub fn owner(account: Option<&Account>) -> (u32, u32) {
    match account {
        Some(account) => (account.uid, account.gid),
        None => (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
    }
}

/// Refuses a file of secrets that others can read, or that the account cannot. Where its mode cannot be changed
/// ([`file::is_handed_in`]), it is told, if the programs take it so.
pub fn check_secret(path: &Path, account: Option<&Account>, is_taken_shared: bool) -> Result<()> {
    let shown = path.display();
    let found = std::fs::metadata(path).context(|| format!("Cannot look at the file of passwords {shown}"))?;
    if !found.is_file() {
        return Err(Error::usage(format!("The file of passwords {shown} is no regular file")));
    }
    match file::shared(path) {
        Some(flaw) if is_taken_shared && file::is_handed_in(path) => file::tell_once(path, &flaw),
        Some(_) => {
            let next = match file::is_handed_in(path) {
                true => "have it mounted with mode 0400, for the programs take no other".to_string(),
                false => format!("run `chmod 600 {shown}`"),
            };
            return Err(Error::new(ErrorKind::Denied, format!("Others may read the passwords in {shown}: {next}")));
        }
        None => {}
    }
    let (uid, _) = owner(account);
    // What is root's too, it may be told to load as a plugin: nobody else may have written it.
    if uid == 0 {
        return file::require_unchangeable("file of passwords", path);
    }
    if uid != found.uid() {
        let name = account.map_or_else(|| format!("the user with id {uid}"), |account| format!("`{}`", account.name));
        let message =
            format!("{name} reads the passwords in {shown}, which belongs to another user: run `chown` on it");
        return Err(Error::new(ErrorKind::Denied, message));
    }
    Ok(())
}

/// Returns whether a path is a program.
pub fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Returns the folders programs are looked for in: `bin_dir` alone where it is set, the PATH otherwise.
pub fn folders(bin_dir: Option<&Path>) -> Vec<PathBuf> {
    if let Some(bin_dir) = bin_dir {
        return vec![bin_dir.to_path_buf()];
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path).filter(|folder| folder.is_absolute()).chain(usual).collect()
}

/// How long a dump may take that says nothing else: longer than a night, but not for ever.
const DUMP_LIMIT: Duration = Duration::from_hours(24);

/// Returns how long a dump may take.
pub fn dump_limit(written: Option<time::Duration>) -> Option<Duration> {
    match written {
        None => Some(DUMP_LIMIT),
        Some(timeout) => timeout.secs.map(Duration::from_secs),
    }
}

/// How folders of dumps begin, before the process that makes them.
const PREFIX: &str = "bakfs-dump-";
/// How many random characters end their names.
const RANDOM_CHARS: usize = 12;

/// Where files are made that cannot be streamed.
#[derive(Debug, Clone)]
pub struct Temporary {
    /// The folder they are made in.
    pub folder: PathBuf,
}

impl Temporary {
    /// Names the folder of a profile, or the machine's.
    pub fn new(folder: Option<&Path>) -> Self {
        Temporary { folder: folder.map_or_else(std::env::temp_dir, Path::to_path_buf) }
    }

    /// Returns the room that is free.
    pub fn free_bytes(&self) -> Result<u64> {
        let asking = || format!("Cannot look at the temporary folder {}", self.folder.display());
        let room = rustix::fs::statvfs(&self.folder).context(asking)?;
        Ok(room.f_bavail.saturating_mul(room.f_frsize))
    }

    /// Fails where there is no room for so many bytes.
    pub fn check_room(&self, bytes: u64) -> Result<()> {
        self.remove_stale();
        let free_bytes = self.free_bytes()?;
        if free_bytes >= bytes {
            return Ok(());
        }
        let (needed, free) = (mebibytes(bytes), mebibytes(free_bytes));
        let shown = self.folder.display();
        let message =
            format!("{shown} has {free} free and up to {needed} are needed: set `temporary-dir` in the profile");
        Err(Error::new(ErrorKind::Full, message))
    }

    /// Removes what processes that were killed have left.
    fn remove_stale(&self) {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some((process, random)) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'))
            else {
                continue;
            };
            let is_ours = process.parse::<u32>().is_ok()
                && random.len() == RANDOM_CHARS
                && random.chars().all(|c| c.is_ascii_alphanumeric());
            let is_stale = is_ours && !Path::new("/proc").join(process).exists();
            if is_stale && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                // Another run may be at it too.
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Makes a folder in it that only the account can enter; it is removed when dropped.
    pub fn make(&self, account: Option<&Account>) -> Result<TempDir> {
        self.remove_stale();
        let making =
            || format!("Cannot make a folder in {}: set `temporary-dir` in the profile", self.folder.display());
        let permissions = std::fs::Permissions::from_mode(0o700);
        let mut builder = tempfile::Builder::new();
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let folder = builder
            .prefix(&prefix)
            .rand_bytes(RANDOM_CHARS)
            .permissions(permissions)
            .tempdir_in(&self.folder)
            .context(making)?;
        if let Some(account) = account {
            chown(folder.path(), Some(account.uid), Some(account.gid)).context(making)?;
        }
        Ok(folder)
    }
}

/// Writes a size for people.
pub fn mebibytes(bytes: u64) -> String {
    if bytes < 1 << 20 {
        format!("{} KiB", bytes.div_ceil(1 << 10))
    } else {
        format!("{} MiB", bytes.div_ceil(1 << 20))
    }
}
