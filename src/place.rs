//! Where a repository is kept, as `--repo` and BAKFS_REPO say it: a folder or a URL without secrets.

use crate::error::{Error, Result};
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a repository is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder of this machine.
    Local(PathBuf),
    /// A service reached over a network.
    Remote(Remote),
}

/// A place in a service reached over a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// A bucket or container of an object store, and the names in it that begin with `prefix`, which may be empty.
    Bucket {
        /// The service.
        service: Service,
        /// The bucket or container.
        bucket: String,
        /// What names begin with, without slashes at its ends.
        prefix: String,
    },
    /// A folder reached by OpenSSH's `ssh` and its subsystem `sftp`.
    Sftp {
        /// The user to log in as; else the one ssh takes.
        user: Option<String>,
        /// A host, an alias of ssh's configuration, or an address of IPv6 without brackets.
        host: String,
        /// The port; else the one ssh takes.
        port: Option<u16>,
        /// The folder, without slashes at its ends.
        path: String,
        /// Whether the folder is below the user's home and not below `/`.
        from_home: bool,
    },
    /// A folder of a WebDAV server.
    WebDav {
        /// Whether the connection is encrypted.
        tls: bool,
        /// The host, with its port where that is not the usual one.
        host: String,
        /// The folder, without slashes at its ends, and without percent signs for other characters.
        path: String,
    },
}

/// An object store with buckets or containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Amazon S3, and what speaks its protocol.
    S3,
    /// Backblaze B2.
    B2,
    /// OpenStack Swift.
    Swift,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azblob,
}

impl Service {
    /// Returns what its URLs begin with.
    pub fn scheme(self) -> &'static str {
        match self {
            Service::S3 => "s3",
            Service::B2 => "b2",
            Service::Swift => "swift",
            Service::Gcs => "gs",
            Service::Azblob => "azblob",
        }
    }

    /// Returns whether leave to enter expires, so that an answer that denies it is worth another try.
    pub fn has_tokens(self) -> bool {
        matches!(self, Service::B2 | Service::Swift)
    }

    /// Returns whether requests are signed with the time, so that a clock that is wrong has them denied.
    pub fn signs_time(self) -> bool {
        matches!(self, Service::S3 | Service::Gcs | Service::Azblob)
    }

    /// Returns where its secrets belong, for messages.
    pub fn secrets(self) -> &'static str {
        match self {
            Service::S3 => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile of ~/.aws/credentials",
            Service::B2 => "B2_APPLICATION_KEY_ID and B2_APPLICATION_KEY",
            Service::Swift => "the variables OS_* of your provider's RC file, or ST_AUTH, ST_USER and ST_KEY",
            Service::Gcs => "the file GOOGLE_APPLICATION_CREDENTIALS names",
            Service::Azblob => "AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY",
        }
    }
}

const SSH_SECRETS: &str = "a key of ssh-agent or ~/.ssh/config";
const WEBDAV_SECRETS: &str = "WEBDAV_USER and WEBDAV_PASSWORD or ~/.netrc";

impl Place {
    /// Returns the folder, where it is one of this machine.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Place::Local(path) => Some(path),
            Place::Remote(_) => None,
        }
    }

    /// Parses a path or URL; an error never repeats what may be a secret.
    pub fn parse(text: &str) -> Result<Place> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return match text.split_once(':') {
                Some((scheme @ ("s3" | "b2" | "sftp" | "swift" | "gs" | "azure" | "rest" | "rclone"), _)) => {
                    Err(Error::usage(format!(
                        "`{scheme}:` is no URL: write s3://bucket/prefix, sftp://user@host/path and so on, \
                         or ./{scheme}: for a folder of that name"
                    )))
                }
                _ if of_ssh(text).is_some() => Err(Error::usage(format!(
                    "A host and a path are written {}: ssh takes {SSH_SECRETS}, and no password; a folder of such a name \
                     is ./NAME",
                    of_ssh(text).unwrap_or_default()
                ))),
                _ if text.is_empty() => Err(Error::usage("The path of the repository is empty")),
                _ => Ok(Place::Local(PathBuf::from(text))),
            };
        };
        let scheme = scheme.to_ascii_lowercase();
        if rest.chars().any(char::is_control) {
            return Err(Error::usage(format!("A URL {scheme}:// holds a control character")));
        }
        if has_query(rest) && scheme != "multi" {
            return Err(Error::usage(format!(
                "A URL {scheme}:// holds no settings behind a `?`: keys and addresses belong in the service's variables or \
                 in credentials.toml, as docs/operations.md says"
            )));
        }
        match &*scheme {
            "file" => file(rest),
            "s3" => bucket(Service::S3, rest),
            "b2" => bucket(Service::B2, rest),
            "swift" => bucket(Service::Swift, rest),
            "gs" => bucket(Service::Gcs, rest),
            "azblob" => bucket(Service::Azblob, rest),
            "sftp" => sftp(rest),
            "webdav" => webdav(false, rest),
            "webdavs" => webdav(true, rest),
            _ => Err(foreign(&scheme, rest)),
        }
    }
}

