//! Reading configuration files: what is wrong is told with its line, and a misspelt key with the one that was meant.

use super::file::{File, Profile, Repository};
use crate::error::{Context, Error, Result};
use crate::spelling::nearest;
use crate::text;
use crate::trust::file::require_unchangeable;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Configuration files are read up to this length.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The most profiles of a folder.
const MAX_PROFILES: usize = 1000;

/// What every command needs of a configuration; whatever else there is, is passed over.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Places {
    /// The first repository.
    pub repo: Option<String>,
    /// A file whose first line is its passphrase.
    pub password_file: Option<PathBuf>,
    /// A shell command that prints its passphrase.
    pub password_command: Option<String>,
    /// Where to keep what saves time.
    pub cache_dir: Option<PathBuf>,
    /// Where to keep what is known of earlier runs and visits.
    pub state_dir: Option<PathBuf>,
    /// Further repositories by name.
    pub repository: BTreeMap<String, Repository>,
}

/// The files of a configuration, each read once: all that a command does is of one state of them.
#[derive(Debug, Default)]
pub struct Files(Mutex<BTreeMap<PathBuf, String>>);

impl Files {
    fn text_of(&self, path: &Path) -> Result<String> {
        let mut texts = self.0.lock();
        if let Some(text) = texts.get(path) {
            return Ok(text.clone());
        }
        let text = text_of(path)?;
        texts.insert(path.to_path_buf(), text.clone());
        Ok(text)
    }
}

/// Reads what a file says of repositories, and the mistake in the rest of it, if any.
pub fn read_places(files: &Files, path: &Path) -> Result<(Places, Option<Error>)> {
    let text = files.text_of(path)?;
    match parse::<File>(path, &text) {
        Ok(file) => {
            let File { repo, password_file, password_command, cache_dir, state_dir, repository, .. } = file;
            Ok((Places { repo, password_file, password_command, cache_dir, state_dir, repository }, None))
        }
        Err(mistake) => Ok((parse(path, &text)?, Some(mistake))),
    }
}

/// Reads one file.
pub fn read<T: DeserializeOwned>(files: &Files, path: &Path) -> Result<T> {
    parse(path, &files.text_of(path)?)
}

fn text_of(path: &Path) -> Result<String> {
    let reading = || format!("Cannot read the configuration {}", path.display());
    let file = std::fs::File::open(path).context(reading)?;
    // It names commands, and where what is read and written lies.
    require_unchangeable("configuration", path)?;
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).context(reading)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(Error::usage(format!("The configuration {} is longer than 1 MiB", path.display())));
    }
    text::of_file(&bytes).map_err(|why| Error::usage(format!("{}: {why}", reading())))
}

/// Reads a file's text.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| located(path, text, &error))
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

fn located(path: &Path, text: &str, error: &toml::de::Error) -> Error {
    let place = match error.span() {
        Some(span) => format!("{}, line {}", path.display(), line_of(text, span.start)),
        None => path.display().to_string(),
    };
    Error::usage(format!("{place}: {}", explained(error.message())))
}

/// Names the key that was probably meant where one is unknown.
fn explained(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field `") else { return message.to_string() };
    let mut words = rest.split('`').step_by(2);
    let Some(given) = words.next() else { return message.to_string() };
    // Between the backquotes: the unknown one, then those that are expected.
    let known: Vec<&str> = rest.split('`').skip(2).step_by(2).collect();
    match nearest(given, known.iter().copied()) {
        Some(meant) => format!("there is no key `{given}`: did you mean `{meant}`?"),
        None => format!("there is no key `{given}` here: there are {}", known.join(", ")),
    }
}

/// A profile as it is written, with its file; or what is wrong with it.
pub type Written = Result<(Profile, PathBuf)>;

/// Reads `bakfs.toml`, and each `*.toml` of the folder `profiles.d` beside it as a profile of the file's name. A profile
/// that is wrong costs no other one.
pub fn read_all(files: &Files, path: &Path) -> Result<(File, BTreeMap<String, Written>)> {
    let (mut file, broken) = parse_file(path, files.text_of(path)?)?;
    let mut profiles: BTreeMap<String, Written> = broken.into_iter().map(|(name, error)| (name, Err(error))).collect();
    for (name, profile) in std::mem::take(&mut file.profile) {
        profiles.insert(name, Ok((profile, path.to_path_buf())));
    }
    for (name, found) in profile_files(path)? {
        let written = match profiles.contains_key(&name) {
            true => Err(Error::usage(format!(
                "The profile `{name}` is in {} and in {}: give one of them another name",
                path.display(),
                found.display()
            ))),
            false => read(files, &found).map(|profile| (profile, found)),
        };
        profiles.insert(name, written);
    }
    Ok((file, profiles))
}

