//! The program that dumps a server, and the options that say what is in a dump.

use super::server::{Facts, Server};
use crate::error::Result;
use crate::process::Program;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// Every dump's options, by the name under which a program's help lists it: all that decide what is in a dump, whatever
/// the program's defaults are. `--comments` has the last words written; locks around rows would keep defaults from
/// asking a sequence. Only MySQL's own has `--set-gtid-purged`: a restore elsewhere must not touch that server's
/// replication; and its 8 asks servers by `--column-statistics` for a table that MariaDB and older ones lack.
const OPTIONS: [(&str, &str); 31] = [
    ("single-transaction", "--single-transaction"),
    ("quick", "--quick"),
    ("routines", "--routines"),
    ("events", "--events"),
    ("triggers", "--triggers"),
    ("hex-blob", "--hex-blob"),
    ("comments", "--comments"),
    ("dump-date", "--skip-dump-date"),
    ("no-tablespaces", "--no-tablespaces"),
    ("dump-history", "--dump-history"),
    ("add-locks", "--skip-add-locks"),
    ("add-drop-table", "--add-drop-table"),
    ("add-drop-database", "--skip-add-drop-database"),
    ("create-options", "--create-options"),
    ("disable-keys", "--disable-keys"),
    ("extended-insert", "--extended-insert"),
    ("insert-ignore", "--skip-insert-ignore"),
    ("replace", "--skip-replace"),
    ("delayed-insert", "--skip-delayed-insert"),
    ("no-create-info", "--skip-no-create-info"),
    ("no-data", "--skip-no-data"),
    ("no-data-med", "--no-data-med"),
    ("quote-names", "--quote-names"),
    ("set-charset", "--set-charset"),
    ("tz-utc", "--tz-utc"),
    ("force", "--skip-force"),
    ("flush-logs", "--skip-flush-logs"),
    ("delete-master-logs", "--skip-delete-master-logs"),
    ("max-allowed-packet", "--max-allowed-packet=1G"),
    ("set-gtid-purged", "--set-gtid-purged=OFF"),
    ("column-statistics", "--column-statistics=0"),
];

/// The program that dumps a server.
pub struct DumpProgram {
    /// Where it is.
    pub path: PathBuf,
    /// Its version.
    pub version: String,
    /// The options it knows.
    known: BTreeSet<String>,
}

impl DumpProgram {
    /// Finds the program of the server's maker, or the other's.
    pub fn find(server: &Server, facts: &Facts) -> Result<Self> {
        let path = server.dump_program(facts.is_mariadb())?;
        let told = |options: &[&str]| {
            let mut program = Program::new([path.as_os_str()]).env("LC_ALL", "C");
            program.exec = server.settings.exec.words();
            if !server.settings.exec.is_none() {
                program.account.clone_from(&server.account);
            }
            program.timeout = Some(Duration::from_secs(60));
            options.iter().fold(program, |program, option| program.arg(option)).answer()
        };
        // With option files even this would empty the file that `result-file` names.
        let version = told(&["--no-defaults", "--version"])?;
        let version = version.trim().trim_start_matches(&*path.to_string_lossy()).trim().to_string();
        let known = options_of(&told(&["--no-defaults", "--help"])?);
        Ok(DumpProgram { path, version, known })
    }

    /// Returns whether it knows an option, named without `--`.
    pub fn knows(&self, option: &str) -> bool {
        self.known.contains(option)
    }

    /// Returns whether it can dump what system-versioned tables were.
    pub fn dumps_history(&self) -> bool {
        self.knows("dump-history")
    }

    /// Makes a program that dumps a database: all of it, or some tables alone, which have no history.
    pub fn dump(&self, server: &Server, database: &str, without: &[String], alone: &[String]) -> Program {
        let known = OPTIONS.iter().filter(|(name, _)| self.knows(name)).map(|(_, option)| *option);
        let program = known.fold(server.program(&self.path), Program::arg);
        // An older program has no history to leave out.
        let own = server.settings.options.iter().filter(|option| self.dumps_history() || *option != NO_HISTORY);
        let mut program = own.fold(program, Program::arg);
        for table in without {
            program = program.arg(format!("--ignore-table={database}.{table}"));
        }
        if !alone.is_empty() {
            program = program.arg(NO_HISTORY).arg("--skip-routines").arg("--skip-events");
        }
        alone.iter().fold(program.arg("--").arg(database), Program::arg)
    }
}