/// Returns how a place in the form of ssh's other programs, `[user[:password]@]host:path`, is written; `None` for a
/// path. What comes before an `@` may be a secret.
fn of_ssh(text: &str) -> Option<String> {
    if text.starts_with(['/', '.', '~']) {
        return None;
    }
    let (before, after) = text.rsplit_once('@').map_or((None, text), |(before, after)| (Some(before), after));
    let (host, path) = match (after.strip_prefix('[').and_then(|rest| rest.split_once("]:")), after.split_once(':')) {
        (Some((address, path)), _) if address.contains(':') => (format!("[{address}]"), path),
        (_, Some((host, path))) => (host.to_owned(), path),
        // A password, and a host or a bucket.
        (_, None) if before.is_some_and(|before| before.contains(':')) => {
            let (host, path) = after.split_at(after.find('/').unwrap_or(after.len()));
            (host.to_owned(), if path.is_empty() { "/path" } else { path })
        }
        (_, None) => return None,
    };
    let is_host = !host.is_empty() && !host.contains('/');
    if !is_host || (before.is_none() && !path.starts_with('/')) {
        return None;
    }
    let user = before.and_then(|before| before.split(':').next()).filter(|user| !user.is_empty());
    let at = user.map_or(String::new(), |user| format!("{user}@"));
    // Without a slash such a path is below the home.
    let home = if path.starts_with('/') || before.is_none() { "" } else { "./" };
    Some(format!("sftp://{at}{host}/{home}{}", path.trim_start_matches('/')))
}

/// Returns whether something is set behind a `?`, as other programs' URLs do it.
fn has_query(rest: &str) -> bool {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let pairs = rest.split('?').skip(1).flat_map(|query| query.split('&'));
    pairs.filter_map(|pair| pair.split_once('=')).any(|(name, _)| is_name(name))
}

fn file(rest: &str) -> Result<Place> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err(Error::usage("A file URL has three slashes and a full path: file:///srv/backup"));
    }
    Ok(Place::Local(PathBuf::from(path)))
}

/// Returns what follows the last `@`: what may be a secret is before it.
fn without_secret(rest: &str) -> &str {
    rest.rsplit_once('@').map_or(rest, |(_, after)| after)
}

/// Splits off the first segment; the others come without empty ones.
fn split_path(rest: &str) -> (&str, String) {
    let (first, path) = rest.split_once('/').unwrap_or((rest, ""));
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    (first, segments.join("/"))
}

fn check_path(scheme: &str, path: &str) -> Result<()> {
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(Error::usage(format!("The path of a URL {scheme}:// may not have `.` or `..` in it")));
    }
    Ok(())
}

fn bucket(service: Service, rest: &str) -> Result<Place> {
    let scheme = service.scheme();
    let (name, prefix) = split_path(rest);
    if name.contains(['@', ':']) || (service == Service::S3 && is_endpoint(name)) {
        let safe = without_secret(rest);
        let (name, prefix) = split_path(safe);
        // `s3://host:port/bucket/prefix` names a server first.
        let is_server = service == Service::S3 && (name.contains(':') || is_endpoint(name));
        let right = if is_server { prefix } else { join(name, &prefix) };
        let right = if right.is_empty() { "BUCKET/PREFIX".to_owned() } else { right };
        let endpoint = if is_server { "; the server belongs in AWS_ENDPOINT_URL" } else { "" };
        return Err(Error::usage(format!(
            "Write {scheme}://{right}: a URL holds no keys, they belong in {}{endpoint}",
            service.secrets()
        )));
    }
    let allowed = |c: char| match service {
        Service::S3 | Service::Gcs => c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '_'),
        Service::B2 | Service::Azblob => c.is_ascii_alphanumeric() || c == '-',
        Service::Swift => !matches!(c, '?' | '#'),
    };
    if name.is_empty() || !name.chars().all(allowed) {
        return Err(Error::usage(format!(
            "A URL {scheme}:// begins with the name of a bucket: {scheme}://BUCKET/PREFIX"
        )));
    }
    check_path(scheme, &prefix)?;
    Ok(Place::Remote(Remote::Bucket { service, bucket: name.into(), prefix }))
}

