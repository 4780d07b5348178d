//! Writing messages: everything is appended to a buffer that the caller keeps.
//!
//! Names and values are written as given. Those of a parsed [`Field`] are safe;
//! those from elsewhere are to be checked once, when they come in, with
//! [`is_valid_name`](crate::is_valid_name) and [`is_valid_value`](crate::is_valid_value)
//! (asserted in debug builds).

use crate::Field;

/// The end of a chunked body without trailer section: last chunk and empty line.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// The last chunk alone, before a trailer section; [`field`] lines and [`end_head`] follow.
pub const LAST_CHUNK_BEFORE_TRAILERS: &[u8] = b"0\r\n";
/// A line end, as it follows the data of each chunk.
pub const CRLF: &[u8] = b"\r\n";

/// `METHOD path?query HTTP/1.1`
#[inline]
pub fn request_line(out: &mut Vec<u8>, method: &str, path: &[u8], query: Option<&[u8]>) {
    debug_assert!(crate::is_valid_name(method), "a method is a token");
    debug_assert!(!path.is_empty() && path.iter().all(u8::is_ascii_graphic), "a target is printable");
    debug_assert!(query.is_none_or(|query| query.iter().all(u8::is_ascii_graphic)), "a target is printable");
    out.reserve(method.len() + path.len() + query.map_or(0, <[u8]>::len) + 13);
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(path);
    if let Some(query) = query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// `HTTP/1.1 STATUS reason`. An empty reason is written as such; see [`reason_phrase`].
#[inline]
pub fn status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    debug_assert!((100..1000).contains(&status), "a status has three digits");
    debug_assert!(crate::is_valid_value(reason), "a reason phrase is one line");
    let digit = |n: u16| b'0' + (n % 10) as u8;
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(&[digit(status / 100), digit(status / 10), digit(status), b' ']);
    out.extend_from_slice(reason);
    out.extend_from_slice(CRLF);
}

/// `name: value`
#[inline]
pub fn field(out: &mut Vec<u8>, name: impl AsRef<[u8]>, value: &[u8]) {
    let name = name.as_ref();
    debug_assert!(crate::is_valid_name(name), "a field name is a token");
    debug_assert!(crate::is_valid_value(value), "a field value is one line without control characters");
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(CRLF);
}

/// Copies fields from a head to another, in order.
///
/// Neighbours that stood in the received head exactly as they would be written (`name: value`, one space, CRLF)
/// are copied with one `memcpy`: the result is the same as [`field`] for each, at a fraction of the cost.
#[derive(Debug)]
pub struct FieldCopier<'b> {
    bytes: &'b [u8],
    /// The run that is yet to be copied.
    start: usize,
    end: usize,
}

impl<'b> FieldCopier<'b> {
    /// A copier of fields that are slices of `bytes` ([`crate::RequestHead::bytes`], [`crate::ResponseHead::bytes`]).
    #[inline]
    pub const fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, start: 0, end: 0 }
    }

    /// A copier that begins with the first line of the head, as it came (`line` of [`crate::RequestHead`] and
    /// [`crate::ResponseHead`]): for a head that keeps it.
    #[inline]
    pub fn with_line(bytes: &'b [u8], line: &'b [u8]) -> Self {
        let start = line.as_ptr().addr().wrapping_sub(bytes.as_ptr().addr());
        Self { bytes, start, end: start.wrapping_add(line.len()) }
    }

    /// The next field to be written.
    #[inline]
    pub fn copy(&mut self, out: &mut Vec<u8>, source: &Field<'b>) {
        let name_at = source.name.as_ptr().addr().wrapping_sub(self.bytes.as_ptr().addr());
        let value_at = source.value.as_ptr().addr().wrapping_sub(self.bytes.as_ptr().addr());
        let name_end = name_at.wrapping_add(source.name.len());
        let value_end = value_at.wrapping_add(source.value.len());
        let canonical = value_at == name_end.wrapping_add(2)
            && matches!(self.bytes.get(name_end..), Some([b':', b' ', ..]))
            && matches!(self.bytes.get(value_end..), Some([b'\r', b'\n', ..]));
        if canonical && name_at == self.end {
            self.end = value_end + 2;
        } else {
            self.begin(out, source, canonical.then_some((name_at, value_end + 2)));
        }
    }

    /// Begins another run with a field that stands as it would be written, or writes one that does not.
    #[inline(never)]
    fn begin(&mut self, out: &mut Vec<u8>, source: &Field<'b>, stands_at: Option<(usize, usize)>) {
        self.flush(out);
        match stands_at {
            Some(run) => (self.start, self.end) = run,
            None => field(out, source.name, source.value),
        }
    }

    /// Writes what is left. To be called before anything else is written behind the copied fields.
    #[inline]
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        if let Some(run) = self.bytes.get(self.start..self.end) {
            out.extend_from_slice(run);
        }
        self.start = 0;
        self.end = 0;
    }
}

