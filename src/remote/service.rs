//! The one door to OpenDAL: single operations, each as one attempt that tells how it failed.
//!
//! None of OpenDAL's layers is used: its retry layer was seen to store wrong bytes, and to say nothing of it.

use super::checksum::{base64, parse_md5};
use super::environment::Environment;
use super::failure::{Cause, Failure, plain};
use super::http::{Body, Call, HttpClient, Purpose};
use super::listing::{Bounds, Item};
use super::login::{self, Login};
use super::page::{Form, look_over};
use super::settings::Settings;
use super::temporary::temporary_name;
use crate::place::Remote;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use opendal::options::ListOptions;
use opendal::raw::{Operation, ServiceOperation};
use opendal::services::{Azblob, B2, Gcs, S3, Sftp, Swift, Webdav};
use opendal::{
    Buffer, BytesRange, Error, ErrorKind, HttpBody, HttpTransport, HttpTransporter, OperationContext, Operator,
};
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Where OpenDAL's own service for B2 logs in.
const B2_API: &str = "https://api.backblazeb2.com";
/// A page of B2 has 100 items if not told otherwise; up to 1000 cost the same (B2 Native API, b2_list_file_names).
const B2_PAGE_ITEMS: usize = 1000;
/// What is asked to log in is answered in at most this.
const MAX_LOGIN_BYTES: u64 = 4 << 20;
const SHORT: &str = "it ends before the bytes that were asked for";

/// A service with what it takes to log in.
pub(super) struct Service {
    place: Remote,
    environment: Environment,
    client: Arc<HttpClient>,
    in_use: Mutex<InUse>,
}

/// The settings in use, and what was made of them.
struct InUse {
    settings: Settings,
    /// Counts how often the credentials were renewed.
    number: u64,
    operator: Option<Operator>,
}

/// What a service tells of an object: a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ObjectMetadata {
    pub len_bytes: Option<u64>,
    pub md5: Option<[u8; 16]>,
}

/// A service as one attempt sees it.
pub(crate) struct Attempt {
    operator: Operator,
    call: Arc<Call>,
    /// With which credentials it was logged in ([`Service::renew`]).
    pub credentials: u64,
    /// What the paths of this attempt begin with.
    prefix: String,
    is_http: bool,
    has_folders: bool,
    is_s3: bool,
    has_md5_etags: bool,
    /// What a page of a listing holds, where the service's own choice is a poor one.
    page_items: Option<usize>,
}

impl Service {
    pub fn new(place: Remote, environment: Environment, settings: Settings, client: Arc<HttpClient>) -> Self {
        let in_use = Mutex::new(InUse { settings, number: 0, operator: None });
        Service { place, environment, client, in_use }
    }

    /// Reads the credentials of the place again; returns whether they are others than those an attempt with this
    /// number was logged in with. What cannot be read leaves them as they are.
    pub async fn renew(&self, number: Option<u64>, is_expired: bool) -> bool {
        let mut in_use = self.in_use.lock().await;
        if number.is_some_and(|number| number < in_use.number) {
            return true;
        }
        let Ok(settings) = Settings::collect(&self.place, self.environment.clone()) else { return false };
        // Those that are lent are asked for by the service's library, anew when it begins anew.
        if settings.has_same_keys(&in_use.settings) && !(is_expired && settings.has_lent_keys()) {
            return false;
        }
        tracing::info!("{}: the credentials were renewed, and are read again", self.place);
        *in_use = InUse { settings, number: in_use.number + 1, operator: None };
        true
    }

