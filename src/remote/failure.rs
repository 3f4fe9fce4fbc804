//! Why one attempt at one operation failed: what may have happened all the same, whether to try again, and what to say.

use serde_json::Value;
use std::time::Duration;

/// A clock that is further from the server's than this breaks signatures (five minutes at Azure, fifteen at Amazon).
const MAX_SKEW_SECS: u64 = 4 * 60;
/// Of a server's own words this many characters are shown.
const MAX_WORDS: usize = 160;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The object or folder does not exist.
    NotFound,
    /// The bucket or container does not exist.
    NoBucket,
    /// The name is taken.
    Exists,
    /// The folder a name is to be in does not exist.
    NoFolder,
    /// There are no credentials.
    NoCredentials,
    /// The credentials are wrong or do not allow it.
    Denied,
    /// The token of a session has expired.
    Expired,
    /// The clock of this machine or of the server is wrong.
    Skew,
    /// The quota is used up.
    Full,
    /// The server's certificate does not verify.
    Tls,
    /// ssh does not know the server's key, or it has changed.
    HostKey,
    /// The server belongs to another region, or the bucket lies elsewhere.
    Elsewhere,
    /// No connection was made.
    Unreachable,
    /// The server asks for fewer requests.
    Busy,
    /// The connection was lost, or the server failed.
    Lost,
    /// Nothing moved for too long.
    Stalled,
    /// The object is longer than its kind may be.
    TooLong,
    /// The object ends before the bytes that were asked for.
    Short,
    /// The server holds other bytes than were sent.
    Garbled,
    /// The answer to the question for a listing is none, or not all of one.
    NoListing,
    /// Anything else: a request the server does not understand, an answer that makes no sense.
    Other,
}

/// A failed attempt.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// What went wrong.
    pub cause: Cause,
    /// What is shown: without secrets, signed URLs and what else the server knows.
    pub text: String,
    /// Whether the next attempt may go better.
    pub is_temporary: bool,
    /// Whether the server may have done, or may still do, what it was asked for.
    pub may_have_happened: bool,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
    /// Whether the credentials have been renewed since: the next attempt goes with others.
    pub is_renewed: bool,
}

impl Failure {
    /// Makes one after which nothing has happened, and the next attempt would go the same way.
    pub fn lasting(cause: Cause, text: impl Into<String>) -> Self {
        Failure {
            cause,
            text: text.into(),
            is_temporary: false,
            may_have_happened: false,
            retry_after: None,
            is_renewed: false,
        }
    }

    /// Makes one after which nothing has happened, and the next attempt may go better.
    pub fn passing(cause: Cause, text: impl Into<String>) -> Self {
        Failure { is_temporary: true, ..Failure::lasting(cause, text) }
    }

    /// Makes one that leaves open what has happened.
    pub fn open(cause: Cause, text: impl Into<String>) -> Self {
        Failure { may_have_happened: true, ..Failure::passing(cause, text) }
    }

    /// Returns whether other credentials may do better. An answer to HEAD has no body that tells (RFC 9110, 9.3.2).
    pub fn may_be_of_credentials(&self) -> bool {
        use Cause::{Denied, Elsewhere, Expired, NoCredentials, Other};
        !self.is_temporary && matches!(self.cause, Denied | Elsewhere | Expired | NoCredentials | Other)
    }

    /// Judges it as that of a login, which says nothing of any object.
    pub fn of_login(self) -> Self {
        let text = format!("logging in: {}", self.text);
        match self.cause {
            Cause::NotFound | Cause::NoBucket | Cause::NoFolder | Cause::Exists | Cause::Short | Cause::TooLong => {
                Failure::lasting(Cause::NoCredentials, text)
            }
            _ => Failure { text, ..self },
        }
    }

