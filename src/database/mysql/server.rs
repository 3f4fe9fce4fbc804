//! A MySQL or MariaDB server as its client programs see it.

use super::rights::Rights;
use crate::database::local::{account, check_secret, dump_limit, folders, is_program};
use crate::error::{Error, ErrorKind, Result};
use crate::process::{Account, Program};
use crate::settings::file::Mysql;
use crate::settings::profile::mysql_name;
use crate::source::generated::ServerFolder;
use crate::source::servers::{Kind, Served, place_of, served};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a question may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// Databases that are the server's own; `mysql` is dumped as users and their rights.
const OWN: [&str; 4] = ["information_schema", "performance_schema", "sys", "mysql"];

/// Where a server is, and who asks.
#[derive(Clone)]
pub struct Server {
    /// Its name in the configuration.
    pub name: String,
    /// What the configuration says.
    pub settings: Mysql,
    /// The account programs run as, if another one than ours.
    pub account: Option<Account>,
    client: PathBuf,
}

/// What a server tells of itself.
pub struct Facts {
    /// Its version for people.
    pub version: String,
    /// Its user.
    pub role: String,
    /// What the user may do.
    pub rights: Rights,
    /// Its databases with their sizes.
    pub databases: Vec<(String, u64)>,
}

impl Facts {
    /// Returns whether the server is a MariaDB.
    pub fn is_mariadb(&self) -> bool {
        self.version.contains("MariaDB")
    }

    /// Returns the databases to be dumped with their sizes, and those that are listed and missing.
    pub fn chosen(&self, settings: &Mysql) -> (Vec<(String, u64)>, Vec<String>) {
        let known = self.databases.iter().filter(|(name, _)| !settings.exclude.contains(name)).cloned();
        let Some(listed) = &settings.databases else {
            return (known.filter(|(name, _)| !OWN.contains(&&**name)).collect(), Vec::new());
        };
        let is_there = |name: &&String| self.databases.iter().any(|(known, _)| known == *name);
        let missing = listed.iter().filter(|name| !settings.exclude.contains(name) && !is_there(name));
        (known.filter(|(name, _)| listed.contains(name)).collect(), missing.cloned().collect())
    }
}

/// Finds a program by one of its names.
fn find(names: &[&str], bin_dir: Option<&Path>) -> Result<PathBuf> {
    let paths = names.iter().flat_map(|name| folders(bin_dir).into_iter().map(move |folder| folder.join(name)));
    paths.into_iter().find(|path| is_program(path)).ok_or_else(|| {
        let place = bin_dir.map_or_else(String::new, |folder| format!(" in {}", folder.display()));
        let names = names.join(" or ");
        let message = format!("There is no {names}{place}: install mariadb-client (or mysql-client), or set `bin-dir`");
        Error::new(ErrorKind::NotFound, message)
    })
}

impl Server {
    /// Names a server, and verifies the account, its secrets and the program that asks.
    pub fn new(settings: &Mysql) -> Result<Self> {
        let account = account(settings.user.as_deref())?;
        if let Some(file) = &settings.option_file {
            check_secret(file, account.as_ref())?;
        }
        check_options(&settings.options)?;
        // A folder may have the dump program alone.
        let asks = ["mariadb", "mysql"];
        let client = find(&asks, settings.bin_dir.as_deref()).or_else(|_| find(&asks, None))?;
        Ok(Server { name: mysql_name(settings).to_string(), settings: settings.clone(), account, client })
    }

    /// Finds the program that dumps, that of the server's maker first.
    pub fn dump_program(&self, is_mariadb: bool) -> Result<PathBuf> {
        let names = if is_mariadb { ["mariadb-dump", "mysqldump"] } else { ["mysqldump", "mariadb-dump"] };
        find(&names, self.settings.bin_dir.as_deref())
    }

    /// Makes a client program that connects to this server.
    pub fn program(&self, path: &Path) -> Program {
        let mut program = Program::new([path.as_os_str()]);
        program.account = self.account.clone();
        program.timeout = dump_limit(self.settings.timeout);
        let settings = &self.settings;
        let named = |option: &str, value: &Path| {
            let mut argument = std::ffi::OsString::from(option);
            argument.push(value);
            argument
        };
        // It must be the first.
        if let Some(file) = &settings.option_file {
            program = program.arg(named("--defaults-extra-file=", file));
        }
        if let Some(socket) = &settings.socket {
            program = program.arg(named("--socket=", socket));
        }
        let port = settings.port.map(|port| port.to_string());
        for (option, value) in [("--host", &settings.host), ("--port", &port), ("--user", &settings.role)] {
            if let Some(value) = value {
                program = program.arg(format!("{option}={value}"));
            }
        }
        program.arg("--default-character-set=utf8mb4").env("LC_ALL", "C")
    }