    /// Logs in, or goes on where that was done before.
    pub async fn attempt(&self, call: Arc<Call>) -> Result<Attempt, Failure> {
        let mut in_use = self.in_use.lock().await;
        let operator = match &in_use.operator {
            Some(operator) => operator.clone(),
            None => {
                let asking = Call::new(self.client.clone(), Purpose::Other, MAX_LOGIN_BYTES, None);
                let made = operator(&in_use.settings, &asking).await?;
                in_use.operator.insert(made).clone()
            }
        };
        call.touch(Instant::now());
        let settings = &in_use.settings;
        let (b2_api, prefix) = match settings {
            Settings::B2(settings) => (settings.api.clone(), String::new()),
            Settings::Sftp(settings) => (None, format!("{}/", settings.path)),
            _ => (None, String::new()),
        };
        let (digest_as, form) = (digest_header(settings), form(settings));
        let transport = Transport { call: call.clone(), digest_as, form, b2_api };
        let context = OperationContext::new().with_http_transport(HttpTransporter::new(transport));
        Ok(Attempt {
            operator: operator.with_context(context),
            call,
            credentials: in_use.number,
            prefix,
            is_http: !matches!(settings, Settings::Sftp(_)),
            has_folders: matches!(settings, Settings::Sftp(_) | Settings::WebDav(_)),
            is_s3: matches!(settings, Settings::S3(_)),
            has_md5_etags: matches!(settings, Settings::S3(_) | Settings::Swift(_)),
            page_items: matches!(settings, Settings::B2(_)).then_some(B2_PAGE_ITEMS),
        })
    }

    /// Has the next attempt log in anew: tokens have expired, or a connection does not answer.
    pub async fn log_out(&self) {
        self.in_use.lock().await.operator = None;
    }
}

/// The header a service takes a checksum of what is stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DigestHeader {
    /// Content-MD5, in base 64. It need not be signed (Amazon S3, "Authenticating Requests: AWS Signature Version 4").
    ContentMd5,
    /// ETag, in hexadecimal digits (OpenStack Object Storage API, "Create or replace object").
    Etag,
    /// X-Bz-Content-Sha1 (B2 Native API, b2_upload_file).
    Sha1,
    /// None: Google and Azure compute one, which is compared afterwards; SFTP and WebDAV have none.
    None,
}

fn digest_header(settings: &Settings) -> DigestHeader {
    match settings {
        Settings::S3(_) => DigestHeader::ContentMd5,
        Settings::Swift(_) => DigestHeader::Etag,
        Settings::B2(_) => DigestHeader::Sha1,
        _ => DigestHeader::None,
    }
}

/// How the service writes listings, where it does so over HTTP.
fn form(settings: &Settings) -> Option<Form> {
    match settings {
        Settings::S3(_) => Some(Form::S3),
        Settings::B2(_) => Some(Form::B2),
        Settings::Swift(_) => Some(Form::Swift),
        Settings::WebDav(_) => Some(Form::WebDav),
        Settings::Gcs(_) => Some(Form::Gcs),
        Settings::Azblob(_) => Some(Form::Azure),
        Settings::Sftp(_) => None,
    }
}

