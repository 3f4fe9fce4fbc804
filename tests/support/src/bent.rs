//! An S3 server whose listings are bent on purpose. It takes any signature.

use md5::Digest;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

/// What is wrong with a page of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A page of the web, with 200.
    Html,
    /// S3's own `<Error>`, with 200.
    Error,
    /// Nothing, with 200.
    Empty,
    /// A page that breaks off, whose length is that of what came.
    Cut,
    /// A page whose connection breaks off.
    Lost,
    /// A page that does not say whether more is to come.
    NoEnd,
    /// More is to come, from nowhere.
    NoToken,
    /// Nothing more is to come, from somewhere.
    Contradiction,
    /// The page of another folder.
    OtherFolder,
    /// The first page once more, as the last one.
    SamePage,
    /// Fewer names than it says.
    Fewer,
    /// Two pages after one another.
    Twice,
    /// Bytes of another coding.
    Gzip,
    /// JSON of another service.
    Json,
    /// A whole page without one of its names.
    Less,
}

/// Every shape that cannot be a page.
pub const SHAPES: [Shape; 14] = [
    Shape::Html,
    Shape::Error,
    Shape::Empty,
    Shape::Cut,
    Shape::Lost,
    Shape::NoEnd,
    Shape::NoToken,
    Shape::Contradiction,
    Shape::OtherFolder,
    Shape::SamePage,
    Shape::Fewer,
    Shape::Twice,
    Shape::Gzip,
    Shape::Json,
];

/// A listing that does not end: what its pages hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endless {
    /// Names that are ids, each another.
    Ids,
    /// Other names, each another.
    Junk,
    /// Nothing.
    Nothing,
    /// Names on one page that does not end.
    OnePage,
}

/// What becomes of the listings of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bend {
    /// The n-th page, from 1 on.
    Page(usize, Shape),
    /// All of them.
    Endless(Endless),
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    bend: Option<(String, Bend)>,
    bent: usize,
    /// Whether ETags look like MD5s and are none.
    has_opaque_etags: bool,
    /// The token of a session that is let in; else any.
    token: Option<String>,
    /// Methods of the requests so far.
    asked: Vec<String>,
}

/// The server, for as long as the process lives.
#[derive(Clone)]
pub struct Server {
    /// What a repository there is called.
    pub url: String,
    page_names: usize,
    state: Arc<Mutex<State>>,
}

impl Server {
    /// Starts one with pages of so many names.
    pub fn start(page_names: usize) -> Server {
        Server::start_at("127.0.0.1:0", page_names)
    }

