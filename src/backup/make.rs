//! Dumps in the tree, told at their place among the files of the disk.

use super::content::Piece;
use super::event::{Change, Event, Stopped, without_slash};
use super::walk::Director;
use super::{made, own_ids};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::codec::Bytes;
use crate::source::Source;
use crate::source::generated::{Content, Generated};
use crate::source::stat::{Kind, Stat};
use crossbeam_channel::bounded;
use rustix::fs::{Mode, OFlags, openat};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The most files of a folder that is made: all are open at once.
const MAX_FILES: usize = 100_000;

impl<S: Source> Director<'_, S> {
    /// Makes all there is to make, before any file is read: what of the disk dumps stand for is known then, and no
    /// file that is closed ends the locks the copy of an SQLite database relies on (fcntl(2), advisory record locking).
    pub(super) fn make_all(&mut self) -> Result<(), Stopped> {
        while let Some(next) = self.dumps.waiting.pop_front() {
            self.open_folders(&next)?;
            let Some(file) = next.path.last().cloned() else { continue };
            let missing = self.dumps.missing;
            self.owners.note(self.source, next.owner.0, next.owner.1);
            let is_input = next.is_input();
            let done = match next.content {
                Content::Stream(start) | Content::Input(start) => match start() {
                    Ok(mut stream) => {
                        let mut counted = Counted { stream: &mut *stream, bytes: 0 };
                        let is_whole = self.stream(&file, next.owner, &mut counted)?;
                        let is_allowed = next.is_note || self.options.allow_empty && !is_input;
                        let is_empty = is_whole && counted.bytes == 0 && !is_allowed;
                        *(if is_whole { &mut self.dumps.made } else { &mut self.dumps.missing }) +=
                            u64::from(!next.is_note || !is_whole);
                        match is_empty {
                            true if is_input => self.missing(&file, &Error::new(ErrorKind::Io, EMPTY_INPUT)),
                            true => self.missing(&file, &Error::new(ErrorKind::Io, EMPTY)),
                            false => Ok(()),
                        }
                    }
                    Err(error) => self.missing(&file, &error),
                },
                Content::Folder(fill) => match fill() {
                    Ok(folder) => self.folder(&file, next.owner, folder.path()),
                    Err(error) => self.missing(&file, &error),
                },
            };
            done?;
            for text in std::mem::take(&mut *next.lacks.lock()) {
                self.dumps.missing += 1;
                self.tell(Event::Trouble(Bytes(file.clone()), text))?;
            }
            if self.dumps.missing == missing {
                self.dumps.whole.insert(next.path);
            }
        }
        self.close_folders(0)
    }

    /// Tells what could not even be begun; called while only the root is open.
    pub(super) fn tell_failed(&mut self, failed: &[(PathBuf, Error)]) -> Result<(), Stopped> {
        for (path, error) in failed {
            let path = path.clone().into_os_string().into_vec();
            self.missing(without_slash(&path), error)?;
        }
        Ok(())
    }

    fn missing(&mut self, name: &[u8], error: &Error) -> Result<(), Stopped> {
        self.dumps.missing += 1;
        self.tell(Event::Trouble(name.into(), error.chain()))
    }

    fn open_folders(&mut self, next: &Generated) -> Result<(), Stopped> {
        let folders = &next.path[..next.path.len().saturating_sub(1)];
        let same = self.dumps.open.iter().zip(folders).take_while(|(open, folder)| open == folder).count();
        self.close_folders(same)?;
        for (depth, folder) in folders.iter().enumerate().skip(same) {
            // Its owner's alone, or to be passed through by each owner of something below.
            let meta = match self.dumps.owner_below(next, depth + 1) {
                _ if next.is_input() => made(0o755, own_ids(), 2),
                Some(owner) => made(0o700, owner, 2),
                None => made(0o711, own_ids(), 2),
            };
            self.tell(Event::Enter(Bytes(folder.clone()), Box::new(meta)))?;
            self.dumps.open.push(folder.clone());
        }
        Ok(())
    }

    fn close_folders(&mut self, depth: usize) -> Result<(), Stopped> {
        while self.dumps.open.len() > depth {
            self.dumps.open.pop();
            // Other names of the root may come before it.
            self.tell(if self.dumps.open.is_empty() { Event::LeaveEarly } else { Event::Leave })?;
        }
        Ok(())
    }

    /// Hands a stream over as a file; returns whether it was whole.
    fn stream(&mut self, name: &[u8], owner: (u32, u32), stream: &mut dyn Read) -> Result<bool, Stopped> {
        let meta = made(0o600, owner, 1);
        let (sender, pieces) = bounded::<Piece>(2);
        self.tell(Event::File {
            name: name.into(),
            stat: Box::new(Stat::of_made(Kind::File, &meta)),
            change: Change::New,
            pieces: Some(pieces),
            permit_bytes: 0,
        })?;
        Ok(self.dumps.cutter.read_stream(stream, meta, &sender))
    }

    /// Hands a folder of files over. All of them are open before the first is read; a disk that cannot read one after
    /// all leaves the folder without it, and named.
    fn folder(&mut self, name: &[u8], owner: (u32, u32), path: &Path) -> Result<(), Stopped> {
        let files = match open_files(path) {
            Ok(files) => files,
            Err(error) => return self.missing(name, &error),
        };
        self.tell(Event::Enter(name.into(), Box::new(made(0o700, owner, 2))))?;
        let mut is_whole = true;
        for (file, mut stream) in files {
            is_whole &= self.stream(&file, owner, &mut stream)?;
        }
        *(if is_whole { &mut self.dumps.made } else { &mut self.dumps.missing }) += 1;
        self.tell(Event::Leave)
    }
}

/// What writes a dump may fail, and a pipe does not tell.
const EMPTY: &str = "the dump is empty: it is stored as an empty file, and what was to write it may have failed. If it is \
                     meant so, write `allow-empty = true` in the profile";

/// The same of standard input, for which there is no profile.
const EMPTY_INPUT: &str =
    "standard input was empty: it is stored as an empty file, and what was to write it may have failed";

/// A stream, and how much came of it.
struct Counted<'a> {
    stream: &'a mut dyn Read,
    bytes: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = self.stream.read(buffer)?;
        self.bytes += len as u64;
        Ok(len)
    }
}

/// Opens the files of a folder, sorted by name; nothing else may be in it. The folder belongs to another user, who must
/// not lead us elsewhere: no link is followed.
fn open_files(path: &Path) -> Result<Vec<(Vec<u8>, File)>> {
    let listing = || format!("Cannot list what was made in {}", path.display());
    let folder = File::open(path).context(listing)?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).context(listing)? {
        let name = entry.context(listing)?.file_name();
        let opening = || format!("Cannot read {} of what was made in {}", name.display(), path.display());
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&folder, &name, flags, Mode::empty()).context(opening)?);
        if files.len() == MAX_FILES || !file.metadata().context(opening)?.is_file() {
            return Err(Error::new(ErrorKind::Io, format!("{}: it is no file, or one too many", opening())));
        }
        files.push((name.into_vec(), file));
    }
    files.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(files)
}