async fn operator(settings: &Settings, call: &Arc<Call>) -> Result<Operator, Failure> {
    let built = match settings {
        Settings::S3(settings) => {
            let mut builder = S3::default()
                .bucket(&settings.bucket)
                .root(&settings.root)
                .region(&settings.region)
                .profile(settings.profile.as_deref().unwrap_or_default())
                .endpoint(settings.endpoint.as_deref().unwrap_or("https://s3.amazonaws.com"));
            if let Some((id, secret, token)) = &settings.keys {
                builder = builder.access_key_id(id).secret_access_key(secret);
                builder = builder.session_token(token.as_ref().map_or("", |token| token));
            }
            if settings.is_virtual_host_style {
                builder = builder.enable_virtual_host_style();
            }
            if !settings.asks_machine {
                builder = builder.disable_ec2_metadata();
            }
            Operator::new(builder)
        }
        Settings::B2(settings) => {
            let bucket_id = login::b2_bucket_id(settings, call).await?;
            let builder = B2::default().bucket(&settings.bucket).bucket_id(&bucket_id).root(&settings.root);
            Operator::new(builder.application_key_id(&settings.key_id).application_key(&settings.key))
        }
        Settings::Swift(settings) => {
            let Login { storage_url, token } = login::swift(settings, call).await?;
            let builder = Swift::default().endpoint(&storage_url).token(&token);
            Operator::new(builder.container(&settings.container).root(&settings.root))
        }
        Settings::Sftp(settings) => {
            // OpenDAL makes the folder that is its root: none of a user's is made by a look at it.
            let root = if settings.from_home { "" } else { "/" };
            Operator::new(Sftp::default().endpoint(&settings.endpoint).known_hosts_strategy("strict").root(root))
        }
        Settings::WebDav(settings) => {
            let builder = Webdav::default().endpoint(&settings.endpoint).root(&settings.root).disable_create_dir(true);
            Operator::new(match &settings.login {
                Some((user, password)) => builder.username(user).password(password),
                None => builder,
            })
        }
        Settings::Gcs(settings) => {
            let mut builder = Gcs::default().bucket(&settings.bucket).root(&settings.root);
            builder = builder.endpoint(settings.endpoint.as_deref().unwrap_or_default());
            builder = builder.credential_path(settings.credential_path.as_deref().unwrap_or_default());
            if settings.is_open {
                builder = builder.skip_signature();
            }
            if !settings.asks_machine {
                builder = builder.disable_vm_metadata();
            }
            Operator::new(builder)
        }
        Settings::Azblob(settings) => {
            let mut builder = Azblob::default().container(&settings.container).root(&settings.root);
            builder = builder.endpoint(&settings.endpoint).account_name(&settings.account);
            if let Some(key) = &settings.key {
                builder = builder.account_key(key);
            }
            builder = builder.sas_token(settings.sas_token.as_ref().map_or("", |token| token));
            Operator::new(builder)
        }
    };
    // The words of a builder name what is missing, never what was given.
    built.map_err(|error| Failure::lasting(Cause::Other, format!("the settings make no sense: {}", words(&error))))
}

/// Carries OpenDAL's requests of one call to the client.
struct Transport {
    call: Arc<Call>,
    digest_as: DigestHeader,
    form: Option<Form>,
    b2_api: Option<String>,
}

impl Transport {
    fn purpose(&self, extensions: &http::Extensions) -> Purpose {
        let own = extensions.get::<ServiceOperation>().map(|operation| operation.0);
        match extensions.get::<Operation>() {
            _ if own == Some("GetUploadUrl") => Purpose::Other,
            Some(Operation::Read) => Purpose::Get,
            Some(Operation::Write) => Purpose::Put,
            Some(Operation::List) => Purpose::List,
            Some(Operation::Stat) => Purpose::Stat,
            Some(Operation::Delete) => Purpose::Delete,
            Some(_) => Purpose::Other,
            None => Purpose::Login,
        }
    }

    fn complete(&self, purpose: Purpose, request: &mut http::Request<Bytes>) -> Result<(), http::Error> {
        if let Some(api) = &self.b2_api
            && let Some(path) = request.uri().to_string().strip_prefix(B2_API)
        {
            *request.uri_mut() = format!("{}{path}", api.trim_end_matches('/')).parse()?;
        }
        // A name that is taken stays what it is.
        if request.method().as_str() == "MOVE" {
            request.headers_mut().insert("overwrite", http::HeaderValue::from_static("F"));
        }
        let Some(checksums) = self.call.checksums.as_ref().filter(|_| purpose == Purpose::Put) else { return Ok(()) };
        let (name, value) = match self.digest_as {
            DigestHeader::ContentMd5 => ("content-md5", base64(&checksums.md5)),
            DigestHeader::Etag => ("etag", crate::id::to_hex(&checksums.md5)),
            DigestHeader::Sha1 => ("x-bz-content-sha1", checksums.sha1_hex.clone()),
            DigestHeader::None => return Ok(()),
        };
        request.headers_mut().insert(name, value.parse()?);
        Ok(())
    }