/// Tells the name of a server from that of a bucket, which may have dots too.
fn is_endpoint(name: &str) -> bool {
    [".amazonaws.com", ".backblazeb2.com", ".digitaloceanspaces.com", ".wasabisys.com", ".cloudflarestorage.com"]
        .iter()
        .any(|end| name.ends_with(end))
}

fn join(first: &str, path: &str) -> String {
    if path.is_empty() { first.into() } else { format!("{first}/{path}") }
}

fn sftp(rest: &str) -> Result<Place> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let name = user.map_or("", |user| user.split(':').next().unwrap_or(""));
    let right = |path: &str| {
        let at = if name.is_empty() { String::new() } else { format!("{name}@") };
        format!("sftp://{at}{host}/{}", path.trim_matches('/'))
    };
    if user.is_some_and(|user| user.contains(':')) {
        return Err(Error::usage(format!("Write {}: a URL holds no password, ssh takes {SSH_SECRETS}", right(path))));
    }
    if path.contains('@') && host.is_empty() {
        return Err(Error::usage(format!("Write sftp://user@host/path: ssh takes {SSH_SECRETS}")));
    }
    if path.starts_with('/') {
        let right = right(path);
        return Err(Error::usage(format!(
            "Write {right} for the full path, with one slash, or /./ for one below home"
        )));
    }
    let bad_port = || Error::usage("The port of a URL sftp:// is a number: sftp://user@host:22/path");
    let (host, port) = match host.strip_prefix('[').map(|rest| rest.split_once(']')) {
        // An address of IPv6 (RFC 3986, section 3.2.2), with the zone of a link-local one (RFC 4007, section 11).
        Some(Some((address, rest))) if is_ipv6(address) => match (rest, rest.strip_prefix(':')) {
            ("", _) => (address, None),
            (_, Some(port)) => (address, Some(port_of(port).ok_or_else(bad_port)?)),
            _ => return Err(bad_port()),
        },
        Some(_) => return Err(Error::usage("In brackets is an address of IPv6: sftp://user@[fe80::1%eth0]:22/path")),
        None if is_ipv6(host) => {
            return Err(Error::usage(format!("An address of IPv6 is written in brackets: sftp://[{host}]/path")));
        }
        None => match host.rsplit_once(':') {
            Some((host, port)) => (host, Some(port_of(port).ok_or_else(bad_port)?)),
            None => (host, None),
        },
    };
    // A name that begins with a dash would be taken for an option by ssh.
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with('-')
            && !name.contains(|c: char| c.is_whitespace() || "[]:\"'`$\\".contains(c))
    };
    if !(is_name(host) || is_ipv6(host)) || user.is_some_and(|user| !is_name(user)) {
        return Err(Error::usage(
            "A URL sftp:// names a host, or an alias of ~/.ssh/config: sftp://[user@]host[:port]/path",
        ));
    }
    let below_home = path.strip_prefix("./").or_else(|| path.strip_prefix("~/"));
    let (from_home, path) = (below_home.is_some(), below_home.unwrap_or(path));
    let path = split_path(&format!("/{path}")).1;
    if path.is_empty() {
        return Err(Error::usage("A URL sftp:// names a folder: sftp://user@host/srv/backup"));
    }
    check_path("sftp", &path)?;
    Ok(Place::Remote(Remote::Sftp { user: user.map(str::to_owned), host: host.into(), port, path, from_home }))
}

/// Returns whether a host is an address of IPv6, with or without a zone.
pub(super) fn is_ipv6(host: &str) -> bool {
    let (address, zone) = host.split_once('%').map_or((host, None), |(address, zone)| (address, Some(zone)));
    let is_zone = |zone: &str| !zone.is_empty() && zone.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    address.parse::<std::net::Ipv6Addr>().is_ok() && zone.is_none_or(is_zone)
}

