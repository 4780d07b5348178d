//! Heads on their way: written anew from the parsed form, never passed through.
//!
//! Removed from every message: what is hop-by-hop (RFC 9110 section 7.6.1), by name or because `Connection`
//! nominates it. Written anew: `Host`, the framing, `Connection`.

use std::io::Write as _;
use std::net::IpAddr;

use crate::date::DateText;
use weir_config::plan::Forwarded;
use weir_core::hash::Rng;
use weir_http::write::FieldCopier;
use weir_http::{Field, FieldKind, Form, Framing, Method, RequestHead, ResponseFraming, ResponseHead, Version, write};
use weir_route::{Action, HeaderEdits, Rule, rewrite_path};

/// Everything that decides how a request head is forwarded.
pub(crate) struct RequestParts<'a, 'b, 's> {
    pub(crate) head: &'a RequestHead<'b, 's>,
    /// Normalised.
    pub(crate) path: &'a [u8],
    pub(crate) rule: &'a Rule,
    pub(crate) forwarded: &'a Forwarded,
    pub(crate) peer: Option<IpAddr>,
    pub(crate) trusted: bool,
    /// The protocols that the client offers to switch to.
    pub(crate) offered: Option<&'a [u8]>,
}

/// X-Request-ID: the trusted peer's, or 128 random bits in hexadecimal.
pub(crate) enum RequestId<'b> {
    Kept(&'b [u8]),
    Made([u8; 32]),
}

impl<'b> RequestId<'b> {
    /// `None` if request ids are switched off.
    pub(crate) fn choose(
        head: &RequestHead<'b, '_>,
        trusted: bool,
        forwarded: &Forwarded,
        rng: &mut Rng,
    ) -> Option<Self> {
        if !forwarded.request_id {
            return None;
        }
        if trusted && let Some(field) = head.fields.iter().find(|field| field.kind == FieldKind::XRequestId) {
            return Some(Self::Kept(field.value));
        }
        let bits = (u128::from(rng.next()) << 64) | u128::from(rng.next());
        let mut hex = [0; 32];
        for (digits, byte) in hex.as_chunks_mut().0.iter_mut().zip(bits.to_le_bytes()) {
            *digits = HEX[usize::from(byte)];
        }
        Some(Self::Made(hex))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Kept(value) => value,
            Self::Made(hex) => hex,
        }
    }
}

