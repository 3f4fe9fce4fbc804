//! Environment variables that hold secrets: this program reads them, and no other one is told.

use super::hidden::{HiddenBytes, wipe_stack};
use parking_lot::Mutex;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Command;
use zeroize::{Zeroize, Zeroizing};

/// The passphrase itself.
pub const PASSWORD: &str = "BAKFS_PASSWORD";

/// Secrets that only this program reads: they leave its environment before anything else is done. What a library reads
/// there by itself (a token that a container was lent) stays, and is withheld from programs.
const TAKEN: [&str; 14] = [
    PASSWORD,
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "B2_APPLICATION_KEY",
    "B2_APPLICATION_KEY_ID",
    "OS_APPLICATION_CREDENTIAL_SECRET",
    "OS_AUTH_TOKEN",
    "OS_PASSWORD",
    "ST_KEY",
    "WEBDAV_PASSWORD",
];

/// What leads to secrets of a store or of a repository without being one: of no use to a program without them.
const WITHHELD: [&str; 14] = [
    "AZURE_STORAGE_ACCOUNT",
    "BAKFS_CREDENTIALS_FILE",
    "BAKFS_PASSWORD_COMMAND",
    "BAKFS_PASSWORD_FILE",
    "CLOUDSDK_CONFIG",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "OS_APPLICATION_CREDENTIAL_ID",
    "OS_APPLICATION_CREDENTIAL_NAME",
    "OS_USERNAME",
    "OS_USER_ID",
    "ST_AUTH",
    "ST_USER",
    "SWIFT_AUTHURL",
    "WEBDAV_USER",
];

/// Returns whether no program is told of a variable: secrets of stores and what leads to them, and whatever calls itself
/// a token.
pub fn is_withheld(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    TAKEN.contains(&name)
        || WITHHELD.contains(&name)
        || name.starts_with("AWS_")
        || name.starts_with("AZURE_")
        || name.ends_with("_TOKEN")
}

/// Returns whether a variable holds a secret.
pub fn is_secret(name: &str) -> bool {
    TAKEN.contains(&name)
}

/// More than the frames of what takes a variable take.
const TAKING_STACK_BYTES: usize = 8 * 4096;

/// A variable that was taken.
struct Taken {
    name: &'static str,
    value: HiddenBytes,
}

static ALL: Mutex<Vec<Taken>> = Mutex::new(Vec::new());

/// Takes the secrets out of this process's environment: from then on only [`var`] and [`vars`] have them, and where the
/// kernel shows a process's environment (`/proc/PID/environ`) there are zeros.
///
/// # Safety
/// No other thread may run yet.
pub unsafe fn take() {
    let mut all = ALL.lock();
    for name in TAKEN {
        let c_name = CString::new(name).expect("names have no zero byte");
        // SAFETY: no other thread runs, so the value getenv(3) finds stays where it is; it is writable memory of this
        // process up to its zero byte, and is overwritten before the variable goes.
        unsafe {
            let value = libc::getenv(c_name.as_ptr());
            if value.is_null() {
                continue;
            }
            let value = std::slice::from_raw_parts_mut(value.cast::<u8>(), libc::strlen(value));
            all.push(Taken { name, value: HiddenBytes::new(value) });
            value.zeroize();
            libc::unsetenv(c_name.as_ptr());
        }
    }
    wipe_stack::<TAKING_STACK_BYTES>();
}

/// Returns a variable, whether it was taken or not.
pub fn var(name: &str) -> Option<Zeroizing<Vec<u8>>> {
    let all = ALL.lock();
    let taken = all.iter().find(|taken| taken.name == name).map(|taken| taken.value.value());
    taken.or_else(|| std::env::var_os(name).map(|value| Zeroizing::new(value.into_vec())))
}

/// Returns whether a variable is set and not empty.
pub fn is_set(name: &str) -> bool {
    var(name).is_some_and(|value| !value.is_empty())
}

/// Returns what was taken: for this program itself, started again.
pub fn taken() -> Vec<(&'static str, Zeroizing<Vec<u8>>)> {
    ALL.lock().iter().map(|taken| (taken.name, taken.value.value())).collect()
}

/// Adds to a program's environment what was taken: this program itself, started again, or one that is this user's own.
pub fn hand_over(command: &mut Command) -> &mut Command {
    command.envs(taken().iter().map(|(name, value)| (name, OsStr::from_bytes(value))))
}

/// Returns all variables, those that were taken among them.
pub fn vars() -> impl Iterator<Item = (OsString, Zeroizing<Vec<u8>>)> {
    let left = std::env::vars_os().map(|(name, value)| (name, Zeroizing::new(value.into_vec())));
    left.chain(taken().into_iter().map(|(name, value)| (name.into(), value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_stores_are_withheld_and_what_programs_need_is_not() {
        for name in ["BAKFS_PASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_CONTAINER_AUTHORIZATION_TOKEN", "VAULT_TOKEN"] {
            assert!(is_withheld(OsStr::new(name)), "{name}");
        }
        for name in
            ["PATH", "HOME", "SSH_AUTH_SOCK", "PGPASSWORD", "PGPASSFILE", "LANG", "BAKFS_REPO", "TZ", "HTTP_PROXY"]
        {
            assert!(!is_withheld(OsStr::new(name)), "{name}");
        }
    }
}
