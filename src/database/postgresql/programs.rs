//! PostgreSQL's client programs: which of those installed fits a server.

use crate::database::local::{folders, is_program};
use crate::error::{Error, ErrorKind, Result};
use crate::process::{Account, Program};
use crate::settings::exec::Exec;
use crate::settings::file::Postgresql;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A version as `server_version_num` tells it: 150018 is 15.18, 90624 is 9.6.24.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The number.
    pub number: u32,
}

impl Version {
    /// Reads the first number with dots in a text, as in `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0)`.
    fn parse(text: &str) -> Option<Self> {
        let word = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
        let part = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u32>().ok();
        let mut parts = word.split('.').map(part);
        let major = parts.next()??;
        let mut next = || parts.next().flatten().unwrap_or(0);
        let number = if major >= 10 {
            major.checked_mul(10_000)?.checked_add(next())?
        } else {
            major * 10_000 + next().min(99) * 100 + next().min(99)
        };
        Some(Version { number })
    }

    /// Returns what two versions must share to write the same dumps: 15 of 15.18, 9.6 of 9.6.24.
    pub fn major(self) -> String {
        match self.number {
            number if number >= 100_000 => (number / 10_000).to_string(),
            number => format!("{}.{}", number / 10_000, number / 100 % 100),
        }
    }

    /// Returns a number that is equal where [`Self::major`] is, and greater for newer ones.
    fn rank(self) -> u32 {
        if self.number >= 100_000 { self.number / 10_000 * 100 } else { self.number / 100 }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            number if number >= 100_000 => write!(f, "{}.{}", number / 10_000, number % 10_000),
            number => write!(f, "{}.{}", self.major(), number % 100),
        }
    }
}

/// The programs that dump a server.
#[derive(Debug, Clone)]
pub struct Programs {
    /// Dumps a database.
    pub pg_dump: PathBuf,
    /// Dumps roles and tablespaces.
    pub pg_dumpall: PathBuf,
    /// Their version.
    pub version: Version,
    /// What pg_dump says of its options.
    help: String,
}

/// Returns the folders packages put programs into, those of the newest version first.
fn packaged() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (folder, prefix, suffix) in [("/usr/lib/postgresql", "", "bin"), ("/usr", "pgsql-", "bin")] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let version = name.to_str().and_then(|name| name.strip_prefix(prefix)).and_then(Version::parse);
            found.extend(version.map(|version| (version, entry.path().join(suffix))));
        }
    }
    found.sort();
    found.into_iter().rev().map(|(_, folder)| folder).chain([PathBuf::from("/usr/local/pgsql/bin")]).collect()
}

/// Returns the folders to look in, in that order. In the PATH, Debian has wrappers that choose by local clusters.
fn searched(bin_dir: Option<&Path>) -> Vec<PathBuf> {
    let packaged = if bin_dir.is_none() { packaged() } else { Vec::new() };
    packaged.into_iter().chain(folders(bin_dir)).collect()
}

fn nowhere(bin_dir: Option<&Path>) -> String {
    bin_dir.map_or_else(String::new, |folder| format!(" in {}", folder.display()))
}

/// Finds the program that asks servers; any version does.
pub fn psql(bin_dir: Option<&Path>) -> Result<PathBuf> {
    let paths = searched(bin_dir).into_iter().chain(bin_dir.map(|_| packaged()).into_iter().flatten());
    paths.map(|folder| folder.join("psql")).find(|path| is_program(path)).ok_or_else(|| {
        let message = format!("There is no psql{}: install postgresql-client, or set `bin-dir`", nowhere(bin_dir));
        Error::new(ErrorKind::NotFound, message)
    })
}

/// Returns a program's path where `exec` runs it: the PATH there is not known.
pub fn elsewhere(name: &str, bin_dir: Option<&Path>) -> PathBuf {
    bin_dir.map_or_else(|| name.into(), |folder| folder.join(name))
}

fn told(path: &Path, exec: &Exec, account: Option<&Account>, option: &str) -> Result<String> {
    let mut program = Program::new([path.as_os_str()]).arg(option).env("LC_ALL", "C");
    program.exec = exec.words();
    program.account = account.filter(|_| !exec.is_none()).cloned();
    program.timeout = Some(Duration::from_secs(60));
    program.answer()
}

impl Programs {
    /// Finds the programs that dump a server of a version: of the same major version, or of the next newer one.
    pub fn find(server: Version, settings: &Postgresql, account: Option<&Account>) -> Result<Self> {
        let (bin_dir, exec) = (settings.bin_dir.as_deref(), &settings.exec);
        let candidates = match exec.is_none() {
            true => {
                searched(bin_dir).into_iter().map(|folder| folder.join("pg_dump")).filter(|it| is_program(it)).collect()
            }
            false => vec![elsewhere("pg_dump", bin_dir)],
        };
        let mut best: Option<(Version, PathBuf)> = None;
        for pg_dump in candidates {
            // Debian's wrapper in the PATH is no program where it finds nothing to wrap.
            let Ok(answer) = told(&pg_dump, exec, account, "--version") else { continue };
            let Some(version) = Version::parse(&answer) else { continue };
            let is_better = best.as_ref().is_none_or(|(best, _)| version.rank() < best.rank());
            if version.rank() >= server.rank() && is_better {
                best = Some((version, pg_dump));
            }
        }
        let Some((version, pg_dump)) = best else {
            let (major, place) = (server.major(), nowhere(bin_dir));
            let place = if exec.is_none() { place } else { format!("{place} where `exec` leads") };
            let message = format!(
                "The server's version is {server}, and there is no pg_dump of that version or a newer one{place}: \
                 install postgresql-client-{major}, or set `bin-dir`"
            );
            return Err(Error::new(ErrorKind::NotFound, message));
        };
        let help = told(&pg_dump, exec, account, "--help")?;
        Ok(Programs { pg_dumpall: pg_dump.with_file_name("pg_dumpall"), pg_dump, version, help })
    }

    /// Returns whether they have an option.
    pub fn have(&self, option: &str) -> bool {
        self.help.contains(option)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared_by_what_must_match() {
        let version = |text: &str| Version::parse(text).unwrap();
        let debian = version("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)");
        assert_eq!((debian.number, &*debian.major(), &*debian.to_string()), (150_018, "15", "15.18"));
        let old = version("pg_dump (PostgreSQL) 9.6.24");
        assert_eq!((old.number, &*old.major(), &*old.to_string()), (90_624, "9.6", "9.6.24"));
        let next = version("pg_dump (PostgreSQL) 18beta1");
        assert!(old.rank() < version("10.1").rank() && debian.rank() < next.rank());
        assert_eq!(version("15.1").rank(), debian.rank());
        assert_ne!(version("9.5.1").rank(), old.rank());
        assert!(Version::parse("no number").is_none() && Version::parse("99999999999.1").is_none());
    }
}
