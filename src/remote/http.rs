//! The HTTP client under every service but SFTP: counts what goes and comes, keeps to the limits, and notes for each
//! call how far it came and what the server said.

use super::failure::{Cause, Failure, Reply};
use super::limit::{Limit, PIECE_BYTES};
use super::page::Page;
use crate::error::{Error, ErrorKind, Result};
use crate::quantity::counted;
use crate::traffic::Traffic;
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// A connection nobody uses is closed, before most servers do it.
const MAX_IDLE: Duration = Duration::from_secs(30);
/// No answer but an object is longer: the longest are listings of folders.
pub(super) const MAX_ANSWER_BYTES: u64 = 256 << 20;
/// Of the body of an error this much is read.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// What is handed to the network at once, so that progress is seen.
const UPLOAD_PIECE_BYTES: usize = 64 << 10;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Get,
    Put,
    List,
    Stat,
    Delete,
    Other,
    /// Logging in: nothing of what a call is for.
    Login,
}

/// Requests by purpose, and bytes.
#[derive(Default)]
pub(super) struct Counters {
    requests: [AtomicU64; 7],
    pub retries: AtomicU64,
    pub received_bytes: AtomicU64,
    pub sent_bytes: AtomicU64,
}

impl Counters {
    pub fn count(&self, purpose: Purpose) {
        self.requests[purpose as usize].fetch_add(1, Relaxed);
    }

    pub fn traffic(&self) -> Traffic {
        let requests = |purpose: Purpose| self.requests[purpose as usize].load(Relaxed);
        Traffic {
            gets: requests(Purpose::Get),
            puts: requests(Purpose::Put),
            lists: requests(Purpose::List),
            stats: requests(Purpose::Stat),
            deletes: requests(Purpose::Delete),
            others: requests(Purpose::Other) + requests(Purpose::Login),
            retries: self.retries.load(Relaxed),
            received_bytes: self.received_bytes.load(Relaxed),
            sent_bytes: self.sent_bytes.load(Relaxed),
        }
    }
}

/// A client with its connections, limits and counters.
pub(super) struct HttpClient {
    http: reqwest::Client,
    upload: Option<Limit>,
    download: Option<Limit>,
    /// Whether requests are signed with the time.
    signs_time: bool,
    /// The variable that names a proxy, if one does.
    proxy: Option<&'static str>,
    pub counters: Counters,
}

/// One attempt at one operation, which may take several requests.
pub(super) struct Call {
    pub purpose: Purpose,
    pub client: Arc<HttpClient>,
    /// A longer body of an answer to a read is refused, and a longer page of a listing.
    pub max_body_bytes: u64,
    /// Checksums of what is stored, for services that take one.
    pub checksums: Option<Checksums>,
    notes: Mutex<Notes>,
}

/// Checksums services know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checksums {
    pub md5: [u8; 16],
    /// Empty where the service asks for another.
    pub sha1_hex: String,
}

/// What is known of a call so far.
struct Notes {
    /// Something moved at this time, or is bound to wait until then.
    moved_at: Instant,
    /// When the last request began, and how long it had to wait for the limits since.
    begun_at: Instant,
    held_back: Duration,
    reply: Reply,
    failure: Option<Failure>,
    has_opaque_etag: bool,
    /// Where the part of an object begins that came, if it is one.
    range_start: Option<u64>,
    /// Whether a request went out that does what the call is for: what goes before it changes nothing.
    was_begun: bool,
    /// Whether the last request was of a login.
    is_login: bool,
    listing: Listing,
}

/// How far a listing has come.
struct Listing {
    begun_at: Instant,
    /// Objects that were kept of it.
    kept: usize,
    /// How many there were when the last page came, and its first name.
    kept_before: usize,
    first: Option<String>,
    /// Pages that brought nothing, one after the other.
    idle_pages: usize,
}