    /// Judges an answer of an HTTP server that is not the expected one.
    pub(super) fn of_reply(reply: &Reply) -> Self {
        let text = reply.to_string();
        let code = reply.code.as_str();
        let failure = match (reply.status, code) {
            (_, "NoSuchBucket" | "ContainerNotFound" | "bad_bucket_id") => Failure::lasting(Cause::NoBucket, text),
            (_, "RequestTimeTooSkewed") => Failure::lasting(Cause::Skew, text),
            // Amazon S3 API, "Error responses", and AWS STS.
            (
                _,
                "ExpiredToken" | "InvalidToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "RequestExpired",
            ) => Failure::lasting(Cause::Expired, text),
            (_, "expired_auth_token" | "bad_auth_token") => Failure::lasting(Cause::Denied, text),
            (407, _) => Failure::lasting(
                Cause::Other,
                "the proxy wants a user and a password, as in http_proxy=http://USER:PASSWORD@HOST:PORT",
            ),
            (401 | 403, _) if reply.skew_secs.is_some_and(|secs| secs > MAX_SKEW_SECS) => {
                Failure::lasting(Cause::Skew, text)
            }
            (
                _,
                "QuotaExceeded" | "XMinioStorageFull" | "storage_cap_exceeded" | "cap_exceeded" | "InsufficientStorage",
            ) => Failure::lasting(Cause::Full, text),
            (413 | 507, _) => Failure::lasting(Cause::Full, text),
            (_, "SlowDown" | "TooManyRequests" | "RequestTimeout" | "OperationAborted" | "rateLimitExceeded") => {
                Failure::passing(Cause::Busy, text)
            }
            (_, "BadDigest" | "XAmzContentSHA256Mismatch" | "Md5Mismatch") | (422, _) => {
                Failure::passing(Cause::Garbled, text)
            }
            (401 | 403, _) => Failure::lasting(Cause::Denied, text),
            (404 | 410, _) => Failure::lasting(Cause::NotFound, text),
            (408 | 421 | 423 | 425 | 429 | 503, _) => Failure::passing(Cause::Busy, text),
            (409, _) => Failure::lasting(Cause::NoFolder, text),
            (412, _) => Failure::lasting(Cause::Exists, text),
            (416, _) => Failure::passing(Cause::Short, text),
            // Where the body tells nothing, as of an answer to HEAD, the header does (Amazon S3 API, "HeadBucket").
            (301 | 307 | 400, "") if let Some(region) = &reply.region => {
                Failure::lasting(Cause::Elsewhere, format!("{text}, the bucket is in {region}"))
            }
            (300..=399, _)
            | (_, "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
                Failure::lasting(Cause::Elsewhere, text)
            }
            (500.., _) => Failure::open(Cause::Lost, text),
            // An answer that began well and broke off.
            (200..=299, _) => Failure::open(Cause::Lost, "the connection broke off in the middle of an answer"),
            _ => Failure::lasting(Cause::Other, text),
        };
        Failure { retry_after: reply.retry_after, ..failure }
    }

    /// Judges what ssh and its subsystem sftp say.
    pub fn of_ssh(words: &str) -> Self {
        let has = |part: &str| words.contains(part);
        let text = format!("ssh says: {}", plain(words));
        if has("Host key verification failed") || has("host key is known") || has("IDENTIFICATION HAS CHANGED") {
            Failure::lasting(Cause::HostKey, text)
        } else if has("Permission denied (") || has("Too many authentication failures") || has("Load key") {
            Failure::lasting(Cause::Denied, text)
        } else if has("No such file or directory (os error 2)") {
            Failure::lasting(Cause::Other, "the program `ssh` is not installed")
        } else if has("too long for Unix domain socket") || has("ControlPath too long") {
            Failure::lasting(
                Cause::Other,
                "the path of ssh's control socket is too long: set XDG_RUNTIME_DIR or TMPDIR to a short folder of your own",
            )
        } else if has("Bad configuration option")
            || has("bad permissions")
            || has("Bad owner")
            || has("subsystem request failed")
            || has("Bad port")
            || has("terminating, ")
        {
            Failure::lasting(Cause::Other, text)
        } else if [
            "onnection refused",
            "resolve host",
            "timed out",
            "No route",
            "unreachable",
            "failed to connect",
            "timeout",
        ]
        .iter()
        .any(|part| has(part))
        {
            Failure::passing(Cause::Unreachable, text)
        } else if has("o space left") || has("uota") {
            Failure::lasting(Cause::Full, text)
        } else if has("error kind Failure") {
            // SSH_FX_FAILURE, all that version 3 of the protocol has for a disk that is full.
            Failure::passing(
                Cause::Other,
                "the server says `Failure` and no more, as one whose disk or quota is full does",
            )
        } else {
            Failure::open(Cause::Lost, text)
        }
    }
}

/// The head of an answer of an HTTP server, as far as it tells why a request failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reply {
    /// The status, 0 where there was no answer.
    pub status: u16,
    /// The service's own code of the error.
    pub code: String,
    /// The service's own words.
    pub words: String,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
    /// How far the server's clock is from this machine's, where requests are signed with the time.
    pub skew_secs: Option<u64>,
    /// The region a bucket of Amazon's is in.
    pub region: Option<String>,
}

impl Reply {
    /// Takes code and words from an error's body: XML of S3 and Azure, JSON of B2, Google and OpenStack.
    pub fn read_body(&mut self, body: &[u8]) {
        let text = String::from_utf8_lossy(body);
        let element = |name: &str| {
            let begin = text.find(&format!("<{name}>"))? + name.len() + 2;
            let len = text[begin..].find(&format!("</{name}>"))?;
            Some(text[begin..begin + len].to_owned())
        };
        if let Some(code) = element("Code") {
            self.code = plain(&code);
            self.words = plain(&element("Message").unwrap_or_default());
        } else if let Ok(json) = serde_json::from_slice::<Value>(body) {
            let error = json.get("error").unwrap_or(&json);
            let reason = error.pointer("/errors/0/reason").or_else(|| error.get("code"));
            self.code = plain(reason.and_then(Value::as_str).unwrap_or_default());
            self.words = plain(error.get("message").and_then(Value::as_str).unwrap_or_default());
        }
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the server answered {}", self.status)?;
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        if !self.words.is_empty() {
            write!(f, ", {}", self.words)?;
        }
        Ok(())
    }
}

