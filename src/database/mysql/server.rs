//! A MySQL or MariaDB server as its client programs see it.

use super::client::{find, find_for};
use super::connection::{Connection, ENVIRONMENT};
use super::rights::Rights;
use crate::database::local::{Temporary, account, check_secret, dump_limit};
use crate::database::pattern::Patterns;
use crate::error::{Error, Result};
use crate::process::{Account, Program, Stop};
use crate::settings::file::Mysql;
use crate::settings::profile::mysql_name;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a question may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// Databases that are the server's own; `mysql` is dumped as users and their rights.
pub const OWN: [&str; 4] = ["information_schema", "performance_schema", "sys", "mysql"];
/// How a folder is called that no database's name leads to, as `lost+found`.
const FOLDER: &str = "#mysql50#";

/// Where a server is, and who asks.
#[derive(Clone)]
pub struct Server {
    /// Its name in the configuration.
    pub name: String,
    /// What the configuration says.
    pub settings: Mysql,
    /// The account programs run as, if another one than ours.
    pub account: Option<Account>,
    /// How it is reached.
    pub connection: Connection,
    client: PathBuf,
    stop: Stop,
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
    /// Folders among its data that are no databases.
    pub folders: Vec<String>,
}

impl Facts {
    /// Returns whether the server is a MariaDB.
    pub fn is_mariadb(&self) -> bool {
        self.version.contains("MariaDB")
    }

    /// Chooses by the configuration: without a list all databases but the server's own.
    pub fn chosen(&self, settings: &Mysql) -> Choice {
        let patterns = Patterns::new(&settings.exclude);
        let is_there = |name: &&String| self.databases.iter().any(|(known, _)| known == *name);
        let is_wanted = |name: &String| match &settings.databases {
            None => !OWN.contains(&&**name),
            Some(listed) => listed.contains(name),
        };
        let known = self.databases.iter().filter(|(name, _)| is_wanted(name) && !patterns.any(name));
        let listed = settings.databases.iter().flatten();
        let missing = listed.filter(|name| !patterns.any(name) && !is_there(name)).cloned().collect();
        let idle = patterns.idle(self.databases.iter().map(|(name, _)| &**name));
        Choice { databases: known.cloned().collect(), missing, idle }
    }
}

/// What is dumped of a server.
pub struct Choice {
    /// The databases with their sizes.
    pub databases: Vec<(String, u64)>,
    /// Those that are listed and missing.
    pub missing: Vec<String>,
    /// Patterns of `exclude` that match nothing.
    pub idle: Vec<String>,
}

impl Server {
    /// Names a server, and verifies the account, its secrets and the program that asks.
    pub fn new(settings: &Mysql, temporary: &Temporary, stop: &Stop) -> Result<Self> {
        let account = account(settings.user.as_deref())?;
        if let Some(file) = &settings.option_file {
            check_secret(file, account.as_ref(), true)?;
        }
        check_options(&settings.options)?;
        // A folder may have the dump program alone.
        let asks = ["mariadb", "mysql"];
        let client = match settings.exec.is_none() {
            true => find(&asks, settings.bin_dir.as_deref()).or_else(|_| find(&asks, None))?,
            false => find_for(settings, account.as_ref(), &asks)?,
        };
        let connection = Connection::read(settings, account.as_ref(), &client, temporary)?;
        let name = mysql_name(settings).to_string();
        let mut server = Server { name, settings: settings.clone(), account, connection, client, stop: stop.clone() };
        // What the profile says goes before what option files say.
        let is_here = match &settings.host {
            Some(host) => host == "localhost",
            None => settings.socket.is_some() || !server.connection.is_elsewhere,
        };
        server.connection.is_elsewhere = !is_here || settings.port.is_some() && settings.socket.is_none();
        if settings.socket.is_some() {
            server.connection.socket.clone_from(&settings.socket);
        }
        Ok(server)
    }

    /// Has all programs connect to the server's socket from now on, where they do so already without its name.
    fn settle_socket(&mut self) -> Result<()> {
        if self.connection.is_elsewhere || self.connection.socket.is_some() {
            return Ok(());
        }
        let told = self.ask("SELECT @@socket")?.into_iter().flatten().next().map(PathBuf::from);
        self.connection.socket = told.filter(|path| !self.settings.exec.is_none() || path.exists());
        Ok(())
    }

    /// Finds the program that dumps, that of the server's maker first.
    pub fn dump_program(&self, is_mariadb: bool) -> Result<PathBuf> {
        let names = if is_mariadb { ["mariadb-dump", "mysqldump"] } else { ["mysqldump", "mariadb-dump"] };
        find_for(&self.settings, self.account.as_ref(), &names)
    }

