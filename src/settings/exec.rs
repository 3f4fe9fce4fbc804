//! What runs the programs of a database somewhere else: in a container.

use crate::error::{Error, Result};
use serde::Deserialize;
use std::ffi::OsString;
use std::path::Path;

/// Words before a program and its arguments, as `docker exec -i db`; none where it runs on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Exec {
    words: Vec<String>,
}

/// Engines of containers whose `exec` is known (docker-exec(1), podman-exec(1)).
const ENGINES: [&str; 3] = ["docker", "podman", "nerdctl"];

impl Exec {
    /// Returns whether programs run on this machine.
    pub fn is_none(&self) -> bool {
        self.words.is_empty()
    }

    /// Returns the words.
    pub fn words(&self) -> Vec<OsString> {
        self.words.iter().map(Into::into).collect()
    }

    /// Returns the options of an engine's `exec`, and whether a container's name follows them; `None` where it is none
    /// whose options are known.
    fn options(&self) -> Option<(Vec<&str>, bool)> {
        let is_engine = |word: &String| {
            let name = Path::new(word).file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| ENGINES.contains(&name))
        };
        let engine = self.words.iter().position(is_engine)?;
        let verb = engine + self.words[engine..].iter().position(|word| word == "exec")?;
        if self.words[engine..verb].iter().any(|word| word == "compose") {
            return None;
        }
        let mut options = Vec::new();
        let mut rest = self.words[verb + 1..].iter().map(String::as_str);
        while let Some(word) = rest.next() {
            if !word.starts_with('-') {
                return Some((options, true));
            }
            if VALUED.contains(&word) {
                rest.next();
            }
            options.push(word);
        }
        Some((options, false))
    }
}

/// Options of an engine's `exec` whose values are words of their own.
const VALUED: [&str; 8] = ["-u", "-e", "-w", "--user", "--env", "--workdir", "--env-file", "--detach-keys"];

/// Returns whether a flag is among options, by its letter or its long name.
fn has(options: &[&str], letter: char, long: &str) -> bool {
    let is_it = |word: &&str| match word.strip_prefix("--") {
        Some(name) => name.split_once('=').map_or(name == long, |(name, value)| name == long && value != "false"),
        // The value of `-u`, `-e` or `-w` may follow it at once.
        None => word[1..].chars().take_while(|c| !"uew".contains(*c)).any(|c| c == letter),
    };
    options.iter().any(is_it)
}

impl TryFrom<Vec<String>> for Exec {
    type Error = Error;

    fn try_from(words: Vec<String>) -> Result<Self> {
        let right = "[\"docker\", \"exec\", \"-i\", \"CONTAINER\"]";
        let Some(first) = words.first().filter(|word| !word.trim().is_empty()) else {
            return Err(Error::usage(format!("`exec` names no program: write it as {right}, or leave it out")));
        };
        if first.contains('/') && !first.starts_with('/') {
            return Err(Error::usage(format!("`exec`: `{first}` must be a name, or an absolute path")));
        }
        let exec = Exec { words };
        if let Some((options, has_container)) = exec.options() {
            if !has_container {
                return Err(Error::usage(format!("`exec` names no container: write it as {right}")));
            }
            if has(&options, 't', "tty") {
                let message = "`exec` has `-t`: a terminal changes the ends of lines, and a dump that went through one \
                               cannot be restored. Leave it out";
                return Err(Error::usage(message));
            }
            if !has(&options, 'i', "interactive") {
                let message =
                    format!("`exec` has no `-i`, and so programs in the container are told nothing: write {right}");
                return Err(Error::usage(message));
            }
        }
        Ok(exec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(words: &[&str]) -> Result<Exec> {
        words.iter().map(|word| word.to_string()).collect::<Vec<_>>().try_into()
    }

    #[test]
    fn what_would_spoil_a_dump_is_refused() {
        for (words, said) in [
            (&[][..], "names no program"),
            (&[""], "names no program"),
            (&["docker", "exec", "db"], "has no `-i`"),
            (&["docker", "exec", "-it", "db"], "has `-t`"),
            (&["/usr/bin/podman", "exec", "-i", "--tty", "db"], "has `-t`"),
            (&["podman", "exec", "db", "-i"], "has no `-i`"),
            (&["docker", "exec", "-i", "-u", "postgres", "-t", "db"], "has `-t`"),
            (&["docker", "container", "exec", "-it", "db"], "has `-t`"),
            (&["sudo", "docker", "--context", "x", "exec", "-ti", "db"], "has `-t`"),
            (&["docker", "exec", "--interactive=false", "db"], "has no `-i`"),
            (&["docker", "exec", "-i"], "names no container"),
            (&["bin/docker", "exec", "-i", "db"], "must be a name, or an absolute path"),
        ] {
            let error = exec(words).unwrap_err().chain();
            assert!(error.contains(said), "{words:?}: {error}");
        }
        for words in [
            &["docker", "exec", "-i", "db"][..],
            &["docker", "exec", "--interactive=true", "-upostgres", "db"],
            &["docker", "exec", "-e", "A=t", "--user", "postgres", "-i", "--tty=false", "db"],
            &["nsenter", "-t", "17", "-a"],
            &["docker", "compose", "exec", "-T", "db"],
        ] {
            assert_eq!(exec(words).unwrap().words(), words.iter().map(OsString::from).collect::<Vec<_>>());
        }
    }
}