/// However slowly a listing moves, it may take ten minutes, and as long as at this speed.
const CRAWL_OBJECTS_PER_SEC: u32 = 5;
const CRAWL_LISTING: Duration = Duration::from_secs(600);
/// Pages may be empty where much was removed, but not for ever.
const MAX_IDLE_PAGES: usize = 1000;

impl Call {
    pub fn new(
        client: Arc<HttpClient>,
        purpose: Purpose,
        max_body_bytes: u64,
        checksums: Option<Checksums>,
    ) -> Arc<Self> {
        let notes = Notes {
            moved_at: Instant::now(),
            begun_at: Instant::now(),
            held_back: Duration::ZERO,
            reply: Reply::default(),
            failure: None,
            has_opaque_etag: false,
            range_start: None,
            was_begun: false,
            is_login: false,
            listing: Listing { begun_at: Instant::now(), kept: 0, kept_before: 0, first: None, idle_pages: 0 },
        };
        Arc::new(Call { purpose, client, max_body_bytes, checksums, notes: Mutex::new(notes) })
    }

    /// Notes that something moves, now or at a time to come.
    pub fn touch(&self, at: Instant) {
        let mut notes = self.notes.lock();
        notes.moved_at = notes.moved_at.max(at);
    }

    /// Ends when nothing has moved for `stall`, or a request takes `longest`; tells which.
    pub async fn stalled(&self, stall: Duration, longest: Duration) -> String {
        loop {
            let (still, late) = {
                let notes = self.notes.lock();
                (notes.moved_at + stall, notes.begun_at + longest + notes.held_back)
            };
            let now = Instant::now();
            if now >= still {
                return format!("nothing moved for {} s", stall.as_secs());
            }
            if now >= late {
                return format!("it was not done after {} s", longest.as_secs());
            }
            tokio::time::sleep_until(still.min(late)).await;
        }
    }

    /// Waits until bytes may go, and counts them.
    pub async fn send(&self, len_bytes: usize) {
        wait_for(self.client.upload.as_ref(), self, len_bytes).await;
        self.client.counters.sent_bytes.fetch_add(len_bytes as u64, Relaxed);
    }

    /// Waits until bytes that came may be taken, and counts them.
    pub async fn take(&self, len_bytes: usize) {
        wait_for(self.client.download.as_ref(), self, len_bytes).await;
        self.client.counters.received_bytes.fetch_add(len_bytes as u64, Relaxed);
    }

    /// Returns how much is sent at once, so that progress is seen and the limit held.
    pub fn piece_bytes(&self) -> usize {
        if self.client.upload.is_some() { PIECE_BYTES } else { UPLOAD_PIECE_BYTES }
    }

    /// Returns the status of the last answer, 0 where there is none.
    pub fn status(&self) -> u16 {
        self.notes.lock().reply.status
    }

    /// Returns whether the last request was of a login.
    pub fn is_login(&self) -> bool {
        self.notes.lock().is_login
    }

    /// Returns whether the last answer's ETag is something else than an MD5.
    pub fn has_opaque_etag(&self) -> bool {
        self.notes.lock().has_opaque_etag
    }

    /// Returns where the part of an object begins that came, if it is one.
    pub fn range_start(&self) -> Option<u64> {
        self.notes.lock().range_start
    }

    /// Returns why the last request failed, as far as HTTP tells.
    pub fn failure(&self) -> Option<Failure> {
        let notes = self.notes.lock();
        let answered = notes.reply.status != 0;
        let failure = notes.failure.clone().or_else(|| answered.then(|| Failure::of_reply(&notes.reply)))?;
        let failure = Failure { may_have_happened: failure.may_have_happened && notes.was_begun, ..failure };
        Some(if notes.is_login { failure.of_login() } else { failure })
    }

    /// Notes why the last request failed, whatever its status says.
    pub fn fail(&self, failure: Failure) -> Failure {
        self.notes.lock().failure = Some(failure.clone());
        failure
    }

