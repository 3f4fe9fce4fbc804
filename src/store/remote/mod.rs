//! Objects in services reached over a network.
//!
//! Every operation is made of tries that end in bounded time. Reads, listings and removals are tried again as they
//! are; what is stored follows `put.rs`. Nothing is kept: that is for a cache above.

mod aws;
mod checksum;
mod environment;
mod explain;
mod failure;
mod folders;
mod http;
mod limit;
mod list;
mod login;
mod logins;
mod netrc;
mod openstack;
mod page;
mod put;
mod retry;
mod service;
mod settings;
mod shown;
mod ssh;

#[cfg(test)]
mod tests;

pub use environment::{CREDENTIALS_FILE, Environment};
pub use retry::Policy;
pub use ssh::close as close_connections;

use super::place::Remote;
use super::{Hints, Listed, Names, Object, ObjectKind, Store, Traffic, Wait};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ObjectId;
use explain::{Task, explain};
use failure::{Cause, Failure};
use http::{Call, Client, Digest, Purpose};
use list::{Bounds, MAX_PAGE_BYTES};
use parking_lot::Mutex;
use service::{Service, Session};
use settings::Settings;
use shown::Shown;
use std::cell::Cell;
use std::collections::BTreeMap;
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
/// Tries of a place that has never answered: a person may wait for it, and it is most likely wrong.
const FIRST_TRIES: u32 = 3;
/// How often one operation is tried again because its credentials were renewed meanwhile.
const MAX_RENEWALS: u32 = 3;
/// Names that are looked at to tell what is at a place.
const MAX_LOOKED_AT: usize = 300;

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

/// What is at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Whether there is a repository's configuration.
    pub has_config: bool,
    /// Where there is none: names at the place, those of folders with a slash at their end; not all of very many.
    pub names: Vec<String>,
}

/// A place in a service reached over a network.
pub struct RemoteStore {
    place: Remote,
    /// The server, where the place does not tell.
    server: Option<String>,
    service: Arc<Service>,
    client: Arc<Client>,
    policy: Policy,
    connections: usize,
    permits: Arc<Semaphore>,
    /// What was put (true) or removed and may not show in listings yet, where those lag behind.
    unlisted: Mutex<BTreeMap<Object, bool>>,
    listings_lag: bool,
    /// Whether a checksum the server told was found to be none: what it tells says nothing.
    has_opaque_checksums: AtomicBool,
    /// Whether the place has ever answered.
    was_reached: AtomicBool,
    shown: Mutex<Shown>,
    runtime: Option<Runtime>,
    /// Dropped last: with it end the processes of ssh.
    _sockets: Option<ssh::Sockets>,
}

/// What one try needs to know of its operation.
#[derive(Clone)]
struct Terms {
    purpose: Purpose,
    /// What goes or comes at most, where that is known before.
    len_bytes: u64,
    max_body_bytes: u64,
    /// How long it may take once the server answers, whatever moves.
    max_time: Option<Duration>,
    digest: Option<Digest>,
}

impl Terms {
    fn of(purpose: Purpose) -> Self {
        Terms { purpose, len_bytes: 0, max_body_bytes: u64::MAX, max_time: None, digest: None }
    }
}

/// The tries of one operation so far.
struct Tries {
    count: u32,
    start: Instant,
    was_denied: bool,
    renewals: u32,
}

impl Tries {
    /// Begins the first.
    fn new() -> Self {
        Tries { count: 1, start: Instant::now(), was_denied: false, renewals: 0 }
    }

    fn explain(&self, place: &Remote, task: Task<'_>, failure: &Failure) -> Error {
        explain(place, task, failure, self.count, self.start.elapsed())
    }
}

impl RemoteStore {
    /// Collects settings and secrets; nothing is asked of the place yet.
    pub fn open(place: &Remote, options: &RemoteOptions, environment: Environment) -> Result<RemoteStore> {
        Self::with_policy(place, options, environment, Policy::default())
    }

