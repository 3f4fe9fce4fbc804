//! What a user of MySQL may do. A dump program leaves out what its user does not see, without a word.

use std::collections::BTreeSet;

/// What a dump needs in its database. `LOCK TABLES` is used where somebody's options ask for more than a transaction.
pub const NEEDED: [&str; 5] = ["SELECT", "LOCK TABLES", "SHOW VIEW", "TRIGGER", "EVENT"];

/// Rights, as `SHOW GRANTS` tells them.
#[derive(Debug, Default)]
pub struct Rights {
    /// In all databases.
    global: BTreeSet<String>,
    /// In databases of a pattern, to whom: a user or a role.
    granted: Vec<Grant>,
    /// In single databases, taken away from those in all (MySQL's partial revokes).
    revoked: Vec<(String, BTreeSet<String>)>,
    /// Whether definitions of routines are read from their own table.
    reads_routines: bool,
}

/// Rights in databases of a pattern.
#[derive(Debug)]
struct Grant {
    grantee: String,
    pattern: Vec<u8>,
    rights: BTreeSet<String>,
}

impl Grant {
    /// Returns where its pattern leaves more than one database: of all that match, the server heeds the one for which
    /// that comes last (<https://mariadb.com/kb/en/grant/>, "Database Privileges").
    fn wildcard(&self) -> usize {
        let is_wild = |at: &usize| b"%_".contains(&self.pattern[*at]) && (*at == 0 || self.pattern[at - 1] != b'\\');
        (0..self.pattern.len()).find(is_wild).unwrap_or(usize::MAX)
    }
}

fn words(names: &str) -> BTreeSet<String> {
    names.split(", ").map(str::to_string).collect()
}

impl Rights {
    /// Reads the lines of `SHOW GRANTS`, which tell the rights of active roles too: a line that grants a role adds
    /// none. Rights to single tables and columns do not count.
    pub fn parse(lines: &[String]) -> Self {
        let mut rights = Rights::default();
        for line in lines {
            let database = |rest: &str, word: &str| {
                let (place, _) = rest.split_once(&format!("`.* {word} "))?;
                Some(place.strip_prefix('`')?.replace("``", "`"))
            };
            if let Some((names, rest)) = line.strip_prefix("REVOKE ").and_then(|line| line.split_once(" ON ")) {
                rights.revoked.extend(database(rest, "FROM").map(|name| (name, words(names))));
            }
            let Some((names, rest)) = line.strip_prefix("GRANT ").and_then(|line| line.split_once(" ON ")) else {
                continue;
            };
            if rest.starts_with("*.* TO ") {
                rights.global.extend(words(names));
            }
            if let Some(pattern) = database(rest, "TO") {
                let grantee = rest.rsplit_once("`.* TO ").map_or("", |(_, whom)| whom);
                let grantee = grantee.trim_end_matches(" WITH GRANT OPTION").to_string();
                rights.granted.push(Grant { grantee, pattern: pattern.into_bytes(), rights: words(names) });
            }
            rights.reads_routines |= rest.starts_with("`mysql`.`proc` TO ") && words(names).contains("SELECT");
        }
        rights
    }

    /// Returns whether a right holds in a database.
    pub fn has(&self, right: &str, database: &str) -> bool {
        let holds =
            |rights: &BTreeSet<String>| ["ALL PRIVILEGES", right].into_iter().any(|right| rights.contains(right));
        let is_revoked = self.revoked.iter().any(|(name, rights)| name == database && holds(rights));
        let matching: Vec<&Grant> =
            self.granted.iter().filter(|grant| is_like(&grant.pattern, database.as_bytes())).collect();
        let is_heeded = |grant: &&&Grant| {
            let mut others = matching.iter().filter(|other| other.grantee == grant.grantee);
            others.all(|other| other.wildcard() <= grant.wildcard())
        };
        holds(&self.global) && !is_revoked || matching.iter().filter(is_heeded).any(|grant| holds(&grant.rights))
    }

    /// Returns whether all databases are seen, also those that are made later.
    pub fn sees_all_databases(&self) -> bool {
        ["ALL PRIVILEGES", "SELECT", "SHOW DATABASES"].into_iter().any(|right| self.global.contains(right))
    }

    /// Returns whether the definitions of others' routines are seen.
    pub fn sees_routines(&self) -> bool {
        let is_global = |right: &str| self.global.contains(right);
        self.reads_routines
            || self.has("SELECT", "mysql")
            || is_global("SHOW_ROUTINE")
            || is_global("SHOW CREATE ROUTINE")
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
        let member = rights(&["GRANT `monitoring` TO `u`@`%`", "GRANT SELECT ON *.* TO `u`@`%`"]);
        assert!(member.has("SELECT", "any") && !member.has("TRIGGER", "any"), "a role that is granted adds nothing");
        let narrow = rights(&["GRANT SELECT ON `app1`.* TO `u`@`%`", "GRANT SELECT, TRIGGER ON `app%`.* TO `u`@`%`"]);
        assert!(
            narrow.has("TRIGGER", "app2") && !narrow.has("TRIGGER", "app1"),
            "the narrower grant is the one heeded"
        );
        let partly = rights(&["GRANT SELECT, TRIGGER ON *.* TO `u`@`%`", "REVOKE TRIGGER ON `app`.* FROM `u`@`%`"]);
        assert!(partly.has("SELECT", "app") && !partly.has("TRIGGER", "app") && partly.has("TRIGGER", "shop"));
        assert!(rights(&["GRANT SELECT ON `mysql`.* TO `u`@`%`"]).sees_routines());
        assert!(rights(&["GRANT SELECT ON `mysql`.`proc` TO `u`@`%`"]).sees_routines());
    }
}
