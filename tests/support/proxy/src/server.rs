//! Accepts connections until it is dropped, and then ends them all.

use crate::cable::lock;
use crate::wire::reset;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A listening socket, the thread that accepts and all connections that are open.
pub struct Server {
    address: SocketAddr,
    open: Arc<Open>,
}

/// The open connections of a server.
#[derive(Default)]
pub struct Open {
    sockets: Mutex<HashMap<u64, TcpStream>>,
    next: AtomicU64,
    is_over: AtomicBool,
}

impl Open {
    /// Returns whether the server has been dropped.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Keeps a handle of a socket, so that it can be reset from outside, until the ticket is dropped.
    pub fn keep(self: &Arc<Open>, socket: &TcpStream) -> io::Result<Ticket> {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        lock(&self.sockets).insert(number, socket.try_clone()?);
        if self.is_over() {
            reset(socket);
        }
        Ok(Ticket { open: self.clone(), number })
    }

    /// Resets every open connection.
    pub fn reset_all(&self) {
        lock(&self.sockets).values().for_each(reset);
    }
}

/// A socket's place among the open ones.
pub struct Ticket {
    open: Arc<Open>,
    number: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.open.sockets).remove(&self.number);
    }
}

impl Server {
    /// Listens, and serves each connection by a thread of its own.
    pub fn start(
        listen: SocketAddr,
        serve: impl Fn(TcpStream, &Arc<Open>) -> io::Result<()> + Send + Sync + 'static,
    ) -> io::Result<Server> {
        let listener = TcpListener::bind(listen)?;
        let address = listener.local_addr()?;
        let open = Arc::new(Open::default());
        let (serve, shared) = (Arc::new(serve), open.clone());
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                if shared.is_over() {
                    return;
                }
                let Ok(socket) = socket else { continue };
                let (serve, shared) = (serve.clone(), shared.clone());
                std::thread::spawn(move || {
                    // A connection that fails is the client's to see: it has been closed or reset.
                    let _ = shared.keep(&socket).and_then(|_ticket| serve(socket, &shared));
                });
            }
        });
        Ok(Server { address, open })
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the open connections.
    pub fn open(&self) -> &Arc<Open> {
        &self.open
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.open.is_over.store(true, Ordering::SeqCst);
        self.open.reset_all();
        // Wakes the accepting thread, which sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}