    /// Does so with another patience than the usual.
    pub fn with_policy(
        place: &Remote,
        options: &RemoteOptions,
        environment: Environment,
        policy: Policy,
    ) -> Result<RemoteStore> {
        let ca_file = Settings::ca_file(place, &environment);
        let settings = Settings::collect(place, environment.clone())?;
        let proxy = if matches!(place, Remote::Sftp { .. }) { None } else { environment::proxy(&environment)? };
        let (upload, download) = (options.limit_upload_bytes_per_sec, options.limit_download_bytes_per_sec);
        let is_sftp = matches!(place, Remote::Sftp { .. });
        let signs_time = matches!(place, Remote::Bucket { service, .. } if service.signs_time());
        let client = Arc::new(Client::new(upload, download, signs_time, ca_file.as_deref(), proxy)?);
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
        let service = Arc::new(Service::new(place.clone(), environment.clone(), settings, client.clone()));
        let permits = Arc::new(Semaphore::new(connections));
        let user = || ssh::User {
            service: service.clone(),
            permits: permits.clone(),
            connections,
            runtime: runtime.handle().clone(),
        };
        let sockets = is_sftp.then(|| ssh::Sockets::new(&environment, user())).transpose()?;
        Ok(RemoteStore {
            place: place.clone(),
            server,
            service,
            client,
            policy,
            connections,
            permits,
            unlisted: Mutex::default(),
            listings_lag,
            has_opaque_checksums: AtomicBool::new(false),
            was_reached: AtomicBool::new(false),
            shown: Mutex::default(),
            runtime: Some(runtime),
            _sockets: sockets,
        })
    }

    /// Tells what is at the place, in at most two requests.
    pub fn look(&self) -> Result<Contents> {
        self.block_on(async {
            let config = Object::Config.path();
            let task = Task { verb: "look for", name: &config };
            if self.found(task, &config).await?.is_some() {
                return Ok(Contents { has_config: true, names: Vec::new() });
            }
            let task = Task { verb: "list", name: "what is" };
            let sample = Bounds { max_objects: MAX_LOOKED_AT, is_sample: true };
            let terms = Terms { max_body_bytes: MAX_PAGE_BYTES, ..Terms::of(Purpose::List) };
            let listed = self.retried(task, terms, async |session| {
                match session.list("", false, &sample, &|item| Some(item.path)).await {
                    Err(failure) if failure.cause == Cause::NotFound => Ok(Vec::new()),
                    names => names,
                }
            });
            Ok(Contents { has_config: false, names: listed.await? })
        })
    }

    /// Makes the folders a repository needs, where the place has folders.
    pub fn prepare(&self) -> Result<()> {
        if !self.has_folders() {
            return Ok(());
        }
        self.block_on(self.make_folders())
    }

    fn has_folders(&self) -> bool {
        !matches!(self.place, Remote::Bucket { .. })
    }

    fn is_sftp(&self) -> bool {
        matches!(self.place, Remote::Sftp { .. })
    }