/// Writes the request head as the endpoint gets it.
pub(crate) fn write_request_head(
    out: &mut Vec<u8>,
    parts: &RequestParts<'_, '_, '_>,
    request_id: Option<&RequestId<'_>>,
) {
    let head = parts.head;
    let edits = &parts.rule.request_headers;
    let mut copier = write_request_line(out, parts);
    // RFC 9110 section 7.2: Host first, so that the endpoint sees it early; an HTTP/1.0 client may have sent none.
    let keeps_host = head.target.form == Form::Origin
        && edits.is_empty()
        && head.fields.first().is_some_and(|field| field.kind == FieldKind::Host);
    if !keeps_host {
        let host = edits.set.iter().find(|(name, _)| name.eq_ignore_ascii_case("Host"));
        copier.flush(out);
        write::field(out, "Host", host.map_or(head.host, |(_, value)| value.as_bytes()));
    }
    let mut te_trailers = false;
    let mut length_due = matches!(head.framing, Framing::Length(_));
    for field in head.fields {
        match field.kind {
            FieldKind::Host if keeps_host => {}
            FieldKind::ContentLength if length_due && write::is_plain_length(field.value) => {
                length_due = false;
                copier.copy(out, field);
                continue;
            }
            FieldKind::Te => {
                te_trailers |= contains_token(field.value, b"trailers");
                continue;
            }
            kind if is_written_anew(kind, parts) => continue,
            FieldKind::MaxForwards => {
                if let Some(left) = max_forwards(head, field) {
                    copier.flush(out);
                    write::field(out, field.name, itoa::Buffer::new().format(left.saturating_sub(1)).as_bytes());
                    continue;
                }
            }
            _ => {}
        }
        if !field.hop_by_hop && !is_edited(edits, field.name) {
            copier.copy(out, field);
        }
    }
    copier.flush(out);
    if te_trailers {
        out.extend_from_slice(b"TE: trailers\r\n");
    }
    write_forwarding(out, parts);
    if let Some(pseudonym) = &parts.forwarded.via {
        out.extend_from_slice(if head.version == Version::Http11 { b"Via: 1.1 " } else { b"Via: 1.0 " });
        out.extend_from_slice(pseudonym.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if let Some(id) = request_id {
        write::field(out, "X-Request-ID", id.as_bytes());
    }
    write_edits(out, edits);
    match head.framing {
        Framing::Length(n) if length_due => write::content_length(out, n),
        Framing::None | Framing::Length(_) => {}
        Framing::Chunked => write::transfer_encoding_chunked(out),
    }
    write_connection(out, parts, te_trailers);
    write::end_head(out);
}

/// The first line: the client's own where it is the same, to be copied together with the fields behind it.
fn write_request_line<'b>(out: &mut Vec<u8>, parts: &RequestParts<'_, 'b, '_>) -> FieldCopier<'b> {
    let head = parts.head;
    let rewrites = matches!(&parts.rule.action, Action::Forward { rewrite: Some(_), .. });
    let same_path = std::ptr::eq(parts.path, head.target.path);
    if head.version == Version::Http11 && head.target.form == Form::Origin && same_path && !rewrites {
        return FieldCopier::with_line(head.bytes, head.line);
    }
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    rewrite_path(parts.rule, parts.path, out);
    if let Some(query) = head.target.query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    FieldCopier::new(head.bytes)
}

fn write_connection(out: &mut Vec<u8>, parts: &RequestParts<'_, '_, '_>, te_trailers: bool) {
    match (parts.offered, te_trailers) {
        (Some(protocol), te) => {
            write::field(out, "Upgrade", protocol);
            out.extend_from_slice(if te { b"Connection: upgrade, TE\r\n" } else { b"Connection: upgrade\r\n" });
        }
        // RFC 9110 section 10.1.4: a sender of TE lists it in Connection.
        (None, true) => out.extend_from_slice(b"Connection: TE\r\n"),
        (None, false) => {}
    }
}

/// What `Max-Forwards` allows where it counts: with TRACE and OPTIONS (RFC 9110 section 7.6.2). Weir counts up to 2^32.
pub(crate) fn max_forwards(head: &RequestHead<'_, '_>, field: &Field<'_>) -> Option<u32> {
    let counts = field.kind == FieldKind::MaxForwards && matches!(head.method, Method::Trace | Method::Options);
    let digits = std::str::from_utf8(field.value).ok().filter(|text| !text.is_empty() && counts)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().unwrap_or(u32::MAX))
}

/// Fields that Weir writes itself, so that the client's are left out.
fn is_written_anew(kind: FieldKind, parts: &RequestParts<'_, '_, '_>) -> bool {
    match kind {
        FieldKind::Host | FieldKind::ContentLength | FieldKind::TransferEncoding => true,
        FieldKind::XForwardedFor | FieldKind::XForwardedProto | FieldKind::XForwardedHost | FieldKind::XRealIp => {
            parts.forwarded.x_forwarded || !parts.trusted
        }
        FieldKind::XForwardedPort => !parts.trusted,
        FieldKind::Forwarded => parts.forwarded.forwarded || !parts.trusted,
        FieldKind::XRequestId => parts.forwarded.request_id,
        // RFC 9110 section 10.1.1: no expectation without a body; that of an HTTP/1.0 client is ignored.
        FieldKind::Expect => !parts.head.expect_continue,
        _ => false,
    }
}

