//! Where settings and secrets of services come from: a file of our own, then environment variables.

use crate::error::{Context, Error, ErrorKind, Result};
use crate::text;
use crate::trust;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Names the file of secrets; else `credentials.toml` of the configuration folder.
pub const CREDENTIALS_FILE: &str = "BAKFS_CREDENTIALS_FILE";
/// Files of settings and secrets are read up to this length.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Settings and secrets that a place's table may have, and variables.
const NAMES: [&str; 46] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCOUNT",
    "AZURE_STORAGE_BLOB_ENDPOINT",
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_ENDPOINT",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_SERVICE_ENDPOINT",
    "B2_APPLICATION_KEY",
    "B2_APPLICATION_KEY_ID",
    "B2_BUCKET_ID",
    "B2_ENVIRONMENT",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "OS_APPLICATION_CREDENTIAL_ID",
    "OS_APPLICATION_CREDENTIAL_NAME",
    "OS_APPLICATION_CREDENTIAL_SECRET",
    "OS_AUTH_TOKEN",
    "OS_AUTH_URL",
    "OS_ENDPOINT_TYPE",
    "OS_INTERFACE",
    "OS_PASSWORD",
    "OS_PROJECT_DOMAIN_ID",
    "OS_PROJECT_DOMAIN_NAME",
    "OS_PROJECT_ID",
    "OS_PROJECT_NAME",
    "OS_REGION_NAME",
    "OS_STORAGE_URL",
    "OS_TENANT_ID",
    "OS_TENANT_NAME",
    "OS_USERNAME",
    "OS_USER_DOMAIN_ID",
    "OS_USER_DOMAIN_NAME",
    "OS_USER_ID",
    "S3_ADDRESSING_STYLE",
    "ST_AUTH",
    "ST_KEY",
    "ST_USER",
    "WEBDAV_PASSWORD",
    "WEBDAV_USER",
];

/// Those that hold the address of a server, and no secret but in a part that is not shown.
const ADDRESSES: [&str; 11] = [
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AZURE_STORAGE_BLOB_ENDPOINT",
    "AZURE_STORAGE_ENDPOINT",
    "AZURE_STORAGE_SERVICE_ENDPOINT",
    "B2_ENVIRONMENT",
    "OS_AUTH_URL",
    "OS_STORAGE_URL",
    "STORAGE_EMULATOR_HOST",
    "ST_AUTH",
];

/// The variables of a process, and whose it is.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, Zeroizing<String>>,
    /// Those that are not UTF-8 text.
    unusable: BTreeSet<String>,
    is_root: bool,
}

impl Environment {
    /// Takes this process's own.
    pub fn of_process() -> Self {
        let is_root = rustix::process::geteuid().is_root();
        let mut environment = Environment { is_root, ..Environment::default() };
        for (name, value) in trust::environment::vars() {
            // A name that is not UTF-8 is none of those looked at.
            let Ok(name) = name.into_string() else { continue };
            // As a secret kept in a file mostly ends; addresses are none.
            let is_address = ADDRESSES.contains(&&*name) || PROXIES.contains(&&*name);
            match std::str::from_utf8(&value) {
                Ok(value) => {
                    let value = if is_address { value } else { value.trim_end_matches(['\r', '\n']) };
                    environment.variables.insert(name, Zeroizing::new(value.to_owned()));
                }
                Err(_) => drop(environment.unusable.insert(name)),
            }
        }
        environment
    }

    /// Makes one of the given variables, for a user other than root.
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let variables =
            pairs.into_iter().map(|(name, value)| (name.to_owned(), Zeroizing::new(value.to_owned()))).collect();
        Environment { variables, ..Environment::default() }
    }

    /// Refuses variables that are set and cannot be used, of those that begin with one of `prefixes`.
    pub(super) fn refuse_unusable(&self, prefixes: &[&str]) -> Result<()> {
        let is_asked = |name: &&String| prefixes.iter().any(|prefix| name.starts_with(prefix));
        if let Some(name) = self.unusable.iter().find(is_asked) {
            let message = format!("The environment variable {name} is not UTF-8 text: set it again, or unset it");
            return Err(Error::usage(message));
        }
        let addresses = ADDRESSES.map(str::to_owned);
        let mut asked = addresses.iter().filter(is_asked);
        match asked.find_map(|name| Some((name, text::refused_address(self.get(name)?)?))) {
            Some((name, why)) => Err(Error::usage(format!("The environment variable {name} {why}"))),
            None => Ok(()),
        }
    }

    /// Returns a variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|value| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Returns a path below the user's home.
    pub fn at_home(&self, path: &str) -> Option<PathBuf> {
        self.get("HOME").map(|home| Path::new(home).join(path))
    }

    /// Returns the path of the file of secrets, and whether it was named.
    fn credentials_file(&self) -> Option<(PathBuf, bool)> {
        if let Some(path) = self.get(CREDENTIALS_FILE) {
            return Some((PathBuf::from(path), true));
        }
        let folder = match (self.get("BAKFS_CONFIG_DIR"), self.is_root) {
            (Some(folder), _) => PathBuf::from(folder),
            (None, true) => PathBuf::from("/etc/bakfs"),
            (None, false) => match self.get("XDG_CONFIG_HOME") {
                Some(base) => Path::new(base).join("bakfs"),
                None => self.at_home(".config/bakfs")?,
            },
        };
        Some((folder.join("credentials.toml"), false))
    }
}

