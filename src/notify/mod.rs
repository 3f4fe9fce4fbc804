//! Telling people of runs: pings, a webhook, mail. What cannot be told never fails the run: it is returned.
//!
//! URLs are secrets, for whoever knows one can speak for this machine: errors name only scheme and host.

#[cfg(feature = "remote")]
mod http;
#[cfg(not(feature = "remote"))]
#[path = "http_absent.rs"]
mod http;
mod mail;
pub mod message;

use crate::error::{Error, Result};
use crate::settings::file::Notify;
use crate::settings::values::Strings;
use crate::state::{Outcome, Run};
pub use message::message;
use std::thread::JoinHandle;

/// Tells that a run begins; returns what could not be told.
pub fn start(notify: &Notify) -> Vec<Error> {
    let told = notify.ping_start.iter().map(|url| http::ping("ping-start", url, None, http::START_LIMIT));
    told.filter_map(Result::err).collect()
}

/// Tells how a run has ended: an incomplete one as one that has failed. Mail and the webhook tell of success only with
/// `on-success`. Returns what could not be told.
pub fn ended(notify: &Notify, host: &str, run: &Run) -> Vec<Error> {
    let is_success = run.outcome == Outcome::Success;
    let message = message(host, run);
    let (what, url) = match is_success {
        true => ("ping-success", &notify.ping_success),
        false => ("ping-failure", &notify.ping_failure),
    };
    let ping = || url.as_ref().map(|url| http::ping(what, url, Some(&message.body), http::END_LIMIT));
    let is_told = !is_success || notify.on_success == Some(true);
    let post = || {
        let url = notify.webhook.as_ref().filter(|_| is_told)?;
        Some(http::post("webhook", url, &message::record(host, run)))
    };
    let send = || {
        let addresses = notify.mail.iter().filter(|_| is_told).flat_map(Strings::list).collect::<Vec<_>>();
        (!addresses.is_empty()).then(|| mail::send(notify, &addresses, host, &message))
    };
    // One that hangs keeps none of the others.
    let told = std::thread::scope(|scope| {
        let (ping, post) = (scope.spawn(ping), scope.spawn(post));
        let sent = send();
        [ping.join().unwrap_or_default(), post.join().unwrap_or_default(), sent]
    });
    told.into_iter().flatten().filter_map(Result::err).collect()
}

/// Somebody is being told, beside whatever else goes on.
#[derive(Debug, Default)]
pub struct Telling {
    thread: Option<JoinHandle<Vec<Error>>>,
    failures: Vec<Error>,
}

impl Telling {
    fn begin(tell: impl FnOnce() -> Vec<Error> + Send + 'static) -> Self {
        match std::thread::Builder::new().name("notify".into()).spawn(tell) {
            Ok(thread) => Telling { thread: Some(thread), failures: Vec::new() },
            Err(error) => Telling { thread: None, failures: vec![Error::io("Cannot start a thread", error)] },
        }
    }

    /// Begins to tell that a run begins: the run does not wait for it.
    pub fn start(notify: &Notify) -> Self {
        if notify.ping_start.is_none() {
            return Telling::default();
        }
        let notify = notify.clone();
        Telling::begin(move || start(&notify))
    }

    /// Goes on to tell how the run has ended, once its beginning is told: who measures how long it took hears of both in
    /// their order. The next run does not wait for it.
    pub fn ended(self, notify: &Notify, host: &str, run: &Run) -> Self {
        let (notify, host, run) = (notify.clone(), host.to_string(), run.clone());
        Telling::begin(move || {
            let mut failures = self.finish();
            failures.extend(ended(&notify, &host, &run));
            failures
        })
    }

    /// Waits until all is told or given up, which takes no longer than two minutes; returns what could not be told.
    pub fn finish(self) -> Vec<Error> {
        let mut failures = self.failures;
        failures.extend(self.thread.into_iter().flat_map(|thread| thread.join().unwrap_or_default()));
        failures
    }
}

/// Tries what a run would tell by, without telling anything: each with what is wrong with it. Hosts are connected to,
/// and nothing is asked of them.
pub fn check(notify: &Notify) -> Vec<(String, Option<Error>)> {
    let urls = [
        ("ping-start", &notify.ping_start),
        ("ping-success", &notify.ping_success),
        ("ping-failure", &notify.ping_failure),
        ("webhook", &notify.webhook),
    ];
    let urls = urls.into_iter().filter_map(|(what, url)| Some((what, url.as_ref()?)));
    let mut found: Vec<_> =
        urls.map(|(what, url)| (http::subject(what, url), http::connect(what, url).err())).collect();
    if let Some(addresses) = &notify.mail {
        let addresses = addresses.list();
        found.push((format!("mail to {}", addresses.join(", ")), mail::check(notify, &addresses).err()));
    }
    found
}
