//! The settings of each service, from the usual places of each.

use super::environment::{Environment, Sources};
use super::logins::{Azblob, B2, Gcs, S3, Secret, Sftp, Swift, SwiftLogin, WebDav, is_machine_of};
use super::{aws, openstack};
use crate::error::{Error, Result};
use crate::place::{Remote, Service};
use crate::text;
use std::path::PathBuf;
use std::sync::Once;

/// What it takes to log in at a place.
pub(super) enum Settings {
    S3(S3),
    B2(B2),
    Swift(Swift),
    Sftp(Sftp),
    WebDav(WebDav),
    Gcs(Gcs),
    Azblob(Azblob),
}

impl Settings {
    /// Returns whether the keys are lent to the machine or to a profile for a time.
    pub fn has_lent_keys(&self) -> bool {
        matches!(self, Settings::S3(settings) if settings.keys.is_none())
    }

    /// Returns whether the secrets are the same. What is given for good, as the place itself, is not compared.
    pub fn has_same_keys(&self, other: &Settings) -> bool {
        match (self, other) {
            (Settings::S3(a), Settings::S3(b)) => a.keys == b.keys,
            (Settings::B2(a), Settings::B2(b)) => (&a.key_id, &a.key) == (&b.key_id, &b.key),
            (Settings::Swift(a), Settings::Swift(b)) => a.login == b.login,
            (Settings::WebDav(a), Settings::WebDav(b)) => a.login == b.login,
            (Settings::Azblob(a), Settings::Azblob(b)) => (&a.key, &a.sas_token) == (&b.key, &b.sas_token),
            // ssh and Google's library read their own files.
            _ => true,
        }
    }

    /// Returns whether a listing may not show yet what was stored.
    pub fn listings_lag(&self) -> bool {
        match self {
            Settings::Swift(_) => true,
            Settings::S3(settings) => !S3::is_amazon(settings.endpoint.as_deref()),
            _ => false,
        }
    }

    /// Returns the server a place is at, where its URL does not tell and the service has many.
    pub fn server(&self) -> Option<String> {
        match self {
            Settings::S3(settings) => settings.endpoint.clone(),
            Settings::B2(settings) => settings.api.clone(),
            Settings::Gcs(settings) => settings.endpoint.clone(),
            Settings::Azblob(settings) => Some(settings.endpoint.clone()),
            Settings::Swift(settings) => Some(match &settings.login {
                SwiftLogin::Token { storage_url: url, .. }
                | SwiftLogin::V1 { url, .. }
                | SwiftLogin::V3 { url, .. } => url.clone(),
            }),
            Settings::Sftp(_) | Settings::WebDav(_) => None,
        }
    }

    /// Collects the settings of a place.
    pub fn collect(place: &Remote, environment: Environment) -> Result<Settings> {
        let url = place.to_string();
        let login = match place {
            Remote::Bucket { service: Service::S3, .. } => &aws::LOGIN[..],
            Remote::Bucket { service: Service::Swift, .. } => &openstack::LOGIN,
            // The others ask for all names of a login at once.
            _ => &[],
        };
        let asked: &[&str] = match place {
            Remote::Sftp { .. } => &["BAKFS_"],
            Remote::WebDav { .. } => &["BAKFS_", "HOME", "XDG_CONFIG_HOME", "WEBDAV_", "NETRC"],
            Remote::Bucket { service, .. } => match service {
                Service::S3 => &["BAKFS_", "HOME", "XDG_CONFIG_HOME", "AWS_", "S3_"],
                Service::B2 => &["BAKFS_", "HOME", "XDG_CONFIG_HOME", "B2_"],
                Service::Swift => &["BAKFS_", "HOME", "XDG_CONFIG_HOME", "OS_", "ST_"],
                Service::Gcs => &["BAKFS_", "HOME", "XDG_CONFIG_HOME", "GOOGLE_", "CLOUDSDK_", "STORAGE_"],
                Service::Azblob => &["BAKFS_", "HOME", "XDG_CONFIG_HOME", "AZURE_"],
            },
        };
        environment.refuse_unusable(asked)?;
        let sources = Sources::read(environment, &url)?.with_login(login);
        let settings = Settings::of(place, &url, &sources)?;
        settings.check_server()?;
        Ok(settings)
    }

