//! Standard output, and what a failure to write it means.
//!
//! Whoever reads a listing may go when they have seen enough (`bakfs ls -R latest | head`): that is no failure.
//! Content, JSON and what a dry run would do are of no use in part, so there it is one. The two are told apart by the
//! type of the error, which only this file makes: a broken pipe of a store or a source is another matter.

use crate::error::{Error, ErrorKind};
use crate::trust::descriptors;
use parking_lot::Mutex;
use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether anything went to standard output.
static WAS_USED: AtomicBool = AtomicBool::new(false);
/// Why a closing line could not be written, the first time.
static UNTOLD: Mutex<Option<NotWritten>> = Mutex::new(None);

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Lines for a person, who may stop reading.
    Listing,
    /// Nothing that is of use in part.
    Whole,
}

/// A failure to write standard output.
#[derive(Debug)]
pub struct NotWritten {
    what: What,
    error: io::Error,
}

impl fmt::Display for NotWritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Standard output could not be written whole: {}", self.error)
    }
}

impl std::error::Error for NotWritten {}

/// Standard output; its errors tell that they are its own.
pub struct Stdout<W> {
    what: What,
    out: W,
}

/// Returns standard output for lines that are of use in part, unless they are JSON.
pub fn listing(is_json: bool) -> Stdout<io::StdoutLock<'static>> {
    Stdout { what: if is_json { What::Whole } else { What::Listing }, out: io::stdout().lock() }
}

/// Returns standard output for what is of no use in part.
pub fn whole() -> Stdout<io::StdoutLock<'static>> {
    whole_to(io::stdout().lock())
}

/// Takes another way to standard output, for what is of no use in part.
pub fn whole_to<W: Write>(out: W) -> Stdout<W> {
    Stdout { what: What::Whole, out }
}

impl<W> Stdout<W> {
    /// Fails where this process has no standard output that could be written: /dev/null stands in its place.
    fn require_open(&self) -> io::Result<()> {
        match descriptors::is_output_shut() {
            true => Err(self.own(io::Error::from(rustix::io::Errno::BADF))),
            false => Ok(()),
        }
    }

    fn own(&self, error: io::Error) -> io::Error {
        // A call that was interrupted is made again by whoever made it.
        if error.kind() == io::ErrorKind::Interrupted {
            return error;
        }
        io::Error::new(error.kind(), NotWritten { what: self.what, error })
    }
}

impl<W: Write> Write for Stdout<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.require_open()?;
        let written = self.out.write(bytes).map_err(|error| self.own(error))?;
        WAS_USED.store(true, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.require_open()?;
        self.out.flush().map_err(|error| self.own(error))
    }
}

/// Prints a closing line. What is done stays done without it: that it was not written is told by [`untold`].
pub fn line(text: fmt::Arguments<'_>) {
    let mut out = whole();
    if let Err(error) = writeln!(out, "{text}")
        && let Some(error) = error.into_inner().and_then(|error| error.downcast::<NotWritten>().ok())
    {
        UNTOLD.lock().get_or_insert(*error);
    }
}

/// Returns why closing lines could not be written, if they could not.
pub fn untold() -> Option<NotWritten> {
    UNTOLD.lock().take()
}

impl NotWritten {
    /// Returns whether the reader has gone, and not a disk filled up.
    pub fn is_broken_pipe(&self) -> bool {
        self.error.kind() == io::ErrorKind::BrokenPipe
    }
}

/// Returns whether anything went to standard output.
pub fn was_used() -> bool {
    WAS_USED.load(Ordering::Relaxed)
}

fn not_written(error: &anyhow::Error) -> Option<&NotWritten> {
    error.chain().find_map(|cause| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.and_then(|inner| inner.downcast_ref()).or_else(|| cause.downcast_ref())
    })
}

/// Returns whether an error says that the reader of a listing has seen enough: no error of ours.
pub fn has_reader_gone(error: &anyhow::Error) -> bool {
    not_written(error).is_some_and(|error| error.what == What::Listing && error.is_broken_pipe())
}

/// Returns what kind of failure an error tells of.
pub fn kind(error: &anyhow::Error) -> ErrorKind {
    if not_written(error).is_some() {
        return ErrorKind::Output;
    }
    error.chain().find_map(|cause| cause.downcast_ref::<Error>()).map_or(ErrorKind::Io, Error::kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Context;

    struct Fails(io::ErrorKind);

    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn failure(what: What, kind: io::ErrorKind) -> io::Error {
        // As listings are written: through a buffer.
        let mut out = io::BufWriter::new(Stdout { what, out: Fails(kind) });
        out.write_all(b"x").and_then(|()| out.flush()).unwrap_err()
    }

    #[test]
    fn only_the_reader_of_a_listing_may_go() {
        use io::ErrorKind::{BrokenPipe, StorageFull};
        for (what, kind, may_go) in [
            (What::Listing, BrokenPipe, true),
            (What::Listing, StorageFull, false),
            (What::Whole, BrokenPipe, false),
            (What::Whole, StorageFull, false),
        ] {
            let plain = anyhow::Error::from(failure(what, kind));
            assert_eq!(has_reader_gone(&plain), may_go, "{what:?} {kind:?}");
            assert_eq!(super::kind(&plain), ErrorKind::Output);
            let wrapped = Err::<(), _>(failure(what, kind)).context(|| "Cannot write the listing".into());
            assert_eq!(has_reader_gone(&wrapped.unwrap_err().into()), may_go, "{what:?} {kind:?}, wrapped");
        }
        // That of a store, however deep.
        let store = Error::io("Cannot write packs/ab", io::Error::from(BrokenPipe));
        let store = anyhow::Error::from(Error::new(ErrorKind::Io, "Cannot store").because(store));
        assert!(!has_reader_gone(&store));
        assert_eq!(super::kind(&store), ErrorKind::Io);
    }
}