/// X-Forwarded-* and Forwarded: appended to a trusted peer's, else made new.
fn write_forwarding(out: &mut Vec<u8>, parts: &RequestParts<'_, '_, '_>) {
    let believed = if parts.trusted { parts.head.fields } else { &[] };
    let values = |kind: FieldKind| believed.iter().filter(move |field| field.kind == kind).map(|field| field.value);
    if parts.forwarded.x_forwarded {
        if parts.peer.is_none() {
            // A process of this machine, behind a Unix socket: what it says of the client is all there is.
            for kind in [FieldKind::XForwardedFor, FieldKind::XRealIp] {
                for field in believed.iter().filter(|field| field.kind == kind) {
                    write::field(out, field.name, field.value);
                }
            }
        }
        if let Some(peer) = parts.peer {
            let peer = IpText::new(peer);
            append_list(out, b"X-Forwarded-For: ", values(FieldKind::XForwardedFor));
            out.extend_from_slice(peer.as_bytes());
            out.extend_from_slice(b"\r\nX-Real-IP: ");
            out.extend_from_slice(values(FieldKind::XRealIp).next().unwrap_or(peer.as_bytes()));
            out.extend_from_slice(write::CRLF);
        }
        match values(FieldKind::XForwardedProto).next() {
            Some(scheme) => write::field(out, "X-Forwarded-Proto", scheme),
            None => out.extend_from_slice(b"X-Forwarded-Proto: http\r\n"),
        }
        let host = values(FieldKind::XForwardedHost).next().unwrap_or(parts.head.host);
        if !host.is_empty() {
            write::field(out, "X-Forwarded-Host", host);
        }
    }
    if parts.forwarded.forwarded {
        append_list(out, b"Forwarded: ", values(FieldKind::Forwarded));
        // RFC 7239 section 6: an IPv6 address is bracketed and quoted; section 6.2: `unknown` where there is none.
        let _ = match parts.peer {
            Some(IpAddr::V4(ip)) => write!(out, "for={ip}"),
            Some(IpAddr::V6(ip)) => write!(out, "for=\"[{ip}]\""),
            None => write!(out, "for=unknown"),
        };
        if !parts.head.host.is_empty() {
            out.extend_from_slice(b";host=\"");
            out.extend_from_slice(parts.head.host);
            out.push(b'"');
        }
        out.extend_from_slice(b";proto=http\r\n");
    }
}

/// Writes a field name and the list so far, ready for one more item.
fn append_list<'b>(out: &mut Vec<u8>, name: &[u8], values: impl Iterator<Item = &'b [u8]>) {
    out.extend_from_slice(name);
    for value in values {
        if !value.is_empty() {
            out.extend_from_slice(value);
            out.extend_from_slice(b", ");
        }
    }
}

/// What decides how a response head is relayed.
#[derive(Clone, Copy)]
pub(crate) struct ResponseParts<'a> {
    pub(crate) edits: Option<&'a HeaderEdits>,
    /// The client's version.
    pub(crate) version: Version,
    pub(crate) keep_client: bool,
    pub(crate) chunked: bool,
    pub(crate) is_head: bool,
    /// Now, as `Date` has it.
    pub(crate) date: DateText,
}