    fn of(place: &Remote, url: &str, sources: &Sources) -> Result<Settings> {
        match place {
            Remote::Sftp { user, host, port, path, from_home } => {
                let at = user.as_ref().map_or(String::new(), |user| format!("{user}@"));
                // Of an address of IPv6 without a port the form of a URL would have the last part taken for one.
                let endpoint = match port {
                    Some(port) => format!("ssh://{at}{host}:{port}"),
                    None if host.contains(':') => format!("{at}{host}"),
                    None => format!("ssh://{at}{host}"),
                };
                Ok(Settings::Sftp(Sftp { endpoint, path: path.clone(), from_home: *from_home }))
            }
            Remote::WebDav { tls, host, path } => webdav(*tls, host, path, sources),
            Remote::Bucket { service, bucket, prefix } => match service {
                Service::S3 => aws::settings(bucket, prefix, url, sources).map(Settings::S3),
                Service::B2 => b2(bucket, prefix, url, sources),
                Service::Swift => openstack::settings(bucket, prefix, url, sources).map(Settings::Swift),
                Service::Gcs => gcs(bucket, prefix, url, sources),
                Service::Azblob => azblob(bucket, prefix, url, sources),
            },
        }
    }

    /// Refuses an address that is none of a server. What may be a secret in it is not repeated.
    fn check_server(&self) -> Result<()> {
        let (variable, example) = match self {
            Settings::S3(_) => ("AWS_ENDPOINT_URL (or `endpoint_url` of ~/.aws/config)", "https://s3.example.com"),
            Settings::B2(_) => ("B2_ENVIRONMENT", "https://api.backblazeb2.com"),
            Settings::Swift(_) => {
                ("OS_AUTH_URL (or OS_STORAGE_URL, or ST_AUTH)", "https://keystone.example.com:5000/v3")
            }
            Settings::Gcs(_) => ("STORAGE_EMULATOR_HOST", "http://127.0.0.1:4443"),
            Settings::Azblob(_) => {
                ("AZURE_STORAGE_BLOB_ENDPOINT (or BlobEndpoint)", "https://me.blob.core.windows.net")
            }
            Settings::Sftp(_) | Settings::WebDav(_) => return Ok(()),
        };
        let Some(server) = self.server() else { return Ok(()) };
        if let Some(why) = text::refused_address(&server) {
            return Err(Error::usage(format!("{variable} {why}, as in {example}")));
        }
        let parsed = reqwest::Url::parse(&server).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let what = match &parsed {
            Some(url) if !url.username().is_empty() || url.password().is_some() || url.query().is_some() => {
                "holds more than an address: keys belong in variables of their own"
            }
            Some(_) => return Ok(()),
            None => "is no address of a server: it begins with http:// or https://",
        };
        let shown = match server.contains(['@', '?', '=']) {
            true => String::new(),
            false => format!(" `{}`", super::failure::plain(&server)),
        };
        Err(Error::usage(format!("{variable}{shown} {what}, as in {example}")))
    }

    /// Returns a file of certificates to trust besides the system's.
    pub fn ca_file(place: &Remote, environment: &Environment) -> Option<PathBuf> {
        let name = match place {
            Remote::Bucket { service: Service::S3, .. } => "AWS_CA_BUNDLE",
            Remote::Bucket { service: Service::Swift, .. } => "OS_CACERT",
            _ => return None,
        };
        environment.get(name).map(PathBuf::from)
    }
}

fn b2(bucket: &str, prefix: &str, url: &str, sources: &Sources) -> Result<Settings> {
    let [Some(key_id), Some(key)] = sources.secrets(["B2_APPLICATION_KEY_ID", "B2_APPLICATION_KEY"]) else {
        let set = "both, to an application key that may list, read, write and delete files";
        return Err(sources.missing(url, "B2_APPLICATION_KEY_ID and B2_APPLICATION_KEY", set));
    };
    Ok(Settings::B2(B2 {
        bucket: bucket.into(),
        bucket_id: sources.setting("B2_BUCKET_ID").map(str::to_owned),
        root: prefix.into(),
        key_id,
        key,
        // The variable of Backblaze's own command, which may name a realm instead.
        api: sources.setting("B2_ENVIRONMENT").filter(|api| api.starts_with("http")).map(str::to_owned),
    }))
}