/// Names of variables with a proxy, as curl(1) and reqwest know them.
const PROXIES: [&str; 6] = ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];

/// Returns the name of the variable that sets a proxy. Its value may hold a password, and is never shown.
pub(super) fn proxy(environment: &Environment) -> Result<Option<&'static str>> {
    let Some((name, value)) = PROXIES.iter().find_map(|name| Some((*name, environment.get(name)?))) else {
        return Ok(None);
    };
    if let Some(why) = text::refused_address(value) {
        return Err(Error::usage(format!("The environment variable {name} {why}")));
    }
    let url = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    let is_fit = reqwest::Url::parse(&url).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty())
    });
    match is_fit {
        true => Ok(Some(name)),
        false => Err(Error::usage(format!(
            "{name} names no proxy that can be used: write http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT"
        ))),
    }
}

/// What is known of one place: its table in the file of secrets, and the environment.
pub struct Sources {
    /// The environment.
    pub environment: Environment,
    table: BTreeMap<String, Zeroizing<String>>,
    file: Option<PathBuf>,
}

impl Sources {
    /// Reads the file of secrets for the place shown as `url`: the table with the longest prefix of it counts.
    pub fn read(environment: Environment, url: &str) -> Result<Self> {
        let Some((path, is_named)) = environment.credentials_file() else {
            return Ok(Sources { environment, table: BTreeMap::new(), file: None });
        };
        let table = match read_private(&path)? {
            Some(text) => parse(&path, &text, url)?,
            None if is_named => {
                let message = format!("{CREDENTIALS_FILE} names {}, which does not exist", path.display());
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            None => BTreeMap::new(),
        };
        Ok(Sources { environment, table, file: Some(path) })
    }

    /// Shuts out what the environment has of a login of which the place's table has a part.
    pub fn with_login(mut self, names: &[&str]) -> Self {
        if names.iter().any(|name| self.of_table(name).is_some()) {
            names.iter().for_each(|name| drop(self.environment.variables.remove(*name)));
        }
        self
    }

    /// Returns a setting: from the place's table, else from the environment.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.of_table(name).or_else(|| self.environment.get(name))
    }

    /// Returns secrets that belong together: all from the place's table if it has one of them, else all from the
    /// environment, so that a key never meets the token of another.
    pub fn secrets<const N: usize>(&self, names: [&str; N]) -> [Option<Zeroizing<String>>; N] {
        let in_table = names.iter().any(|name| self.of_table(name).is_some());
        names.map(|name| {
            let value = if in_table { self.of_table(name) } else { self.environment.get(name) };
            value.map(|value| Zeroizing::new(value.to_owned()))
        })
    }

    fn of_table(&self, name: &str) -> Option<&str> {
        self.table.get(&name.to_ascii_lowercase()).map(|value| value.as_str())
    }

    /// Makes the error of missing secrets: what was looked at, and what to set.
    pub fn missing(&self, url: &str, looked_at: &str, set: &str) -> Error {
        let file = match &self.file {
            Some(file) => format!(" and the table [\"{url}\"] of {}", file.display()),
            None => String::new(),
        };
        Error::new(
            ErrorKind::Denied,
            format!("There are no credentials for {url}: looked at {looked_at}{file}. Set {set}"),
        )
    }
}

/// Reads a file nobody else may read; none is none.
pub(super) fn read_private(path: &Path) -> Result<Option<Zeroizing<String>>> {
    let file = match File::open(path) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        file => file.context(|| format!("Cannot read {}", path.display()))?,
    };
    trust::file::require_secret("file of credentials", path)?;
    read_bounded(file, path).map(Some)
}

/// Reads a text file. Where nobody has named it, it may be missing or be somebody else's.
pub(super) fn read_optional(path: &Path, is_named: bool) -> Result<Option<Zeroizing<String>>> {
    match File::open(path) {
        Ok(file) => read_bounded(file, path).map(Some),
        Err(_) if !is_named => Ok(None),
        Err(error) => Err(Error::io(format!("Cannot read {}", path.display()), error)),
    }
}

fn read_bounded(file: File, path: &Path) -> Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
    let read = read.context(|| format!("Cannot read {}", path.display()))?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(Error::usage(format!("{} is longer than 1 MiB", path.display())));
    }
    let text = text::of_file(&bytes).map_err(|why| Error::usage(format!("Cannot read {}: {why}", path.display())))?;
    Ok(Zeroizing::new(text))
}

