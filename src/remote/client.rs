//! A client of one place: what is asked of it goes through here, as attempts that end in bounded time.

use super::environment::{Environment, proxy};
use super::explain::{Task, explain};
use super::failure::{Cause, Failure};
use super::http::{Call, Checksums, HttpClient, MAX_ANSWER_BYTES, Purpose};
use super::listing::{Bounds, Item, MAX_PAGE_BYTES};
use super::retry::{self, Policy};
use super::service::{Attempt, ObjectMetadata, Service};
use super::settings::Settings;
use super::ssh;
use crate::error::{Error, ErrorKind, Result};
use crate::place::Remote;
use crate::traffic::Traffic;
use std::cell::Cell;
use std::future::Future;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Threads that drive the connections; callers' own threads do the rest.
const THREADS: usize = 2;
/// Operations at a time, where the user does not say: over HTTP, and over SFTP, where each is a login of its own.
const HTTP_CONNECTIONS: usize = 8;
const SFTP_CONNECTIONS: usize = 4;
/// Where progress cannot be seen, an operation may take as long as at this speed, and the time of a stall.
const MIN_BYTES_PER_SEC: u64 = 64 << 10;
/// However slowly it moves, a request may take as long as at this speed, and the time of some stalls.
const CRAWL_BYTES_PER_SEC: u64 = 4 << 10;
const CRAWL_STALLS: u32 = 10;
/// How long a connection that is closed at the end may take for it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// Attempts at a place that has never answered: a person may wait for it, and it is most likely wrong.
const FIRST_ATTEMPTS: u32 = 3;
/// How often one operation is tried again because its credentials were renewed meanwhile.
const MAX_RENEWALS: u32 = 3;

/// How a place is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoteOptions {
    /// Operations at a time.
    pub connections: Option<usize>,
    /// Bytes a second that may go, over all connections.
    pub limit_upload_bytes_per_sec: Option<u64>,
    /// Bytes a second that may come, over all connections.
    pub limit_download_bytes_per_sec: Option<u64>,
}

/// A place in a service reached over a network, and what was asked of it.
pub struct Client {
    place: Remote,
    /// The server, where the place does not tell.
    server: Option<String>,
    service: Arc<Service>,
    http: Arc<HttpClient>,
    policy: Policy,
    connections: usize,
    permits: Arc<Semaphore>,
    listings_lag: bool,
    /// What lies at every place in use, if anything does.
    landmark: Option<String>,
    /// Whether the place has ever answered.
    was_reached: AtomicBool,
    runtime: Option<Runtime>,
    /// Dropped last: with it end the processes of ssh.
    _sockets: Option<ssh::Sockets>,
}

/// What one attempt needs to know of its operation.
#[derive(Clone)]
pub(crate) struct RequestSpec {
    pub purpose: Purpose,
    /// What goes or comes at most, where that is known before.
    pub len_bytes: u64,
    pub max_body_bytes: u64,
    /// How long it may take once the server answers, whatever moves.
    pub max_time: Option<Duration>,
    pub checksums: Option<Checksums>,
}

impl RequestSpec {
    pub fn of(purpose: Purpose) -> Self {
        RequestSpec { purpose, len_bytes: 0, max_body_bytes: u64::MAX, max_time: None, checksums: None }
    }
}

/// The attempts of one operation so far.
pub(crate) struct Attempts {
    pub count: u32,
    start: Instant,
    was_denied: bool,
    renewals: u32,
}

impl Attempts {
    /// Begins the first.
    pub fn new() -> Self {
        Attempts { count: 1, start: Instant::now(), was_denied: false, renewals: 0 }
    }
}

/// Returns the [`Client::address`] of a place that is not used yet. Fails where settings or secrets are missing or wrong.
pub fn address(place: &Remote, environment: Environment) -> Result<String> {
    Ok(named(place, Settings::collect(place, environment)?.server().as_deref()))
}

fn named(place: &Remote, server: Option<&str>) -> String {
    server.map_or_else(|| place.to_string(), |server| format!("{place} at {server}"))
}

impl Client {
    /// Collects settings and secrets; nothing is asked of the place yet.
    pub fn open(place: &Remote, options: &RemoteOptions, environment: Environment) -> Result<Client> {
        Self::with_policy(place, options, environment, Policy::default())
    }

