//! An imitation of Backblaze B2's native API, from its public documentation ("B2 Native API"): what backup programs
//! call. Objects have versions, and one that is hidden stays stored; checksums and tokens are checked.

pub mod http;

use super::{BUCKET, PASSWORD, Place, USER};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use http::{Answer, HttpServer, Request, decode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Returns a place in the bucket.
pub fn place(port: u16) -> Place {
    Place::new(
        format!("b2://{BUCKET}/some/repo"),
        [
            ("B2_APPLICATION_KEY_ID", USER),
            ("B2_APPLICATION_KEY", PASSWORD),
            ("B2_ENVIRONMENT", &*format!("http://127.0.0.1:{port}")),
        ],
    )
}

/// The server; what it stores is kept in memory while it is stopped.
pub struct Imitation {
    port: u16,
    account: Arc<Account>,
    server: Option<HttpServer>,
}

impl Imitation {
    /// Starts it at a port of 127.0.0.1.
    pub fn start(port: u16) -> Imitation {
        let mut imitation = Imitation { port, account: Arc::default(), server: None };
        imitation.resume();
        imitation
    }

    /// Ends it and its connections.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Starts it again with what it had stored; tokens are no longer valid.
    pub fn resume(&mut self) {
        let account = self.account.clone();
        account.state.lock().tokens.clear();
        self.server = Some(HttpServer::start(self.port, move |request| account.answer(&request)));
    }
}

#[derive(Default)]
struct Account {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tokens: BTreeSet<String>,
    buckets: BTreeMap<String, Bucket>,
    last_id: u64,
}

/// The versions of each name, the newest last.
type Bucket = BTreeMap<String, Vec<Version>>;

struct Version {
    id: String,
    /// None where it hides those before it.
    bytes: Option<Arc<Vec<u8>>>,
    sha1_hex: String,
}

impl State {
    fn next_id(&mut self) -> String {
        self.last_id += 1;
        format!("4_z{:020}", self.last_id)
    }
}

type Answered = Result<Answer, Answer>;

fn answer(value: Value) -> Answered {
    Ok(Answer {
        status: 200,
        headers: vec![("Content-Type", "application/json".into())],
        body: value.to_string().into(),
    })
}

fn error(status: u16, code: &str, message: &str) -> Answer {
    let body = json!({ "status": status, "code": code, "message": message }).to_string();
    Answer { status, headers: vec![("Content-Type", "application/json".into())], body: body.into() }
}

fn sha1_hex(bytes: &[u8]) -> String {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn header<'a>(request: &'a Request, name: &str) -> &'a str {
    request.headers.get(name).map_or("", String::as_str)
}

impl Account {
    fn answer(&self, request: &Request) -> Answer {
        self.try_answer(request).unwrap_or_else(|error| error)
    }