/// The option that accepts that no history is dumped.
pub const NO_HISTORY: &str = "--skip-dump-history";

/// Returns the long options that a help text lists, without `--`.
fn options_of(help: &str) -> BTreeSet<String> {
    let listed = help.lines().filter_map(|line| {
        let line = line.trim_start();
        let line = if line.starts_with("--") { line } else { line.split_once(", --").map(|(_, rest)| rest)? };
        let name = line.trim_start_matches('-').split(|c: char| !(c.is_alphanumeric() || c == '-')).next()?;
        (!name.is_empty()).then(|| name.to_string())
    });
    listed.collect()
}

/// What a profile's own options ask to be left out of a dump.
pub struct Wishes {
    options: Vec<String>,
    prefix: String,
}

impl Wishes {
    /// Reads a profile's options.
    pub fn of(options: &[String], database: &str) -> Self {
        Wishes { options: options.to_vec(), prefix: format!("{database}.") }
    }

    fn has(&self, names: &[&str]) -> bool {
        self.options.iter().any(|option| names.contains(&&**option))
    }

    fn begins(&self, prefixes: &[&str]) -> bool {
        self.options.iter().any(|option| prefixes.iter().any(|prefix| option.starts_with(prefix)))
    }

    /// Returns whether a dump is written otherwise than as SQL that makes everything.
    pub fn is_other(&self) -> bool {
        self.has(&["--xml", "-X", "--no-create-info", "-t"])
    }

    /// Returns whether the last words are not written.
    pub fn is_silent(&self) -> bool {
        let silent = ["--skip-comments", "--comments=0", "--comments=OFF", "--comments=FALSE", "--compact"];
        self.has(&silent) || self.has(&["--xml", "-X"])
    }

    /// Returns whether there may be tables without their rows.
    pub fn lacks_rows(&self) -> bool {
        self.has(&["--no-data", "-d"]) || self.begins(&["--no-data=", "--where", "-w", "--ignore-table-data"])
    }

    /// Returns whether no history is wanted.
    pub fn lacks_history(&self) -> bool {
        self.has(&[NO_HISTORY]) || self.begins(&["--as-of"])
    }

    /// Returns whether triggers, routines or events are left out.
    pub fn lacks(&self, kind: &str) -> bool {
        let value = |value: &str| format!("--{kind}={value}");
        self.has(&[&*format!("--skip-{kind}"), &*value("0"), &*value("OFF"), &*value("FALSE")])
    }

    /// Returns whether a table or view is left out.
    pub fn ignores(&self, table: &str) -> bool {
        let is_it = |named: &str| named.strip_prefix(&*self.prefix) == Some(table);
        let pairs = self.options.windows(2).filter(|pair| pair[0] == "--ignore-table").map(|pair| &*pair[1]);
        self.options.iter().filter_map(|option| option.strip_prefix("--ignore-table=")).chain(pairs).any(is_it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_in_a_help_text() {
        let help = "  -A, --all-databases Dump all\n  --add-locks         Add\n                      (use --skip-x)\n\
                    --no-defaults   none\nadd-locks          TRUE\n  -p, --password[=name] \n  -#, --debug[=#]";
        let known = options_of(help);
        let expected = ["add-locks", "all-databases", "debug", "no-defaults", "password"];
        assert_eq!(known.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn wishes_are_read_from_options() {
        let options = ["--ignore-table=a.b.c", "--ignore-table", "a.x", "--skip-events"].map(String::from);
        let wishes = Wishes::of(&options, "a");
        assert!(wishes.ignores("b.c") && wishes.ignores("x") && !wishes.ignores("c"));
        assert!(wishes.lacks("events") && !wishes.lacks("triggers") && !wishes.lacks_rows() && !wishes.is_silent());
    }
}