/// Writes a final response head as the client gets it.
pub(crate) fn write_response_head(out: &mut Vec<u8>, head: &ResponseHead<'_, '_>, parts: ResponseParts<'_>) {
    let endless = matches!(head.framing, ResponseFraming::Chunked | ResponseFraming::UntilClose) && !parts.is_head;
    let mut length = head.content_length.filter(|_| !parts.chunked && !endless);
    let mut dated = false;
    let mut copier = write_status_line(out, head);
    for field in head.fields {
        match field.kind {
            // Where it stands, if it stands there as it would be written; the lines that repeat it are dropped.
            FieldKind::ContentLength => {
                if length.is_some() && write::is_plain_length(field.value) {
                    length = None;
                    copier.copy(out, field);
                }
                continue;
            }
            FieldKind::TransferEncoding => continue,
            FieldKind::Date => dated = true,
            _ => {}
        }
        if !field.hop_by_hop && !parts.edits.is_some_and(|edits| is_edited(edits, field.name)) {
            copier.copy(out, field);
        }
    }
    copier.flush(out);
    // RFC 9110 section 6.6.1: a recipient with a clock adds the Date that is missing.
    if !dated && !parts.edits.is_some_and(|edits| is_edited(edits, b"Date")) {
        write::field(out, "Date", &parts.date);
    }
    if let Some(edits) = parts.edits {
        write_edits(out, edits);
    }
    if parts.chunked {
        write::transfer_encoding_chunked(out);
    } else if let Some(length) = length {
        write::content_length(out, length);
    }
    // RFC 9110 section 15.5.22: a 426 says what to upgrade to.
    if let Some(protocol) = head.upgrade.filter(|_| head.status == 426) {
        write::field(out, "Upgrade", protocol);
        out.extend_from_slice(b"Connection: upgrade\r\n");
    }
    match (parts.version, parts.keep_client) {
        (Version::Http11, true) => {}
        (Version::Http10, true) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (_, false) => out.extend_from_slice(b"Connection: close\r\n"),
    }
    write::end_head(out);
}

/// Writes an interim (1xx) response head.
pub(crate) fn write_interim_head(out: &mut Vec<u8>, head: &ResponseHead<'_, '_>) {
    write_response_fields(out, head, None);
    write::end_head(out);
}

/// Writes the 101 that turns the connection into a tunnel.
pub(crate) fn write_upgrade_head(out: &mut Vec<u8>, head: &ResponseHead<'_, '_>, edits: Option<&HeaderEdits>) {
    write_response_fields(out, head, edits);
    if let Some(edits) = edits {
        write_edits(out, edits);
    }
    if let Some(protocol) = head.upgrade {
        write::field(out, "Upgrade", protocol);
    }
    out.extend_from_slice(b"Connection: upgrade\r\n");
    write::end_head(out);
}

/// The first line: the endpoint's own where it is the same, to be copied together with the fields behind it.
fn write_status_line<'b>(out: &mut Vec<u8>, head: &ResponseHead<'b, '_>) -> FieldCopier<'b> {
    /// Of the space behind the status.
    const SPACE_AT: usize = 12;
    if head.version == Version::Http11 && head.line.get(SPACE_AT) == Some(&b' ') {
        return FieldCopier::with_line(head.bytes, head.line);
    }
    write::status_line(out, head.status, head.reason);
    FieldCopier::new(head.bytes)
}

/// The status line and the fields of a response without a body.
fn write_response_fields(out: &mut Vec<u8>, head: &ResponseHead<'_, '_>, edits: Option<&HeaderEdits>) {
    let mut copier = write_status_line(out, head);
    for field in head.fields {
        let anew = matches!(field.kind, FieldKind::ContentLength | FieldKind::TransferEncoding);
        if field.hop_by_hop || anew || edits.is_some_and(|edits| is_edited(edits, field.name)) {
            continue;
        }
        copier.copy(out, field);
    }
    copier.flush(out);
}

/// An IP address as text.
struct IpText {
    text: [u8; IpText::MAX],
    len: usize,
}

impl IpText {
    /// Room for the longest IPv6 address (45 bytes: an IPv4-mapped one is the longest that `fmt` writes).
    const MAX: usize = 48;

    /// IPv4 by hand, with a table: `fmt` costs ten times as much.
    fn new(ip: IpAddr) -> Self {
        let mut text = [0; Self::MAX];
        let len = match ip {
            IpAddr::V4(ip) => {
                // In a register: text that is written byte by byte and read at once makes the processor wait.
                let (mut digits, mut bits) = (0_u128, 0);
                for octet in ip.octets() {
                    digits |= u128::from(DECIMAL[usize::from(octet)]) << bits;
                    bits += match octet {
                        0..10 => 16,
                        10..100 => 24,
                        _ => 32,
                    };
                }
                text[..16].copy_from_slice(&digits.to_le_bytes());
                // Without the last point.
                bits / 8 - 1
            }
            IpAddr::V6(ip) => {
                let mut rest = &mut text[..];
                let _ = write!(rest, "{ip}");
                Self::MAX - rest.len()
            }
        };
        Self { text, len }
    }

