//! Promise: the proxy does to each request what its name says, and nothing to the others.
#![allow(clippy::unwrap_used)]

use bakfs_proxy::cable::Length;
use bakfs_proxy::fault::{Fault, Kind, Plan};
use bakfs_proxy::http::Proxy;
use bakfs_proxy::message::{Framing, Head, copy_body, read_body};
use bakfs_proxy::plain::{self, Direction, Trap, Trouble};
use std::collections::BTreeMap;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What the small server has stored, by path; GET of `/?prefix=` lists the names.
type Shelf = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// Starts a server whose answers are chunked where the path ends with `chunked`; it lives as long as the test.
fn server() -> (SocketAddr, Shelf) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, shelf) = (listener.local_addr().unwrap(), Shelf::default());
    let shared = shelf.clone();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let (socket, shelf) = (socket.unwrap(), shared.clone());
            std::thread::spawn(move || serve(socket, &shelf));
        }
    });
    (address, shelf)
}

fn serve(socket: TcpStream, shelf: &Shelf) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut stream = BufReader::new(socket);
    while let Some(head) = Head::read(&mut stream)? {
        let body = read_body(&mut stream, head.request_framing()?, u64::MAX)?;
        let path = head.word(1).to_owned();
        let mut shelf = shelf.lock().unwrap();
        let (code, content) = match head.word(0) {
            "PUT" => (201, shelf.insert(path.clone(), body).map(|_| Vec::new()).unwrap_or_default()),
            "DELETE" => (204, shelf.remove(&path).map(|_| Vec::new()).unwrap_or_default()),
            _ if path.contains("prefix=") => (200, shelf.keys().cloned().collect::<Vec<_>>().join(" ").into_bytes()),
            _ => shelf.get(&path).map_or((404, Vec::new()), |body| (200, body.clone())),
        };
        drop(shelf);
        let mut answer = Head::status(code, &[]);
        if path.ends_with("chunked") && code == 200 {
            answer.set("Transfer-Encoding", "chunked");
            answer.write(stream.get_mut())?;
            for chunk in content.chunks(1000) {
                write!(stream.get_mut(), "{:x};x=y\r\n", chunk.len())?;
                stream.get_mut().write_all(chunk)?;
                stream.get_mut().write_all(b"\r\n")?;
            }
            stream.get_mut().write_all(b"0\r\nTrailer: a\r\n\r\n")?;
        } else {
            if code != 204 {
                answer.set("Content-Length", content.len());
            }
            answer.write(stream.get_mut())?;
            if head.word(0) != "HEAD" {
                stream.get_mut().write_all(&content)?;
            }
        }
    }
    Ok(())
}

/// A client with one connection at a time.
struct Client {
    to: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
    opened: u64,
}

impl Client {
    fn new(to: SocketAddr) -> Client {
        Client { to, stream: None, opened: 0 }
    }

    fn stream(&mut self) -> &mut BufReader<TcpStream> {
        self.stream.get_or_insert_with(|| {
            self.opened += 1;
            let socket = TcpStream::connect(self.to).unwrap();
            socket.set_nodelay(true).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            BufReader::new(socket)
        })
    }

    /// Makes a request whose content is known whole; a failed connection is given up.
    fn ask(&mut self, method: &str, path: &str, content: &[u8]) -> std::io::Result<(Head, Vec<u8>)> {
        let fields = vec![("Host".to_owned(), "here".to_owned())];
        let mut head = Head { first: format!("{method} {path} HTTP/1.1"), fields };
        head.set("Content-Length", content.len());
        let mut bytes = Vec::new();
        head.write(&mut bytes).unwrap();
        bytes.extend_from_slice(content);
        self.say(method, &bytes)
    }

    fn say(&mut self, method: &str, bytes: &[u8]) -> std::io::Result<(Head, Vec<u8>)> {
        let result = self.stream().get_mut().write_all(bytes).and_then(|()| self.hear(method));
        if result.is_err() {
            self.stream = None;
        }
        result
    }

    fn hear(&mut self, method: &str) -> std::io::Result<(Head, Vec<u8>)> {
        let stream = self.stream();
        let head = Head::read(stream)?.ok_or(ErrorKind::UnexpectedEof)?;
        let body = read_body(stream, head.response_framing(method)?, u64::MAX)?;
        Ok((head, body))
    }

    #[track_caller]
    fn ok(&mut self, method: &str, path: &str, content: &[u8]) -> Vec<u8> {
        let (head, body) = self.ask(method, path, content).unwrap();
        assert!((200..300).contains(&head.code()), "{method} {path}: {}", head.first);
        body
    }