    fn try_answer(&self, request: &Request) -> Answered {
        if let Some(rest) = request.path.strip_prefix("/file/") {
            self.check_token(request)?;
            return self.download(request, rest);
        }
        let verb = request.path.rsplit('/').find(|part| part.starts_with("b2_")).unwrap_or_default();
        if verb == "b2_authorize_account" {
            return self.authorize(request);
        }
        self.check_token(request)?;
        if verb == "b2_upload_file" {
            return self.upload(request);
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        let given = |name: &str| {
            let in_body = body.get(name).and_then(|value| match value {
                Value::String(text) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                _ => None,
            });
            in_body.or_else(|| request.query.get(name).cloned()).filter(|text| !text.is_empty())
        };
        if verb == "b2_download_file_by_id" {
            return self.download_by_id(request, &given("fileId").unwrap_or_default());
        }
        let mut state = self.state.lock();
        if verb == "b2_create_bucket" {
            let name = given("bucketName").unwrap_or_default();
            state.buckets.entry(name.clone()).or_default();
            return answer(described(&name));
        }
        if verb == "b2_list_buckets" {
            let wanted = given("bucketName");
            let names = state.buckets.keys().filter(|name| wanted.as_ref().is_none_or(|wanted| wanted == *name));
            return answer(json!({ "buckets": names.map(|name| described(name)).collect::<Vec<_>>() }));
        }
        let name = given("fileName").unwrap_or_default();
        if verb == "b2_delete_file_version" {
            let id = given("fileId").unwrap_or_default();
            for bucket in state.buckets.values_mut() {
                let Some(versions) = bucket.get_mut(&name) else { continue };
                let count = versions.len();
                versions.retain(|version| version.id != id);
                if versions.len() < count {
                    return answer(json!({ "fileId": id, "fileName": name }));
                }
            }
            return Err(error(400, "file_not_present", "File not present"));
        }
        let bucket_id = given("bucketId").unwrap_or_default();
        let bucket_name = bucket_id.strip_prefix("id-").unwrap_or_default().to_owned();
        if !state.buckets.contains_key(&bucket_name) {
            return Err(error(400, "bad_bucket_id", "Bucket id does not exist"));
        }
        match verb {
            "b2_get_upload_url" => {
                let token = state.next_id();
                state.tokens.insert(token.clone());
                let url = format!("http://{}/b2api/v2/b2_upload_file/{bucket_name}/{token}", header(request, "host"));
                answer(json!({ "bucketId": bucket_id, "uploadUrl": url, "authorizationToken": token }))
            }
            "b2_hide_file" => {
                let id = state.next_id();
                let versions = state.buckets.get_mut(&bucket_name).and_then(|bucket| bucket.get_mut(&name));
                match versions.as_ref().and_then(|versions| versions.last()) {
                    None => Err(error(400, "no_such_file", "File does not exist")),
                    Some(last) if last.bytes.is_none() => Err(error(400, "already_hidden", "File is already hidden")),
                    Some(_) => {
                        let hidden = Version { id: id.clone(), bytes: None, sha1_hex: String::new() };
                        versions.expect("there is a last one").push(hidden);
                        answer(json!({ "action": "hide", "fileId": id, "fileName": name, "size": 0 }))
                    }
                }
            }
            "b2_list_file_names" | "b2_list_file_versions" => {
                let page = Page {
                    prefix: given("prefix").unwrap_or_default(),
                    delimiter: given("delimiter"),
                    start: given("startFileName").unwrap_or_default(),
                    max_count: given("maxFileCount").and_then(|text| text.parse().ok()).unwrap_or(100).min(10_000),
                    has_versions: verb == "b2_list_file_versions",
                };
                answer(page.of(&state.buckets[&bucket_name]))
            }
            _ => Err(error(400, "bad_request", &format!("unknown API {verb}"))),
        }
    }

    fn check_token(&self, request: &Request) -> Result<(), Answer> {
        if self.state.lock().tokens.contains(header(request, "authorization")) {
            return Ok(());
        }
        Err(error(401, "bad_auth_token", "Invalid authorization token"))
    }

    fn authorize(&self, request: &Request) -> Answered {
        use base64::Engine;
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
        if header(request, "authorization") != format!("Basic {pair}") {
            return Err(error(401, "unauthorized", "Application key is not valid"));
        }
        let mut state = self.state.lock();
        let token = state.next_id();
        state.tokens.insert(token.clone());
        let url = format!("http://{}", header(request, "host"));
        let capabilities = ["listBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles", "writeBuckets"];
        let storage = json!({
            "apiUrl": url, "downloadUrl": url, "s3ApiUrl": url, "capabilities": capabilities,
            "recommendedPartSize": 100_000_000, "absoluteMinimumPartSize": 5_000_000,
            "allowed": { "capabilities": capabilities, "bucketId": null, "bucketName": null, "namePrefix": null },
        });
        let mut whole = json!({
            "accountId": "account", "authorizationToken": token,
            // Where versions 3 and 4 of the API have them.
            "apiInfo": { "storageApi": storage },
        });
        for (name, value) in storage.as_object().expect("it is one") {
            whole[name] = value.clone();
        }
        answer(whole)
    }

    fn upload(&self, request: &Request) -> Answered {
        let bucket = request.path.split('/').nth(4).unwrap_or_default();
        let name = decode(header(request, "x-bz-file-name"));
        let told = header(request, "x-bz-content-sha1");
        let actual = sha1_hex(&request.body);
        if told != "do_not_verify" && told != actual {
            return Err(error(400, "bad_request", "Sha1 did not match data received"));
        }
        let len_bytes = request.body.len();
        let version = Version {
            id: self.state.lock().next_id(),
            bytes: Some(Arc::new(request.body.clone())),
            // What was not told is not promised.
            sha1_hex: if told == actual { actual } else { format!("unverified:{actual}") },
        };
        let described = described_version(&name, &version);
        let mut state = self.state.lock();
        let Some(bucket) = state.buckets.get_mut(bucket) else {
            return Err(error(400, "bad_bucket_id", "Bucket does not exist"));
        };
        assert_eq!(described["contentLength"], len_bytes);
        bucket.entry(name).or_default().push(version);
        answer(described)
    }

    fn download(&self, request: &Request, rest: &str) -> Answered {
        let state = self.state.lock();
        let version =
            rest.split_once('/').and_then(|(bucket, name)| Some((name, state.buckets.get(bucket)?.get(name)?)));
        let (name, versions) = version.ok_or_else(missing)?;
        content(request, name, versions.last().ok_or_else(missing)?)
    }

    fn download_by_id(&self, request: &Request, id: &str) -> Answered {
        let state = self.state.lock();
        let all = state.buckets.values().flatten();
        let mut named = all.flat_map(|(name, versions)| versions.iter().map(move |version| (name, version)));
        let (name, version) = named.find(|(_, version)| version.id == id).ok_or_else(missing)?;
        content(request, name, version)
    }
}

fn missing() -> Answer {
    error(404, "not_found", "File with such name does not exist")
}

/// Answers with a version's bytes, or a range of them.
fn content(request: &Request, name: &str, version: &Version) -> Answered {
    let bytes = version.bytes.as_ref().ok_or_else(missing)?;
    let mut headers = vec![
        ("Content-Type", "application/octet-stream".into()),
        ("Accept-Ranges", "bytes".into()),
        ("X-Bz-File-Id", version.id.clone()),
        ("X-Bz-File-Name", name.to_owned()),
        ("X-Bz-Content-Sha1", version.sha1_hex.clone()),
        ("X-Bz-Upload-Timestamp", "1700000000000".into()),
    ];
    let Some(range) = header(request, "range").strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Ok(Answer { status: 200, headers, body: bytes.to_vec() });
    };
    let start: usize = range.0.parse().map_err(|_| error(400, "bad_request", "Bad range"))?;
    let end = range.1.parse::<usize>().map_or(bytes.len(), |last| last + 1).min(bytes.len());
    if start >= end {
        return Err(error(416, "range_not_satisfiable", "The Range header in the request is outside the size"));
    }
    headers.push(("Content-Range", format!("bytes {start}-{}/{}", end - 1, bytes.len())));
    Ok(Answer { status: 206, headers, body: bytes[start..end].to_vec() })
}

