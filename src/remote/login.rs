//! What is asked to log in to a service: a token of Swift, the id of a bucket at B2.

use super::failure::{Cause, Failure, plain};
use super::http::{Call, Purpose};
use super::logins::{B2, Secret, Swift, SwiftLogin};
use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use serde_json::{Value, json};
use std::sync::Arc;

/// A login at Swift.
pub(super) struct Login {
    pub storage_url: String,
    pub token: Secret,
}

/// Asks for a token of Swift.
pub(super) async fn swift(settings: &Swift, call: &Arc<Call>) -> Result<Login, Failure> {
    match &settings.login {
        SwiftLogin::Token { storage_url, token } => {
            Ok(Login { storage_url: storage_url.clone(), token: token.clone() })
        }
        SwiftLogin::V1 { url, user, key } => {
            let request = Request::get(url).header("x-auth-user", user).header("x-auth-key", key.as_str());
            let answer = ask(call, request, Bytes::new()).await?;
            let storage_url = header(&answer, "x-storage-url")?;
            Ok(Login { storage_url, token: Secret::new(header(&answer, "x-auth-token")?) })
        }
        SwiftLogin::V3 { url, body, storage_url } => {
            let request = Request::post(url).header("content-type", "application/json");
            let answer = ask(call, request, Bytes::copy_from_slice(body.as_bytes())).await?;
            let token = Secret::new(header(&answer, "x-subject-token")?);
            let storage_url = match storage_url {
                Some(url) => url.clone(),
                None => of_catalogue(&json_of(&answer)?, settings)?,
            };
            Ok(Login { storage_url: storage_url.trim_end_matches('/').to_owned(), token })
        }
    }
}

/// Finds the object store among the services a token is for.
fn of_catalogue(answer: &Value, settings: &Swift) -> Result<String, Failure> {
    let list = |value: &Value, name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let services = list(answer.get("token").unwrap_or(&Value::Null), "catalog");
    let stores = services.iter().filter(|service| service.get("type").and_then(Value::as_str) == Some("object-store"));
    let endpoints: Vec<Value> = stores.flat_map(|service| list(service, "endpoints")).collect();
    let text = |endpoint: &Value, name: &str| endpoint.get(name).and_then(Value::as_str).map(str::to_owned);
    let found = endpoints.iter().find(|endpoint| {
        let region = text(endpoint, "region").or_else(|| text(endpoint, "region_id"));
        text(endpoint, "interface").as_deref() == Some(&settings.interface)
            && settings.region.as_ref().is_none_or(|wanted| region.as_ref() == Some(wanted))
    });
    found.and_then(|endpoint| text(endpoint, "url")).ok_or_else(|| {
        let regions: Vec<String> = endpoints.iter().filter_map(|endpoint| text(endpoint, "region")).collect();
        let text = format!("the catalogue has no object store for OS_REGION_NAME: it has {}", regions.join(", "));
        Failure::lasting(Cause::Other, plain(&text))
    })
}

/// Finds the id of a bucket at B2: the one the key is bound to, or by its name.
pub(super) async fn b2_bucket_id(settings: &B2, call: &Arc<Call>) -> Result<String, Failure> {
    use base64::Engine;
    if let Some(id) = &settings.bucket_id {
        return Ok(id.clone());
    }
    let api = settings.api.as_deref().unwrap_or("https://api.backblazeb2.com").trim_end_matches('/');
    let pair = Secret::new(format!("{}:{}", *settings.key_id, *settings.key));
    let basic = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair.as_bytes()));
    let request = Request::get(format!("{api}/b2api/v2/b2_authorize_account")).header("authorization", basic);
    let authorized = json_of(&ask(call, request, Bytes::new()).await?)?;
    let text = |value: &Value, path: &str| value.pointer(path).and_then(Value::as_str).map(str::to_owned);
    if text(&authorized, "/allowed/bucketName").as_ref() == Some(&settings.bucket)
        && let Some(id) = text(&authorized, "/allowed/bucketId")
    {
        return Ok(id);
    }
    let unfit = || Failure::lasting(Cause::Other, "the answer to b2_authorize_account makes no sense");
    let token = text(&authorized, "/authorizationToken").ok_or_else(unfit)?;
    let api = text(&authorized, "/apiUrl").ok_or_else(unfit)?;
    let account = text(&authorized, "/accountId").ok_or_else(unfit)?;
    let body = json!({ "accountId": account, "bucketName": settings.bucket }).to_string();
    let request = Request::post(format!("{api}/b2api/v2/b2_list_buckets")).header("authorization", token);
    let found = json_of(&ask(call, request, body.into()).await?)?;
    text(&found, "/buckets/0/bucketId").ok_or_else(|| {
        Failure::lasting(Cause::NoBucket, "there is no such bucket, or the application key is bound to another")
    })
}

async fn ask(call: &Arc<Call>, request: http::request::Builder, body: Bytes) -> Result<Response<Bytes>, Failure> {
    let unfit = |_| Failure::lasting(Cause::Other, "the address to log in at, or a secret, makes no sense");
    let request = request.body(body).map_err(unfit)?;
    let failed = |failure: Failure| call.failure().unwrap_or(failure);
    let answer = call.client.fetch(call, Purpose::Login, request).await.map_err(failed)?;
    let (parts, mut body) = answer.into_parts();
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece.map_err(failed)?);
        if bytes.len() as u64 > call.max_body_bytes {
            return Err(Failure::lasting(Cause::Other, "the answer to the login is too long"));
        }
    }
    match parts.status.as_u16() {
        200..=299 => Ok(Response::from_parts(parts, bytes.into())),
        _ => Err(failed(Failure::passing(Cause::Lost, "the login was not answered"))),
    }
}

fn header(answer: &Response<Bytes>, name: &str) -> Result<String, Failure> {
    let value = answer.headers().get(name).and_then(|value| value.to_str().ok());
    value.map(str::to_owned).ok_or_else(|| {
        Failure::lasting(Cause::Other, format!("the answer to the login has no {name}: is the URL to log in at right?"))
    })
}

fn json_of(answer: &Response<Bytes>) -> Result<Value, Failure> {
    serde_json::from_slice(answer.body())
        .map_err(|_| Failure::lasting(Cause::Other, "the answer to the login is not JSON: is the URL right?"))
}
