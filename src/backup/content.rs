//! Reading contents: many threads read files, cut and hash them, and hand the pieces over in order.

use crate::chunk::Chunker;
use crate::error::{Error, ErrorKind, Result};
use crate::format::tree::{Meta, marks};
use crate::id::ChunkId;
use crate::repo::Repository;
use crate::source::stat::Stat;
use crate::source::{Source, SourceFile};
use crossbeam_channel::{Receiver, Sender};
use std::io::Read;
use std::sync::Arc;

/// How often a file that changes while it is read is read in all.
const ATTEMPTS: u32 = 3;
/// Content handed over at a time, at least the longest chunk.
pub const PIECE_BYTES: usize = 2 << 20;

/// A part of a file's content, or its end.
pub enum Piece {
    /// Data, and the chunks it is made of.
    Data {
        /// The bytes of all the chunks.
        bytes: Vec<u8>,
        /// Ids and lengths.
        chunks: Vec<(ChunkId, u32)>,
    },
    /// A hole of this length.
    Hole(u64),
    /// What came before is void: the file changed and is read again.
    Again,
    /// The whole content was handed over.
    End {
        /// The file's attributes, without its size.
        meta: Box<Meta>,
        /// What of them could not be read.
        troubles: Vec<String>,
    },
    /// The file could not be read.
    Failed(Error),
}

/// A file to read.
pub struct FileToRead<D> {
    /// Its directory.
    pub dir: Arc<D>,
    /// Its name there.
    pub name: Vec<u8>,
    /// What it was when the directory was listed.
    pub stat: Stat,
    /// Where its pieces go.
    pub pieces: Sender<Piece>,
}

/// Nobody takes the pieces any more.
struct Closed;

/// Cuts and hashes.
pub struct Cutter {
    repository: Arc<Repository>,
    chunker: Chunker,
}

impl Cutter {
    /// Makes the cutter of a repository.
    pub fn new(repository: Arc<Repository>) -> Self {
        let chunker = Chunker::new(repository.keys(), repository.config().chunk_sizes);
        Cutter { repository, chunker }
    }

    /// Hands over all data that `fill` gives until it gives less than it was asked for; returns its length.
    fn hand_over(
        &self,
        expected_bytes: u64,
        mut fill: impl FnMut(&mut [u8]) -> Result<usize>,
        pieces: &Sender<Piece>,
    ) -> Result<Result<u64>, Closed> {
        let max_bytes = self.chunker.max_bytes();
        let capacity = usize::try_from(expected_bytes).unwrap_or(usize::MAX).min(PIECE_BYTES.max(2 * max_bytes));
        let mut bytes = Vec::new();
        let mut total = 0;
        loop {
            let kept = bytes.len();
            bytes.resize(capacity.max(kept + 1), 0);
            let filled = match fill(&mut bytes[kept..]) {
                Ok(filled) => filled,
                Err(error) => return Ok(Err(error)),
            };
            let ended = filled < bytes.len() - kept || total + (kept + filled) as u64 >= expected_bytes;
            bytes.truncate(kept + filled);
            let mut chunks = Vec::new();
            let mut done = 0;
            while done < bytes.len() && (ended || bytes.len() - done >= max_bytes) {
                let len = self.chunker.cut(&bytes[done..]);
                let chunk = &bytes[done..done + len];
                chunks.push((
                    self.repository.keys().chunk_id(chunk),
                    u32::try_from(len).expect("a chunk is at most 4 MiB"),
                ));
                done += len;
            }
            let rest = bytes.split_off(done);
            total += done as u64;
            if done > 0 {
                pieces.send(Piece::Data { bytes, chunks }).map_err(|_| Closed)?;
            }
            if ended {
                return Ok(Ok(total));
            }
            bytes = rest;
        }
    }

    /// Reads one file and hands over its pieces.
    pub fn read_file<S: Source>(&self, source: &S, job: &FileToRead<S::Dir>) {
        // When nobody takes the pieces any more there is nobody to tell.
        let _ = self.try_read_file(source, job);
    }