    fn as_bytes(&self) -> &[u8] {
        self.text.get(..self.len).unwrap_or_default()
    }
}

/// The digits of 0 to 255 and a point, in little-endian order.
static DECIMAL: [u32; 256] = {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let (hundreds, tens, ones) = (b'0' + (n / 100) as u8, b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8);
        table[n] = u32::from_le_bytes(match n {
            0..10 => [ones, b'.', 0, 0],
            10..100 => [tens, ones, b'.', 0],
            _ => [hundreds, tens, ones, b'.'],
        });
        n += 1;
    }
    table
};

/// The two hexadecimal digits of 0 to 255.
static HEX: [[u8; 2]; 256] = {
    let digits = *b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut n = 0;
    while n < 256 {
        table[n] = [digits[n >> 4], digits[n & 15]];
        n += 1;
    }
    table
};

/// Whether the edits remove or replace the fields of this name.
fn is_edited(edits: &HeaderEdits, name: &[u8]) -> bool {
    if edits.is_empty() {
        return false;
    }
    edits.remove.iter().any(|removed| removed.as_bytes().eq_ignore_ascii_case(name))
        || edits.set.iter().any(|(set, _)| set.as_bytes().eq_ignore_ascii_case(name))
}

fn write_edits(out: &mut Vec<u8>, edits: &HeaderEdits) {
    for (name, value) in edits.set.iter().chain(&edits.add) {
        // Written already: there is one, and it comes first.
        if !name.eq_ignore_ascii_case("Host") {
            write::field(out, name.as_bytes(), value.as_bytes());
        }
    }
}

/// Whether each protocol of an answer's `Upgrade` was among those offered (RFC 9110 section 7.8: only to such a one may
/// a server switch; names are compared without case).
pub(crate) fn was_offered(answer: &[u8], offered: &[u8]) -> bool {
    fn protocols(list: &[u8]) -> impl Iterator<Item = &[u8]> {
        list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
    }
    protocols(answer).all(|name| protocols(offered).any(|offer| offer.eq_ignore_ascii_case(name)))
}

/// Whether an `Upgrade` list names HTTP/2 (`h2c`, `h2`, `HTTP/2.0`).
pub(crate) fn names_http2(protocols: &[u8]) -> bool {
    protocols.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).any(|protocol| {
        let name = protocol.split(|&byte| byte == b'/').next().unwrap_or_default();
        let version = protocol.get(name.len() + 1..).unwrap_or_default();
        name.eq_ignore_ascii_case(b"h2c")
            || name.eq_ignore_ascii_case(b"h2")
            || name.eq_ignore_ascii_case(b"http") && !version.starts_with(b"1")
    })
}

