//! OpenStack's environment variables, as a provider's RC file sets them, and those of Swift's own logins.

use super::environment::Sources;
use super::logins::{Secret, Swift, SwiftLogin};
use crate::error::Result;
use serde_json::{Value, json};

/// Variables of all ways to log in.
pub(super) const LOGIN: [&str; 20] = [
    "ST_AUTH",
    "ST_USER",
    "ST_KEY",
    "OS_STORAGE_URL",
    "OS_AUTH_TOKEN",
    "OS_AUTH_URL",
    "OS_USER_DOMAIN_ID",
    "OS_USER_DOMAIN_NAME",
    "OS_USER_ID",
    "OS_USERNAME",
    "OS_PASSWORD",
    "OS_APPLICATION_CREDENTIAL_ID",
    "OS_APPLICATION_CREDENTIAL_NAME",
    "OS_APPLICATION_CREDENTIAL_SECRET",
    "OS_PROJECT_ID",
    "OS_PROJECT_NAME",
    "OS_TENANT_ID",
    "OS_TENANT_NAME",
    "OS_PROJECT_DOMAIN_ID",
    "OS_PROJECT_DOMAIN_NAME",
];

/// Collects the settings of a container.
pub(super) fn settings(container: &str, prefix: &str, url: &str, sources: &Sources) -> Result<Swift> {
    let setting = |name: &str| sources.setting(name).map(str::to_owned);
    let [auth, user, key] = sources.secrets(["ST_AUTH", "ST_USER", "ST_KEY"]);
    let [storage_url, token] = sources.secrets(["OS_STORAGE_URL", "OS_AUTH_TOKEN"]);
    let login = if let Some((auth, body)) = setting("OS_AUTH_URL").zip(request_for_token(sources)) {
        let base = auth.trim_end_matches('/').trim_end_matches("/v2.0").trim_end_matches("/v3");
        let url = format!("{base}/v3/auth/tokens");
        SwiftLogin::V3 { url, body: Secret::new(body.to_string()), storage_url: setting("OS_STORAGE_URL") }
    } else if let (Some(auth), Some(user), Some(key)) = (auth, user, key) {
        SwiftLogin::V1 { url: auth.to_string(), user: user.to_string(), key }
    } else if let (Some(storage_url), Some(token)) = (storage_url, token) {
        SwiftLogin::Token { storage_url: storage_url.to_string(), token }
    } else {
        let of_duplicity = match sources.environment.get("SWIFT_AUTHURL") {
            Some(_) => "; SWIFT_AUTHURL, SWIFT_USERNAME and SWIFT_PASSWORD are called ST_AUTH, ST_USER and ST_KEY here",
            None => "",
        };
        return Err(sources.missing(
            url,
            "OS_AUTH_URL with OS_USERNAME, OS_PASSWORD and OS_PROJECT_NAME or with OS_APPLICATION_CREDENTIAL_ID and \
             OS_APPLICATION_CREDENTIAL_SECRET, ST_AUTH with ST_USER and ST_KEY, OS_STORAGE_URL with OS_AUTH_TOKEN",
            &format!("those your provider's RC file sets{of_duplicity}"),
        ));
    };
    let interface = setting("OS_INTERFACE").or_else(|| setting("OS_ENDPOINT_TYPE"));
    Ok(Swift {
        container: container.into(),
        root: prefix.into(),
        login,
        region: setting("OS_REGION_NAME"),
        interface: interface.map_or("public".into(), |name| name.trim_end_matches("URL").to_owned()),
    })
}

/// Makes the body of a request for a token (OpenStack Identity API v3, "Authentication and token management").
fn request_for_token(sources: &Sources) -> Option<Value> {
    let id_or_name = |id: &str, name: &str| match (sources.setting(id), sources.setting(name)) {
        (Some(id), _) => Some(json!({ "id": id })),
        (None, Some(name)) => Some(json!({ "name": name })),
        (None, None) => None,
    };
    let default = || json!({ "id": "default" });
    let user_domain = id_or_name("OS_USER_DOMAIN_ID", "OS_USER_DOMAIN_NAME").unwrap_or_else(default);
    let mut user = id_or_name("OS_USER_ID", "OS_USERNAME");
    if let Some(user) = user.as_mut().filter(|user| user.get("id").is_none()) {
        user["domain"] = user_domain;
    }
    let [id, name, secret, password] = sources.secrets([
        "OS_APPLICATION_CREDENTIAL_ID",
        "OS_APPLICATION_CREDENTIAL_NAME",
        "OS_APPLICATION_CREDENTIAL_SECRET",
        "OS_PASSWORD",
    ]);
    if let Some(secret) = secret {
        let credential = match id {
            Some(id) => json!({ "id": *id, "secret": *secret }),
            None => json!({ "name": *name?, "user": user?, "secret": *secret }),
        };
        let identity = json!({ "methods": ["application_credential"], "application_credential": credential });
        return Some(json!({ "auth": { "identity": identity } }));
    }
    let mut user = user?;
    user["password"] = json!(*password?);
    let mut project =
        id_or_name("OS_PROJECT_ID", "OS_PROJECT_NAME").or_else(|| id_or_name("OS_TENANT_ID", "OS_TENANT_NAME"))?;
    if project.get("id").is_none() {
        project["domain"] = id_or_name("OS_PROJECT_DOMAIN_ID", "OS_PROJECT_DOMAIN_NAME").unwrap_or_else(default);
    }
    let identity = json!({ "methods": ["password"], "password": { "user": user } });
    Some(json!({ "auth": { "identity": identity, "scope": { "project": project } } }))
}