    /// Notes how many objects were kept of a listing so far; fails where it only crawls.
    pub fn kept(&self, objects: usize) -> Result<(), Failure> {
        let mut notes = self.notes.lock();
        notes.listing.kept = objects;
        let allowed = CRAWL_LISTING + Duration::from_secs(1) * objects as u32 / CRAWL_OBJECTS_PER_SEC;
        let elapsed = notes.listing.begun_at.elapsed();
        if elapsed <= allowed {
            return Ok(());
        }
        let text = format!("the listing had {} after {} s, and goes on", counted(objects, "object"), elapsed.as_secs());
        Err(Failure::lasting(Cause::Other, text))
    }

    /// Takes in a page of a listing that is whole by itself.
    pub fn add_page(&self, page: Page) -> Result<(), Failure> {
        let kept = self.notes.lock().listing.kept;
        self.kept(kept)?;
        let listing = &mut self.notes.lock().listing;
        if page.first.is_some() && page.first == listing.first {
            return Err(Failure::passing(Cause::NoListing, "the server's listing goes round in circles"));
        }
        listing.first = page.first;
        listing.idle_pages = if kept == listing.kept_before { listing.idle_pages + 1 } else { 0 };
        listing.kept_before = kept;
        if listing.idle_pages > MAX_IDLE_PAGES {
            let text = format!("{MAX_IDLE_PAGES} pages of the listing brought no object, and it goes on");
            return Err(Failure::lasting(Cause::Other, text));
        }
        Ok(())
    }
}