    /// Takes a page of a listing whole, and looks it over.
    async fn page(&self, form: Form, uri: &str, mut body: Body) -> Result<Bytes, Failure> {
        let mut page = Vec::new();
        while let Some(piece) = body.try_next().await? {
            page.extend_from_slice(&piece);
        }
        let asked = reqwest::Url::parse(uri).ok();
        let prefix = asked.and_then(|url| Some(url.query_pairs().find(|(name, _)| name == "prefix")?.1.into_owned()));
        let looked_over = look_over(form, &prefix.unwrap_or_default(), &page).and_then(|page| self.call.add_page(page));
        looked_over.map_err(|failure| self.call.fail(failure))?;
        Ok(page.into())
    }
}

impl HttpTransport for Transport {
    async fn fetch(&self, request: http::Request<Buffer>) -> opendal::Result<http::Response<HttpBody>> {
        let failed = |failure: Failure| Error::new(ErrorKind::Unexpected, failure.text);
        let purpose = self.purpose(request.extensions());
        let uri = request.uri().clone();
        let mut request = request.map(|body| body.to_bytes());
        self.complete(purpose, &mut request)
            .map_err(|_| Error::new(ErrorKind::Unexpected, "a header makes no sense"))?;
        let answer = self.call.client.fetch(&self.call, purpose, request).await.map_err(failed)?;
        let (mut parts, body) = answer.into_parts();
        let address = uri.to_string();
        parts.extensions.insert(uri);
        if let Some(form) = self.form.filter(|_| purpose == Purpose::List && parts.status.is_success()) {
            let page = self.page(form, &address, body).await.map_err(failed)?;
            let len_bytes = Some(page.len() as u64);
            let stream = futures::stream::iter([Ok(Buffer::from(page))]);
            return Ok(http::Response::from_parts(parts, HttpBody::new(stream, len_bytes)));
        }
        let len_bytes = body.len_bytes;
        let stream = body.map_ok(Buffer::from).map_err(failed);
        Ok(http::Response::from_parts(parts, HttpBody::new(stream, len_bytes)))
    }
}

impl Attempt {
    /// Stores an object under a name; returns the checksum the service tells of it, if it does.
    pub async fn put(&self, path: &str, mut body: Bytes) -> Result<Option<[u8; 16]>, Failure> {
        self.count(Purpose::Put);
        let failed = |error| self.failed(&error);
        if self.is_http {
            let stored = self.operator.write(&self.at(path), body).await.map_err(|error| self.unless_missing(error))?;
            // The length is OpenDAL's own: that of what was sent.
            return Ok(self.metadata(&stored).md5);
        }
        let mut writer = self.operator.writer(&self.at(path)).await.map_err(failed)?;
        while !body.is_empty() {
            let piece = body.split_to(self.call.piece_bytes().min(body.len()));
            self.call.send(piece.len()).await;
            writer.write(piece).await.map_err(failed)?;
        }
        writer.close().await.map_err(failed)?;
        Ok(None)
    }

    /// Tells of an object.
    pub async fn stat(&self, path: &str) -> Result<ObjectMetadata, Failure> {
        self.count(Purpose::Stat);
        let failed = |error| match self.failed(&error) {
            // The answer to HEAD has no body that tells which it is.
            failure if self.is_s3 && self.call.status() == 400 && failure.cause == Cause::Other => {
                Failure { cause: Cause::Elsewhere, ..failure }
            }
            failure => failure,
        };
        let found = self.operator.stat(&self.at(path)).await.map_err(failed)?;
        if !found.is_file() {
            return Err(Failure::lasting(Cause::Other, "it is no file"));
        }
        Ok(self.metadata(&found))
    }