fn parse(path: &Path, text: &str, url: &str) -> Result<BTreeMap<String, Zeroizing<String>>> {
    let bad = |what: &str| {
        Error::usage(format!(
            "The file of credentials {} makes no sense: {what}. It has tables like [\"s3://bucket\"] with lines like \
             aws_access_key_id = \"…\"",
            path.display()
        ))
    };
    // The parser's own message quotes the line, which may be a secret.
    let tables: BTreeMap<String, BTreeMap<String, toml::Value>> = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| text[..span.start.min(text.len())].lines().count().max(1));
        bad(&line.map_or("it is not TOML of that form".into(), |line| format!("see line {line}")))
    })?;
    let is_for_it = |key: &str| {
        let key = key.trim_end_matches('/');
        url == key || url.strip_prefix(key).is_some_and(|rest| rest.starts_with('/'))
    };
    let chosen =
        tables.into_iter().filter(|(key, _)| is_for_it(key)).max_by_key(|(key, _)| key.trim_end_matches('/').len());
    let Some((_, table)) = chosen else { return Ok(BTreeMap::new()) };
    let values = table.into_iter().map(|(name, value)| match value {
        toml::Value::String(value) => Ok((name.to_ascii_lowercase(), Zeroizing::new(value))),
        _ => Err(bad(&format!("{name} is no text in quotes"))),
    });
    let values: BTreeMap<String, Zeroizing<String>> = values.collect::<Result<_>>()?;
    let mut addresses = ADDRESSES.iter().filter_map(|name| Some((name, values.get(&name.to_ascii_lowercase())?)));
    if let Some((name, why)) = addresses.find_map(|(name, value)| Some((name, text::refused_address(value)?))) {
        return Err(bad(&format!("{name} {why}")));
    }
    // A misspelt name would have another login take its place.
    match values.keys().find(|name| !NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))) {
        Some(name) => Err(bad(&format!("it knows no `{name}`; names are those of the environment variables"))),
        None => Ok(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, Environment) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let environment = Environment::of([
            ("BAKFS_CONFIG_DIR", folder.path().to_str().unwrap()),
            ("AWS_ACCESS_KEY_ID", "environment"),
            ("AWS_SESSION_TOKEN", "token"),
            ("AWS_REGION", "eu"),
        ]);
        (folder, environment)
    }

    const FILE: &str = r#"
        ["s3://bucket"]
        aws_access_key_id = "short"
        ["s3://bucket/long"]
        AWS_ACCESS_KEY_ID = "long"
        aws_region = "us"
    "#;

    #[test]
    fn the_longest_prefix_wins_and_secrets_are_never_mixed() {
        let (_folder, environment) = file(FILE, 0o600);
        for (url, key, token, region) in [
            ("s3://bucket", "short", None, "eu"),
            ("s3://bucket/other", "short", None, "eu"),
            ("s3://bucket/long/er", "long", None, "us"),
            ("s3://bucket/longer", "short", None, "eu"),
            ("s3://bucket2", "environment", Some("token"), "eu"),
        ] {
            let sources = Sources::read(environment.clone(), url).unwrap();
            let [found, with] = sources.secrets(["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"]);
            assert_eq!(found.as_deref().map(String::as_str), Some(key), "{url}");
            assert_eq!(with.as_deref().map(String::as_str), token, "{url}");
            assert_eq!(sources.setting("AWS_REGION"), Some(region), "{url}");
        }
    }

    #[test]
    fn a_file_others_can_read_is_refused() {
        for mode in [0o640, 0o604, 0o644, 0o602] {
            let (_folder, environment) = file(FILE, mode);
            let error = Sources::read(environment, "s3://bucket").err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Denied, "{mode:o}");
            assert!(error.chain().contains("chmod 600"), "{}", error.chain());
        }
    }

    #[test]
    fn a_file_that_makes_no_sense_is_refused_without_showing_its_secrets() {
        for text in ["[\"s3://bucket\"]\nkey = S3CRET", "[\"s3://bucket\"]\nkey = [\"S3CRET\"]", "key = \"S3CRET\""] {
            let (_folder, environment) = file(text, 0o600);
            let error = Sources::read(environment, "s3://bucket").err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(!error.chain().contains("S3CRET"), "{}", error.chain());
        }
        let named = Environment::of([(CREDENTIALS_FILE, "/nonexistent/file")]);
        assert_eq!(Sources::read(named, "s3://bucket").err().unwrap().kind(), ErrorKind::NotFound);
        let none = Environment::of([("HOME", "/nonexistent")]);
        let error = Sources::read(none, "s3://b").unwrap().missing("s3://b", "AWS_ACCESS_KEY_ID", "it");
        assert!(error.chain().contains("/nonexistent/.config/bakfs/credentials.toml"), "{}", error.chain());
    }
}