    fn try_read_file<S: Source>(&self, source: &S, job: &FileToRead<S::Dir>) -> Result<(), Closed> {
        let pieces = &job.pieces;
        let send = |piece| pieces.send(piece).map_err(|_| Closed);
        let mut stat = job.stat.clone();
        for attempt in 1..=ATTEMPTS {
            let file = match source.open(&job.dir, &job.name, &stat) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::Replaced && attempt < ATTEMPTS => {
                    // Another file took the name, as editors and log rotation do: that one is read.
                    match source.look_again(&job.dir, &job.name) {
                        Ok(now) => stat = now,
                        Err(error) => return send(Piece::Failed(error)),
                    }
                    send(Piece::Again)?;
                    continue;
                }
                Err(error) => return send(Piece::Failed(error)),
            };
            let xattrs = file.xattrs();
            if let Err(error) = self.read_runs(&file, pieces)? {
                return send(Piece::Failed(error));
            }
            let after = match file.stat() {
                Ok(after) => after,
                Err(error) => return send(Piece::Failed(error)),
            };
            let unchanged = after.same_as(file.opened_as());
            if !unchanged && attempt < ATTEMPTS {
                stat = after;
                send(Piece::Again)?;
                continue;
            }
            let mut meta = file.opened_as().to_meta(xattrs.list);
            let mut troubles: Vec<_> = xattrs.errors.iter().map(Error::chain).collect();
            if !unchanged {
                meta.marks |= marks::CHANGED_WHILE_READ;
                troubles.push(format!("changed each of the {ATTEMPTS} times it was read: the copy may mix states"));
            }
            return send(Piece::End { meta: Box::new(meta), troubles });
        }
        Ok(())
    }

    fn read_runs(&self, file: &impl SourceFile, pieces: &Sender<Piece>) -> Result<Result<()>, Closed> {
        for segment in file.segments() {
            let segment = match segment {
                Ok(segment) => segment,
                Err(error) => return Ok(Err(error)),
            };
            if segment.is_hole {
                pieces.send(Piece::Hole(segment.len_bytes)).map_err(|_| Closed)?;
                continue;
            }
            let mut offset = segment.offset;
            let end = segment.offset + segment.len_bytes;
            let fill = |buffer: &mut [u8]| {
                let len = buffer.len().min((end - offset) as usize);
                let read = file.read_at(offset, &mut buffer[..len])?;
                offset += read as u64;
                Ok(read)
            };
            match self.hand_over(segment.len_bytes, fill, pieces)? {
                // A file that shrank ends here; its attributes tell that it changed.
                Ok(read) if read < segment.len_bytes => return Ok(Ok(())),
                Ok(_) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(()))
    }

    /// Hands over a stream of unknown length; returns whether it was whole.
    pub fn read_stream(&self, stream: &mut dyn Read, mut meta: Meta, pieces: &Sender<Piece>) -> bool {
        let fill = |buffer: &mut [u8]| {
            let mut done = 0;
            while done < buffer.len() {
                match stream.read(&mut buffer[done..]) {
                    Ok(0) => break,
                    Ok(len) => done += len,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(Error::of_read("The stream could not be read", error)),
                }
            }
            Ok(done)
        };
        let last = match self.hand_over(u64::MAX, fill, pieces) {
            Ok(Ok(len_bytes)) => {
                meta.blocks = len_bytes.div_ceil(512);
                Piece::End { meta: Box::new(meta), troubles: Vec::new() }
            }
            Ok(Err(error)) => Piece::Failed(error),
            Err(Closed) => return false,
        };
        let is_whole = matches!(last, Piece::End { .. });
        // When nobody takes it any more there is nobody to tell.
        pieces.send(last).is_ok() && is_whole
    }

    /// Reads files until there are no more.
    pub fn serve<S: Source>(&self, source: &S, jobs: &Receiver<FileToRead<S::Dir>>) {
        for job in jobs {
            self.read_file(source, &job);
        }
    }
}
