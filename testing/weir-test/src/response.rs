//! A strict reader of HTTP/1.1 responses: what it accepts is well-formed beyond doubt.
//!
//! Stricter than a client has to be, on purpose: bare line feeds, white space before colons, folded
//! lines, both `Content-Length` and `Transfer-Encoding`, differing lengths and bytes that do not belong
//! to a message are all errors, so that a test sees them.

use std::io::Read;

use crate::ClientError;

/// Largest head read, in bytes.
const MAX_HEAD: usize = 1 << 20;

/// A start line and its fields, as sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// The first line without its end.
    pub start_line: String,
    /// Fields in order: name as sent, value without surrounding white space.
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// The value of the only field of this name (case-insensitive); `None` if there is none.
    ///
    /// # Panics
    /// If there are several: a test that does not expect that would look at the wrong one.
    pub fn field(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() <= 1, "several {name} fields: {values:?}");
        values.first().copied()
    }

    /// The values of all fields of this name, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// Parses the bytes of a head up to and including the empty line.
    ///
    /// # Errors
    /// [`ClientError::Malformed`] with the reason.
    pub fn parse(bytes: &[u8]) -> Result<Self, ClientError> {
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("head is not UTF-8"))?;
        let text = text.strip_suffix("\r\n\r\n").ok_or_else(|| malformed("head without end"))?;
        let mut lines = text.split("\r\n");
        let start_line = lines.next().unwrap_or_default().to_owned();
        check_line(&start_line)?;
        let fields = lines.map(parse_field).collect::<Result<_, _>>()?;
        Ok(Self { start_line, fields })
    }
}

/// A complete response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Reason phrase.
    pub reason: String,
    /// Status line and fields.
    pub head: Head,
    /// Interim (1xx) responses that came before.
    pub interim: Vec<Head>,
    /// The body, without chunk framing.
    pub body: Vec<u8>,
    /// Trailer fields of a chunked body.
    pub trailers: Vec<(String, String)>,
    /// Whether the body ended with the connection (no length, not chunked).
    pub until_close: bool,
}

impl Response {
    /// See [`Head::field`].
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// How the body of a response is framed (RFC 9112 section 6.3).
enum Framing {
    None,
    Length(usize),
    Chunked,
    UntilClose,
}

/// Reads one response from `source`, keeping bytes that follow it in `buffer`.
pub(crate) fn read_response(
    source: &mut impl Read,
    buffer: &mut Vec<u8>,
    method: &str,
) -> Result<Response, ClientError> {
    let mut interim = Vec::new();
    let (head, status, reason) = loop {
        let head = read_head(source, buffer)?;
        let (status, reason) = parse_status_line(&head.start_line)?;
        if (100..200).contains(&status) && status != 101 {
            interim.push(head);
        } else {
            break (head, status, reason);
        }
    };
    let mut response =
        Response { status, reason, head, interim, body: Vec::new(), trailers: Vec::new(), until_close: false };
    let framing = framing(&response.head, status, method)?;
    response.until_close = matches!(framing, Framing::UntilClose);
    (response.body, response.trailers) = read_body(source, buffer, &framing)?;
    Ok(response)
}

/// Reads the body that a request head announces.
pub(crate) fn read_framed(source: &mut impl Read, buffer: &mut Vec<u8>, head: &Head) -> Result<Body, ClientError> {
    read_body(source, buffer, &framing(head, 200, "POST")?)
}

/// A body without its framing, and its trailer fields.
pub(crate) type Body = (Vec<u8>, Vec<(String, String)>);

fn read_body(source: &mut impl Read, buffer: &mut Vec<u8>, framing: &Framing) -> Result<Body, ClientError> {
    match *framing {
        Framing::None => Ok(Body::default()),
        Framing::Length(length) => {
            fill(source, buffer, length)?;
            Ok((buffer.drain(..length).collect(), Vec::new()))
        }
        Framing::Chunked => read_chunked(source, buffer),
        Framing::UntilClose => {
            while more(source, buffer)? {}
            Ok((std::mem::take(buffer), Vec::new()))
        }
    }
}

/// Reads one head (of a request or a response), keeping what follows in `buffer`.
pub(crate) fn read_head(source: &mut impl Read, buffer: &mut Vec<u8>) -> Result<Head, ClientError> {
    let end = loop {
        if let Some(at) = find(buffer, b"\r\n\r\n") {
            break at + 4;
        }
        if buffer.len() > MAX_HEAD {
            return Err(malformed("head above 1 MiB"));
        }
        if !more(source, buffer)? {
            return Err(if buffer.is_empty() { ClientError::Closed } else { ClientError::Truncated(buffer.clone()) });
        }
    };
    let bytes: Vec<u8> = buffer.drain(..end).collect();
    Head::parse(&bytes)
}

fn framing(head: &Head, status: u16, method: &str) -> Result<Framing, ClientError> {
    let lengths = head.all("content-length");
    let encodings = head.all("transfer-encoding");
    if !lengths.is_empty() && !encodings.is_empty() {
        return Err(malformed("both Content-Length and Transfer-Encoding"));
    }
    let no_body =
        method == "HEAD" || status == 204 || status == 304 || status < 200 || (method == "CONNECT" && status < 300);
    if no_body {
        return Ok(Framing::None);
    }
    match (encodings.as_slice(), lengths.as_slice()) {
        ([], []) => Ok(Framing::UntilClose),
        ([coding], _) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        ([], [length]) if length.bytes().all(|b| b.is_ascii_digit()) => {
            length.parse().map(Framing::Length).map_err(|_| malformed("Content-Length does not fit"))
        }
        _ => Err(malformed(&format!("unclear framing: Transfer-Encoding {encodings:?}, Content-Length {lengths:?}"))),
    }
}

fn read_chunked(source: &mut impl Read, buffer: &mut Vec<u8>) -> Result<Body, ClientError> {
    let mut body = Vec::new();
    let mut trailers = Vec::new();
    loop {
        let line = read_line(source, buffer)?;
        let size = line.split(';').next().unwrap_or_default();
        if size.is_empty() || !size.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(malformed(&format!("chunk size {line:?}")));
        }
        let size = usize::from_str_radix(size, 16).map_err(|_| malformed("chunk size does not fit"))?;
        if size == 0 {
            break;
        }
        let framed = size.checked_add(2).ok_or_else(|| malformed("chunk size does not fit"))?;
        fill(source, buffer, framed)?;
        if &buffer[size..framed] != b"\r\n" {
            return Err(malformed("chunk data without CRLF"));
        }
        body.extend_from_slice(&buffer[..size]);
        buffer.drain(..framed);
    }
    loop {
        let line = read_line(source, buffer)?;
        if line.is_empty() {
            return Ok((body, trailers));
        }
        trailers.push(parse_field(&line)?);
    }
}

