//! What a mount tells while it lives.

use crate::quantity::counted;
use crate::view::News;
use bakfs_mount::tree::Failure;
use std::fmt;

/// What a mount tells while it lives; its text is for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Something that a person should know of what is shown, or how it is stored. Each text comes once, and again where
    /// very many others came.
    Warning(String),
    /// A request of the kernel that was answered with EIO.
    Failure(Failure),
    /// The repository could not be looked at for new snapshots, and why. It comes with each look that fails, up to four
    /// times a second.
    LookFailed(String),
    /// The repository can be looked at again, after so many looks had failed.
    LookSucceeded(u64),
    /// Extended attributes and ACLs came after the mount had begun without any: it has begun anew and shows them.
    Renewed,
    /// The mount cannot begin anew to show extended attributes and ACLs, and why.
    NotRenewed(String),
    /// The mount has ended, and was not unmounted: why it could not be served any more.
    Stopped(String),
    /// The mount could not be taken away when its [`Service`](super::Service) was dropped, or not all of it, and why.
    NotEnded(String),
}

impl Note {
    /// Says whether something failed that was asked for, and was not only found.
    pub fn is_error(&self) -> bool {
        matches!(self, Note::Failure(_) | Note::NotRenewed(_) | Note::Stopped(_) | Note::NotEnded(_))
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Warning(text) | Note::NotEnded(text) => f.write_str(text),
            Note::Failure(failure) => failure.fmt(f),
            Note::LookFailed(why) => write!(f, "New snapshots cannot be shown: {why}"),
            Note::LookSucceeded(failed) => {
                write!(f, "The repository can be looked at again, after {} had failed", counted(*failed, "look"))
            }
            Note::Stopped(why) => write!(f, "Serving the mount failed: {why}"),
            Note::Renewed => f.write_str("The mount has begun anew and shows extended attributes and ACLs"),
            Note::NotRenewed(why) => {
                write!(f, "The mount cannot begin anew to show extended attributes and ACLs: {why}")
            }
        }
    }
}

impl From<News> for Note {
    fn from(news: News) -> Note {
        match news {
            News::Warning(text) => Note::Warning(text),
            News::Failure(failure) => Note::Failure(failure),
        }
    }
}
