//! Just enough of an HTTP/1.1 server (RFC 9112) for an imitation: bodies with a length, connections that go on.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A body longer than any object a repository has.
const MAX_BODY_BYTES: usize = 128 << 20;

/// A request.
pub struct Request {
    /// GET, POST and so on.
    pub method: String,
    /// As it was asked for, without the query.
    pub path: String,
    /// The names and values after the path, decoded.
    pub query: BTreeMap<String, String>,
    /// Names in small letters, and values.
    pub headers: BTreeMap<String, String>,
    /// What was sent.
    pub body: Vec<u8>,
}

/// An answer.
pub struct Answer {
    /// 200, 404 and so on.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(&'static str, String)>,
    /// What was sent.
    pub body: Vec<u8>,
}

/// A server that answers each request with a function, each connection in a thread.
pub struct HttpServer {
    is_stopping: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    port: u16,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Starts the server at a port of 127.0.0.1.
    pub fn start(port: u16, answer: impl Fn(Request) -> Answer + Send + Sync + 'static) -> HttpServer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (is_stopping, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (stopping, known) = (is_stopping.clone(), connections.clone());
        let answer = Arc::new(answer);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                known.lock().push(stream.try_clone().unwrap());
                let answer = answer.clone();
                // A client that goes away ends its connection; nobody waits for it.
                std::thread::spawn(move || serve(stream, &*answer).ok());
            }
        });
        HttpServer { is_stopping, connections, port, thread: Some(thread) }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for connection in self.connections.lock().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn serve(stream: TcpStream, answer: &dyn Fn(Request) -> Answer) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader, &mut writer)? {
        let has_no_body = request.method == "HEAD";
        let answer = answer(request);
        let mut head = format!("HTTP/1.1 {} Status\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        writer.write_all(head.as_bytes())?;
        if !has_no_body {
            writer.write_all(&answer.body)?;
        }
    }
    Ok(())
}

fn read_request(reader: &mut impl BufRead, writer: &mut impl Write) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let unfit = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().ok_or_else(unfit)?.to_owned(), words.next().ok_or_else(unfit)?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let query = pairs.map(|(name, value)| (name.to_owned(), decode(value))).collect();
    let path = decode(path);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let len_bytes = headers.get("content-length").map_or(Ok(0), |text| text.parse()).map_err(|_| unfit())?;
    if len_bytes > MAX_BODY_BYTES || headers.contains_key("transfer-encoding") {
        return Err(unfit());
    }
    if headers.contains_key("expect") {
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut body = vec![0; len_bytes];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { method, path, query, headers, body }))
}

/// Decodes percent signs (RFC 3986, 2.1).
pub fn decode(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(digits.unwrap_or(b'?'));
        bytes.extend_from_slice(part.get(2..).unwrap_or_default().as_bytes());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