    /// Reads a range of an object, or all of it up to the call's bound; `each` gets the pieces as they come, with
    /// where they begin in what was asked for. Returns how many bytes came.
    pub async fn read(
        &self,
        path: &str,
        range: Option<Range<u64>>,
        each: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<usize, Failure> {
        self.count(Purpose::Get);
        let no_parts = || Failure::lasting(Cause::Other, "the server does not give parts of objects");
        let failed = |error| match (self.failed(&error), &range) {
            (failure, Some(_)) if failure.cause == Cause::TooLong => no_parts(),
            (failure, _) => failure,
        };
        let wanted = range.as_ref().map_or(BytesRange::default(), |range| BytesRange::from(range.clone()));
        let reader = self.operator.reader(&self.at(path)).await.map_err(failed)?;
        let mut pieces = reader.into_stream(wanted).await.map_err(failed)?;
        let max_bytes = self.call.max_body_bytes;
        let is_elsewhere = |range: &Range<u64>| self.is_http && self.call.range_start().unwrap_or(0) != range.start;
        let mut came_bytes = 0;
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(failed)?;
            if (came_bytes + piece.len()) as u64 > max_bytes {
                return Err(Failure::lasting(Cause::TooLong, format!("it has more than {max_bytes} bytes")));
            }
            if range.as_ref().is_some_and(is_elsewhere) {
                return Err(no_parts());
            }
            if !self.is_http {
                self.call.take(piece.len()).await;
            }
            for part in piece {
                each(came_bytes, &part);
                came_bytes += part.len();
            }
        }
        if range.as_ref().is_some_and(is_elsewhere) {
            return Err(no_parts());
        }
        if range.is_some_and(|range| came_bytes as u64 != range.end - range.start) {
            return Err(Failure::passing(Cause::Short, SHORT));
        }
        Ok(came_bytes)
    }

    /// Lists what lies in a folder, or everything whose name begins with it, as far as `keep` takes it. An attempt that does
    /// not stay within its bounds fails for good, but for a sample, which ends there.
    pub async fn list<T>(
        &self,
        folder: &str,
        is_deep: bool,
        bounds: &Bounds,
        keep: &dyn Fn(Item) -> Option<T>,
    ) -> Result<Vec<T>, Failure> {
        self.count(Purpose::List);
        let options = ListOptions { recursive: is_deep, limit: self.page_items, ..ListOptions::default() };
        let failed = |error| self.unless_missing(error);
        let at = self.at(folder);
        let mut lister = self.operator.lister_options(&at, options).await.map_err(failed)?;
        let mut kept = Vec::new();
        let mut seen = 0_usize;
        let mut landmark: Option<String> = None;
        while let Some(entry) = lister.next().await {
            let entry = entry.map_err(failed)?;
            self.call.touch(Instant::now());
            seen += 1;
            let metadata = entry.metadata();
            let path = entry.path();
            let is_elsewhere = self.has_folders && self.is_http && !lies_in(path, &at);
            // The folder itself is among what lies in it, at servers that have folders.
            let is_itself = path == at || path == "/" || is_elsewhere && last_name(path) == last_name(&at);
            if metadata.is_dir() && is_itself {
                continue;
            }
            // A server that goes round in circles comes by a landmark again (Brent's way to find a cycle).
            if metadata.is_file() && landmark.as_deref() == Some(path) {
                return Err(Failure::lasting(Cause::Other, "the server's listing goes round in circles"));
            }
            if seen.is_power_of_two() {
                landmark = Some(path.to_owned());
            }
            if is_elsewhere {
                let text = format!("the answer is the listing of another folder: it has {}", plain(path));
                return Err(Failure::passing(Cause::NoListing, text));
            }
            kept.extend(keep(Item {
                path: path.strip_prefix(&*self.prefix).unwrap_or(path).to_owned(),
                len_bytes: metadata.content_length(),
                is_folder: metadata.is_dir(),
                modified_secs: metadata.last_modified().map(|at| at.into_inner().as_second()),
            }));
            if bounds.is_sample && seen >= bounds.max_objects {
                break;
            }
            bounds.hold(kept.len(), seen)?;
            self.call.kept(kept.len())?;
        }
        // OpenDAL takes a folder that is missing for an empty one.
        if seen == 0 && (!self.is_http || self.call.status() == 404) {
            return Err(Failure::lasting(Cause::NotFound, "the folder does not exist"));
        }
        Ok(kept)
    }