/// Makes foreign words fit to show: one line, no control characters, no URLs with their queries, not too long.
pub(super) fn plain(words: &str) -> String {
    let line = words.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let shown: Vec<&str> = line
        .split_whitespace()
        .map(|word| if word.contains("://") && word.contains(['?', '@']) { "(a URL)" } else { word })
        .collect();
    shown.join(" ").chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Failure {
        let mut reply = Reply { status, ..Reply::default() };
        reply.read_body(body.as_bytes());
        Failure::of_reply(&reply)
    }

    fn xml(code: &str) -> String {
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>words\nmore</Message></Error>")
    }

    #[test]
    fn answers_are_judged_by_what_may_have_happened() {
        use Cause::*;
        for (status, body, cause, is_temporary, may_have_happened) in [
            (404, xml("NoSuchKey"), NotFound, false, false),
            (404, xml("NoSuchBucket"), NoBucket, false, false),
            (403, xml("AccessDenied"), Denied, false, false),
            (403, xml("RequestTimeTooSkewed"), Skew, false, false),
            (403, xml("QuotaExceeded"), Full, false, false),
            (400, xml("RequestTimeout"), Busy, true, false),
            (400, xml("BadDigest"), Garbled, true, false),
            (400, xml("ExpiredToken"), Expired, false, false),
            (400, xml("InvalidToken"), Expired, false, false),
            (407, String::new(), Other, false, false),
            (422, String::new(), Garbled, true, false),
            (429, String::new(), Busy, true, false),
            (503, xml("SlowDown"), Busy, true, false),
            (503, String::new(), Busy, true, false),
            (500, xml("InternalError"), Lost, true, true),
            (502, "<html>".into(), Lost, true, true),
            (504, String::new(), Lost, true, true),
            (507, String::new(), Full, false, false),
            (301, xml("PermanentRedirect"), Elsewhere, false, false),
            (200, String::new(), Lost, true, true),
            (401, r#"{"code":"bad_auth_token","message":"m","status":401}"#.into(), Denied, false, false),
            (403, r#"{"code":"storage_cap_exceeded","message":"m","status":403}"#.into(), Full, false, false),
            (
                403,
                r#"{"error":{"code":403,"message":"m","errors":[{"reason":"rateLimitExceeded"}]}}"#.into(),
                Busy,
                true,
                false,
            ),
        ] {
            let failure = reply(status, &body);
            let found = (failure.cause, failure.is_temporary, failure.may_have_happened);
            assert_eq!(found, (cause, is_temporary, may_have_happened), "{status} {body}");
        }
        let skewed = Reply { status: 403, skew_secs: Some(1000), ..Reply::default() };
        assert_eq!(Failure::of_reply(&skewed).cause, Skew);
        let expired = Reply { code: "expired_auth_token".into(), ..skewed };
        assert_eq!(Failure::of_reply(&expired).cause, Denied, "it says that it is no clock");
    }

    #[test]
    fn words_of_servers_are_shown_short_and_without_signed_urls() {
        let failure = reply(403, &xml("AccessDenied"));
        assert_eq!(failure.text, "the server answered 403 AccessDenied, words");
        assert_eq!(plain("see https://h/o?X-Amz-Signature=S3CRET now\u{7}"), "see (a URL) now");
        assert_eq!(plain("https://me:S3CRET@h/ x"), "(a URL) x");
        assert!(plain(&"x".repeat(9999)).len() <= MAX_WORDS);
        assert_eq!(reply(502, "<html>S3CRET</html>").text, "the server answered 502");
    }

    #[test]
    fn words_of_ssh_are_judged() {
        for (words, cause, is_temporary) in [
            (
                "No ED25519 host key is known for [h]:22 and you have requested strict checking.\r\n…",
                Cause::HostKey,
                false,
            ),
            ("me@h: Permission denied (publickey).", Cause::Denied, false),
            ("unix_listener: path \"/x/master.a\" too long for Unix domain socket", Cause::Other, false),
            ("subsystem request failed on channel 0", Cause::Other, false),
            ("connect to host h port 22: Connection refused", Cause::Unreachable, true),
            ("Could not resolve hostname h: Name or service not known", Cause::Unreachable, true),
            ("the connection was terminated", Cause::Lost, true),
        ] {
            let failure = Failure::of_ssh(words);
            assert_eq!((failure.cause, failure.is_temporary), (cause, is_temporary), "{words}");
        }
    }
}
