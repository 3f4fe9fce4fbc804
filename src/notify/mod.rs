//! Telling people of runs: pings, a webhook, mail. What cannot be told never fails the run: it is returned.
//!
//! URLs are secrets, for whoever knows one can speak for this machine: errors name only scheme and host.

mod http;
mod mail;
pub mod message;

use crate::error::{Error, Result};
use crate::settings::file::Notify;
use crate::settings::values::Strings;
use crate::state::{Outcome, Run};
pub use message::message;

/// Tells that a run begins; returns what could not be told.
pub fn start(notify: &Notify) -> Vec<Error> {
    let told = notify.ping_start.iter().map(|url| http::ping("ping-start", url, None));
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
    let mut told: Vec<Result<()>> = url.iter().map(|url| http::ping(what, url, Some(&message.body))).collect();
    if !is_success || notify.on_success == Some(true) {
        told.extend(notify.webhook.iter().map(|url| http::post("webhook", url, &message::record(host, run))));
        let addresses = notify.mail.iter().flat_map(Strings::list).collect::<Vec<_>>();
        if !addresses.is_empty() {
            told.push(mail::send(notify, &addresses, host, &message));
        }
    }
    told.into_iter().filter_map(Result::err).collect()
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