fn webdav(tls: bool, host: &str, path: &str, sources: &Sources) -> Result<Settings> {
    let login = match sources.secrets(["WEBDAV_USER", "WEBDAV_PASSWORD"]) {
        [Some(user), Some(password)] => Some((user, password)),
        [Some(_), None] => return Err(Error::usage("WEBDAV_USER is set and WEBDAV_PASSWORD is not")),
        [None, Some(_)] => return Err(Error::usage("WEBDAV_PASSWORD is set and WEBDAV_USER is not")),
        _ => super::netrc::login(&sources.environment, host)?,
    };
    let is_loopback = ["localhost", "127.", "[::1]"].iter().any(|name| host.starts_with(name));
    if !tls && login.is_some() && !is_loopback {
        static TOLD: Once = Once::new();
        TOLD.call_once(|| tracing::warn!("webdav://{host} sends the password unencrypted: webdavs:// does not"));
    }
    let scheme = if tls { "https" } else { "http" };
    Ok(Settings::WebDav(WebDav { endpoint: format!("{scheme}://{host}"), root: format!("/{path}"), login }))
}

fn gcs(bucket: &str, prefix: &str, url: &str, sources: &Sources) -> Result<Settings> {
    let environment = &sources.environment;
    let emulator = environment.get("STORAGE_EMULATOR_HOST").map(|host| {
        let host = host.trim_end_matches('/');
        if host.contains("://") { host.to_owned() } else { format!("http://{host}") }
    });
    let named = sources.setting("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from);
    let config =
        environment.get("CLOUDSDK_CONFIG").map(PathBuf::from).or_else(|| environment.at_home(".config/gcloud"));
    let default = config.map(|folder| folder.join("application_default_credentials.json"));
    let asks_machine = is_machine_of("Google");
    if let Some(path) = named.as_deref().filter(|path| !path.exists()) {
        let message = format!("GOOGLE_APPLICATION_CREDENTIALS names {}, which does not exist", path.display());
        return Err(Error::usage(message));
    }
    let path = named.or_else(|| default.clone().filter(|path| path.exists()));
    if path.is_none() && emulator.is_none() && !asks_machine {
        let default = default.map_or(String::new(), |path| format!(", {}", path.display()));
        let looked_at = format!("GOOGLE_APPLICATION_CREDENTIALS{default}");
        let set = "it to the path of a service account's key file, or run `gcloud auth application-default login`";
        return Err(sources.missing(url, &looked_at, set));
    }
    Ok(Settings::Gcs(Gcs {
        bucket: bucket.into(),
        root: prefix.into(),
        is_open: emulator.is_some() && path.is_none(),
        endpoint: emulator,
        credential_path: path.map(|path| path.to_string_lossy().into_owned()),
        asks_machine,
    }))
}

fn azblob(container: &str, prefix: &str, url: &str, sources: &Sources) -> Result<Settings> {
    let [connection, account, key, sas_token] = sources.secrets([
        "AZURE_STORAGE_CONNECTION_STRING",
        "AZURE_STORAGE_ACCOUNT",
        "AZURE_STORAGE_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
    ]);
    let part = |name: &str| -> Option<Secret> {
        let mut parts = connection.as_ref()?.split(';').filter_map(|part| part.split_once('='));
        parts.find(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| Secret::new(value.into()))
    };
    let account = account.or_else(|| part("AccountName"));
    let key = key.or_else(|| part("AccountKey"));
    let sas_token = sas_token.or_else(|| part("SharedAccessSignature"));
    let (Some(account), true) = (account, key.is_some() || sas_token.is_some()) else {
        let looked_at = "AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, \
                         AZURE_STORAGE_CONNECTION_STRING";
        return Err(sources.missing(url, looked_at, "the account and one of its keys"));
    };
    let endpoint = ["AZURE_STORAGE_BLOB_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "AZURE_STORAGE_SERVICE_ENDPOINT"]
        .iter()
        .find_map(|name| sources.setting(name).map(str::to_owned))
        .or_else(|| part("BlobEndpoint").map(|endpoint| endpoint.to_string()))
        .unwrap_or_else(|| {
            let suffix = part("EndpointSuffix").map_or("core.windows.net".into(), |suffix| suffix.to_string());
            format!("https://{}.blob.{suffix}", *account)
        });
    Ok(Settings::Azblob(Azblob {
        container: container.into(),
        root: prefix.into(),
        endpoint: endpoint.trim_end_matches('/').into(),
        account: account.to_string(),
        key,
        sas_token: sas_token.map(|token| Secret::new(token.trim_start_matches('?').into())),
    }))
}

#[cfg(test)]
mod tests;
