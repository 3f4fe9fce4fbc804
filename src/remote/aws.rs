//! Amazon's environment variables and the files `~/.aws/config` and `~/.aws/credentials`.

use super::environment::{Sources, read_optional};
use super::logins::{S3, Secret, is_machine_of};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The sections of an INI file, with the lines of each.
type Sections = BTreeMap<String, BTreeMap<String, Secret>>;

/// Variables by which a machine or container is lent credentials; the signing library asks for them.
const LENT: [&str; 3] =
    ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];

/// Variables of all ways to log in.
pub(super) const LOGIN: [&str; 4] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"];

/// Collects the settings of a bucket.
pub(super) fn settings(bucket: &str, prefix: &str, url: &str, sources: &Sources) -> Result<S3> {
    let environment = &sources.environment;
    let profile = sources.setting("AWS_PROFILE").unwrap_or("default");
    let file = |variable: &str, usual: &str| match environment.get(variable) {
        Some(path) => Some((PathBuf::from(path), true)),
        None => environment.at_home(usual).map(|path| (path, false)),
    };
    let paths = [file("AWS_CONFIG_FILE", ".aws/config"), file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")];
    let read = |at: &Option<(PathBuf, bool)>| -> Result<Sections> {
        let text = at.as_ref().map(|(path, is_named)| read_optional(path, *is_named)).transpose()?.flatten();
        Ok(text.map(|text| sections(&text)).unwrap_or_default())
    };
    let (config, credentials) = (read(&paths[0])?, read(&paths[1])?);
    let of_config = config.get(&format!("profile {profile}")).or_else(|| config.get(profile));
    let of_credentials = credentials.get(profile);
    let line = |name: &str| {
        let found = [of_config, of_credentials].into_iter().flatten().find_map(|lines| lines.get(name));
        found.map(|value| value.to_string())
    };
    let services = line("services").and_then(|name| config.get(&format!("services {name}")));
    let setting = |name: &str| sources.setting(name).map(str::to_owned);
    let endpoint = setting("AWS_ENDPOINT_URL_S3")
        .or_else(|| setting("AWS_ENDPOINT_URL"))
        .or_else(|| services?.get("s3.endpoint_url").map(|value| value.to_string()))
        .or_else(|| line("endpoint_url"))
        .map(|endpoint| endpoint.trim_end_matches('/').to_owned());
    let region = setting("AWS_REGION").or_else(|| setting("AWS_DEFAULT_REGION")).or_else(|| line("region"));
    let style = setting("S3_ADDRESSING_STYLE").or_else(|| line("s3.addressing_style"));
    let is_amazon = S3::is_amazon(endpoint.as_deref());
    let is_virtual_host_style = match style.as_deref() {
        Some("virtual") => true,
        Some("path") => false,
        Some(other) if other != "auto" => {
            let message = format!("S3_ADDRESSING_STYLE or addressing_style is `{other}`: write path, virtual or auto");
            return Err(Error::usage(message));
        }
        // A certificate for *.s3.amazonaws.com fits no name with a dot.
        _ => is_amazon && !bucket.contains('.'),
    };
    let keys = match sources.secrets(["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]) {
        [Some(id), Some(secret), token] => Some((id, secret, token)),
        [Some(_), None, _] => return Err(Error::usage("AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not")),
        [None, Some(_), _] => return Err(Error::usage("AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not")),
        _ => [of_credentials, of_config].into_iter().flatten().find_map(|lines| {
            let secret = |name: &str| lines.get(name).cloned();
            Some((secret("aws_access_key_id")?, secret("aws_secret_access_key")?, secret("aws_session_token")))
        }),
    };
    let asks_machine = is_machine_of("Amazon");
    let has_profile = of_config.is_some() || of_credentials.is_some();
    let is_lent = LENT.iter().any(|name| environment.get(name).is_some());
    if keys.is_none() && !has_profile && !is_lent && !asks_machine {
        let shown: Vec<String> = paths.iter().flatten().map(|(path, _)| path.display().to_string()).collect();
        let files = match shown.is_empty() {
            true => "no file, for HOME is not set".into(),
            false => shown.join(" and of "),
        };
        let looked_at =
            format!("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the profile `{profile}` (AWS_PROFILE) of {files}");
        return Err(sources.missing(url, &looked_at, "both variables, or name a profile"));
    }
    Ok(S3 {
        bucket: bucket.into(),
        root: prefix.into(),
        // Servers other than Amazon's mostly take any.
        region: region.unwrap_or_else(|| "us-east-1".into()),
        endpoint,
        profile: sources.setting("AWS_PROFILE").map(str::to_owned),
        keys,
        is_virtual_host_style,
        asks_machine,
    })
}

/// Parses an INI file; an indented line `b = c` below `a =` is named `a.b`.
fn sections(text: &str) -> Sections {
    let mut sections = Sections::new();
    let (mut section, mut outer) = (String::new(), String::new());
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            section = name.split_whitespace().collect::<Vec<_>>().join(" ");
            sections.entry(section.clone()).or_default();
            outer.clear();
            continue;
        }
        let Some((name, value)) = trimmed.split_once('=') else { continue };
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        let name = if line.starts_with([' ', '\t']) && !outer.is_empty() {
            format!("{outer}.{name}")
        } else {
            outer = if value.is_empty() { name.clone() } else { String::new() };
            name
        };
        sections.entry(section.clone()).or_default().insert(name, Secret::new(value.to_owned()));
    }
    sections
}
