//! User and password of a server from `~/.netrc`.

use super::environment::{Environment, read_private};
use super::logins::Secret;
use crate::error::Result;
use std::path::PathBuf;

/// Finds user and password for a host, which may have a port.
pub(super) fn login(environment: &Environment, host: &str) -> Result<Option<(Secret, Secret)>> {
    let path = environment.get("NETRC").map(PathBuf::from).or_else(|| environment.at_home(".netrc"));
    let Some(text) = path.map(|path| read_private(&path)).transpose()?.flatten() else { return Ok(None) };
    let is_port = |port: &str| port.bytes().all(|digit| digit.is_ascii_digit());
    let name = host.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(host, |(name, _)| name);
    Ok(find(&text, name))
}

/// Finds the entry of a machine, else the default one.
fn find(text: &str, machine: &str) -> Option<(Secret, Secret)> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut words = lines.flat_map(str::split_whitespace);
    let (mut of_machine, mut of_default) = (Entry::default(), Entry::default());
    let mut ignored = Entry::default();
    let mut current = &mut ignored;
    while let Some(word) = words.next() {
        match word {
            "machine" if words.next() == Some(machine) => current = &mut of_machine,
            "machine" => {
                ignored = Entry::default();
                current = &mut ignored;
            }
            "default" => current = &mut of_default,
            // The first of each counts.
            "login" => current.0 = current.0.take().or(words.next().map(|word| Secret::new(word.into()))),
            "password" => current.1 = current.1.take().or(words.next().map(|word| Secret::new(word.into()))),
            "account" => drop(words.next()),
            _ => {}
        }
    }
    match (of_machine, of_default) {
        ((Some(user), Some(password)), _) | (_, (Some(user), Some(password))) => Some((user, password)),
        _ => None,
    }
}

/// User and password.
type Entry = (Option<Secret>, Option<Secret>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_entry_is_found_before_the_default() {
        let text = "# machine a login no password no\nmachine b login bob password one\n\
                    machine a\n  login alice\n  password two\ndefault login any password three\n";
        let found = |machine: &str| find(text, machine).map(|(user, password)| format!("{} {}", *user, *password));
        assert_eq!(found("a").as_deref(), Some("alice two"));
        assert_eq!(found("b").as_deref(), Some("bob one"));
        assert_eq!(found("c").as_deref(), Some("any three"));
        assert!(find("machine a login x", "a").is_none());
        assert!(find("", "a").is_none());
    }
}
