//! A small HTTP server that does what a test tells it.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// One request, as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub fn query(&self, name: &str) -> Option<&str> {
        let pairs = self.target.split_once('?')?.1.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
    }
}

/// What the server does with a request it has read.
pub enum Answer {
    Reply(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Announces a body of this length and sends less.
    Cut(u16, usize, Vec<u8>),
    /// Closes the connection.
    Lost,
    /// Announces a body of this length and sends a byte now and then.
    Crawl(usize, Duration),
    /// Says nothing, and keeps the connection.
    Silent,
}

pub struct Server {
    pub url: String,
    pub log: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let (noted, answer) = (log.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (connection, noted, answer) = (connection.unwrap(), noted.clone(), answer.clone());
                std::thread::spawn(move || serve(connection, &noted, &*answer));
            }
        });
        Server { url, log }
    }

    /// The requests so far: method and the last part of the path.
    pub fn seen(&self) -> Vec<String> {
        let last = |request: &Request| request.path().rsplit('/').next().unwrap().chars().take(4).collect::<String>();
        self.log.lock().iter().map(|request| format!("{} {}", request.method, last(request))).collect()
    }

    pub fn count(&self, method: &str) -> usize {
        self.log.lock().iter().filter(|request| request.method == method).count()
    }
}

fn serve(connection: TcpStream, log: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request) -> Answer) {
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let mut connection = connection;
    while let Some(request) = read(&mut reader) {
        log.lock().push(request.clone());
        let (status, headers, len, body) = match answer(&request) {
            Answer::Reply(status, headers, body) => (status, headers, body.len(), body),
            Answer::Cut(status, len, body) => (status, Vec::new(), len, body),
            Answer::Lost => return,
            Answer::Crawl(len, pause) => {
                let head = format!("HTTP/1.1 200 x\r\ncontent-length: {len}\r\n\r\n");
                let mut sent = connection.write_all(head.as_bytes());
                while sent.is_ok() {
                    std::thread::sleep(pause);
                    sent = connection.write_all(b"x");
                }
                return;
            }
            Answer::Silent => {
                let _ = reader.read_to_end(&mut Vec::new());
                return;
            }
        };
        let mut head = format!("HTTP/1.1 {status} x\r\n");
        if !headers.iter().any(|(name, _)| *name == "content-length") {
            head += &format!("content-length: {len}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let body = if request.method == "HEAD" { Vec::new() } else { body };
        let whole = len == body.len() || request.method == "HEAD";
        if connection.write_all((head + "\r\n").as_bytes()).and_then(|()| connection.write_all(&body)).is_err()
            || !whole
        {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|len| *len > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let len = headers.get("content-length").map_or(0, |len| len.parse().unwrap());
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, target, headers, body })
}

/// Objects by path, as an S3 server keeps them in a bucket.
#[derive(Clone, Default)]
pub struct Objects(pub Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Objects {
    /// Answers as S3 does.
    pub fn answer(&self, request: &Request) -> Answer {
        let mut objects = self.0.lock();
        let path = request.path().to_owned();
        let missing = || Answer::Reply(404, vec![], b"<Error><Code>NoSuchKey</Code></Error>".to_vec());
        match &*request.method {
            "PUT" => {
                objects.insert(path, request.body.clone());
                Answer::Reply(200, vec![("etag", etag(&request.body))], vec![])
            }
            "HEAD" => match objects.get(&path) {
                Some(bytes) => Answer::Reply(200, vec![("etag", etag(bytes))], bytes.clone()),
                None => missing(),
            },
            "GET" if request.query("list-type").is_some() => list(&objects, request),
            "GET" => match (objects.get(&path), request.headers.get("range")) {
                (None, _) => missing(),
                (Some(bytes), None) => Answer::Reply(200, vec![], bytes.clone()),
                (Some(bytes), Some(range)) => {
                    let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
                    let (from, to) = (from.parse::<usize>().unwrap(), to.parse::<usize>().unwrap() + 1);
                    let to = to.min(bytes.len());
                    if from >= to {
                        return Answer::Reply(416, vec![], vec![]);
                    }
                    let range = format!("bytes {from}-{}/{}", to - 1, bytes.len());
                    Answer::Reply(206, vec![("content-range", range)], bytes[from..to].to_vec())
                }
            },
            "DELETE" => {
                objects.remove(&path);
                Answer::Reply(204, vec![], vec![])
            }
            _ => Answer::Reply(405, vec![], vec![]),
        }
    }
}

pub fn etag(bytes: &[u8]) -> String {
    use md5::Digest;
    let md5: [u8; 16] = md5::Md5::digest(bytes).into();
    format!("\"{}\"", crate::id::to_hex(&md5))
}

/// Pages of two.
fn list(objects: &BTreeMap<String, Vec<u8>>, request: &Request) -> Answer {
    let prefix = format!("/bucket/{}", request.query("prefix").unwrap().replace("%2F", "/"));
    let after = request.query("continuation-token").map_or(0, |token| token.parse().unwrap());
    let found: Vec<_> = objects.iter().filter(|(path, _)| path.starts_with(&prefix)).collect();
    let mut xml = String::from("<ListBucketResult>");
    for (path, bytes) in found.iter().skip(after).take(2) {
        let key = path.strip_prefix("/bucket/").unwrap();
        let len = bytes.len();
        xml += &format!(
            "<Contents><Key>{key}</Key><Size>{len}</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
             <ETag>x</ETag></Contents>"
        );
    }
    let next = after + 2;
    if next < found.len() {
        xml += &format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{next}</NextContinuationToken>");
    } else {
        xml += "<IsTruncated>false</IsTruncated>";
    }
    Answer::Reply(200, vec![], (xml + "</ListBucketResult>").into_bytes())
}

impl Objects {
    /// Answers as a WebDAV server whose folders are all there.
    pub fn answer_dav(&self, request: &Request) -> Answer {
        let path = request.path().to_owned();
        let mut objects = self.0.lock();
        let nothing = |status| Answer::Reply(status, vec![], vec![]);
        match &*request.method {
            "PROPFIND" => {
                let kind = if path.ends_with('/') { "<D:collection/>" } else { "" };
                let len = match objects.get(&path) {
                    Some(bytes) => format!("<D:getcontentlength>{}</D:getcontentlength>", bytes.len()),
                    None if kind.is_empty() => return nothing(404),
                    None => String::new(),
                };
                let xml = format!(
                    "<D:multistatus xmlns:D=\"DAV:\"><D:response><D:href>{path}</D:href><D:propstat><D:prop>{len}\
                     <D:getlastmodified>Fri, 17 Feb 2023 03:37:22 GMT</D:getlastmodified>\
                     <D:resourcetype>{kind}</D:resourcetype></D:prop><D:status>HTTP/1.1 200 OK</D:status>\
                     </D:propstat></D:response></D:multistatus>"
                );
                Answer::Reply(207, vec![], xml.into_bytes())
            }
            "MOVE" => {
                let destination = request.headers["destination"].splitn(4, '/').nth(3).unwrap().to_owned();
                if objects.contains_key(&format!("/{destination}")) {
                    return nothing(412);
                }
                let Some(bytes) = objects.remove(&path) else { return nothing(404) };
                objects.insert(format!("/{destination}"), bytes);
                nothing(201)
            }
            "MKCOL" => nothing(201),
            "PUT" => {
                objects.insert(path, request.body.clone());
                nothing(201)
            }
            _ => {
                drop(objects);
                self.answer(request)
            }
        }
    }
}