    /// Does so with another patience than the usual.
    pub fn with_policy(
        place: &Remote,
        options: &RemoteOptions,
        environment: Environment,
        policy: Policy,
    ) -> Result<Client> {
        let ca_file = Settings::ca_file(place, &environment);
        let settings = Settings::collect(place, environment.clone())?;
        let proxy = if matches!(place, Remote::Sftp { .. }) { None } else { proxy(&environment)? };
        let (upload, download) = (options.limit_upload_bytes_per_sec, options.limit_download_bytes_per_sec);
        let is_sftp = matches!(place, Remote::Sftp { .. });
        let signs_time = matches!(place, Remote::Bucket { service, .. } if service.signs_time());
        let http = Arc::new(HttpClient::new(upload, download, signs_time, ca_file.as_deref(), proxy)?);
        let listings_lag = settings.listings_lag();
        let usual = if is_sftp { SFTP_CONNECTIONS } else { HTTP_CONNECTIONS };
        let connections = options.connections.unwrap_or(usual).max(1);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("bakfs-remote")
            .enable_all()
            .build()
            .map_err(|error| Error::io("Cannot start the threads for connections", error))?;
        let server = settings.server();
        let service = Arc::new(Service::new(place.clone(), environment.clone(), settings, http.clone()));
        let permits = Arc::new(Semaphore::new(connections));
        let user = || ssh::User {
            service: service.clone(),
            permits: permits.clone(),
            connections,
            runtime: runtime.handle().clone(),
        };
        let sockets = is_sftp.then(|| ssh::Sockets::new(&environment, user())).transpose()?;
        Ok(Client {
            place: place.clone(),
            server,
            service,
            http,
            policy,
            connections,
            permits,
            listings_lag,
            landmark: None,
            was_reached: AtomicBool::new(false),
            runtime: Some(runtime),
            _sockets: sockets,
        })
    }

    /// Names what lies at every place in use: without its bucket or folder it is missing, and no more than that.
    pub fn with_landmark(mut self, path: String) -> Self {
        self.landmark = Some(path);
        self
    }

    /// Returns the place.
    pub fn place(&self) -> &Remote {
        &self.place
    }

    /// Tells the place apart from all others, with the server it is at where that is set elsewhere.
    pub fn address(&self) -> String {
        named(&self.place, self.server.as_deref())
    }

    /// Returns how many operations there are at a time.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// Returns what was asked so far, and what went each way.
    pub fn traffic(&self) -> Traffic {
        self.http.counters.traffic()
    }

    /// Returns a file's length. One that is not there is [`ErrorKind::NotFound`].
    pub fn len_bytes(&self, path: &str) -> Result<u64> {
        let task = Task { verb: "look for", name: path };
        let spec = RequestSpec::of(Purpose::Stat);
        let found = self.block_on(self.retried(task, spec, async |attempt| attempt.stat(path).await))?;
        let untold = || Error::new(ErrorKind::Io, format!("{} does not tell the length of {path}", self.place));
        found.len_bytes.ok_or_else(untold)
    }

    /// Hands `each` a range of a file as it comes, with where each piece begins in the range; an attempt that is made
    /// again begins at 0 again. A file that ends before is [`ErrorKind::Damaged`].
    pub fn read(&self, path: &str, range: Range<u64>, each: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        let len_bytes = range.end - range.start;
        if len_bytes == 0 {
            return Ok(());
        }
        self.block_on(self.pieces(path, Some(range), len_bytes, each)).map(drop)
    }

    /// Reads a file whole; one that is longer than `max_bytes` is [`ErrorKind::Damaged`].
    pub fn read_whole(&self, path: &str, max_bytes: u64) -> Result<Vec<u8>> {
        self.block_on(self.whole(path, max_bytes))
    }

    /// Lists what lies in a folder, whose path ends with a slash, as far as `keep` takes it; with `is_deep` everything
    /// whose path begins with it, which only buckets know: elsewhere it is an error. A listing that may be incomplete is
    /// one too.
    pub fn list<T>(
        &self,
        folder: &str,
        is_deep: bool,
        bounds: &Bounds,
        keep: &dyn Fn(Item) -> Option<T>,
    ) -> Result<Vec<T>> {
        self.block_on(self.listed(folder, is_deep, bounds, keep))
    }

    /// Removes a file; one that does not exist is a success.
    pub fn delete(&self, path: &str) -> Result<()> {
        self.block_on(self.removed(path))
    }

