//! What a user of MySQL may do. A dump program leaves out what its user does not see, without a word.

use std::collections::BTreeSet;

/// What a dump needs in its database. `LOCK TABLES` is used where somebody's options ask for more than a transaction.
pub const NEEDED: [&str; 5] = ["SELECT", "LOCK TABLES", "SHOW VIEW", "TRIGGER", "EVENT"];

/// Rights, as `SHOW GRANTS` tells them.
#[derive(Debug, Default)]
pub struct Rights {
    /// In all databases, and in those of a pattern.
    granted: Vec<(Option<String>, BTreeSet<String>)>,
    /// Whether rights of roles come to these, which are not told.
    has_roles: bool,
}

impl Rights {
    /// Reads the lines of `SHOW GRANTS`. Rights to single tables and columns do not count.
    pub fn parse(lines: &[String]) -> Self {
        let mut rights = Rights::default();
        for line in lines {
            let Some(grant) = line.strip_prefix("GRANT ") else { continue };
            let Some((names, rest)) = grant.split_once(" ON ") else {
                rights.has_roles = true;
                continue;
            };
            let place = match rest.strip_prefix("*.* TO ") {
                Some(_) => None,
                None => match rest.split_once("`.* TO ").and_then(|(place, _)| place.strip_prefix('`')) {
                    Some(pattern) => Some(pattern.replace("``", "`")),
                    None => continue,
                },
            };
            rights.granted.push((place, names.split(", ").map(str::to_string).collect()));
        }
        rights
    }

    /// Returns whether a right holds in a database, or may by a role.
    pub fn has(&self, right: &str, database: &str) -> bool {
        let holds =
            |rights: &BTreeSet<String>| ["ALL PRIVILEGES", right].into_iter().any(|right| rights.contains(right));
        self.has_roles
            || self.granted.iter().any(|(place, rights)| {
                holds(rights) && place.as_ref().is_none_or(|pattern| is_like(pattern.as_bytes(), database.as_bytes()))
            })
    }

    /// Returns whether all databases are seen, also those that are made later.
    pub fn sees_all_databases(&self) -> bool {
        let shows = ["ALL PRIVILEGES", "SELECT", "SHOW DATABASES"];
        let is_global = |(place, rights): &(Option<String>, BTreeSet<String>)| {
            place.is_none() && shows.iter().any(|right| rights.contains(*right))
        };
        self.has_roles || self.granted.iter().any(is_global)
    }

    /// Returns whether the definitions of others' routines are seen.
    pub fn sees_routines(&self) -> bool {
        let is_global =
            |right: &str| self.granted.iter().any(|(place, rights)| place.is_none() && rights.contains(right));
        self.has("SELECT", "mysql") || is_global("SHOW_ROUTINE") || is_global("SHOW CREATE ROUTINE")
    }
}

/// Compares as SQL's LIKE does.
fn is_like(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'%', rest @ ..], _) => (0..=text.len()).any(|skipped| is_like(rest, &text[skipped..])),
        ([b'_', rest @ ..], [_, others @ ..]) => is_like(rest, others),
        ([b'\\', c, rest @ ..], [other, others @ ..]) => c == other && is_like(rest, others),
        ([c, rest @ ..], [other, others @ ..]) => c == other && is_like(rest, others),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_read_as_the_server_tells_them() {
        let rights = |lines: &[&str]| Rights::parse(&lines.iter().map(|line| line.to_string()).collect::<Vec<_>>());
        let root = rights(&[
            "GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION",
            "GRANT PROXY ON ''@'%' TO x",
        ]);
        assert!(NEEDED.iter().all(|right| root.has(right, "any")) && root.sees_routines());
        assert!(root.sees_all_databases());
        let some = rights(&[
            "GRANT USAGE ON *.* TO `u`@`%`",
            "GRANT SELECT, LOCK TABLES ON `app\\_%`.* TO `u`@`%`",
            "GRANT SELECT (id, name), TRIGGER ON `shop`.`t` TO `u`@`%`",
        ]);
        assert!(some.has("SELECT", "app_1") && !some.has("SELECT", "appx1") && !some.has("TRIGGER", "app_1"));
        assert!(!some.sees_all_databases());
        assert!(!some.has("SELECT", "shop") && !some.has("TRIGGER", "shop") && !some.sees_routines());
        assert!(rights(&["GRANT `reader`@`%` TO `u`@`%`"]).has("SELECT", "any"), "what a role may is not known");
        assert!(rights(&["GRANT SELECT ON `mysql`.* TO `u`@`%`"]).sees_routines());
    }
}
