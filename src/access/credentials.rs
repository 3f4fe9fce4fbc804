//! What opens a repository: passphrases and keys, from wherever they are given.

use super::folders::config_folder;
use super::{Access, Prompt};
use crate::crypto::keys::Secret;
use crate::crypto::recovery;
use crate::crypto::slot::Credential;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::id::RepositoryId;
use crate::store::{Object, Store};
use crate::text;
use crate::trust::hidden::HiddenBytes;
use crate::trust::{descriptors, environment, file, folder as own};
use parking_lot::Mutex;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Where a passphrase comes from that nothing gives.
pub const TYPED: &str = "the terminal";

/// A passphrase or key file is read up to this length.
const MAX_SECRET_BYTES: u64 = 4096;

/// What is asked of a person who may give a key.
const QUESTION: &str = "Passphrase or recovery key: ";

/// What password commands and people have answered, by the question: each is asked once in a process, however often the
/// repository is opened.
#[derive(Default)]
pub struct Answers(Mutex<Vec<(String, HiddenBytes)>>);

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answers(..)")
    }
}

impl Answers {
    fn known_or(&self, question: String, ask: impl FnOnce() -> Result<Zeroizing<String>>) -> Result<Zeroizing<String>> {
        let mut answers = self.0.lock();
        if let Some((_, known)) = answers.iter().find(|(known, _)| *known == question) {
            return first_line(&known.value(), "an earlier answer");
        }
        let answer = ask()?;
        answers.push((question, HiddenBytes::new(answer.as_bytes())));
        Ok(answer)
    }

    /// Returns the first line that a command prints.
    fn of_command(&self, command: &str) -> Result<Zeroizing<String>> {
        self.known_or(format!("command {command}"), || secret_of_command(command))
    }

    /// Returns what a person types for a repository.
    fn typed(&self, repository: &RepositoryId, ask: Prompt) -> Result<Zeroizing<String>> {
        self.known_or(format!("repository {repository}"), || ask(QUESTION))
    }
}

impl Access {
    /// Returns the file a repository's key is kept in on this machine.
    pub fn key_path(&self, repository: &RepositoryId) -> PathBuf {
        config_folder().join("keys").join(format!("{}.key", repository))
    }

    /// Returns the passphrase or key that was given by option or environment.
    pub fn given_credential(&self) -> Result<Option<Credential>> {
        Ok(self.given_text(false)?.map(credential))
    }

    /// Returns the passphrase or key a repository is to be made with: a file that others may read is only told of, since
    /// there is nothing yet that they could read with it.
    pub fn first_credential(&self) -> Result<Option<Credential>> {
        Ok(self.given_text(true)?.map(credential))
    }

    fn given_text(&self, is_first: bool) -> Result<Option<Zeroizing<String>>> {
        let chosen = self.chosen()?;
        // What is said for this call comes before what the configuration says.
        let text = if let Some(path) = &self.password_file {
            // Whoever names it is there to be told, and may have nothing but this file and a machine to rescue.
            Some(read_passphrase(path, is_first || !self.is_configured)?)
        } else if let Some(command) = &self.password_command {
            Some(self.answers.of_command(command)?)
        } else if let Some(path) = &chosen.password_file {
            Some(read_passphrase(path, is_first)?)
        } else if let Some(command) = &chosen.password_command {
            Some(self.answers.of_command(command)?)
        } else {
            secret_of_variable()?
        };
        match text {
            Some(text) if text.is_empty() => {
                Err(Error::usage("The passphrase is empty: give one with at least a character"))
            }
            text => Ok(text),
        }
    }