    /// Makes a client program that connects to this server.
    pub fn program(&self, path: &Path) -> Program {
        let mut program = self.connection.program(path, &self.settings.exec).stopped_by(&self.stop);
        program.account = self.account.clone();
        program.timeout = dump_limit(self.settings.timeout);
        let settings = &self.settings;
        let named = |option: &str, value: &Path| {
            let mut argument = std::ffi::OsString::from(option);
            argument.push(value);
            argument
        };
        program.withheld = ENVIRONMENT.map(Into::into).to_vec();
        let port = settings.port.map(|port| port.to_string());
        let (mut host, mut port) = (settings.host.as_ref(), port.as_ref());
        let local = String::from("localhost");
        if let Some(socket) = self.connection.socket.as_ref().filter(|_| !self.connection.is_elsewhere) {
            program = program.arg("--protocol=socket").arg(named("--socket=", socket));
            (host, port) = (Some(&local), None);
        }
        for (option, value) in [("--host", host), ("--port", port), ("--user", settings.role.as_ref())] {
            if let Some(value) = value {
                program = program.arg(format!("{option}={value}"));
            }
        }
        program.arg("--default-character-set=utf8mb4").env("LC_ALL", "C")
    }

    /// Tries statements of any number, one a line, and returns the rows of those that succeed.
    pub fn try_all(&self, sql: String) -> Result<Vec<Vec<String>>> {
        let mut program = self.asking().arg("--force");
        program.input.get_or_insert_default().extend(sql.as_bytes());
        Ok(rows(&program.answer().map_err(|error| self.explained(error))?))
    }

    fn asking(&self) -> Program {
        let program = self.program(&self.client).arg("--batch").arg("--skip-column-names");
        let mut program = program.arg("--connect-timeout=10");
        program.timeout = Some(ANSWER_LIMIT);
        program
    }

    /// Asks for rows; those of several statements follow one another.
    pub fn ask(&self, sql: &str) -> Result<Vec<Vec<String>>> {
        let answer = self.asking().arg("--execute").arg(sql).answer().map_err(|error| self.explained(error))?;
        Ok(rows(&answer))
    }

    /// Asks for what the server tells of itself.
    pub fn facts(&mut self) -> Result<Facts> {
        self.settle_socket()?;
        let told = self.ask("SELECT VERSION(), CURRENT_USER()")?;
        let [version, role] = told.into_iter().next().and_then(|row| row.try_into().ok()).unwrap_or_default();
        let rights = Rights::parse(&self.grants(&version)?);
        // Names differ by case and accents, whatever information_schema's collation says of them.
        let names = self.ask("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA")?;
        let sizes = "SELECT MIN(TABLE_SCHEMA), IFNULL(SUM(DATA_LENGTH + INDEX_LENGTH), 0)
            FROM information_schema.TABLES GROUP BY CAST(TABLE_SCHEMA AS BINARY)";
        let sized = |row: Vec<String>| {
            let [name, bytes] = row.try_into().ok()?;
            Some((name, bytes.split('.').next()?.parse::<u64>().ok()?))
        };
        let sizes: BTreeMap<String, u64> = self.ask(sizes)?.into_iter().filter_map(sized).collect();
        let mut facts = Facts { version, role, rights, databases: Vec::new(), folders: Vec::new() };
        for name in names.into_iter().flatten() {
            match sizes.get(&name) {
                None if name.starts_with(FOLDER) => facts.folders.push(name),
                bytes => facts.databases.push((name, bytes.copied().unwrap_or(0))),
            }
        }
        Ok(facts)
    }

    /// Asks for the user's rights, those of active roles among them: MySQL tells those only where roles are named.
    fn grants(&self, version: &str) -> Result<Vec<String>> {
        let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
        let mut question = String::from("SHOW GRANTS");
        if !version.contains("MariaDB") && major >= 8 {
            let roles = self.ask("SELECT CURRENT_ROLE()")?.into_iter().flatten().next().unwrap_or_default();
            if !matches!(&*roles, "" | "NONE" | "NULL") {
                question = format!("SHOW GRANTS FOR CURRENT_USER() USING {roles}");
            }
        }
        Ok(self.ask(&question)?.into_iter().flatten().collect())
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

/// Returns an identifier as SQL.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Returns an answer's rows.
fn rows(answer: &str) -> Vec<Vec<String>> {
    answer.lines().map(|line| line.split('\t').map(plain).collect()).collect()
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