/// Reads `bakfs.toml`; profiles that are wrong are taken out of it, each with its error.
fn parse_file(path: &Path, mut text: String) -> Result<(File, Vec<(String, Error)>)> {
    let mut broken = Vec::new();
    loop {
        let error = match toml::from_str::<File>(&text) {
            Ok(file) => return Ok((file, broken)),
            Err(error) => error,
        };
        let told = located(path, &text, &error);
        let line = error.span().map(|span| line_of(&text, span.start));
        let Some(name) = line.and_then(|line| profile_at(&text, line)).filter(|_| broken.len() < MAX_PROFILES) else {
            return Err(told);
        };
        text = without_profile(&text, &name);
        broken.push((name, told));
    }
}

/// Returns a header line as the tables it opens; `None` where the line is none.
fn header(line: &str) -> Option<toml::Table> {
    let line = line.trim_start();
    line.starts_with('[').then(|| toml::from_str(line).ok())?
}

/// Returns the profile whose table a header begins: `[profile.NAME]`, `[[profile.NAME.mysql]]`.
fn profile_of(header: &toml::Table) -> Option<&str> {
    header.get("profile")?.as_table()?.keys().next().map(String::as_str)
}

/// Returns the profile in whose tables a line lies.
fn profile_at(text: &str, line: usize) -> Option<String> {
    let header = text.lines().take(line).filter_map(header).last()?;
    profile_of(&header).map(str::to_string)
}

/// Empties the lines of a profile's tables; the others keep their numbers.
fn without_profile(text: &str, name: &str) -> String {
    let mut is_inside = false;
    let mut kept = String::new();
    for line in text.lines() {
        if let Some(header) = header(line) {
            is_inside = profile_of(&header) == Some(name);
        }
        kept.push_str(if is_inside { "" } else { line });
        kept.push('\n');
    }
    kept
}

/// Lists the files of `profiles.d` by the names of their profiles.
fn profile_files(path: &Path) -> Result<Vec<(String, PathBuf)>> {
    let folder = path.parent().unwrap_or(Path::new("/")).join("profiles.d");
    let listing = || format!("Cannot list the profiles in {}", folder.display());
    let entries = match std::fs::read_dir(&folder) {
        // A link that leads nowhere is there: what it should lead to may not be mounted.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !folder.is_symlink() => return Ok(Vec::new()),
        entries => entries.context(listing)?,
    };
    require_unchangeable("folder of profiles", &folder)?;
    let mut files = Vec::new();
    for entry in entries {
        let found = entry.context(listing)?.path();
        let (Some(stem), Some("toml")) = (found.file_stem(), found.extension().and_then(|ending| ending.to_str()))
        else {
            continue;
        };
        let Some(name) = stem.to_str() else {
            let message = format!("{} cannot name a profile: its name is not UTF-8 text", found.display());
            return Err(Error::usage(message));
        };
        if name.starts_with('.') {
            continue;
        }
        if files.len() == MAX_PROFILES {
            let message = format!("{} holds more than {MAX_PROFILES} profiles", folder.display());
            return Err(Error::usage(message));
        }
        files.push((name.to_string(), found));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_told_with_its_line_and_the_right_one() {
        for (text, line, meant) in [
            ("repo = '/r'\n\n[profile.x]\nexlcude = []\n", 4, "exclude"),
            ("[profile.x]\nsource = ['/']\n", 2, "sources"),
            ("[profile.x]\none_file_system = true\n", 2, "one-file-system"),
            ("[profile.x.keep]\ndayly = 7\n", 2, "daily"),
            ("passwordfile = 'x'\n", 1, "password-file"),
            ("[profile.x.hooks]\nonfailure = 'x'\n", 2, "on-failure"),
            ("[[profile.x.postgresql]]\ndatabase = ['x']\n", 2, "databases"),
            ("[profiles.x]\n", 1, "profile"),
        ] {
            let error = parse::<File>(Path::new("/etc/bakfs.toml"), text).unwrap_err().chain();
            assert!(error.contains(&format!("/etc/bakfs.toml, line {line}: ")), "{text}: {error}");
            assert!(error.contains(&format!("did you mean `{meant}`?")), "{text}: {error}");
        }
        let error = parse::<File>(Path::new("f"), "zzzzzzzz = 1\n").unwrap_err().chain();
        assert!(error.contains("there is no key `zzzzzzzz` here: there are repo, "), "{error}");
        let error = parse::<File>(Path::new("f"), "[profile.x]\nschedule = ['dayly']\n").unwrap_err().chain();
        assert!(error.contains("line 2") && error.contains("daily"), "{error}");
        let error = parse::<File>(Path::new("f"), "repo = \n").unwrap_err().chain();
        assert!(error.contains("line 1"), "{error}");
    }
}
