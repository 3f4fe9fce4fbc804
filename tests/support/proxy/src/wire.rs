//! Sockets with a cable at one end.

use crate::cable::{End, Far, Lane, Length, Near, PIECE_MAX_BYTES, Piece};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Instant;

/// Both directions of the cable between clients and the proxy.
pub struct Lanes {
    length: Length,
    up: Arc<Lane>,
    down: Arc<Lane>,
}

impl Lanes {
    /// Lays the cable.
    pub fn new(length: Length) -> Lanes {
        Lanes { length, up: Lane::new(length), down: Lane::new(length) }
    }

    /// Opens the direction from a client that has connected now: its first bytes come after the handshake's round trip.
    pub fn open_up(&self) -> (Near, Far) {
        self.up.open(Instant::now() + self.length.round_trip + self.length.round_trip / 2)
    }

    /// Opens the direction to a client.
    pub fn open_down(&self) -> (Near, Far) {
        self.down.open(Instant::now())
    }

    /// Returns both directions of a client's socket as seen from the other end of the cable.
    pub fn attach(&self, client: &TcpStream) -> io::Result<(Box<dyn Read + Send>, Box<dyn Write + Send>)> {
        client.set_nodelay(true)?;
        if self.length.is_none() {
            return Ok((Box::new(client.try_clone()?), Box::new(client.try_clone()?)));
        }
        let (up_near, up_far) = self.open_up();
        let (down_near, down_far) = self.open_down();
        let (reader, writer) = (client.try_clone()?, client.try_clone()?);
        std::thread::spawn(move || take(reader, up_near, Verdict::Pass));
        std::thread::spawn(move || give(down_far, &writer));
        Ok((Box::new(up_far), Box::new(down_near)))
    }
}

/// What becomes of bytes that were read.
pub enum Verdict {
    /// They go on.
    Pass(Vec<u8>),
    /// They go on, and then the direction is reset.
    Reset(Vec<u8>),
}

/// Passes a socket's bytes into a cable until its end.
pub fn take(mut from: TcpStream, mut into: Near, mut judge: impl FnMut(Vec<u8>) -> Verdict) {
    let mut buffer = vec![0; PIECE_MAX_BYTES];
    loop {
        let bytes = match from.read(&mut buffer) {
            Ok(0) => return into.end(End::Closed),
            Ok(len) => buffer[..len].to_vec(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return into.end(End::Reset),
        };
        match judge(bytes) {
            Verdict::Pass(bytes) => {
                if into.send(bytes).is_err() {
                    return reset(&from);
                }
            }
            Verdict::Reset(bytes) => {
                let _ = into.send(bytes);
                into.end(End::Reset);
                return reset(&from);
            }
        }
    }
}

/// Passes what comes out of a cable to a socket until its end.
pub fn give(mut from: Far, mut to: &TcpStream) {
    loop {
        match from.receive() {
            Piece::Bytes(bytes) => {
                if to.write_all(&bytes).is_err() {
                    return reset(to);
                }
            }
            Piece::End(End::Closed) => {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            Piece::End(End::Reset) => return reset(to),
        }
    }
}

/// Resets a connection now, however many handles it has (connect(2): AF_UNSPEC dissolves it, with RST).
pub fn reset(socket: &TcpStream) {
    let _ = rustix::net::connect_unspec(socket);
}
