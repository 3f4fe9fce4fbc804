//! Passes any TCP protocol on: over a long cable, with connections that are reset or fall silent at a byte.

use crate::cable::{Length, lock};
use crate::server::{Open, Server};
use crate::wire::{Lanes, Verdict, give, reset, take};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Both sides are reset.
    Reset,
    /// Nothing of this direction passes any more, until [`Proxy::release`].
    Stall,
}

/// A trouble that waits for its byte.
#[derive(Debug, Clone, Copy)]
pub struct Trap {
    /// The direction that is counted.
    pub direction: Direction,
    /// How many bytes pass before, over all connections since the trap was set.
    pub after_bytes: u64,
    /// What happens then, to the connection that passes the byte.
    pub trouble: Trouble,
}

/// What has passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Connections accepted.
    pub connections: u64,
    /// Bytes from clients.
    pub up_bytes: u64,
    /// Bytes from the server.
    pub down_bytes: u64,
    /// Traps that have snapped.
    pub troubles: u64,
}

/// A proxy for any protocol over TCP.
pub struct Proxy {
    server: Server,
    gate: Arc<Gate>,
}

struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    passed: Passed,
    trap: Option<Trap>,
    left_bytes: u64,
    releases: u64,
}

impl Proxy {
    /// Listens on a free port of the loopback and passes everything on.
    pub fn start(to: SocketAddr, length: Length) -> io::Result<Proxy> {
        Proxy::listen(([127, 0, 0, 1], 0).into(), to, length)
    }

    /// Listens and passes everything on.
    pub fn listen(listen: SocketAddr, to: SocketAddr, length: Length) -> io::Result<Proxy> {
        let gate = Arc::new(Gate { state: Mutex::default(), changed: Condvar::new() });
        let (lanes, shared) = (Lanes::new(length), gate.clone());
        let server = Server::start(listen, move |client, open| serve(client, to, &lanes, &shared, open))?;
        Ok(Proxy { server, gate })
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Sets a trap, in place of an earlier one.
    pub fn set(&self, trap: Trap) {
        let mut state = lock(&self.gate.state);
        (state.trap, state.left_bytes) = (Some(trap), trap.after_bytes);
    }

    /// Takes the trap away and lets what has stalled go on.
    pub fn release(&self) {
        let mut state = lock(&self.gate.state);
        state.trap = None;
        state.releases += 1;
        self.gate.changed.notify_all();
    }

    /// Resets every open connection.
    pub fn reset_all(&self) {
        self.server.open().reset_all();
    }

    /// Returns what has passed since the last call.
    pub fn take_passed(&self) -> Passed {
        std::mem::take(&mut lock(&self.gate.state).passed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.release();
    }
}

fn serve(client: TcpStream, to: SocketAddr, lanes: &Lanes, gate: &Arc<Gate>, open: &Arc<Open>) -> io::Result<()> {
    lock(&gate.state).passed.connections += 1;
    let server = TcpStream::connect(to).inspect_err(|_| reset(&client))?;
    let _ticket = open.keep(&server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (up_near, up_far) = lanes.open_up();
    let (down_near, down_far) = lanes.open_down();
    let pass = |direction, from: &TcpStream, near| -> io::Result<_> {
        let (from, gate, open) = (from.try_clone()?, gate.clone(), open.clone());
        Ok(std::thread::spawn(move || take(from, near, |bytes| gate.judge(direction, bytes, &open))))
    };
    let (into_server, into_client) = (server.try_clone()?, client.try_clone()?);
    let threads = [
        pass(Direction::Up, &client, up_near)?,
        pass(Direction::Down, &server, down_near)?,
        std::thread::spawn(move || give(up_far, &into_server)),
        std::thread::spawn(move || give(down_far, &into_client)),
    ];
    for thread in threads {
        let _ = thread.join();
    }
    Ok(())
}

impl Gate {
    /// Counts bytes and springs the trap at its byte.
    fn judge(&self, direction: Direction, mut bytes: Vec<u8>, open: &Open) -> Verdict {
        let mut state = lock(&self.state);
        match direction {
            Direction::Up => state.passed.up_bytes += bytes.len() as u64,
            Direction::Down => state.passed.down_bytes += bytes.len() as u64,
        }
        let Some(trap) = state.trap.filter(|trap| trap.direction == direction) else { return Verdict::Pass(bytes) };
        if state.left_bytes >= bytes.len() as u64 {
            state.left_bytes -= bytes.len() as u64;
            return Verdict::Pass(bytes);
        }
        let passing = state.left_bytes as usize;
        state.trap = None;
        state.passed.troubles += 1;
        if trap.trouble == Trouble::Reset {
            bytes.truncate(passing);
            return Verdict::Reset(bytes);
        }
        let releases = state.releases;
        while state.releases == releases && !open.is_over() {
            let waited = self.changed.wait_timeout(state, Duration::from_millis(100));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Verdict::Pass(bytes)
    }
}
