//! The content of a file, streamed: frames are read and decoded ahead on several threads, in bounded memory.

mod archive;
mod block;
mod sparse;

pub use archive::archive;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::tree::{Content, Extent};
use crate::quantity::counted;
use crate::repo::Repository;
use crate::repo::read::chunk_kind::ChunkKind;
use crate::store::Wait;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::io::Write;

/// Pieces are made of whole chunks, up to about this much.
const PIECE_BYTES: u64 = 1 << 20;
/// Pieces that are decoded ahead, for each thread.
const PIECES_AHEAD: usize = 3;
/// Holes are written as zeros from a block of this size.
const ZEROS_BYTES: usize = 256 << 10;
/// Below this a thread costs more than it saves.
const SMALL_BYTES: u64 = 512 << 10;

/// What the writer takes next.
enum Next {
    Hole(u64),
    Piece(Receiver<Result<Vec<u8>>>),
}

struct Piece {
    extents: Vec<Extent>,
    done: Sender<Result<Vec<u8>>>,
}

/// Writes a file of `size` bytes, verified; after an error `out` has its beginning only.
pub fn file(repository: &Repository, content: &Content, size: u64, threads: usize, out: &mut dyn Write) -> Result<()> {
    if size <= SMALL_BYTES {
        let mut bytes = Vec::new();
        repository.read_content(content, size, 0, size as usize, Wait::Allowed, &mut bytes)?;
        return out.write_all(&bytes).context(writing);
    }
    let threads = threads.max(1);
    let (jobs, jobs_in) = bounded::<Piece>(threads * PIECES_AHEAD);
    let (order, order_in) = bounded::<Next>(threads * PIECES_AHEAD);
    let (spare, spare_in) = bounded::<Vec<u8>>(threads * PIECES_AHEAD + threads);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (jobs_in, spare_in) = (jobs_in.clone(), spare_in.clone());
            scope.spawn(move || {
                for Piece { extents, done } in jobs_in {
                    let buffer = spare_in.try_recv().unwrap_or_default();
                    // The writer that has gone has failed, and says so.
                    let _ = done.send(decode(repository, &extents, buffer));
                }
            });
        }
        drop(jobs_in);
        let planner = scope.spawn(move || plan(repository, content, size, &jobs, &order));
        let written = write(order_in, &spare, out);
        let planned = planner.join().unwrap_or_else(|_| Err(Error::new(ErrorKind::Io, "A thread panicked")));
        // A writer that fails stops the planner, not the other way round.
        let len = written.and_then(|len| planned.map(|()| len))?;
        if len != size {
            let message =
                format!("The file's extents have {} instead of {size}: run `bakfs check`", counted(len, "byte"));
            return Err(Error::damaged(message));
        }
        Ok(())
    })
}

fn writing() -> String {
    "Cannot write the content".into()
}

fn gone() -> Error {
    Error::new(ErrorKind::Io, "The writer stopped")
}

/// Cuts the file's extents into pieces and hands them out in order.
fn plan(
    repository: &Repository,
    content: &Content,
    size: u64,
    jobs: &Sender<Piece>,
    order: &Sender<Next>,
) -> Result<()> {
    let mut extents = Vec::new();
    let mut bytes = 0;
    let mut stopped = false;
    let flush = |extents: &mut Vec<Extent>| {
        if extents.is_empty() {
            return true;
        }
        let (done, piece) = bounded(1);
        let job = Piece { extents: std::mem::take(extents), done };
        order.send(Next::Piece(piece)).is_ok() && jobs.send(job).is_ok()
    };
    let walked = repository.for_each_extent(content, 0, size, Wait::Allowed, &mut |_, extent| {
        if extent.is_hole() || extent.len_bytes.saturating_add(bytes) > PIECE_BYTES {
            stopped |= !flush(&mut extents);
            bytes = 0;
        }
        if extent.is_hole() {
            stopped |= order.send(Next::Hole(extent.len_bytes)).is_err();
        } else {
            extents.push(*extent);
            bytes = extent.len_bytes.saturating_add(bytes);
        }
        Ok(!stopped)
    });
    if !stopped {
        stopped = !flush(&mut extents);
    }
    if stopped { walked.and(Err(gone())) } else { walked }
}

fn decode(repository: &Repository, extents: &[Extent], mut bytes: Vec<u8>) -> Result<Vec<u8>> {
    bytes.clear();
    for extent in extents {
        let start = bytes.len();
        let wrong = || {
            Error::damaged(format!("Chunk {} has another length than its file says: run `bakfs check`", extent.chunk))
        };
        let len = usize::try_from(extent.len_bytes).map_err(|_| wrong())?;
        let location = repository.index().find(&extent.chunk);
        if location.is_some_and(|location| u64::from(location.chunk.len_bytes) != extent.len_bytes) {
            return Err(wrong());
        }
        repository.read_chunk(ChunkKind::Data, &extent.chunk, 0..len, Wait::Allowed, &mut bytes)?;
        debug_assert_eq!(bytes.len() - start, len);
    }
    Ok(bytes)
}

fn write(order: Receiver<Next>, spare: &Sender<Vec<u8>>, out: &mut dyn Write) -> Result<u64> {
    let mut zeros = Vec::new();
    let mut len = 0;
    for next in order {
        match next {
            Next::Hole(hole_bytes) => {
                zeros.resize(ZEROS_BYTES, 0);
                let mut left = hole_bytes;
                while left > 0 {
                    let now = left.min(ZEROS_BYTES as u64);
                    out.write_all(&zeros[..now as usize]).context(writing)?;
                    left -= now;
                }
                len = hole_bytes.saturating_add(len);
            }
            Next::Piece(piece) => {
                let bytes =
                    piece.recv().map_err(|_| Error::new(ErrorKind::Io, "A thread that decodes has stopped"))??;
                out.write_all(&bytes).context(writing)?;
                len += bytes.len() as u64;
                // Without a place for it the buffer is freed.
                let _ = spare.try_send(bytes);
            }
        }
    }
    Ok(len)
}