impl HttpClient {
    /// Makes a client; limits are bytes per second.
    pub fn new(
        upload: Option<u64>,
        download: Option<u64>,
        signs_time: bool,
        ca_file: Option<&std::path::Path>,
        proxy: Option<&'static str>,
    ) -> Result<Self> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("bakfs/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(MAX_IDLE)
            .tcp_nodelay(true)
            // A PUT that is sent elsewhere would go on as a GET.
            .redirect(reqwest::redirect::Policy::none())
            .http1_only();
        if let Some(path) = ca_file {
            let bad = |what: String| Error::usage(format!("Cannot use the certificates in {}: {what}", path.display()));
            let pem = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
            for certificate in reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| bad(error.to_string()))? {
                builder = builder.add_root_certificate(certificate);
            }
        }
        let http = builder.build().map_err(|error| {
            Error::new(ErrorKind::Io, "Cannot set up connections over TLS: are the system's certificates installed?")
                .because(error)
        })?;
        let limit = |bytes_per_sec: Option<u64>| bytes_per_sec.map(Limit::new);
        let (upload, download, counters) = (limit(upload), limit(download), Counters::default());
        Ok(HttpClient { http, upload, download, signs_time, proxy, counters })
    }

    /// Sends a request of a call and returns the head of the answer with its body to come.
    pub async fn fetch(
        &self,
        call: &Arc<Call>,
        purpose: Purpose,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Body>, Failure> {
        self.counters.count(purpose);
        {
            let mut notes = call.notes.lock();
            notes.begun_at = Instant::now();
            notes.held_back = Duration::ZERO;
            notes.reply = Reply::default();
            notes.failure = None;
            notes.was_begun |= purpose == call.purpose;
            notes.is_login = purpose == Purpose::Login;
        }
        call.touch(Instant::now());
        let is_head = request.method() == http::Method::HEAD;
        let request = self.outgoing(call, request).map_err(|failure| call.fail(failure))?;
        let answer = self.http.execute(request).await.map_err(|error| call.fail(self.of_transport(&error)))?;
        call.touch(Instant::now());
        let mut reply = head(&answer);
        reply.skew_secs.take_if(|_| !self.signs_time);
        let is_error = reply.status >= 300;
        {
            let mut notes = call.notes.lock();
            notes.reply = reply;
            notes.has_opaque_etag = has_opaque_etag(answer.headers());
            notes.range_start = range_start(answer.headers());
        }
        let len_bytes = answer.content_length().filter(|_| !is_head);
        let is_object = purpose == Purpose::Get && !is_error;
        if let Some(len) = len_bytes.filter(|len| is_object && *len > call.max_body_bytes) {
            return Err(call.fail(Failure::lasting(Cause::TooLong, format!("it has {}", counted(len, "byte")))));
        }
        let (mut parts, ()) = http::Response::new(()).into_parts();
        parts.status = answer.status();
        parts.headers = answer.headers().clone();
        let max_bytes = match purpose {
            Purpose::Get if !is_error => call.max_body_bytes,
            Purpose::List if !is_error => call.max_body_bytes.min(MAX_ANSWER_BYTES),
            _ => MAX_ANSWER_BYTES,
        };
        let body = incoming(call.clone(), answer, is_object, max_bytes);
        if is_error && !is_head {
            let bytes = first_bytes(body).await;
            call.notes.lock().reply.read_body(&bytes);
            let body = stream::once(async move { Ok(bytes) }).boxed();
            return Ok(http::Response::from_parts(parts, Body { stream: Mutex::new(body), len_bytes: None }));
        }
        Ok(http::Response::from_parts(parts, Body { stream: Mutex::new(body), len_bytes }))
    }

    /// Judges a request without an answer; a proxy may be what was not reached.
    fn of_transport(&self, error: &reqwest::Error) -> Failure {
        let failure = of_transport(error);
        match self.proxy.filter(|_| failure.cause == Cause::Unreachable) {
            Some(variable) => Failure { text: format!("{} (by the proxy of {variable})", failure.text), ..failure },
            None => failure,
        }
    }

    fn outgoing(&self, call: &Arc<Call>, request: http::Request<Bytes>) -> Result<reqwest::Request, Failure> {
        let (parts, body) = request.into_parts();
        let bad = |_| Failure::lasting(Cause::Other, "the address of the server makes no sense");
        let url = reqwest::Url::parse(&parts.uri.to_string()).map_err(bad)?;
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        // Google's API asks for it and OpenDAL leaves it out (Cloud Storage JSON API, "Objects: insert").
        if request.url().path().starts_with("/upload/storage/v1/") {
            let kind = http::HeaderValue::from_static("application/octet-stream");
            request.headers_mut().entry(http::header::CONTENT_TYPE).or_insert(kind);
        }
        if !body.is_empty() {
            request.headers_mut().insert(http::header::CONTENT_LENGTH, http::HeaderValue::from(body.len()));
            let pieces = stream::unfold((body, call.clone()), |(mut rest, call)| async move {
                if rest.is_empty() {
                    return None;
                }
                let piece = rest.split_to(call.piece_bytes().min(rest.len()));
                call.send(piece.len()).await;
                Some((Ok::<_, std::convert::Infallible>(piece), (rest, call)))
            });
            *request.body_mut() = Some(reqwest::Body::wrap_stream(pieces));
        }
        Ok(request)
    }
}

/// Waits until bytes may go or be taken.
async fn wait_for(limit: Option<&Limit>, call: &Call, len_bytes: usize) {
    let now = Instant::now();
    let Some(limit) = limit else { return call.touch(now) };
    let start = limit.reserve(len_bytes, now);
    call.touch(start);
    if start > now {
        call.notes.lock().held_back += start - now;
        tokio::time::sleep_until(start).await;
    }
}

/// The pieces of a body, as they come.
type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, Failure>> + Send>>;

/// The body of an answer.
pub(super) struct Body {
    // Only ever reached through `&mut`: the lock makes it Sync, which OpenDAL asks for.
    stream: Mutex<Pieces>,
    /// Its length, where the server has told it.
    pub len_bytes: Option<u64>,
}

impl Stream for Body {
    type Item = Result<Bytes, Failure>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().stream.get_mut().as_mut().poll_next(context)
    }
}

