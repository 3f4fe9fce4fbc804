//! Requests to the URLs that are told of runs.

use crate::error::{Context, Error, ErrorKind, Result};
use crate::quantity::counted;
use crate::text;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// A try takes no longer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A connection is made within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The waits between tries.
const WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];
/// All tries to tell of a run's beginning take no longer together, and all to tell of its end: what is told later waits
/// for them.
pub const START_LIMIT: Duration = Duration::from_secs(30);
pub const END_LIMIT: Duration = Duration::from_secs(60);
/// The most redirects that are followed.
const MAX_REDIRECTS: usize = 3;
/// The most of a message that a ping carries: what healthchecks.io keeps of it.
const MAX_PING_BYTES: usize = 10_000;

/// Asks for a URL, with the beginning of a text as the body if there is one. A ping that fails is tried again.
pub fn ping(what: &str, url: &str, text: Option<&str>, limit: Duration) -> Result<()> {
    let body = text.map(|text| ("text/plain; charset=utf-8", beginning(text).to_string()));
    Request { what, url: parse(what, url)?, body, is_ping: true, limit }.send()
}

/// Sends a JSON object. It is tried again only where no connection came about, so that nobody is told twice.
pub fn post(what: &str, url: &str, value: &serde_json::Value) -> Result<()> {
    let body = Some(("application/json", value.to_string()));
    Request { what, url: parse(what, url)?, body, is_ping: false, limit: END_LIMIT }.send()
}

/// Connects to a URL's host and asks nothing of it.
pub fn connect(what: &str, url: &str) -> Result<()> {
    let url = parse(what, url)?;
    let connecting = || format!("{} cannot be reached: check the host in the configuration", named(what, &url));
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let addresses = (host, url.port_or_known_default().unwrap_or(0)).to_socket_addrs().context(connecting)?;
    let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(Error::io(connecting(), last))
}

/// Returns the name of a URL's use for people, without what is secret in it.
pub fn subject(what: &str, url: &str) -> String {
    parse(what, url).map_or(what.to_string(), |url| named(what, &url))
}

fn named(what: &str, url: &Url) -> String {
    format!("{what} at {}", url.origin().ascii_serialization())
}

/// Reads a URL. What is wrong with it is told without it.
fn parse(what: &str, url: &str) -> Result<Url> {
    if let Some(why) = text::refused_address(url) {
        return Err(Error::usage(format!("notify.{what} {why}, as in https://HOST/PATH")));
    }
    let found = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    found.ok_or_else(|| Error::usage(format!("notify.{what} is no URL: write it as https://HOST/PATH")))
}

/// Cuts a text to what a ping carries, between characters.
fn beginning(text: &str) -> &str {
    let mut end = text.len().min(MAX_PING_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// What is asked of a server, and whether it may be asked twice.
struct Request<'a> {
    what: &'a str,
    url: Url,
    body: Option<(&'static str, String)>,
    is_ping: bool,
    limit: Duration,
}

/// How a try failed.
struct Failure {
    error: Error,
    is_worth_a_try: bool,
}

impl Request<'_> {
    fn send(&self) -> Result<()> {
        let starting = || "Cannot start what speaks HTTP".to_string();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context(starting)?;
        let told = runtime.block_on(async {
            let told = tokio::time::timeout(self.limit, self.try_several_times()).await;
            told.unwrap_or_else(|_| {
                let limit = counted(self.limit.as_secs(), "second");
                let named = named(self.what, &self.url);
                Err(Error::new(ErrorKind::Io, format!("Cannot tell {named} of the run: no answer within {limit}")))
            })
        });
        // A name that is still being looked up is not waited for.
        runtime.shutdown_background();
        told
    }

    async fn try_several_times(&self) -> Result<()> {
        let client = self.client()?;
        let mut waits = WAITS.into_iter();
        loop {
            let Err(failure) = self.try_once(&client).await else { return Ok(()) };
            match waits.next() {
                Some(wait) if failure.is_worth_a_try => tokio::time::sleep(wait).await,
                _ => return Err(failure.error),
            }
        }
    }

    fn client(&self) -> Result<Client> {
        let is_ping = self.is_ping;
        // A message must not go on without its text (RFC 9110, 15.4), nor from a secure place to an open one.
        let redirects = Policy::custom(move |attempt| {
            let keeps_text =
                is_ping || matches!(attempt.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
            let was_secure = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
            let is_open = attempt.url().scheme() != "https";
            if attempt.previous().len() > MAX_REDIRECTS || !keeps_text || (was_secure && is_open) {
                return attempt.stop();
            }
            attempt.follow()
        });
        let client = Client::builder()
            .user_agent(concat!("bakfs/", env!("CARGO_PKG_VERSION")))
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            // Where a redirect leads is not told the secret URL.
            .referer(false)
            .redirect(redirects)
            .build();
        client.map_err(|error| {
            let message = "Cannot set up connections over TLS: are the system's certificates installed?";
            Error::new(ErrorKind::Io, message).because(error.without_url())
        })
    }

    /// Sends it once. Nothing of the answer's body is read.
    async fn try_once(&self, client: &Client) -> Result<(), Failure> {
        let request = match &self.body {
            None => client.get(self.url.clone()),
            Some((kind, text)) => {
                client.post(self.url.clone()).header(http::header::CONTENT_TYPE, *kind).body(text.clone())
            }
        };
        let telling = || format!("Cannot tell {} of the run", named(self.what, &self.url));
        let answer = request.send().await.map_err(|error| Failure {
            is_worth_a_try: self.is_ping || error.is_connect(),
            error: Error::new(ErrorKind::Io, telling()).because(error.without_url()),
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let hint = match status {
            _ if status.is_redirection() => "write the URL it leads to",
            _ if status.is_server_error() => "the server has a problem of its own",
            _ => "check the URL in the configuration",
        };
        let may_change = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        Err(Failure {
            is_worth_a_try: self.is_ping && may_change,
            error: Error::new(ErrorKind::Io, format!("{}: it answers {}: {hint}", telling(), status.as_u16())),
        })
    }
}
