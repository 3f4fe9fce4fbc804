//! Passes HTTP/1.1 requests on, lets some of them go wrong as planned, and records all of them.

use crate::cable::{Length, lock};
use crate::fault::{Fault, Kind, Plan, Request};
use crate::message::{Framing, Head, copy_body, read_body};
use crate::record::{Entry, Record};
use crate::server::{Open, Server, Ticket};
use crate::wire::{Lanes, reset};
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// No message that is kept whole is longer: those that wait, are changed or are given again.
const KEPT_MAX_BYTES: u64 = 256 << 20;
const BUFFER_BYTES: usize = 64 << 10;
const TAKE_MAX_WAIT: Duration = Duration::from_secs(1);

/// A proxy that knows requests.
pub struct Proxy {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    to: SocketAddr,
    lanes: Lanes,
    began: Instant,
    state: Mutex<State>,
    /// Something stalled is let go, or nothing is under way any more.
    changed: Condvar,
}

struct State {
    plan: Plan,
    requests: u64,
    under_way: u64,
    record: Record,
    releases: u64,
    late: Vec<Late>,
    listings: HashMap<String, Listing>,
}

/// A request the server has yet to get.
struct Late {
    due_requests: u64,
    head: Head,
    body: Vec<u8>,
}

/// What a listing's address was answered the last time.
struct Listing {
    head: Head,
    body: Vec<u8>,
    times_left: u64,
}

/// What becomes of a client's connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Stays,
    Closes,
    Resets,
}

impl Proxy {
    /// Listens on a free port of the loopback and passes every request on.
    pub fn start(to: SocketAddr, length: Length) -> io::Result<Proxy> {
        Proxy::listen(([127, 0, 0, 1], 0).into(), to, length)
    }