    #[track_caller]
    fn fails(&mut self, method: &str, path: &str, content: &[u8]) {
        let result = self.ask(method, path, content);
        assert!(result.is_err(), "{method} {path} was answered: {result:?}");
    }
}

struct World {
    shelf: Shelf,
    proxy: Proxy,
    client: Client,
}

impl World {
    fn new(length: Length) -> World {
        let (to, shelf) = server();
        let proxy = Proxy::start(to, length).unwrap();
        let client = Client::new(proxy.address());
        World { shelf, proxy, client }
    }

    fn stored(&self, path: &str) -> Option<Vec<u8>> {
        self.shelf.lock().unwrap().get(path).cloned()
    }
}

fn content(len_bytes: usize) -> Vec<u8> {
    (0..len_bytes).map(|n| (n * 31 % 251) as u8).collect()
}

#[test]
fn passes_everything_on_and_counts_it() {
    for length in [Length::default(), Length::of_millis(4)] {
        let mut world = World::new(length);
        let (large, small) = (content(3_000_000), content(10));
        world.client.ok("PUT", "/large", &large);
        world.client.ok("PUT", "/chunked", &large);
        world.client.ok("PUT", "/small", &small);
        assert_eq!(world.client.ok("GET", "/large", b""), large);
        assert_eq!(world.client.ok("GET", "/chunked", b""), large);
        assert_eq!(world.client.ok("GET", "/?prefix=", b""), b"/chunked /large /small");
        assert_eq!(world.client.ok("HEAD", "/large", b""), b"");
        assert_eq!(world.client.ok("DELETE", "/small", b""), b"");
        assert_eq!(world.client.opened, 1, "the connection is kept");
        let record = world.proxy.take_record();
        let counts = Kind::ALL.map(|kind| record.of(kind));
        assert_eq!(counts, [2, 3, 1, 1, 1, 0]);
        assert_eq!((record.sent_bytes(), record.received_bytes()), (6_000_010, 6_000_000 + 22));
        assert_eq!((record.connections, record.most_at_once()), (1, 1));
        assert_eq!(record.round_trips(length.round_trip), 8, "each request waited for the one before");
        assert_eq!(world.proxy.take_record().requests(), 0);
    }
}