fn incoming(call: Arc<Call>, answer: reqwest::Response, is_object: bool, max_bytes: u64) -> Pieces {
    let bodies = stream::unfold((Some(answer), 0_u64), move |(answer, so_far)| {
        let call = call.clone();
        async move {
            let mut answer = answer?;
            match answer.chunk().await {
                Ok(None) => None,
                Ok(Some(bytes)) => {
                    let so_far = so_far + bytes.len() as u64;
                    if so_far > max_bytes {
                        let failure = match is_object {
                            true => Failure::lasting(Cause::TooLong, format!("it has more than {max_bytes} bytes")),
                            false => Failure::lasting(Cause::Other, "the server's answer does not end"),
                        };
                        return Some((Err(call.fail(failure)), (None, so_far)));
                    }
                    call.take(bytes.len()).await;
                    Some((Ok(bytes), (Some(answer), so_far)))
                }
                Err(error) => Some((Err(call.fail(of_transport(&error))), (None, so_far))),
            }
        }
    });
    bodies.boxed()
}

async fn first_bytes(mut body: Pieces) -> Bytes {
    let mut bytes = Vec::new();
    while let Some(Ok(more)) = body.next().await {
        bytes.extend_from_slice(&more[..more.len().min(MAX_ERROR_BYTES - bytes.len())]);
        if bytes.len() == MAX_ERROR_BYTES {
            break;
        }
    }
    bytes.into()
}

fn head(answer: &reqwest::Response) -> Reply {
    let text = |name: http::HeaderName| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let date = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|at| at.timestamp());
    let from_now = |at: jiff::Timestamp| at.duration_since(jiff::Timestamp::now());
    let retry_after = text(http::header::RETRY_AFTER).and_then(|text| match text.parse() {
        Ok(secs) => Some(Duration::from_secs(secs)),
        Err(_) => date(text).map(|at| Duration::try_from(from_now(at)).unwrap_or_default()),
    });
    let skew = text(http::header::DATE).and_then(date).map(|at| from_now(at).unsigned_abs().as_secs());
    let region = text(http::HeaderName::from_static("x-amz-bucket-region")).map(super::failure::plain);
    Reply { status: answer.status().as_u16(), retry_after, skew_secs: skew, region, ..Reply::default() }
}

/// S3's ETag is no MD5 where a key of its own encrypts the object (Amazon S3 API reference, "Object").
fn has_opaque_etag(headers: &http::HeaderMap) -> bool {
    let with_key = |value: &http::HeaderValue| value.to_str().is_ok_and(|value| value.starts_with("aws:"));
    headers.get("x-amz-server-side-encryption").is_some_and(with_key)
        || headers.contains_key("x-amz-server-side-encryption-customer-algorithm")
}

fn range_start(headers: &http::HeaderMap) -> Option<u64> {
    let range = headers.get(http::header::CONTENT_RANGE)?.to_str().ok()?.trim().strip_prefix("bytes ")?;
    range.split_once('-')?.0.parse().ok()
}

/// Judges a request without an answer.
fn of_transport(error: &reqwest::Error) -> Failure {
    let mut words = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words.push(error.to_string());
        cause = error.source();
    }
    let words = super::failure::plain(&words.join(": "));
    if words.contains("certificate") || words.contains("invalid peer") {
        return Failure::lasting(Cause::Tls, format!("the server's certificate does not verify: {words}"));
    }
    if words.contains("corrupt message") || words.contains("InvalidContentType") {
        return Failure::lasting(Cause::Tls, "the server does not speak TLS: its URL may begin with http://");
    }
    if error.is_connect() {
        return Failure::passing(Cause::Unreachable, format!("no connection: {words}"));
    }
    if error.is_builder() {
        return Failure::lasting(Cause::Other, format!("the request cannot be made: {words}"));
    }
    Failure::open(Cause::Lost, format!("the connection was lost: {words}"))
}