/// Whether a comma-separated list holds a token (parameters after `;` are ignored).
fn contains_token(list: &[u8], token: &[u8]) -> bool {
    list.split(|&byte| byte == b',').any(|item| {
        let name = item.split(|&byte| byte == b';').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(token)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_offered_is_agreed() {
        assert!(was_offered(b"WebSocket", b"h2c, websocket"));
        assert!(was_offered(b"a/1 , b", b"b,a/1"));
        assert!(!was_offered(b"h2c", b"websocket"));
        assert!(!was_offered(b"websocket, h2c", b"websocket"));
        assert!(!was_offered(b"web", b"websocket"));
    }

    #[test]
    fn http2_is_found_among_protocols() {
        for text in ["h2c", "websocket, h2c", "HTTP/2.0", "H2C", "h2"] {
            assert!(names_http2(text.as_bytes()), "{text}");
        }
        for text in ["websocket", "TLS/1.0, HTTP/1.1", "", "h2cx"] {
            assert!(!names_http2(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn tokens_are_found_in_lists() {
        assert!(contains_token(b"gzip, Trailers;q=1", b"trailers"));
        assert!(!contains_token(b"trailersx", b"trailers"));
    }

    /// The lines of `text` that are marked, each with its line end.
    fn chosen(lines: &[&str], mask: u32) -> String {
        let marked = lines.iter().enumerate().filter(|(index, _)| mask & (1 << index) != 0);
        marked.flat_map(|(_, line)| [line, "\r\n"]).collect()
    }

    fn sorted(fields: &[Field<'_>]) -> Vec<(String, Vec<u8>)> {
        let mut all: Vec<_> = fields
            .iter()
            .map(|field| (String::from_utf8_lossy(field.name).to_lowercase(), field.value.to_vec()))
            .collect();
        all.sort();
        all
    }

    /// Lines that are copied as they stand and lines that are not, in every combination.
    #[test]
    fn a_response_head_says_what_it_said_however_it_is_written() {
        let lines = [
            "Server: s",
            "Content-Length: 5",
            "content-length:5",
            "Connection: keep-alive, X-Hop",
            "X-Hop: 1",
            "X-A:  two ",
            "Date: Sun, 06 Nov 1994 08:49:37 GMT",
            "Content-Length: 05",
        ];
        for first in ["HTTP/1.1 200 OK", "HTTP/1.0 200 OK", "HTTP/1.1 200", "HTTP/1.1 299 "] {
            for mask in 0..1 << lines.len() {
                let text = format!("{first}\r\n{}\r\nhello", chosen(&lines, mask));
                let (mut slots, limits) = (weir_http::Slots::new(), weir_http::Limits::default());
                let facts = weir_http::RequestMethodFacts::default();
                let head = weir_http::parse_response(text.as_bytes(), &mut slots, &limits, facts).unwrap().unwrap();
                let chunked = head.framing == ResponseFraming::UntilClose;
                let date = *b"Mon, 07 Nov 1994 08:49:37 GMT";
                let parts = ResponseParts {
                    edits: None,
                    version: Version::Http11,
                    keep_client: true,
                    chunked,
                    is_head: false,
                    date,
                };
                let mut out = Vec::new();
                write_response_head(&mut out, &head, parts);

                let mut slots = weir_http::Slots::new();
                let again = weir_http::parse_response(&out, &mut slots, &limits, facts).unwrap().unwrap();
                assert_eq!((again.status, again.reason, again.len), (head.status, head.reason, out.len()));
                assert_eq!(again.version, Version::Http11);
                let framing = if chunked { ResponseFraming::Chunked } else { head.framing };
                assert_eq!((again.framing, again.keep_alive), (framing, true), "{text}");
                let mut expected: Vec<_> = head.fields.iter().filter(|field| !field.hop_by_hop).copied().collect();
                expected.retain(|field| field.kind != FieldKind::ContentLength);
                let mut expected = sorted(&expected);
                if chunked {
                    expected.push(("transfer-encoding".into(), b"chunked".to_vec()));
                } else {
                    expected.push(("content-length".into(), b"5".to_vec()));
                }
                if mask & (1 << 6) == 0 {
                    expected.push(("date".into(), date.to_vec()));
                }
                expected.sort();
                assert_eq!(sorted(again.fields), expected, "{text}");
            }
        }
    }

    #[test]
    fn a_request_head_says_what_it_said_however_it_is_written() {
        let lines = [
            "Accept: a",
            "hOST: b.c",
            "Content-Length: 5",
            "Content-Length: 0005",
            "Connection: close, X-Hop",
            "X-Hop: 1",
            "X-A:  two ",
            "X-Forwarded-For: 9.9.9.9",
        ];
        let rule = Rule {
            name: "r".into(),
            hosts: Vec::new(),
            path: weir_route::PathMatch::Any,
            methods: Vec::new(),
            headers: Vec::new(),
            query: Vec::new(),
            action: Action::Forward { cluster: weir_core::ClusterId(0), rewrite: None },
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            deadline: None,
        };
        let forwarded =
            Forwarded { trusted: Vec::new(), x_forwarded: true, forwarded: false, via: None, request_id: false };
        for (first, path) in [
            ("GET /a?b HTTP/1.1", "/a"),
            ("GET /a/./b HTTP/1.1", "/a/b"),
            ("GET http://b.c/a HTTP/1.1", "/a"),
            ("\r\nGET /a HTTP/1.0", "/a"),
        ] {
            for mask in 0..1 << lines.len() {
                let both_lengths = 0b1100;
                if mask & 0b10 == 0 || mask & both_lengths == both_lengths {
                    continue;
                }
                let text = format!("{first}\r\n{}\r\n", chosen(&lines, mask));
                let (mut slots, limits) = (weir_http::Slots::new(), weir_http::Limits::default());
                let head = weir_http::parse_request(text.as_bytes(), &mut slots, &limits).unwrap().unwrap();
                let own = head.target.path;
                let path = if own == path.as_bytes() { own } else { path.as_bytes() };
                let parts = RequestParts {
                    head: &head,
                    path,
                    rule: &rule,
                    forwarded: &forwarded,
                    peer: Some([1, 2, 3, 4].into()),
                    trusted: false,
                    offered: None,
                };
                let mut out = Vec::new();
                write_request_head(&mut out, &parts, None);

                let mut slots = weir_http::Slots::new();
                let again = weir_http::parse_request(&out, &mut slots, &limits).unwrap().unwrap();
                assert_eq!(
                    (again.method, again.target.path, again.target.query),
                    (head.method, path, head.target.query)
                );
                assert_eq!((again.host, again.framing, again.len), (head.host, head.framing, out.len()), "{text}");
                assert_eq!((again.version, again.target.form), (Version::Http11, Form::Origin));
                let mut expected: Vec<_> = head.fields.iter().filter(|field| !field.hop_by_hop).copied().collect();
                expected.retain(|field| {
                    !matches!(field.kind, FieldKind::Host | FieldKind::ContentLength | FieldKind::XForwardedFor)
                });
                let mut expected = sorted(&expected);
                if mask & both_lengths != 0 {
                    expected.push(("content-length".into(), b"5".to_vec()));
                }
                for (name, value) in [
                    ("host", "b.c"),
                    ("x-forwarded-for", "1.2.3.4"),
                    ("x-real-ip", "1.2.3.4"),
                    ("x-forwarded-proto", "http"),
                    ("x-forwarded-host", "b.c"),
                ] {
                    expected.push((name.into(), value.into()));
                }
                expected.sort();
                assert_eq!(sorted(again.fields), expected, "{text}");
            }
        }
    }

    #[test]
    fn addresses_are_written_as_fmt_writes_them() {
        let longest = "1111:2222:3333:4444:5555:6666:7777:8888";
        for ip in ["0.0.0.0", "1.20.255.100", "10.0.0.99", "127.0.0.1", "255.255.255.255", "2001:db8::1", "::", longest]
        {
            let mut out = Vec::new();
            out.extend_from_slice(IpText::new(ip.parse().unwrap()).as_bytes());
            assert_eq!(String::from_utf8(out).unwrap(), ip);
        }
    }

    #[test]
    fn made_request_ids_are_hex_and_differ() {
        let mut rng = Rng::new(1);
        let head_text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut slots = weir_http::Slots::new();
        let head = weir_http::parse_request(head_text, &mut slots, &weir_http::Limits::default()).unwrap().unwrap();
        let forwarded =
            Forwarded { trusted: Vec::new(), x_forwarded: true, forwarded: false, via: None, request_id: true };
        let mut next = || RequestId::choose(&head, false, &forwarded, &mut rng).unwrap().as_bytes().to_vec();
        let (a, b) = (next(), next());
        assert_ne!(a, b);
        assert!(a.iter().all(u8::is_ascii_hexdigit) && a.len() == 32);
    }
}