    /// Runs work in the caller's thread, while the store's own drive the connections.
    fn block_on<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let runtime = self.runtime.as_ref().expect("the runtime is there until the store is dropped");
        // A library that gives up on words of a server must not take the process along.
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(work)));
        result.unwrap_or_else(|_| {
            let message = format!("The answer of {} was not understood: the library for it gave up", self.place);
            Err(Error::new(ErrorKind::Io, message))
        })
    }

    /// Makes one try, which ends when nothing has moved for too long.
    async fn once<T>(
        &self,
        terms: Terms,
        work: impl AsyncFnOnce(&Session) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Ok(_permit) = self.permits.acquire().await else {
            return Err(Failure::lasting(Cause::Lost, "the program ends, and its connections have ended"));
        };
        let call = Call::new(self.client.clone(), terms.purpose, terms.max_body_bytes, terms.digest);
        let is_blind = self.is_sftp() && terms.purpose == Purpose::Put;
        let blind = if is_blind { terms.len_bytes / MIN_BYTES_PER_SEC } else { 0 };
        let stall = self.policy.stall + Duration::from_secs(blind);
        let longest = self.policy.stall * CRAWL_STALLS + Duration::from_secs(terms.len_bytes / CRAWL_BYTES_PER_SEC);
        let entered = Cell::new(None);
        let run = async {
            let session = self.service.session(call.clone()).await?;
            entered.set(Some(session.entry));
            work(&session).await
        };
        let late = async {
            match terms.max_time {
                Some(max_time) => tokio::time::sleep(max_time).await,
                None => std::future::pending().await,
            }
        };
        let result = tokio::select! {
            result = run => result,
            () = late => {
                let text = format!("it was not done after {} s", terms.max_time.unwrap_or_default().as_secs());
                Err(Failure { is_temporary: call.status() == 0, ..Failure::open(Cause::Stalled, text) })
            }
            text = call.stalled(stall, longest) => Err(Failure::open(Cause::Stalled, text)),
        };
        let mut result = result;
        match &mut result {
            Ok(_) => self.was_reached.store(true, Relaxed),
            // What the credentials were refused for may be better with those that are in the file by now.
            Err(failure) if failure.may_be_of_credentials() => {
                failure.is_renewed = self.service.renew(entered.get(), failure.cause == Cause::Expired).await;
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
            self.service.leave().await;
        }
        result
    }

    /// Makes tries until one succeeds or there is no point in another.
    async fn retried<T>(
        &self,
        task: Task<'_>,
        terms: Terms,
        mut work: impl AsyncFnMut(&Session) -> Result<T, Failure>,
    ) -> Result<T> {
        let mut tries = Tries::new();
        loop {
            let failure = match self.once(terms.clone(), async |session| work(session).await).await {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            if !self.goes_on(&failure, &mut tries).await {
                return Err(tries.explain(&self.place, task, &failure));
            }
        }
    }

    /// Waits for the next try; false if there is none.
    async fn goes_on(&self, failure: &Failure, tries: &mut Tries) -> bool {
        let has_tokens = matches!(self.place, Remote::Bucket { service, .. } if service.has_tokens());
        // Nobody is at a place that has never answered; a name may be wrong, or a firewall in between.
        let is_unreached = failure.cause == Cause::Unreachable && !self.was_reached.load(Relaxed);
        if is_unreached && tries.count >= FIRST_TRIES {
            return false;
        }
        if failure.is_renewed && tries.renewals < MAX_RENEWALS {
            tries.renewals += 1;
        } else if has_tokens && failure.cause == Cause::Denied && !tries.was_denied {
            // A token may have expired: the next try asks for another.
            tries.was_denied = true;
        } else {
            let pause = self.policy.pause(failure, tries.count, tries.start.elapsed(), retry::random());
            let Some(pause) = pause else { return false };
            // A person who asked for more hears why nothing moves.
            match tries.count {
                ..3 => tracing::debug!("{}: {}, again in {} ms", self.place, failure.text, pause.as_millis()),
                _ => tracing::info!("{}: {}, to be tried for two minutes at most", self.place, failure.text),
            }
            tokio::time::sleep(pause).await;
        }
        tries.count += 1;
        self.client.counters.retries.fetch_add(1, Relaxed);
        true
    }

    /// Asks for an object's length and checksum; none if it is not there.
    async fn found(&self, task: Task<'_>, path: &str) -> Result<Option<service::Told>> {
        self.retried(task, Terms::of(Purpose::Stat), async |session| match session.stat(path).await {
            Err(failure) if failure.cause == Cause::NotFound => Ok(None),
            told => told.map(Some),
        })
        .await
    }

    /// Hands `each` what comes, at most `max_bytes`, and returns how much that was; a try that is made again begins at 0
    /// again.
    async fn read(
        &self,
        object: Object,
        range: Option<Range<u64>>,
        max_bytes: u64,
        each: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<usize> {
        let path = object.path();
        let terms = Terms { len_bytes: max_bytes, max_body_bytes: max_bytes, ..Terms::of(Purpose::Get) };
        let task = Task { verb: "read", name: &path };
        self.retried(task, terms, async |session| session.read(&path, range.clone(), each).await).await
    }

    async fn read_all(&self, object: Object, max_bytes: u64) -> Result<Vec<u8>> {
        let mut whole = Vec::new();
        let each = &mut |at, bytes: &[u8]| {
            whole.truncate(at);
            whole.extend_from_slice(bytes);
        };
        let came_bytes = self.read(object, None, max_bytes, each).await?;
        // Of a try that came further than the last one.
        whole.truncate(came_bytes);
        Ok(whole)
    }
}

impl Store for RemoteStore {
    fn put(&self, object: Object, bytes: &[u8]) -> Result<()> {
        self.block_on(self.put_object(object, bytes::Bytes::copy_from_slice(bytes)))?;
        self.shown.lock().put(&object);
        if self.listings_lag {
            self.unlisted.lock().insert(object, true);
        }
        Ok(())
    }

    /// Listings of most services show at once what was stored and removed. Those of Swift, whose container databases
    /// are brought up to date later (OpenStack Swift, "Eventual consistency"), are asked until they show what this
    /// store did, and so are those of any S3 that is not Amazon's: it may be Swift's.
    fn barrier(&self, _names: Names) -> Result<()> {
        // Another call may wait for the same: nothing is taken off before a listing has shown it.
        let unlisted = self.unlisted.lock().clone();
        if unlisted.is_empty() {
            return Ok(());
        }
        self.block_on(self.wait_for_listings(&unlisted))?;
        self.unlisted.lock().retain(|object, is_put| unlisted.get(object) != Some(is_put));
        Ok(())
    }

    fn len_bytes(&self, object: Object) -> Result<u64> {
        let path = object.path();
        let task = Task { verb: "look for", name: &path };
        let terms = Terms::of(Purpose::Stat);
        let told = self.block_on(self.retried(task, terms, async |session| session.stat(&path).await))?;
        told.len_bytes
            .ok_or_else(|| Error::new(ErrorKind::Io, format!("{} does not tell the length of {path}", self.place)))
    }

    fn read_at(&self, object: Object, offset: u64, buffer: &mut [u8], wait: Wait) -> Result<()> {
        if wait == Wait::Never {
            return Err(Error::new(ErrorKind::WouldWait, "The bytes are far away"));
        }
        if buffer.is_empty() {
            return Ok(());
        }
        let len = buffer.len() as u64;
        // No more comes than was asked for, and all of it.
        let mut each = |at: usize, bytes: &[u8]| buffer[at..at + bytes.len()].copy_from_slice(bytes);
        self.block_on(self.read(object, Some(offset..offset + len), len, &mut each)).map(|_| ())
    }

    fn read_through(&self, object: Object, range: Range<u64>, each: &mut dyn FnMut(u64, &[u8])) -> Result<()> {
        let start = range.start;
        let len = range.end - start;
        if len == 0 {
            return Ok(());
        }
        let mut each = |at: usize, bytes: &[u8]| each(start + at as u64, bytes);
        self.block_on(self.read(object, Some(range), len, &mut each)).map(|_| ())
    }

    fn read_whole(&self, object: Object, max_bytes: u64) -> Result<Vec<u8>> {
        self.block_on(self.read_all(object, max_bytes))
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>> {
        self.block_on(self.listed(kind))
    }

    fn delete(&self, object: Object) -> Result<()> {
        let path = object.path();
        let task = Task { verb: "remove", name: &path };
        self.shown.lock().remove(object);
        let removed =
            self.retried(task, Terms::of(Purpose::Delete), async |session| match session.delete(&path).await {
                Err(failure) if failure.cause == Cause::NotFound => Ok(()),
                result => result,
            });
        self.block_on(removed)?;
        if self.listings_lag {
            self.unlisted.lock().insert(object, false);
        }
        Ok(())
    }

    fn sweep(&self) -> Result<u64> {
        if !self.has_folders() {
            return Ok(0);
        }
        self.block_on(self.sweep_folders())
    }

    fn location(&self) -> String {
        self.place.to_string()
    }

    fn address(&self) -> String {
        match &self.server {
            Some(server) => format!("{} at {server}", self.place),
            None => self.place.to_string(),
        }
    }
}

impl Hints for RemoteStore {
    fn connections(&self) -> usize {
        self.connections
    }

    fn is_far(&self) -> bool {
        true
    }

    fn traffic(&self) -> Traffic {
        self.client.counters.traffic()
    }
}

impl Drop for RemoteStore {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        let service = self.service.clone();
        // Connections of ssh are processes of their own, which end when they are told to.
        let left = runtime.block_on(async move { tokio::time::timeout(CLOSE_TIMEOUT, service.leave()).await });
        if left.is_err() {
            tracing::debug!("{}: a connection was not closed in time", self.place);
        }
        runtime.shutdown_timeout(CLOSE_TIMEOUT);
    }
}

/// Returns the id an object of a kind is named by.
fn id_of(kind: ObjectKind, path: &str) -> Option<ObjectId> {
    let id = ObjectId::from_hex(path.rsplit('/').next()?)?;
    // Servers may write paths in their own ways, but never end them in another name.
    kind.object(id).path().ends_with(path.rsplit('/').next()?).then_some(id)
}