    /// Returns whether a listing may not show yet what was stored.
    pub(crate) fn listings_lag(&self) -> bool {
        self.listings_lag
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns whether it has folders, and not only names that begin alike.
    pub fn has_folders(&self) -> bool {
        !matches!(self.place, Remote::Bucket { .. })
    }

    pub(crate) fn is_sftp(&self) -> bool {
        matches!(self.place, Remote::Sftp { .. })
    }

    /// Runs work in the caller's thread, while the client's own drive the connections.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let runtime = self.runtime.as_ref().expect("the runtime is there until the client is dropped");
        // A library that gives up on words of a server must not take the process along.
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(work)));
        result.unwrap_or_else(|_| {
            let message = format!("The answer of {} was not understood: the library for it gave up", self.place);
            Err(Error::new(ErrorKind::Io, message))
        })
    }

    /// Makes one attempt, which ends when nothing has moved for too long.
    pub(crate) async fn once<T>(
        &self,
        spec: RequestSpec,
        work: impl AsyncFnOnce(&Attempt) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Ok(_permit) = self.permits.acquire().await else {
            return Err(Failure::lasting(Cause::Lost, "the program ends, and its connections have ended"));
        };
        let call = Call::new(self.http.clone(), spec.purpose, spec.max_body_bytes, spec.checksums);
        let is_blind = self.is_sftp() && spec.purpose == Purpose::Put;
        let blind = if is_blind { spec.len_bytes / MIN_BYTES_PER_SEC } else { 0 };
        let stall = self.policy.stall + Duration::from_secs(blind);
        let longest = self.policy.stall * CRAWL_STALLS + Duration::from_secs(spec.len_bytes / CRAWL_BYTES_PER_SEC);
        let credentials = Cell::new(None);
        let run = async {
            let attempt = self.service.attempt(call.clone()).await?;
            credentials.set(Some(attempt.credentials));
            work(&attempt).await
        };
        let late = async {
            match spec.max_time {
                Some(max_time) => tokio::time::sleep(max_time).await,
                None => std::future::pending().await,
            }
        };
        let result = tokio::select! {
            result = run => result,
            () = late => {
                let text = format!("it was not done after {} s", spec.max_time.unwrap_or_default().as_secs());
                Err(Failure { is_temporary: call.status() == 0, ..Failure::open(Cause::Stalled, text) })
            }
            text = call.stalled(stall, longest) => Err(Failure::open(Cause::Stalled, text)),
        };
        let mut result = result;
        match &mut result {
            Ok(_) => self.was_reached.store(true, Relaxed),
            // What the credentials were refused for may be better with those that are in the file by now.
            Err(failure) if failure.may_be_of_credentials() => {
                failure.is_renewed = self.service.renew(credentials.get(), failure.cause == Cause::Expired).await;
            }
            Err(_) => {}
        }
        if call.status() != 0 {
            self.was_reached.store(true, Relaxed);
        }
        // A token may have expired; a connection of ssh that failed or hangs is not used again.
        if let Err(failure) = &result
            && (matches!(failure.cause, Cause::Denied | Cause::Expired)
                || self.is_sftp() && matches!(failure.cause, Cause::Lost | Cause::Stalled | Cause::Unreachable))
        {
            self.service.log_out().await;
        }
        result
    }

    /// Makes attempts until one succeeds or there is no point in another.
    pub(crate) async fn retried<T>(
        &self,
        task: Task<'_>,
        spec: RequestSpec,
        mut work: impl AsyncFnMut(&Attempt) -> Result<T, Failure>,
    ) -> Result<T> {
        let mut attempts = Attempts::new();
        loop {
            let failure = match self.once(spec.clone(), async |attempt| work(attempt).await).await {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            if !self.goes_on(&failure, &mut attempts).await {
                return Err(self.explain(task, &failure, &attempts));
            }
        }
    }

    pub(crate) fn explain(&self, task: Task<'_>, failure: &Failure, attempts: &Attempts) -> Error {
        explain(&self.place, task, failure, attempts.count, attempts.start.elapsed(), self.landmark.as_deref())
    }

    /// Waits for the next attempt; false if there is none.
    pub(crate) async fn goes_on(&self, failure: &Failure, attempts: &mut Attempts) -> bool {
        let has_tokens = matches!(self.place, Remote::Bucket { service, .. } if service.has_tokens());
        // Nobody is at a place that has never answered; a name may be wrong, or a firewall in between.
        let is_unreached = failure.cause == Cause::Unreachable && !self.was_reached.load(Relaxed);
        if is_unreached && attempts.count >= FIRST_ATTEMPTS {
            return false;
        }
        if failure.is_renewed && attempts.renewals < MAX_RENEWALS {
            attempts.renewals += 1;
        } else if has_tokens && failure.cause == Cause::Denied && !attempts.was_denied {
            // A token may have expired: the next attempt asks for another.
            attempts.was_denied = true;
        } else {
            let pause = self.policy.pause(failure, attempts.count, attempts.start.elapsed(), retry::random());
            let Some(pause) = pause else { return false };
            // A person who asked for more hears why nothing moves.
            match attempts.count {
                ..3 => tracing::debug!("{}: {}, again in {} ms", self.place, failure.text, pause.as_millis()),
                _ => tracing::info!("{}: {}, to be tried for two minutes at most", self.place, failure.text),
            }
            tokio::time::sleep(pause).await;
        }
        attempts.count += 1;
        self.http.counters.retries.fetch_add(1, Relaxed);
        true
    }

    /// Asks for an object's length and checksum; none if it is not there.
    pub(crate) async fn found(&self, task: Task<'_>, path: &str) -> Result<Option<ObjectMetadata>> {
        self.retried(task, RequestSpec::of(Purpose::Stat), async |attempt| match attempt.stat(path).await {
            Err(failure) if failure.cause == Cause::NotFound => Ok(None),
            metadata => metadata.map(Some),
        })
        .await
    }

    /// Does [`Client::read`], of a whole file without a range, and returns how many bytes came: `max_bytes` at most.
    pub(crate) async fn pieces(
        &self,
        path: &str,
        range: Option<Range<u64>>,
        max_bytes: u64,
        each: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<usize> {
        let spec = RequestSpec { len_bytes: max_bytes, max_body_bytes: max_bytes, ..RequestSpec::of(Purpose::Get) };
        let task = Task { verb: "read", name: path };
        self.retried(task, spec, async |attempt| attempt.read(path, range.clone(), each).await).await
    }

    /// Does [`Client::read_whole`].
    pub(crate) async fn whole(&self, path: &str, max_bytes: u64) -> Result<Vec<u8>> {
        let mut whole = Vec::new();
        let each = &mut |at, bytes: &[u8]| {
            whole.truncate(at);
            whole.extend_from_slice(bytes);
        };
        let came_bytes = self.pieces(path, None, max_bytes, each).await?;
        // Of an attempt that came further than the last one.
        whole.truncate(came_bytes);
        Ok(whole)
    }

    /// Does [`Client::list`].
    pub(crate) async fn listed<T>(
        &self,
        folder: &str,
        is_deep: bool,
        bounds: &Bounds,
        keep: &dyn Fn(Item) -> Option<T>,
    ) -> Result<Vec<T>> {
        if is_deep && self.has_folders() {
            let message = format!("Cannot list all below {folder} at {} at once: list folder by folder", self.place);
            return Err(Error::usage(message));
        }
        let list = async |attempt: &Attempt| attempt.list(folder, is_deep, bounds, keep).await;
        self.retried(task_of_listing(folder), self.spec_of_listing(bounds), list).await
    }

    /// Lists what lies in a folder, nothing where it does not exist.
    pub(crate) async fn listed_or_none<T>(
        &self,
        folder: &str,
        bounds: &Bounds,
        keep: &dyn Fn(Item) -> Option<T>,
    ) -> Result<Vec<T>> {
        let list = async |attempt: &Attempt| match attempt.list(folder, false, bounds, keep).await {
            Err(failure) if failure.cause == Cause::NotFound => Ok(Vec::new()),
            listed => listed,
        };
        self.retried(task_of_listing(folder), self.spec_of_listing(bounds), list).await
    }

    fn spec_of_listing(&self, bounds: &Bounds) -> RequestSpec {
        // All of a folder is one page.
        let usual = if self.has_folders() { MAX_ANSWER_BYTES } else { MAX_PAGE_BYTES };
        let max_body_bytes = bounds.max_page_bytes.unwrap_or(usual);
        RequestSpec { max_body_bytes, max_time: bounds.max_time, ..RequestSpec::of(Purpose::List) }
    }

    /// Does [`Client::delete`].
    pub(crate) async fn removed(&self, path: &str) -> Result<()> {
        let task = Task { verb: "remove", name: path };
        self.retried(task, RequestSpec::of(Purpose::Delete), async |attempt| match attempt.delete(path).await {
            Err(failure) if failure.cause == Cause::NotFound => Ok(()),
            result => result,
        })
        .await
    }
}

fn task_of_listing(folder: &str) -> Task<'_> {
    Task { verb: "list", name: if folder.is_empty() { "what is" } else { folder } }
}

impl Drop for Client {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        let service = self.service.clone();
        // Connections of ssh are processes of their own, which end when they are told to.
        let left = runtime.block_on(async move { tokio::time::timeout(CLOSE_TIMEOUT, service.log_out()).await });
        if left.is_err() {
            tracing::debug!("{}: a connection was not closed in time", self.place);
        }
        runtime.shutdown_timeout(CLOSE_TIMEOUT);
    }
}