    /// Removes an object; one that is not there is a success.
    pub async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.count(Purpose::Delete);
        self.operator.delete(&self.at(path)).await.map_err(|error| self.failed(&error))
    }

    /// Changes the name of an object.
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), Failure> {
        self.count(Purpose::Other);
        self.operator.rename(&self.at(from), &self.at(to)).await.map_err(|error| self.failed(&error))
    }

    /// Makes a folder, and those it lies in.
    pub async fn create_folder(&self, path: &str) -> Result<(), Failure> {
        self.count(Purpose::Other);
        self.operator.create_dir(&self.at(path)).await.map_err(|error| self.failed(&error))
    }

    /// Finds out why nothing can be made below the folder: stores an empty file in the deepest folder there is on the
    /// way to it, and removes it.
    pub async fn probe(&self) -> Result<(), Failure> {
        let mut folder = self.prefix.as_str();
        while !folder.is_empty() && self.operator.stat(folder).await.is_err() {
            let above = folder.trim_end_matches('/').rfind('/').map_or(0, |end| end + 1);
            folder = &folder[..above];
        }
        let path = format!("{folder}{}", temporary_name());
        let failed = |error| self.failed(&error);
        let mut writer = self.operator.writer(&path).await.map_err(failed)?;
        writer.write(Bytes::from_static(b"x")).await.map_err(failed)?;
        writer.close().await.map_err(failed)?;
        self.operator.delete(&path).await.map_err(failed)
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// Counts an operation where no requests can be seen.
    fn count(&self, purpose: Purpose) {
        if !self.is_http {
            self.call.client.counters.count(purpose);
        }
    }

    fn metadata(&self, metadata: &opendal::Metadata) -> ObjectMetadata {
        let etag = metadata.etag().filter(|_| self.has_md5_etags && !self.call.has_opaque_etag());
        let md5 = metadata.content_md5().and_then(parse_md5);
        ObjectMetadata {
            len_bytes: metadata.is_file().then(|| metadata.content_length()),
            md5: md5.or_else(|| parse_md5(etag?.trim_start_matches("W/").trim_matches('"'))),
        }
    }

    /// Judges the failure of what only a bucket that is missing can answer with 404.
    fn unless_missing(&self, error: Error) -> Failure {
        match self.failed(&error) {
            failure if failure.cause == Cause::NotFound && !self.has_folders => {
                Failure { cause: Cause::NoBucket, ..failure }
            }
            failure => failure,
        }
    }

    fn failed(&self, error: &Error) -> Failure {
        let answered_well = (200..300).contains(&self.call.status()) && !self.call.is_login();
        if error.message() == "reader got too little data" {
            return Failure::passing(Cause::Short, SHORT);
        }
        match (self.call.failure(), error.kind()) {
            (Some(_), ErrorKind::NotFound) if answered_well => Failure::lasting(Cause::NotFound, "it is not there"),
            (Some(failure), _) => failure,
            // Without a request nobody can know: a file of credentials may be missing.
            (None, ErrorKind::NotFound) if !self.is_http => Failure::lasting(Cause::NotFound, "it is not there"),
            (None, ErrorKind::PermissionDenied) => {
                Failure::lasting(Cause::Denied, "permission denied: the server does not allow it")
            }
            (None, _) if !self.is_http => Failure::of_ssh(&words(error)),
            (None, _) if words(error).contains("redential") => {
                Failure::lasting(Cause::NoCredentials, "there are no credentials, or they cannot be used")
            }
            (None, _) => Failure::lasting(Cause::Other, words(error)),
        }
    }
}

/// Returns whether a path, however a server writes it, ends in a name right below a folder.
fn lies_in(path: &str, folder: &str) -> bool {
    let above = path.trim_end_matches('/').rsplit_once('/').map_or("", |(above, _)| above);
    // The place's own folder has no name below itself.
    folder.is_empty() || folder == "/" || last_name(above) == last_name(folder)
}

fn last_name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

/// Returns the words of an error's causes, or its own: never its context, which has the URL of the request.
fn words(error: &Error) -> String {
    let mut words = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words.push(error.to_string());
        cause = error.source();
    }
    if words.is_empty() { plain(error.message()) } else { plain(&words.join(": ")) }
}