    /// Returns the folder that holds the databases of a server, where it runs on this machine.
    pub fn folders(&self) -> Vec<ServerFolder> {
        let rows = self.ask("SELECT @@datadir").unwrap_or_default();
        let Some(path) = rows.first().and_then(|row| row.first()).map(PathBuf::from) else { return Vec::new() };
        let is_same = |known: &Served| known.kind == Kind::Mysql && place_of(&path) == Some(known.place);
        let found = served().into_iter().find(is_same);
        found.map(|known| ServerFolder { place: known.place, path: path.clone(), keeps: None }).into_iter().collect()
    }

    /// Asks for rows; those of several statements follow one another.
    pub fn ask(&self, sql: &str) -> Result<Vec<Vec<String>>> {
        let program = self.program(&self.client).arg("--batch").arg("--skip-column-names");
        let mut program = program.arg("--connect-timeout=10").arg("--execute").arg(sql);
        program.timeout = Some(ANSWER_LIMIT);
        let answer = program.answer().map_err(|error| self.explained(error))?;
        Ok(answer.lines().map(|line| line.split('\t').map(plain).collect()).collect())
    }

    /// Asks for what the server tells of itself.
    pub fn facts(&self) -> Result<Facts> {
        let rows = self.ask("SELECT VERSION(), CURRENT_USER()")?;
        let [version, role] = rows.into_iter().next().and_then(|row| row.try_into().ok()).unwrap_or_default();
        let grants = self.ask("SHOW GRANTS")?.into_iter().flatten().collect::<Vec<_>>();
        let sizes = "SELECT s.SCHEMA_NAME, IFNULL(SUM(t.DATA_LENGTH + t.INDEX_LENGTH), 0)
            FROM information_schema.SCHEMATA s LEFT JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = s.SCHEMA_NAME
            GROUP BY s.SCHEMA_NAME";
        let sized = |row: Vec<String>| {
            let [name, bytes] = row.try_into().ok()?;
            Some((name, bytes.split('.').next()?.parse().ok()?))
        };
        let databases = self.ask(sizes)?.into_iter().filter_map(sized).collect();
        Ok(Facts { version, role, rights: Rights::parse(&grants), databases })
    }

    /// Adds what to do about a failed connection.
    fn explained(&self, error: Error) -> Error {
        let words = error.chain();
        let advice = if words.contains("Access denied") {
            "check the user, and the password in `option-file`"
        } else if words.contains("Can't connect") || words.contains("Unknown") && words.contains("host") {
            "check that the server runs, and `host`, `port` and `socket`"
        } else {
            "try the same with its client program"
        };
        let message = format!("Cannot ask the MySQL server `{}`: {advice}", self.name);
        Error::new(error.kind(), message).because(error)
    }
}

/// Returns a value as it is, without what `--batch` escapes.
fn plain(value: &str) -> String {
    let mut text = String::new();
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        text.push(match c {
            '\\' => match rest.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('0') => '\0',
                Some(c) => c,
                None => '\\',
            },
            c => c,
        });
    }
    text
}

/// Refuses options that would lead the dump elsewhere, or show a secret.
fn check_options(options: &[String]) -> Result<()> {
    let long = ["--password", "--result-file", "--databases", "--all-databases", "--tab", "--system", "--defaults"];
    let short = ["-p", "-r", "-B", "-A", "-T"];
    for option in options {
        let word = option.split('=').next().unwrap_or(option);
        let is_long = long.iter().any(|taken| word.starts_with(taken) || word.len() > 4 && taken.starts_with(word));
        if is_long || (!option.starts_with("--") && short.iter().any(|taken| option.starts_with(taken))) {
            let shown = if option.starts_with("-p") { "-p" } else { word };
            let message = format!(
                "The option `{shown}` of the dump program is set by bakfs: leave it out of `options`. A password \
                 belongs into `option-file`"
            );
            return Err(Error::usage(message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_they_were() {
        assert_eq!(plain("a\\tb\\nc\\\\d\\0é"), "a\tb\nc\\d\0é");
    }

    #[test]
    fn options_that_show_a_secret_or_lead_elsewhere_are_refused() {
        for option in ["-psecret", "--password=secret", "--pass=secret", "-B", "--result-file=/x", "--all-databases"] {
            let error = check_options(&[option.to_string()]).unwrap_err().chain();
            assert!(!error.contains("secret"), "{error}");
        }
        check_options(&["--skip-comments".into(), "--max-allowed-packet=1G".into(), "--where=1".into()]).unwrap();
    }
}