#[test]
fn bodies_end_where_they_should() {
    let mut world = World::new(Length::default());
    let chunked = b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nT: 1\r\n\r\n";
    assert_eq!(world.client.say("PUT", chunked).unwrap().0.code(), 201);
    assert_eq!(world.stored("/a").unwrap(), b"hello!");
    // The content follows when the proxy has said that it may.
    let head = b"PUT /b HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(world.client.say("PUT", head).unwrap().0.code(), 100);
    assert_eq!(world.client.say("PUT", b"abc").unwrap().0.code(), 201);
    assert_eq!(world.stored("/b").unwrap(), b"abc");
    // Refused before: no word of going on, and the connection ends because nobody knows what follows.
    world.proxy.set(Plan::nth(1, Fault::Refuse { status: 503, retry_after_secs: Some(2) }));
    let (answer, _) = world.client.say("PUT", head).unwrap();
    assert_eq!((answer.code(), answer.get("retry-after"), answer.closes()), (503, Some("2"), true));
    world.client.stream = None;
    let mut out = Vec::new();
    let mut endless = BufReader::new(&b"until the end"[..]);
    assert_eq!(copy_body(&mut endless, &mut out, Framing::Close).unwrap(), 13);
    // A server's early end is the client's end.
    assert_eq!(world.client.say("GET", b"GET /b HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap().1, b"abc");
    let ended = world.client.say("GET", b"GET /b HTTP/1.1\r\n\r\n").unwrap_err().kind();
    assert!(matches!(ended, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe));
}

#[test]
fn each_fault_does_what_it_says() {
    for length in [Length::default(), Length::of_millis(2)] {
        let mut world = World::new(length);
        let stored = content(1000);
        let put = |world: &mut World, fault| {
            world.shelf.lock().unwrap().clear();
            world.proxy.set(Plan::nth(1, fault));
            let answer = world.client.ask("PUT", "/a", &stored).map(|(head, _)| head.code()).ok();
            (answer, world.stored("/a"))
        };
        let refused = Fault::Refuse { status: 429, retry_after_secs: None };
        assert_eq!(put(&mut world, Fault::ResetBefore), (None, None));
        assert_eq!(put(&mut world, Fault::ResetInRequest), (None, None), "this server stores nothing by halves");
        assert_eq!(put(&mut world, Fault::ResetAfter), (None, Some(stored.clone())));
        assert_eq!(put(&mut world, refused), (Some(429), None));
        assert_eq!(put(&mut world, Fault::FailAfter { status: 500 }), (Some(500), Some(stored.clone())));
        let (answer, flipped) = put(&mut world, Fault::FlipRequest);
        let flipped = flipped.unwrap();
        let bits: u32 = flipped.iter().zip(&stored).map(|(left, right)| (left ^ right).count_ones()).sum();
        assert_eq!((answer, flipped.len(), bits), (Some(201), 1000, 1));
        assert_eq!(put(&mut world, Fault::CutShort), (Some(201), Some(stored.clone())), "does not suit a put");

        let get = |world: &mut World, path: &str, fault| {
            world.proxy.set(Plan::nth(1, fault));
            world.client.ask("GET", path, b"").map(|(_, body)| body)
        };
        world.client.ok("PUT", "/chunked", &stored);
        for path in ["/a", "/chunked"] {
            let cut = get(&mut world, path, Fault::CutShort).unwrap_err();
            assert_eq!(cut.kind(), ErrorKind::UnexpectedEof, "ends in order: {cut}");
            assert_eq!(get(&mut world, path, Fault::Shortened).unwrap(), stored[..500]);
            let flipped = get(&mut world, path, Fault::FlipAnswer).unwrap();
            assert_eq!(flipped.iter().zip(&stored).filter(|(left, right)| left != right).count(), 1);
            assert_eq!(world.client.ok("GET", path, b""), stored, "the next passes");
        }
        let seen = world.proxy.take_record().faults();
        assert_eq!(seen["cut-short"], 2);
        assert!(!seen.contains_key("stall"));
    }
}

#[test]
fn stalls_until_released() {
    let world = World::new(Length::default());
    let shared = world.shelf.clone();
    shared.lock().unwrap().insert("/a".into(), content(1000));
    for fault in [Fault::Stall, Fault::StallInAnswer] {
        world.proxy.set(Plan::nth(1, fault));
        let mut socket = TcpStream::connect(world.proxy.address()).unwrap();
        socket.write_all(b"GET /a HTTP/1.1\r\n\r\n").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut bytes = Vec::new();
        let waited = socket.read_to_end(&mut bytes).unwrap_err();
        assert_eq!(waited.kind(), ErrorKind::WouldBlock, "nothing more, and no end");
        assert_eq!(bytes.len() > 500, fault == Fault::StallInAnswer);
        assert!(bytes.len() < 1000);
        let mut other = Client::new(world.proxy.address());
        assert_eq!(other.ok("GET", "/a", b"").len(), 1000, "others are answered meanwhile");
        world.proxy.release();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert_eq!(socket.read_to_end(&mut bytes).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn late_requests_arrive_after_others() {
    let mut world = World::new(Length::default());
    world.proxy.set(Plan::nth(1, Fault::Late { after_requests: 2 }));
    world.client.fails("PUT", "/a", b"late");
    assert_eq!(world.stored("/a"), None);
    assert_eq!(world.client.ask("GET", "/a", b"").unwrap().0.code(), 404);
    world.client.ok("PUT", "/b", b"");
    assert_eq!(world.stored("/a").unwrap(), b"late", "before the third request");
    world.proxy.set(Plan::nth(1, Fault::Late { after_requests: 1000 }));
    world.client.fails("DELETE", "/a", b"");
    assert!(world.stored("/a").is_some());
    world.proxy.calm();
    assert_eq!(world.stored("/a"), None);
}

#[test]
fn old_listings_are_given_again() {
    let mut world = World::new(Length::default());
    let list = |world: &mut World| String::from_utf8(world.client.ok("GET", "/?prefix=", b"")).unwrap();
    assert_eq!(list(&mut world), "");
    world.proxy.set(Plan::nth(1, Fault::Stale { times: 2 }));
    world.client.ok("PUT", "/a", b"a");
    assert_eq!((list(&mut world), list(&mut world), list(&mut world)), (String::new(), String::new(), "/a".into()));
    assert_eq!(world.proxy.take_record().faults()["stale"], 2);
    world.client.ok("PUT", "/b", b"b");
    world.proxy.set(Plan::nth(1, Fault::Stale { times: 100 }));
    assert_eq!(list(&mut world), "/a");
    world.proxy.calm();
    assert_eq!(list(&mut world), "/a /b");
}

#[test]
fn plans_choose_by_number_and_by_die() {
    let mut world = World::new(Length::default());
    let refuse = Fault::Refuse { status: 503, retry_after_secs: None };
    world.proxy.set(Plan::from_nth_for(2, 2, refuse));
    let codes: Vec<u16> = (0..5).map(|_| world.client.ask("PUT", "/a", b"a").unwrap().0.code()).collect();
    assert_eq!(codes, [201, 503, 503, 201, 201]);
    let faulty = |world: &mut World, seed| -> Vec<bool> {
        world.proxy.set(Plan::dice(seed, 250, vec![refuse]));
        (0..200).map(|_| world.client.ask("PUT", "/a", b"a").unwrap().0.code() == 503).collect()
    };
    let first = faulty(&mut world, 1);
    assert_eq!(first, faulty(&mut world, 1), "the same seed, the same faults");
    assert_ne!(first, faulty(&mut world, 2));
    assert!((25..75).contains(&first.iter().filter(|hit| **hit).count()));
}

#[test]
fn a_cable_delays_and_does_not_throttle() {
    const ROUND_TRIP: Duration = Duration::from_millis(60);
    let (to, shelf) = server();
    shelf.lock().unwrap().insert("/a".into(), content(40_000_000));
    let proxy = Proxy::start(to, Length { round_trip: ROUND_TRIP, bytes_per_sec: None }).unwrap();
    let mut client = Client::new(proxy.address());
    let start = Instant::now();
    client.ask("HEAD", "/a", b"").unwrap();
    assert!(start.elapsed() >= ROUND_TRIP * 2, "a handshake and a request");
    let start = Instant::now();
    client.ask("HEAD", "/a", b"").unwrap();
    assert!(start.elapsed() >= ROUND_TRIP);
    let start = Instant::now();
    assert_eq!(client.ok("GET", "/a", b"").len(), 40_000_000);
    // A proxy whose pieces of 64 KiB waited for one another would take 600 of them.
    assert!(start.elapsed() < ROUND_TRIP * 300, "took {:?}", start.elapsed());
    let slow = Length { round_trip: Duration::ZERO, bytes_per_sec: Some(20_000_000) };
    let proxy = Proxy::start(to, slow).unwrap();
    let start = Instant::now();
    assert_eq!(Client::new(proxy.address()).ok("GET", "/a", b"").len(), 40_000_000);
    assert!(start.elapsed() >= Duration::from_millis(1900), "took {:?}", start.elapsed());
}

#[test]
fn the_plain_proxy_resets_and_stalls_at_a_byte() {
    let (to, shelf) = server();
    shelf.lock().unwrap().insert("/a".into(), content(1_000_000));
    for length in [Length::default(), Length::of_millis(4)] {
        let proxy = plain::Proxy::start(to, length).unwrap();
        let ask = || Client::new(proxy.address()).ask("GET", "/a", b"").map(|(_, body)| body.len());
        assert_eq!(ask().unwrap(), 1_000_000);
        let passed = proxy.take_passed();
        assert_eq!(passed.connections, 1);
        assert!(passed.down_bytes > 1_000_000 && passed.up_bytes > 20);
        proxy.set(Trap { direction: Direction::Down, after_bytes: 500_000, trouble: Trouble::Reset });
        assert_eq!(ask().unwrap_err().kind(), ErrorKind::ConnectionReset);
        proxy.set(Trap { direction: Direction::Up, after_bytes: 10, trouble: Trouble::Reset });
        assert!(ask().is_err());
        assert_eq!(proxy.take_passed().troubles, 2);
        assert_eq!(ask().unwrap(), 1_000_000, "a trap snaps once");

        proxy.set(Trap { direction: Direction::Down, after_bytes: 500_000, trouble: Trouble::Stall });
        let mut socket = TcpStream::connect(proxy.address()).unwrap();
        socket.write_all(b"GET /a HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut bytes = Vec::new();
        assert_eq!(socket.read_to_end(&mut bytes).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(bytes.len() <= 500_000);
        proxy.release();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let head = bytes.len();
        let mut buffer = vec![0; 2_000_000];
        let mut got = head;
        while got < 1_000_000 {
            let len = socket.read(&mut buffer).unwrap();
            assert!(len > 0, "ended after {got} bytes");
            got += len;
        }
    }
}