fn described(name: &str) -> Value {
    json!({ "accountId": "account", "bucketId": format!("id-{name}"), "bucketName": name, "bucketType": "allPrivate",
            "bucketInfo": {}, "corsRules": [], "lifecycleRules": [], "revision": 1 })
}

fn described_version(name: &str, version: &Version) -> Value {
    let action = if version.bytes.is_some() { "upload" } else { "hide" };
    json!({ "accountId": "account", "action": action, "fileId": version.id, "fileName": name,
            "contentLength": version.bytes.as_ref().map_or(0, |bytes| bytes.len()), "contentMd5": null,
            "contentSha1": version.sha1_hex, "contentType": "application/octet-stream", "fileInfo": {},
            "size": version.bytes.as_ref().map_or(0, |bytes| bytes.len()), "uploadTimestamp": 1_700_000_000_000u64 })
}

/// What a listing asks for.
struct Page {
    prefix: String,
    delimiter: Option<String>,
    start: String,
    max_count: usize,
    has_versions: bool,
}

impl Page {
    fn of(&self, bucket: &Bucket) -> Value {
        let mut files: Vec<Value> = Vec::new();
        let mut last_folder = String::new();
        for (name, versions) in bucket.range(self.start.clone()..) {
            let Some(rest) = name.strip_prefix(&self.prefix) else { continue };
            let is_shown = versions.last().is_some_and(|version| self.has_versions || version.bytes.is_some());
            if !is_shown || (!last_folder.is_empty() && name.starts_with(&last_folder)) {
                continue;
            }
            if files.len() >= self.max_count {
                return json!({ "files": files, "nextFileName": name, "nextFileId": versions.last().map(|last| &last.id) });
            }
            if let Some((folder, _)) = self.delimiter.as_ref().and_then(|delimiter| rest.split_once(&**delimiter)) {
                last_folder = format!("{}{folder}/", self.prefix);
                files.push(json!({ "action": "folder", "fileId": null, "fileName": last_folder, "contentLength": 0,
                                   "contentSha1": null, "contentType": null, "fileInfo": {}, "size": 0,
                                   "uploadTimestamp": 0 }));
            } else if self.has_versions {
                files.extend(versions.iter().rev().map(|version| described_version(name, version)));
            } else {
                files.extend(versions.last().map(|version| described_version(name, version)));
            }
        }
        json!({ "files": files, "nextFileName": null, "nextFileId": null })
    }
}
