//! What a failure is called in front of people: what was attempted, on which object, how often, what to check.

use super::failure::{Cause, Failure};
use crate::error::{Error, ErrorKind};
use crate::place::{Remote, Service};
use std::time::Duration;

/// What is attempted on what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Task<'a> {
    /// A verb: `read`, `store`.
    pub verb: &'a str,
    /// A path, or what it is called.
    pub name: &'a str,
}

/// Makes an error of the last failure.
///
/// `landmark` is what lies at every place in use ([`super::Client::with_landmark`]).
pub(super) fn explain(
    place: &Remote,
    task: Task<'_>,
    failure: &Failure,
    attempts: u32,
    elapsed: Duration,
    landmark: Option<&str>,
) -> Error {
    let Task { verb, name } = task;
    let tried = match attempts {
        0 | 1 => String::new(),
        _ => format!(" (tried {attempts} times in {} s)", elapsed.as_secs()),
    };
    let advice = advice(place, failure.cause);
    Error::new(
        kind(failure.cause, landmark == Some(name)),
        format!("Cannot {verb} {name} at {place}: {}{tried}{advice}", failure.text),
    )
}

fn kind(cause: Cause, is_landmark: bool) -> ErrorKind {
    match cause {
        Cause::NotFound => ErrorKind::NotFound,
        // Without its bucket a place is not in use; that one of its other files is gone is not said by that.
        Cause::NoBucket | Cause::NoFolder if is_landmark => ErrorKind::NotFound,
        Cause::NoBucket | Cause::NoFolder => ErrorKind::Io,
        Cause::Exists => ErrorKind::Exists,
        Cause::NoCredentials | Cause::Denied | Cause::Expired | Cause::Skew | Cause::HostKey => ErrorKind::Denied,
        Cause::Full => ErrorKind::Full,
        Cause::TooLong | Cause::Short => ErrorKind::Damaged,
        Cause::Unreachable => ErrorKind::Unreachable,
        Cause::Tls
        | Cause::Elsewhere
        | Cause::Busy
        | Cause::Lost
        | Cause::Stalled
        | Cause::Garbled
        | Cause::NoListing
        | Cause::Other => ErrorKind::Io,
    }
}

fn advice(place: &Remote, cause: Cause) -> String {
    let secrets = match place {
        Remote::Bucket { service, .. } => service.secrets(),
        Remote::Sftp { .. } => "ssh-agent and ~/.ssh/config: `ssh` must log in without asking",
        Remote::WebDav { .. } => "WEBDAV_USER and WEBDAV_PASSWORD or ~/.netrc",
    };
    match cause {
        Cause::NotFound | Cause::Exists | Cause::TooLong | Cause::Short | Cause::Other => String::new(),
        Cause::NoBucket => "; make it first, with your provider's own tools".into(),
        Cause::NoFolder => "; `bakfs init` makes the folders of a repository".into(),
        Cause::NoCredentials => format!("; set {secrets}"),
        Cause::Expired => "; get a new session token: a profile of ~/.aws/credentials (aws_session_token) or the place's table of \
             credentials.toml is read again when it is renewed, AWS_SESSION_TOKEN of a program that runs is not"
            .into(),
        Cause::Denied if matches!(place, Remote::Bucket { service: Service::S3, .. }) => format!(
            "; check {secrets}, whether a session token (AWS_SESSION_TOKEN) has expired, and that they may list, read, write \
             and delete there"
        ),
        Cause::Denied => format!("; check {secrets}, and that they may list, read, write and delete there"),
        Cause::Skew => {
            "; the clocks of this machine and of the server differ: set this machine's (`timedatectl`)".into()
        }
        Cause::Full => "; make room there, or ask for a larger quota".into(),
        Cause::Tls => "; the certificate of an authority of your own belongs in the file SSL_CERT_FILE names".into(),
        Cause::HostKey => match place {
            Remote::Sftp { user, host, port, .. } => {
                let at = user.as_ref().map_or(String::new(), |user| format!("{user}@"));
                let port = port.map_or(String::new(), |port| format!("-p {port} "));
                format!("; run `ssh {port}{at}{host}` once and compare the fingerprint with the server's own")
            }
            _ => String::new(),
        },
        Cause::Elsewhere => match place {
            Remote::Bucket { service: Service::S3, .. } => {
                "; check AWS_REGION and AWS_ENDPOINT_URL, and whether AWS_SESSION_TOKEN has expired".into()
            }
            _ => "; the server sends elsewhere: check the URL".into(),
        },
        Cause::Unreachable => "; check the host, its port and the network".into(),
        Cause::NoListing => {
            "; something else may answer in the server's place (a page to log in, a proxy): look at what the URL gives, \
             or try again later"
                .into()
        }
        Cause::Busy | Cause::Lost | Cause::Stalled | Cause::Garbled => {
            "; the server, or the way to it, is in trouble: try again later".into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Place;

    #[test]
    fn every_failure_says_what_to_do_next() {
        let place = |text: &str| match Place::parse(text).unwrap() {
            Place::Remote(remote) => remote,
            Place::Local(_) => panic!(),
        };
        let (s3, sftp) = (place("s3://bucket/p"), place("sftp://me@host:2222/srv"));
        let task = Task { verb: "read", name: "config" };
        for (place, cause, kind, expected) in [
            (&s3, Cause::NoBucket, ErrorKind::NotFound, "make it first"),
            (&s3, Cause::Denied, ErrorKind::Denied, "AWS_ACCESS_KEY_ID"),
            (&s3, Cause::Denied, ErrorKind::Denied, "AWS_SESSION_TOKEN"),
            (&s3, Cause::Expired, ErrorKind::Denied, "aws_session_token"),
            (&s3, Cause::Skew, ErrorKind::Denied, "clock"),
            (&s3, Cause::Full, ErrorKind::Full, "quota"),
            (&s3, Cause::Elsewhere, ErrorKind::Io, "AWS_REGION"),
            (&s3, Cause::Tls, ErrorKind::Io, "SSL_CERT_FILE"),
            (&s3, Cause::NotFound, ErrorKind::NotFound, "config at s3://bucket/p"),
            (&sftp, Cause::HostKey, ErrorKind::Denied, "`ssh -p 2222 me@host` once and compare the fingerprint"),
            (&sftp, Cause::Denied, ErrorKind::Denied, "ssh-agent"),
            (&sftp, Cause::Unreachable, ErrorKind::Unreachable, "port"),
        ] {
            let failure = Failure::lasting(cause, "words");
            let error = explain(place, task, &failure, 3, Duration::from_secs(7), Some("config"));
            assert_eq!(error.kind(), kind, "{cause:?}");
            let text = error.chain();
            assert!(text.starts_with("Cannot read config at ") && text.contains(expected), "{text}");
            assert!(text.contains("words (tried 3 times in 7 s)"), "{text}");
        }
    }
}
