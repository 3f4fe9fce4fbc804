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

    /// Returns the options of an engine's `exec`: those before the container's name.
    fn options(&self) -> Option<impl Iterator<Item = &str>> {
        let [engine, verb, rest @ ..] = &*self.words else { return None };
        let engine = Path::new(engine).file_name()?.to_str()?;
        (ENGINES.contains(&engine) && verb == "exec")
            .then(|| rest.iter().map(String::as_str).take_while(|word| word.starts_with('-')))
    }
}

impl TryFrom<Vec<String>> for Exec {
    type Error = Error;

    fn try_from(words: Vec<String>) -> Result<Self> {
        if words.first().is_none_or(|word| word.trim().is_empty()) {
            let message =
                "`exec` names no program: write it as [\"docker\", \"exec\", \"-i\", \"CONTAINER\"], or leave it out";
            return Err(Error::usage(message));
        }
        let exec = Exec { words };
        if let Some(options) = exec.options() {
            let options: Vec<&str> = options.collect();
            let has = |letter: char, long: &str| {
                let is_it = |word: &&str| {
                    word.strip_prefix("--").map_or_else(
                        // The value of `-u` or `-e` may follow it at once.
                        || word[1..].chars().take_while(|c| !"uew".contains(*c)).any(|c| c == letter),
                        |name| name.split('=').next() == Some(long),
                    )
                };
                options.iter().any(is_it)
            };
            if has('t', "tty") {
                let message = "`exec` has `-t`: a terminal changes the ends of lines, and a dump that went through one \
                               cannot be restored. Leave it out";
                return Err(Error::usage(message));
            }
            if !has('i', "interactive") {
                let message = "`exec` has no `-i`, and so programs in the container are told nothing: write \
                               [\"docker\", \"exec\", \"-i\", \"CONTAINER\"]";
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
        ] {
            let error = exec(words).unwrap_err().chain();
            assert!(error.contains(said), "{words:?}: {error}");
        }
        for words in [
            &["docker", "exec", "-i", "db"][..],
            &["docker", "exec", "--interactive=true", "-upostgres", "db"],
            &["nsenter", "-t", "17", "-a"],
            &["docker", "compose", "exec", "-T", "db"],
        ] {
            assert_eq!(exec(words).unwrap().words(), words.iter().map(OsString::from).collect::<Vec<_>>());
        }
    }
}