/// Whether a valid `Content-Length` is written as [`content_length`] would write it: without leading zeros.
#[inline]
pub fn is_plain_length(value: &[u8]) -> bool {
    matches!(value, [_] | [b'1'..=b'9', ..])
}

/// `Content-Length: n`
#[inline]
pub fn content_length(out: &mut Vec<u8>, n: u64) {
    field(out, "Content-Length", itoa::Buffer::new().format(n).as_bytes());
}

/// `Transfer-Encoding: chunked`
#[inline]
pub fn transfer_encoding_chunked(out: &mut Vec<u8>) {
    field(out, "Transfer-Encoding", b"chunked");
}

/// The empty line after the fields of a head or of a trailer section.
#[inline]
pub fn end_head(out: &mut Vec<u8>) {
    out.extend_from_slice(CRLF);
}

/// The line before a chunk of `len` bytes: the first `usize` bytes of the array. [`CRLF`] follows
/// the data. `len` must not be 0, which would end the body.
#[inline]
pub fn chunk_head(len: usize) -> ([u8; 18], usize) {
    debug_assert!(len > 0, "an empty chunk ends the body");
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4).max(1) as usize;
    let mut line = [0; 18];
    for (position, byte) in line[..digits].iter_mut().enumerate() {
        let nibble = (len >> (4 * (digits - 1 - position))) & 0xF;
        *byte = b"0123456789abcdef"[nibble];
    }
    line[digits] = b'\r';
    line[digits + 1] = b'\n';
    (line, digits + 2)
}

/// The standard reason phrase of a status (IANA HTTP Status Code Registry), empty for others.
pub const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        511 => "Network Authentication Required",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(write: impl FnOnce(&mut Vec<u8>), expect: &str) {
        let mut out = b"before|".to_vec();
        write(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("before|{expect}"));
    }

    #[test]
    fn lines_are_appended() {
        check(|out| request_line(out, "GET", b"/a", None), "GET /a HTTP/1.1\r\n");
        check(|out| request_line(out, "GET", b"/a", Some(b"")), "GET /a? HTTP/1.1\r\n");
        check(|out| request_line(out, "M-SEARCH", b"*", None), "M-SEARCH * HTTP/1.1\r\n");
        check(|out| status_line(out, 200, b"OK"), "HTTP/1.1 200 OK\r\n");
        check(|out| status_line(out, 999, b""), "HTTP/1.1 999 \r\n");
        check(|out| field(out, "X-A", b"b c"), "X-A: b c\r\n");
        check(|out| field(out, "X-A", b""), "X-A: \r\n");
        check(|out| content_length(out, u64::MAX), "Content-Length: 18446744073709551615\r\n");
        check(transfer_encoding_chunked, "Transfer-Encoding: chunked\r\n");
        check(end_head, "\r\n");
    }

    #[test]
    fn chunk_heads_are_hexadecimal_without_leading_zeros() {
        for len in [1, 9, 10, 15, 16, 255, 256, 0x1234, 65_535, 65_536, usize::MAX] {
            let (line, used) = chunk_head(len);
            assert_eq!(std::str::from_utf8(&line[..used]).unwrap(), format!("{len:x}\r\n"));
        }
    }

    #[test]
    fn every_status_that_weir_makes_has_a_phrase() {
        for reason in weir_core::Reason::ALL {
            // 499 is a code of the log, never sent.
            assert!(reason.status() == 499 || !reason_phrase(reason.status()).is_empty(), "{reason}");
        }
        assert_eq!(reason_phrase(299), "");
    }

    #[test]
    fn copied_fields_are_those_that_field_would_write() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nb:2\r\nC:  3 \r\nD: \r\nEe: five\r\nF: 6\r\n\r\n";
        let mut slots = crate::Slots::new();
        let head = crate::parse_request(text, &mut slots, &crate::Limits::default()).unwrap().unwrap();
        // Every choice of fields, so that runs start, break and end everywhere.
        for mask in 0_u32..1 << head.fields.len() {
            let (mut copied, mut written) = (Vec::new(), Vec::new());
            let mut copier = FieldCopier::new(head.bytes);
            for (index, source) in head.fields.iter().enumerate() {
                if mask & (1 << index) != 0 {
                    copier.copy(&mut copied, source);
                    field(&mut written, source.name, source.value);
                }
            }
            copier.flush(&mut copied);
            assert_eq!(copied, written, "{mask:b}");
        }
    }
}