    /// Collects what may unlock a repository: what was given, else this machine's key file, else what a
    /// person types.
    pub fn credentials(&self, repository: &RepositoryId) -> Result<Vec<Credential>> {
        if let Some(given) = self.given_credential()? {
            return Ok(vec![given]);
        }
        let path = self.key_path(repository);
        file::require_secret("key file", &path)?;
        match read_secret(&path) {
            Ok(text) => match recovery::from_text(&text) {
                Some(key) => Ok(vec![Credential::Key(key)]),
                None => Err(Error::damaged(format!(
                    "The key file {} holds no key: bring it back from a copy",
                    path.display()
                ))),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => match self.prompt {
                Some(ask) => Ok(vec![credential(self.answers.typed(repository, ask)?)]),
                None => Err(Error::new(
                    ErrorKind::NoKey,
                    format!(
                        "Nothing here unlocks the repository: there is no key file {}. \
                         Copy it there, or give the passphrase or recovery key with --password-file",
                        path.display()
                    ),
                )),
            },
            Err(error) => Err(error),
        }
    }

    /// Returns what unlocks the repository and only this process has, for a child that has no terminal: what a person
    /// typed, or handed over by the environment or a pipe, and what that is; `None` where the child finds what it needs by
    /// itself.
    pub fn secret_for_child(&self) -> Result<Option<(Zeroizing<String>, String)>> {
        // One that is empty is given too, and refused.
        let empty = || environment::var(environment::PASSWORD).map(|_| environment::PASSWORD.to_string());
        let given_by = self.given_by()?.or_else(empty);
        if given_by.is_none() && self.prompt.is_none() {
            return Ok(None);
        }
        let named = self.password_file.clone().or(self.chosen()?.password_file);
        if named.is_some_and(|path| path.is_file()) {
            return Ok(None);
        }
        // Nobody types a passphrase for what is not the repository it is for.
        self.recognise()?;
        if let Some(given_by) = given_by {
            // Its environment, a pipe or a command that asks at the terminal are this process's only.
            return Ok(self.given_text(false)?.map(|text| (text, given_by)));
        }
        match (stored_header(&*self.store()?)?, self.prompt) {
            (Some(id), Some(ask)) if !self.key_path(&id).exists() => {
                Ok(Some((self.answers.typed(&id, ask)?, TYPED.into())))
            }
            _ => Ok(None),
        }
    }
}

/// Returns the id of an encrypted repository; `None` where there is none or it needs no key.
fn stored_header(store: &dyn Store) -> Result<Option<RepositoryId>> {
    let Ok(bytes) = store.read_whole(Object::Config, crate::repo::open::MAX_CONFIG_BYTES) else { return Ok(None) };
    let stored = crate::format::config::Stored::decode(&bytes).ok();
    Ok(stored.filter(|stored| stored.config.open_key.is_none()).map(|stored| stored.repository))
}

/// Reads a secret as what it looks like: a written key, or a passphrase.
pub fn credential(text: Zeroizing<String>) -> Credential {
    match recovery::from_text(&text) {
        Some(key) => Credential::Key(key),
        None => Credential::Passphrase(text),
    }
}

/// Returns the first line of what a passphrase comes from, without the mark some editors put before it.
fn first_line(bytes: &[u8], what: &str) -> Result<Zeroizing<String>> {
    let bad = |why: &str| Error::usage(format!("The passphrase from {what} cannot be used: {why}"));
    let line = text::first_line(text::without_mark(bytes).map_err(|why| bad(&why))?);
    if line.len() as u64 > MAX_SECRET_BYTES {
        return Err(bad("it is longer than 4096 bytes"));
    }
    match std::str::from_utf8(line) {
        Ok(text) => Ok(Zeroizing::new(text.to_string())),
        Err(_) => Err(bad("it is not UTF-8 text")),
    }
}

/// Reads the passphrase in the environment as it would be read from a file.
fn secret_of_variable() -> Result<Option<Zeroizing<String>>> {
    let value = environment::var(environment::PASSWORD);
    value.map(|value| first_line(&value, &format!("the environment variable {}", environment::PASSWORD))).transpose()
}

fn read_secret(path: &Path) -> Result<Zeroizing<String>> {
    let reading = || format!("Cannot read the key or passphrase in {}", path.display());
    let file = std::fs::File::open(path).context(reading)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * MAX_SECRET_BYTES as usize));
    // What a line that is too long ends with, and one more, tell that it is.
    file.take(MAX_SECRET_BYTES + 8).read_to_end(&mut bytes).context(reading)?;
    first_line(&bytes, &path.display().to_string())
}

/// Reads a file of a passphrase. That others could read or change it is told where a person names it, who may have
/// nothing but this file and a machine to rescue: a passphrase that was changed opens nothing. Else it is refused.
pub fn read_passphrase(path: &Path, is_named: bool) -> Result<Zeroizing<String>> {
    match is_named {
        true => file::exposed(path).into_iter().for_each(|flaw| tracing::warn!("{}", flaw.what)),
        false => file::require_secret("file of a passphrase", path)?,
    }
    read_secret(path)
}

/// Runs the password command as this user's own: it may ask at the terminal (pinentry, `pass`) and need what is secret to
/// others (a token of a vault), so it keeps both; only the passphrase it is to tell is not told to it.
fn secret_of_command(command: &str) -> Result<Zeroizing<String>> {
    file::require_command(&["/bin/sh", "-c", command])?;
    let mut shell = std::process::Command::new("/bin/sh");
    environment::hand_over(shell.args(["-c", command])).env_remove(environment::PASSWORD);
    let close = || {
        descriptors::close_on_exec();
        Ok(())
    };
    // SAFETY: flagging descriptors is async-signal-safe.
    unsafe { shell.pre_exec(close) };
    let output =
        shell.stderr(std::process::Stdio::inherit()).output().context(|| "Cannot run the password command".into())?;
    if !output.status.success() {
        return Err(Error::new(ErrorKind::Locked, format!("The password command failed: {}", output.status)));
    }
    first_line(&Zeroizing::new(output.stdout), "the password command")
}

/// Keeps a key in a file only its owner can read. The file and its name are durable afterwards.
pub fn write_key(path: &Path, key: &Secret) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let writing = || format!("Cannot write the key file {}", path.display());
    own::make_own(folder, own::PRIVATE).context(writing)?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).context(writing)?;
    let mut text = recovery::to_text(key);
    text.push('\n');
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a key is none.
        let _ = std::fs::remove_file(path);
    }
    written.context(writing)?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).context(writing)
}
