//! The library's error: what was attempted, on which object, and what to do next. Causes chain.

use std::error::Error as StdError;
use std::fmt;

/// What a caller decides on; the text is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The object or path does not exist.
    NotFound,
    /// There is no repository at the place.
    NoRepository,
    /// It exists already and is never overwritten.
    Exists,
    /// Stored bytes are missing, changed or do not verify.
    Damaged,
    /// Stored bytes are those that were stored, and no program with the repository's key has written them.
    Foreign,
    /// The repository was made by a newer bakfs, or is not a repository.
    Unsupported,
    /// The key or passphrase does not open it.
    Locked,
    /// There is no key and no passphrase to open it with.
    NoKey,
    /// What is at a place is not what was there before, or not what is expected there.
    Exchanged,
    /// What was asked for makes no sense; wrong usage.
    Usage,
    /// No room on the device.
    Full,
    /// A name leads to another file than it did when it was first looked at.
    Replaced,
    /// The answer is not in memory and the caller may not wait for it.
    WouldWait,
    /// Another prune or repair runs, or what is looked at changes.
    Busy,
    /// A prune has taken this writer for dead.
    Fenced,
    /// Whether a store did what it was asked for is not known, and it may still do it.
    Uncertain,
    /// The place does not let this user, or these credentials, do it.
    Denied,
    /// No connection to the place was made.
    Unreachable,
    /// Standard output could not be written.
    Output,
    /// Any other failure of the disk, the network or the system.
    Io,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [ErrorKind; 20] = [
        ErrorKind::NotFound,
        ErrorKind::NoRepository,
        ErrorKind::Exists,
        ErrorKind::Damaged,
        ErrorKind::Foreign,
        ErrorKind::Unsupported,
        ErrorKind::Locked,
        ErrorKind::NoKey,
        ErrorKind::Exchanged,
        ErrorKind::Usage,
        ErrorKind::Full,
        ErrorKind::Replaced,
        ErrorKind::WouldWait,
        ErrorKind::Busy,
        ErrorKind::Fenced,
        ErrorKind::Uncertain,
        ErrorKind::Denied,
        ErrorKind::Unreachable,
        ErrorKind::Output,
        ErrorKind::Io,
    ];

    /// Returns the kind of a word.
    pub fn of_word(word: &str) -> Option<ErrorKind> {
        ErrorKind::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// Returns the word programs know it by, in `--json` (docs/operations.md, "Exit codes"). Words stay what they are.
    pub fn word(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "not-found",
            ErrorKind::NoRepository => "no-repository",
            ErrorKind::Exists => "exists",
            ErrorKind::Damaged => "damaged",
            ErrorKind::Foreign => "foreign",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Locked => "wrong-key",
            ErrorKind::NoKey => "no-key",
            ErrorKind::Exchanged => "exchanged",
            ErrorKind::Usage => "usage",
            ErrorKind::Full => "full",
            ErrorKind::Replaced => "replaced",
            ErrorKind::WouldWait => "would-wait",
            ErrorKind::Busy => "busy",
            ErrorKind::Fenced => "fenced",
            ErrorKind::Uncertain => "uncertain",
            ErrorKind::Denied => "denied",
            ErrorKind::Unreachable => "unreachable",
            ErrorKind::Output => "output",
            ErrorKind::Io => "io",
        }
    }
}

/// An error with its kind, a sentence, and its cause.
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Makes an error without a cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), source: None }
    }

    /// Makes an error of stored bytes that are missing, changed or do not verify.
    pub fn damaged(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Damaged, message)
    }

    /// Says that something is not possible by a program that was built without a feature.
    pub fn without_feature(what: &str, feature: &str) -> Self {
        let message =
            format!("{what}: this bakfs was built without the feature `{feature}`. Install one that was built with it");
        Error::new(ErrorKind::Unsupported, message)
    }

    /// Makes an error of wrong usage.
    pub fn usage(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Usage, message)
    }

    /// Adds the cause.
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says more of stored bytes that cannot be used, damaged or foreign; other errors stay as they are.
    pub fn of_stored(self, message: impl Into<String>) -> Self {
        match self.kind {
            ErrorKind::Damaged | ErrorKind::Foreign => Error::new(self.kind, message).because(self),
            _ => self,
        }
    }

    /// Makes an error from a failed system call, keeping the kinds callers decide on.
    pub fn io(message: impl Into<String>, error: impl Into<std::io::Error>) -> Self {
        let error = error.into();
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::AlreadyExists => ErrorKind::Exists,
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::Full,
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
            _ => ErrorKind::Io,
        };
        Error { kind, message: message.into(), source: Some(Box::new(error)) }
    }

    /// Makes the error of a failed read: the library's own where the stream had one to tell.
    pub fn of_read(attempted: impl Into<String>, error: std::io::Error) -> Self {
        match error.downcast::<Error>() {
            Ok(error) => error,
            Err(error) => Error::io(attempted, error),
        }
    }

    /// Returns what callers decide on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the number of the system call's failure that caused it, if one did (errno(3)).
    pub fn os_error(&self) -> Option<i32> {
        let mut cause = self.source();
        while let Some(error) = cause {
            if let Some(number) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
                return Some(number);
            }
            cause = error.source();
        }
        None
    }

    /// Returns the sentence with all its causes, joined by `: `.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.chain())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// Adds what was attempted to a failed system call.
pub trait Context<T> {
    /// Turns the failure into an [`Error`] that says what was attempted.
    fn context(self, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::io(message(), error))
    }
}