fn parse_status_line(line: &str) -> Result<(u16, String), ClientError> {
    let bad = || malformed(&format!("status line {line:?}"));
    let rest = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 ")).ok_or_else(bad)?;
    // RFC 9112 section 4: the space before the reason phrase is sent even if the phrase is empty.
    let (code, reason) = rest.split_once(' ').ok_or_else(bad)?;
    if code.len() != 3 || !code.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    Ok((code.parse().map_err(|_| bad())?, reason.to_owned()))
}

fn parse_field(line: &str) -> Result<(String, String), ClientError> {
    check_line(line)?;
    let (name, value) = line.split_once(':').ok_or_else(|| malformed(&format!("field without colon: {line:?}")))?;
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(malformed(&format!("field name {name:?}")));
    }
    Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

fn check_line(line: &str) -> Result<(), ClientError> {
    if line.bytes().any(|b| b == b'\r' || b == b'\n' || b == 0) {
        return Err(malformed(&format!("bare CR, LF or NUL in {line:?}")));
    }
    Ok(())
}

fn read_line(source: &mut impl Read, buffer: &mut Vec<u8>) -> Result<String, ClientError> {
    loop {
        if let Some(at) = find(buffer, b"\r\n") {
            let line: Vec<u8> = buffer.drain(..at + 2).take(at).collect();
            let line = String::from_utf8(line).map_err(|_| malformed("line is not UTF-8"))?;
            check_line(&line)?;
            return Ok(line);
        }
        if !more(source, buffer)? {
            return Err(ClientError::Truncated(buffer.clone()));
        }
    }
}

fn fill(source: &mut impl Read, buffer: &mut Vec<u8>, length: usize) -> Result<(), ClientError> {
    while buffer.len() < length {
        if !more(source, buffer)? {
            return Err(ClientError::Truncated(buffer.clone()));
        }
    }
    Ok(())
}

/// Reads once; `false` at the end of the stream.
fn more(source: &mut impl Read, buffer: &mut Vec<u8>) -> Result<bool, ClientError> {
    let mut chunk = [0; 16 * 1024];
    loop {
        match source.read(&mut chunk) {
            Ok(0) => return Ok(false),
            Ok(n) => {
                buffer.extend_from_slice(&chunk[..n]);
                return Ok(true);
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(ClientError::from_io(&e, buffer)),
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

fn malformed(why: &str) -> ClientError {
    ClientError::Malformed(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &str) -> Result<Response, ClientError> {
        read_response(&mut bytes.as_bytes(), &mut Vec::new(), "GET")
    }

    #[test]
    fn lengths_chunks_trailers_and_interim_responses_are_read() {
        let response =
            read("HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").unwrap();
        assert_eq!((response.status, response.text().as_str(), response.interim.len()), (200, "hi", 1));
        let response =
            read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nT: v\r\n\r\n")
                .unwrap();
        assert_eq!(
            (response.text().as_str(), response.trailers.as_slice()),
            ("abcd", [("T".to_owned(), "v".to_owned())].as_slice())
        );
        assert!(read("HTTP/1.1 200 OK\r\n\r\nrest").unwrap().until_close);
        assert_eq!(read("HTTP/1.1 204 No Content\r\n\r\n").unwrap().body, b"");
    }

    #[test]
    fn pipelined_responses_stay_apart() {
        let mut source: &[u8] =
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n";
        let mut buffer = Vec::new();
        assert_eq!(read_response(&mut source, &mut buffer, "GET").unwrap().text(), "a");
        assert_eq!(read_response(&mut source, &mut buffer, "GET").unwrap().status, 404);
        assert_eq!(read_response(&mut source, &mut buffer, "GET"), Err(ClientError::Closed));
    }

    #[test]
    fn doubtful_responses_are_errors() {
        for bad in [
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
            "HTTP/1.1 200 OK\r\nName : x\r\n\r\n",
            "HTTP/1.1 200 OK\r\n folded\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
        ] {
            assert!(matches!(read(bad), Err(ClientError::Malformed(_))), "{bad:?}");
        }
        assert!(matches!(read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"), Err(ClientError::Truncated(_))));
    }
}