fn webdav(tls: bool, rest: &str) -> Result<Place> {
    let scheme = if tls { "webdavs" } else { "webdav" };
    let (host, path) = split_path(rest);
    if host.contains('@') || (rest.contains('@') && host.contains(':') && !has_port(host)) {
        return Err(Error::usage(format!(
            "Write {scheme}://{}: a URL holds no user and password, they belong in {WEBDAV_SECRETS}",
            without_secret(rest)
        )));
    }
    if host.is_empty() || host.contains(char::is_whitespace) || (host.contains(':') && !has_port(host)) {
        return Err(Error::usage(format!("A URL {scheme}:// names a server: {scheme}://host[:port]/path")));
    }
    if path.contains(['?', '#']) {
        return Err(Error::usage(format!("A URL {scheme}:// names a folder: it has no `?` or `#`")));
    }
    let path =
        percent_decode(&path).ok_or_else(|| Error::usage(format!("The path of {scheme}://{host} is not UTF-8")))?;
    check_path(scheme, &path)?;
    Ok(Place::Remote(Remote::WebDav { tls, host: host.into(), path }))
}

fn has_port(host: &str) -> bool {
    let after_address = host.rsplit_once(']').map_or(host, |(_, after)| after);
    after_address.rsplit_once(':').is_none_or(|(_, port)| port_of(port).is_some())
}

/// Reads a port: digits alone, and not 0, at which nothing listens.
fn port_of(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| is_plain && *port > 0)
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high << 4 | low) as u8);
                rest = &after[2..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control))
}

/// Answers a URL of other programs with ours.
fn foreign(scheme: &str, rest: &str) -> Error {
    let safe = without_secret(rest);
    let (first, path) = split_path(safe);
    let advice = match scheme {
        "s3+http" | "boto3+s3" | "boto+s3" | "cf+s3" | "minio" => format!(
            "write s3://{}; keys belong in {}, a server other than Amazon's in AWS_ENDPOINT_URL",
            join(first, &path),
            Service::S3.secrets()
        ),
        "scp" | "ssh" | "rsync" | "pexpect+scp" | "pexpect+sftp" | "paramiko+scp" | "paramiko+sftp" | "fish" => {
            let userinfo = rest.split_once('/').map_or(rest, |(authority, _)| authority).rsplit_once('@');
            let user = userinfo.and_then(|(userinfo, _)| userinfo.split(':').next()).unwrap_or("");
            let at = if user.is_empty() { "" } else { "@" };
            format!("write sftp://{user}{at}{first}/{path}; ssh takes {SSH_SECRETS}")
        }
        "azure" | "az" | "azblobs" => {
            format!("write azblob://{}; keys belong in {}", join(first, &path), Service::Azblob.secrets())
        }
        "gcs" | "gs+http" => format!("write gs://{}; keys belong in {}", join(first, &path), Service::Gcs.secrets()),
        "cf+http" | "pyrax" | "cf+hubic" => {
            format!("write swift://{}; keys belong in {}", join(first, &path), Service::Swift.secrets())
        }
        "http" | "https" | "dav" | "davs" => {
            let scheme = if scheme.ends_with('s') { "webdavs" } else { "webdav" };
            format!("write {scheme}://{} for WebDAV; user and password belong in {WEBDAV_SECRETS}", join(first, &path))
        }
        "multi" => "a repository lies in one place: name it, and copy it to others by their own means".to_owned(),
        _ => {
            "there are file://, s3://, b2://, swift://, sftp://, webdav://, webdavs://, gs:// and azblob://".to_owned()
        }
    };
    Error::usage(format!("A repository cannot be at a URL {scheme}://: {advice}"))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Local(path) => path.display().fmt(f),
            Place::Remote(remote) => remote.fmt(f),
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remote::Bucket { service, bucket, prefix } => write!(f, "{}://{}", service.scheme(), join(bucket, prefix)),
            Remote::Sftp { user, host, port, path, from_home } => {
                write!(f, "sftp://")?;
                if let Some(user) = user {
                    write!(f, "{user}@")?;
                }
                if is_ipv6(host) { write!(f, "[{host}]") } else { write!(f, "{host}") }?;
                if let Some(port) = port {
                    write!(f, ":{port}")?;
                }
                write!(f, "/{}{path}", if *from_home { "./" } else { "" })
            }
            Remote::WebDav { tls, host, path } => {
                write!(f, "{}://{}", if *tls { "webdavs" } else { "webdav" }, join(host, path))
            }
        }
    }
}

#[cfg(test)]
mod tests;
