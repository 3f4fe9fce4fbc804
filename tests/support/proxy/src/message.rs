//! HTTP/1.1 messages as far as a proxy needs them: heads, and where bodies end (RFC 9112, sections 2 to 7).

use std::io::{self, BufRead, Read, Write};

/// No head is longer.
const HEAD_MAX_BYTES: usize = 64 << 10;
/// No line of a chunked body's framing is longer.
const LINE_MAX_BYTES: usize = 4 << 10;
const COPY_BYTES: usize = 64 << 10;

/// The first line and the fields of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The request line or the status line.
    pub first: String,
    /// The fields in their order, as written.
    pub fields: Vec<(String, String)>,
}

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// After an empty chunk.
    Chunked,
    /// With the connection.
    Close,
}

impl Head {
    /// Reads a head; none where the peer has ended the connection in order.
    pub fn read(from: &mut impl BufRead) -> io::Result<Option<Head>> {
        let mut left = HEAD_MAX_BYTES;
        let Some(first) = read_line(from, &mut left)? else { return Ok(None) };
        let mut fields = Vec::new();
        loop {
            let line = read_line(from, &mut left)?.ok_or_else(|| invalid("the connection ended in a head"))?;
            if line.is_empty() {
                return Ok(Some(Head { first, fields }));
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid("a field without a colon"))?;
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// Makes a status line with fields of its own.
    pub fn status(status: u16, fields: &[(&str, String)]) -> Head {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Head { first: format!("HTTP/1.1 {status} {}", reason(status)), fields }
    }

    /// Returns a field's value; its name is compared as HTTP does.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Removes a field.
    pub fn remove(&mut self, name: &str) {
        self.fields.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
    }

    /// Sets a field, in place of what there was.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.remove(name);
        self.fields.push((name.to_owned(), value.to_string()));
    }

    /// Returns the n-th word of the first line, counted from 0, or nothing at all.
    pub fn word(&self, n: usize) -> &str {
        self.first.split(' ').nth(n).unwrap_or("")
    }

    /// Returns the code of a status line; 0 for anything else.
    pub fn code(&self) -> u16 {
        self.word(1).parse().unwrap_or(0)
    }

    /// Returns whether the sender ends the connection after this message.
    pub fn closes(&self) -> bool {
        let is_old = self.first.starts_with("HTTP/1.0") || self.first.ends_with("HTTP/1.0");
        match self.get("connection") {
            Some(value) if value.eq_ignore_ascii_case("close") => true,
            Some(value) if value.eq_ignore_ascii_case("keep-alive") => false,
            _ => is_old,
        }
    }

    /// Returns where a request's body ends.
    pub fn request_framing(&self) -> io::Result<Framing> {
        Ok(self.framing()?.unwrap_or(Framing::None))
    }

    /// Returns where the body of the answer to a request ends.
    pub fn response_framing(&self, method: &str) -> io::Result<Framing> {
        let code = self.code();
        if method == "HEAD" || code < 200 || code == 204 || code == 304 {
            return Ok(Framing::None);
        }
        Ok(self.framing()?.unwrap_or(Framing::Close))
    }

    fn framing(&self) -> io::Result<Option<Framing>> {
        if self.get("transfer-encoding").is_some_and(|value| !value.eq_ignore_ascii_case("identity")) {
            return Ok(Some(Framing::Chunked));
        }
        let Some(length) = self.get("content-length") else { return Ok(None) };
        length.parse().map(|len| Some(Framing::Length(len))).map_err(|_| invalid("a length that is no number"))
    }

    /// Writes the head and the empty line after it.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut text = format!("{}\r\n", self.first);
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        to.write_all(text.as_bytes())
    }
}

/// Passes a body on with its framing as it is; returns its content's length.
pub fn copy_body(from: &mut impl BufRead, to: &mut impl Write, framing: Framing) -> io::Result<u64> {
    match framing {
        Framing::None => Ok(0),
        Framing::Length(len) => copy_exactly(from, to, len),
        Framing::Close => io::copy(from, to),
        Framing::Chunked => {
            let mut total = 0;
            while let Some(len) = chunk(from, to)? {
                total += copy_exactly(from, to, len)?;
                to.write_all(b"\r\n")?;
                end_of_chunk(from)?;
            }
            Ok(total)
        }
    }
}

/// Reads a body's content whole.
pub fn read_body(from: &mut impl BufRead, framing: Framing, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    match framing {
        Framing::None => {}
        Framing::Length(len) if len <= max_bytes => {
            copy_exactly(from, &mut body, len)?;
        }
        Framing::Close => {
            from.take(max_bytes + 1).read_to_end(&mut body)?;
        }
        Framing::Chunked => {
            while let Some(len) = chunk(from, &mut io::sink())? {
                if body.len() as u64 + len > max_bytes {
                    return Err(invalid("a body too long to be kept"));
                }
                copy_exactly(from, &mut body, len)?;
                end_of_chunk(from)?;
            }
        }
        Framing::Length(_) => return Err(invalid("a body too long to be kept")),
    }
    if body.len() as u64 > max_bytes {
        return Err(invalid("a body too long to be kept"));
    }
    Ok(body)
}

/// Reads the line before a chunk, and passes it on; none at the last chunk, whose trailer is passed on too.
fn chunk(from: &mut impl BufRead, to: &mut impl Write) -> io::Result<Option<u64>> {
    let mut left = LINE_MAX_BYTES;
    let mut line = || read_line(from, &mut left)?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof));
    let size = line()?;
    write!(to, "{size}\r\n")?;
    let digits = size.split(';').next().unwrap_or("").trim();
    let len = u64::from_str_radix(digits, 16).map_err(|_| invalid("a chunk's length that is no number"))?;
    if len > 0 {
        return Ok(Some(len));
    }
    loop {
        let trailer = line()?;
        write!(to, "{trailer}\r\n")?;
        if trailer.is_empty() {
            return Ok(None);
        }
    }
}

fn end_of_chunk(from: &mut impl BufRead) -> io::Result<()> {
    let mut end = [0; 2];
    from.read_exact(&mut end)?;
    if &end == b"\r\n" { Ok(()) } else { Err(invalid("a chunk that does not end where it says")) }
}

fn copy_exactly(from: &mut impl Read, to: &mut impl Write, len: u64) -> io::Result<u64> {
    let mut buffer = vec![0; COPY_BYTES.min(usize::try_from(len).unwrap_or(COPY_BYTES))];
    let mut left = len;
    while left > 0 {
        let part = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match from.read(&mut buffer[..part])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            got => {
                to.write_all(&buffer[..got])?;
                left -= got as u64;
            }
        }
    }
    Ok(len)
}

fn read_line(from: &mut impl BufRead, left: &mut usize) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    from.take(*left as u64).read_until(b'\n', &mut line)?;
    if line.is_empty() && *left > 0 {
        return Ok(None);
    }
    *left -= line.len();
    if line.pop() != Some(b'\n') {
        return Err(invalid("a line that is too long or has no end"));
    }
    line.pop_if(|last| *last == b'\r');
    String::from_utf8(line).map(Some).map_err(|_| invalid("a line that is not UTF-8"))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("The proxy met {what}"))
}

fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}