    /// Listens and passes every request on.
    pub fn listen(listen: SocketAddr, to: SocketAddr, length: Length) -> io::Result<Proxy> {
        let state = State {
            plan: Plan::none(),
            requests: 0,
            under_way: 0,
            record: Record::default(),
            releases: 0,
            late: Vec::new(),
            listings: HashMap::new(),
        };
        let (lanes, began) = (Lanes::new(length), Instant::now());
        let shared = Arc::new(Shared { to, lanes, began, state: Mutex::new(state), changed: Condvar::new() });
        let serving = shared.clone();
        let server = Server::start(listen, move |client, open| serving.serve(&client, open))?;
        Ok(Proxy { server, shared })
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Follows a plan from the next request on, which is its first.
    pub fn set(&self, plan: Plan) {
        let mut state = lock(&self.shared.state);
        (state.plan, state.requests) = (plan, 0);
    }

    /// Lets every request pass from now on, resets what has stalled, gives the server what is late, and no longer
    /// gives old listings.
    pub fn calm(&self) {
        self.set(Plan::none());
        self.release();
        self.shared.perform_late(u64::MAX);
        lock(&self.shared.state).listings.clear();
    }

    /// Resets the connections whose requests have stalled.
    pub fn release(&self) {
        lock(&self.shared.state).releases += 1;
        self.shared.changed.notify_all();
    }

    /// Returns what was seen since the last call. It waits a moment for requests under way; one that takes longer
    /// belongs to the next record.
    pub fn take_record(&self) -> Record {
        let state = lock(&self.shared.state);
        let waited = self.shared.changed.wait_timeout_while(state, TAKE_MAX_WAIT, |state| state.under_way > 0);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        std::mem::take(&mut state.record)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.release();
    }
}

impl Shared {
    fn serve(&self, client: &TcpStream, open: &Arc<Open>) -> io::Result<()> {
        lock(&self.state).record.connections += 1;
        let (reader, writer) = self.lanes.attach(client)?;
        let mut session = Session {
            shared: self,
            open,
            reader: BufReader::with_capacity(BUFFER_BYTES, reader),
            writer: BufWriter::with_capacity(BUFFER_BYTES, writer),
            upstream: None,
        };
        while let Some(head) = Head::read(&mut session.reader)? {
            let (request, fault) = self.choose(&head);
            self.perform_late(request.number);
            let mut entry = Entry {
                kind: request.kind,
                method: request.method,
                target: request.target,
                range: head.get("range").or(head.get("x-ms-range")).map(str::to_owned),
                start: self.began.elapsed(),
                end: Duration::ZERO,
                code: 0,
                sent_bytes: 0,
                received_bytes: 0,
                fault: fault.map(Fault::name),
            };
            let after = session.request(head, fault, request.number, &mut entry);
            let flushed = session.writer.flush();
            entry.end = self.began.elapsed();
            self.log(entry);
            match after.and_then(|after| flushed.map(|()| after)) {
                Ok(After::Stays) => {}
                Ok(After::Closes) => return Ok(()),
                Ok(After::Resets) | Err(_) => {
                    reset(client);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn choose(&self, head: &Head) -> (Request, Option<Fault>) {
        let mut state = lock(&self.state);
        state.requests += 1;
        state.under_way += 1;
        let request = Request {
            number: state.requests,
            kind: Kind::of(head),
            method: head.word(0).to_owned(),
            target: head.word(1).to_owned(),
        };
        let fault = state.plan.choose(&request);
        (request, fault)
    }

    fn log(&self, entry: Entry) {
        let mut state = lock(&self.state);
        state.record.entries.push(entry);
        state.under_way -= 1;
        self.changed.notify_all();
    }

    /// Gives the server the late requests whose time has come, and waits for its answers.
    fn perform_late(&self, requests: u64) {
        let late = std::mem::take(&mut lock(&self.state).late);
        let (due, waiting) = late.into_iter().partition(|late| late.due_requests <= requests);
        lock(&self.state).late.extend::<Vec<_>>(waiting);
        let _: Vec<_> = due.into_iter().map(|late: Late| self.perform(late)).collect();
    }

    fn perform(&self, mut late: Late) -> io::Result<()> {
        let mut upstream = BufReader::new(TcpStream::connect(self.to)?);
        late.head.remove("transfer-encoding");
        late.head.set("Content-Length", late.body.len());
        late.head.write(upstream.get_mut())?;
        upstream.get_mut().write_all(&late.body)?;
        let answer = answer_head(&mut upstream)?;
        read_body(&mut upstream, answer.response_framing(late.head.word(0))?, KEPT_MAX_BYTES).map(drop)
    }

    /// Waits until what has stalled is let go.
    fn stall(&self, open: &Open) {
        let mut state = lock(&self.state);
        let releases = state.releases;
        while state.releases == releases && !open.is_over() {
            let waited = self.changed.wait_timeout(state, Duration::from_millis(100));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// One client's connection, and the one to the server that belongs to it.
struct Session<'a> {
    shared: &'a Shared,
    open: &'a Arc<Open>,
    reader: BufReader<Box<dyn Read + Send>>,
    writer: BufWriter<Box<dyn Write + Send>>,
    upstream: Option<Upstream>,
}

struct Upstream {
    stream: BufReader<TcpStream>,
    _ticket: Ticket,
}

impl Upstream {
    /// Returns whether the server has neither ended the connection nor said something unasked.
    fn is_quiet(&self) -> bool {
        let socket = self.stream.get_ref();
        if !self.stream.buffer().is_empty() || socket.set_nonblocking(true).is_err() {
            return false;
        }
        let peeked = socket.peek(&mut [0]);
        socket.set_nonblocking(false).is_ok() && peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl Session<'_> {
    fn request(&mut self, mut head: Head, fault: Option<Fault>, number: u64, entry: &mut Entry) -> io::Result<After> {
        let framing = head.request_framing()?;
        let expects = head.get("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        head.remove("expect");
        match fault {
            Some(Fault::ResetBefore) => return Ok(After::Resets),
            Some(Fault::Stall) => {
                self.shared.stall(self.open);
                return Ok(After::Resets);
            }
            Some(Fault::Refuse { status, retry_after_secs }) => {
                if !expects {
                    copy_body(&mut self.reader, &mut io::sink(), framing)?;
                }
                entry.code = status;
                return self.answer_failure(status, retry_after_secs, expects);
            }
            _ => {}
        }
        if let Some((old, body)) = self.old_listing(&head, entry.kind, fault) {
            copy_body(&mut self.reader, &mut io::sink(), framing)?;
            entry.fault = Some(Fault::Stale { times: 1 }.name());
            return self.answer_changed(old, &body, entry);
        }
        if expects {
            Head::status(100, &[]).write(&mut self.writer)?;
            self.writer.flush()?;
        }
        let sent = match fault {
            Some(Fault::Late { after_requests }) => {
                let body = read_body(&mut self.reader, framing, KEPT_MAX_BYTES)?;
                entry.sent_bytes = body.len() as u64;
                let due_requests = number.saturating_add(after_requests);
                lock(&self.shared.state).late.push(Late { due_requests, head, body });
                return Ok(After::Resets);
            }
            Some(Fault::FlipRequest | Fault::ResetInRequest) => self.forward_kept(&head, framing, fault, number),
            _ => self.forward(&head, framing),
        };
        if fault == Some(Fault::ResetInRequest) {
            self.upstream.take().iter().for_each(|upstream| reset(upstream.stream.get_ref()));
            return Ok(After::Resets);
        }
        let answer = self.answer(&head, fault, number, entry);
        match sent {
            Ok(bytes) => {
                entry.sent_bytes = bytes;
                answer
            }
            // The server has not read all: what it said meanwhile still counts, but the connection is of no more use.
            Err(_) => answer.map(|_| After::Closes),
        }
    }

    /// Passes a request on.
    fn forward(&mut self, head: &Head, framing: Framing) -> io::Result<u64> {
        self.connect()?;
        let Some(upstream) = &mut self.upstream else { return Err(io::ErrorKind::NotConnected.into()) };
        let mut to = BufWriter::with_capacity(BUFFER_BYTES, upstream.stream.get_mut());
        head.write(&mut to)?;
        let sent = copy_body(&mut self.reader, &mut to, framing)?;
        to.flush()?;
        Ok(sent)
    }

    /// Passes a request on with one bit of its content changed, or half of its content only.
    fn forward_kept(&mut self, head: &Head, framing: Framing, fault: Option<Fault>, number: u64) -> io::Result<u64> {
        let mut body = read_body(&mut self.reader, framing, KEPT_MAX_BYTES)?;
        let mut head = head.clone();
        head.remove("transfer-encoding");
        head.set("Content-Length", body.len());
        match fault {
            Some(Fault::FlipRequest) => flip(&mut body, number),
            _ => body.truncate(body.len() / 2),
        }
        self.connect()?;
        let Some(upstream) = &mut self.upstream else { return Err(io::ErrorKind::NotConnected.into()) };
        head.write(upstream.stream.get_mut())?;
        upstream.stream.get_mut().write_all(&body)?;
        Ok(body.len() as u64)
    }

    fn connect(&mut self) -> io::Result<()> {
        if self.upstream.as_ref().is_some_and(Upstream::is_quiet) {
            return Ok(());
        }
        let socket = TcpStream::connect(self.shared.to)?;
        socket.set_nodelay(true)?;
        let ticket = self.open.keep(&socket)?;
        self.upstream = Some(Upstream { stream: BufReader::with_capacity(BUFFER_BYTES, socket), _ticket: ticket });
        Ok(())
    }

    /// Passes the server's answer on, or what becomes of it.
    fn answer(&mut self, request: &Head, fault: Option<Fault>, number: u64, entry: &mut Entry) -> io::Result<After> {
        let Some(upstream) = &mut self.upstream else { return Err(io::ErrorKind::NotConnected.into()) };
        let head = answer_head(&mut upstream.stream)?;
        let framing = head.response_framing(request.word(0))?;
        let ends = head.closes() || request.closes() || framing == Framing::Close;
        entry.code = head.code();
        let is_listing = entry.kind == Kind::List && matches!(head.code(), 200 | 207);
        if !is_listing && fault.is_none_or(|fault| matches!(fault, Fault::Stale { .. })) {
            head.write(&mut self.writer)?;
            entry.received_bytes = copy_body(&mut upstream.stream, &mut self.writer, framing)?;
            if ends {
                self.upstream = None;
            }
            return Ok(if ends { After::Closes } else { After::Stays });
        }
        let mut body = read_body(&mut upstream.stream, framing, KEPT_MAX_BYTES)?;
        if ends {
            self.upstream = None;
        }
        if is_listing {
            let listing = Listing { head: head.clone(), body: body.clone(), times_left: 0 };
            lock(&self.shared.state).listings.insert(address_of(request), listing);
        }
        let after = match fault {
            Some(Fault::ResetAfter) => After::Resets,
            Some(Fault::FailAfter { status }) => {
                entry.code = status;
                self.answer_failure(status, None, false)?
            }
            Some(Fault::CutShort) => self.answer_half(head, &body, entry)?,
            Some(Fault::StallInAnswer) => {
                self.answer_half(head, &body, entry)?;
                self.writer.flush()?;
                self.shared.stall(self.open);
                After::Resets
            }
            Some(Fault::Shortened) => self.answer_changed(head, &body[..body.len() / 2], entry)?,
            Some(Fault::FlipAnswer) => {
                flip(&mut body, number);
                self.answer_changed(head, &body, entry)?
            }
            _ => self.answer_changed(head, &body, entry)?,
        };
        Ok(if ends && after == After::Stays { After::Closes } else { after })
    }

    fn answer_failure(&mut self, status: u16, retry_after_secs: Option<u32>, closes: bool) -> io::Result<After> {
        let mut head = Head::status(status, &[("Content-Length", "0".to_owned())]);
        if let Some(secs) = retry_after_secs {
            head.set("Retry-After", secs);
        }
        if closes {
            head.set("Connection", "close");
        }
        head.write(&mut self.writer)?;
        Ok(if closes { After::Closes } else { After::Stays })
    }

    fn answer_changed(&mut self, mut head: Head, body: &[u8], entry: &mut Entry) -> io::Result<After> {
        head.remove("transfer-encoding");
        head.set("Content-Length", body.len());
        head.write(&mut self.writer)?;
        self.writer.write_all(body)?;
        (entry.code, entry.received_bytes) = (head.code(), body.len() as u64);
        Ok(After::Stays)
    }

    fn answer_half(&mut self, mut head: Head, body: &[u8], entry: &mut Entry) -> io::Result<After> {
        head.remove("transfer-encoding");
        head.set("Content-Length", body.len());
        head.write(&mut self.writer)?;
        self.writer.write_all(&body[..body.len() / 2])?;
        entry.received_bytes = body.len() as u64 / 2;
        Ok(After::Closes)
    }

    /// Returns what a listing's address was answered before, where it is to be answered so again.
    fn old_listing(&self, head: &Head, kind: Kind, fault: Option<Fault>) -> Option<(Head, Vec<u8>)> {
        let mut state = lock(&self.shared.state);
        let old = state.listings.get_mut(&address_of(head)).filter(|_| kind == Kind::List)?;
        if let Some(Fault::Stale { times }) = fault {
            old.times_left = times;
        }
        old.times_left = old.times_left.checked_sub(1)?;
        Some((old.head.clone(), old.body.clone()))
    }
}

fn address_of(head: &Head) -> String {
    format!("{} {} {}", head.word(0), head.word(1), head.get("depth").unwrap_or(""))
}

/// Reads the head of a server's last word to a request: 100 and its kind are not that.
fn answer_head(from: &mut impl BufRead) -> io::Result<Head> {
    loop {
        let head = Head::read(from)?.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted))?;
        if head.code() >= 200 || head.code() == 0 {
            return Ok(head);
        }
    }
}

/// Changes one bit of some content.
fn flip(body: &mut [u8], number: u64) {
    if !body.is_empty() {
        let place = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % body.len() as u64;
        body[place as usize] ^= 1 << (number % 8);
    }
}