    /// Starts one at an address.
    pub fn start_at(address: &str, page_names: usize) -> Server {
        let listener = TcpListener::bind(address).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Server { url, page_names, state: Arc::default() };
        let serving = server.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let server = serving.clone();
                std::thread::spawn(move || server.serve(connection));
            }
        });
        server
    }

    /// Bends the listings of a folder from now on; returns how many answers were bent before.
    pub fn bend(&self, bend: Option<(&str, Bend)>) -> usize {
        let mut state = self.state.lock();
        state.bend = bend.map(|(folder, bend)| (format!("r/{folder}/"), bend));
        std::mem::take(&mut state.bent)
    }

    /// Has ETags that look like MD5s and are none, from now on.
    pub fn tell_opaque_etags(&self) {
        self.state.lock().has_opaque_etags = true;
    }

    /// Lets in who has this token, from now on; what another one's has is told to have expired.
    pub fn take_token(&self, token: &str) {
        self.state.lock().token = Some(token.to_owned());
    }

    /// Returns how many requests with a method there were since this was asked last.
    pub fn asked(&self, method: &str) -> usize {
        let asked = std::mem::take(&mut self.state.lock().asked);
        asked.iter().filter(|asked| *asked == method).count()
    }

    /// All objects, by their paths in the bucket.
    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        self.state.lock().objects.clone()
    }

    /// Puts objects back as they were.
    pub fn restore(&self, objects: BTreeMap<String, Vec<u8>>) {
        self.state.lock().objects = objects;
    }

    fn serve(&self, mut connection: TcpStream) {
        let mut reader = BufReader::new(connection.try_clone().unwrap());
        while let Some((method, target, body, range, token)) = read(&mut reader) {
            let is_let_in = {
                let mut state = self.state.lock();
                state.asked.push(method.clone());
                state.token.is_none() || state.token == token
            };
            let (path, query) = target.split_once('?').unwrap_or((&target, ""));
            let key = decoded(path.trim_start_matches("/bucket/"));
            let (status, head, body) = match &*method {
                _ if !is_let_in => (400, String::new(), b"<Error><Code>ExpiredToken</Code></Error>".to_vec()),
                "GET" if query.contains("list-type") => match self.list(query) {
                    Some((length, body)) if length == body.len() => (200, String::new(), body),
                    Some((length, body)) => {
                        let head = format!("HTTP/1.1 200 x\r\ncontent-length: {length}\r\n\r\n");
                        let _ = connection.write_all(&[head.as_bytes(), &body].concat());
                        return;
                    }
                    None => return endless_page(&mut connection, query),
                },
                "PUT" => {
                    let etag = self.etag(&body);
                    self.state.lock().objects.insert(key, body);
                    (200, format!("etag: \"{etag}\"\r\n"), Vec::new())
                }
                "DELETE" => {
                    self.state.lock().objects.remove(&key);
                    (204, String::new(), Vec::new())
                }
                _ => match self.state.lock().objects.get(&key) {
                    None => (404, String::new(), b"<Error><Code>NoSuchKey</Code></Error>".to_vec()),
                    Some(bytes) => match range.filter(|range| range.0 < bytes.len()) {
                        None => (200, String::new(), bytes.clone()),
                        Some((from, to)) => {
                            let to = to.min(bytes.len() - 1);
                            let head = format!("content-range: bytes {from}-{to}/{}\r\n", bytes.len());
                            (206, head, bytes[from..=to].to_vec())
                        }
                    },
                },
            };
            let etag = match method == "PUT" {
                true => String::new(),
                false => format!("etag: \"{}\"\r\n", self.etag(&body)),
            };
            let head = format!("HTTP/1.1 {status} x\r\n{head}{etag}content-length: {}\r\n\r\n", body.len());
            let body = if method == "HEAD" { Vec::new() } else { body };
            if connection.write_all(&[head.as_bytes(), &body].concat()).is_err() {
                return;
            }
        }
    }

    fn etag(&self, body: &[u8]) -> String {
        let salt: &[u8] = if self.state.lock().has_opaque_etags { b"sealed" } else { b"" };
        md5::Md5::digest([body, salt].concat()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Answers with a page and the length that is announced; `None` for one that does not end.
    fn list(&self, query: &str) -> Option<(usize, Vec<u8>)> {
        let field =
            |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(decoded);
        let prefix = field("prefix").unwrap_or_default();
        let from: usize = field("continuation-token").map_or(0, |token| token.parse().unwrap());
        let mut state = self.state.lock();
        let bend = state.bend.clone().filter(|(folder, _)| *folder == prefix).map(|(_, bend)| bend);
        let shape = match bend {
            Some(Bend::Endless(endless)) => {
                state.bent += 1;
                let names: Vec<(String, usize)> = match endless {
                    Endless::OnePage => return None,
                    Endless::Nothing => Vec::new(),
                    Endless::Ids => (0..5000).map(|at| (format!("{prefix}{:064x}", from * 5000 + at), 300)).collect(),
                    Endless::Junk => (0..5000).map(|at| (format!("{prefix}junk-{from}-{at}"), 300)).collect(),
                };
                return Some(whole(page(&names, &format!("<IsTruncated>true</IsTruncated>{}", token(from + 1)))));
            }
            Some(Bend::Page(number, shape)) if from / self.page_names + 1 == number => {
                state.bent += 1;
                Some(shape)
            }
            _ => None,
        };
        let all = |prefix: &str| -> Vec<(String, usize)> {
            let found = state.objects.iter().filter(|(key, _)| key.starts_with(prefix));
            found.map(|(key, bytes)| (key.clone(), bytes.len())).collect()
        };
        let (found, other) = (all(&prefix), all("r/config"));
        let to = (from + self.page_names).min(found.len());
        let names = &found[from.min(to)..to];
        let next = match to < found.len() {
            true => format!("<IsTruncated>true</IsTruncated>{}", token(to)),
            false => "<IsTruncated>false</IsTruncated>".into(),
        };
        let count = format!("<KeyCount>{}</KeyCount>", names.len());
        let honest = page(names, &(next.clone() + &count));
        let last = "<IsTruncated>false</IsTruncated>";
        Some(match shape {
            None => whole(honest),
            Some(Shape::Html) => whole("<html><body>log in</body></html>".into()),
            Some(Shape::Error) => whole(
                "<?xml version=\"1.0\"?><Error><Code>InternalError</Code><Message>We are sorry</Message></Error>"
                    .into(),
            ),
            Some(Shape::Empty) => whole(String::new()),
            Some(Shape::Cut) => whole(honest[..honest.len() - 25].into()),
            Some(Shape::Lost) => (honest.len(), honest.as_bytes()[..honest.len() / 2].to_vec()),
            Some(Shape::NoEnd) => whole(page(names, "")),
            Some(Shape::NoToken) => whole(page(names, "<IsTruncated>true</IsTruncated>")),
            Some(Shape::Contradiction) => whole(page(names, &(last.to_string() + &token(to)))),
            Some(Shape::OtherFolder) => whole(page(&other, last)),
            // The first page of a listing of one page is an honest one, but for what it says of more.
            Some(Shape::SamePage) if from == 0 => {
                whole(page(names, &format!("<IsTruncated>true</IsTruncated>{}", token(0))))
            }
            Some(Shape::SamePage) => whole(page(&found[..self.page_names.min(found.len())], last)),
            Some(Shape::Fewer) => whole(page(&names[..names.len().saturating_sub(1)], &(last.to_string() + &count))),
            Some(Shape::Twice) => whole(honest.clone() + &honest),
            Some(Shape::Gzip) => {
                let bytes = [&[0x1f, 0x8b, 8, 0][..], honest.as_bytes()].concat();
                (bytes.len(), bytes)
            }
            Some(Shape::Json) => whole("{\"kind\": \"storage#objects\"}".into()),
            Some(Shape::Less) => whole(page(&names[..names.len().saturating_sub(1)], &next)),
        })
    }
}

fn whole(page: String) -> (usize, Vec<u8>) {
    (page.len(), page.into_bytes())
}

fn token(at: usize) -> String {
    format!("<NextContinuationToken>{at}</NextContinuationToken>")
}

fn page(names: &[(String, usize)], says: &str) -> String {
    let mut xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult><Name>bucket</Name>".to_string();
    for (key, len) in names {
        xml += &format!(
            "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>{len}</Size></Contents>"
        );
    }
    xml + says + "</ListBucketResult>"
}

/// Sends names in pieces until nobody listens.
fn endless_page(connection: &mut TcpStream, query: &str) {
    let prefix = query.split('&').find_map(|pair| pair.strip_prefix("prefix=")).map(decoded).unwrap_or_default();
    let mut piece = "<ListBucketResult><IsTruncated>false</IsTruncated>".to_string();
    let mut sent = connection.write_all(b"HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n");
    let mut at = 0_u64;
    while sent.is_ok() {
        sent = connection.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes());
        piece.clear();
        for _ in 0..500 {
            at += 1;
            piece += &format!("<Contents><Key>{prefix}{at:064x}</Key><Size>300</Size></Contents>");
        }
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).unwrap()
}

type Request = (String, String, Vec<u8>, Option<(usize, usize)>, Option<String>);

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|len| *len > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let (mut len, mut range, mut token) = (0, None, None);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match &*name.to_ascii_lowercase() {
            "x-amz-security-token" => token = Some(value.trim().to_owned()),
            "content-length" => len = value.trim().parse().unwrap(),
            "range" => {
                let (from, to) = value.trim().strip_prefix("bytes=").unwrap().split_once('-').unwrap();
                range = Some((from.parse().unwrap(), to.parse().unwrap()));
            }
            _ => {}
        }
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    Some((method, target, body, range, token))
}
