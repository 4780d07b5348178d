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
use weir_http::{Field, FieldKind, Framing, Method, RequestHead, ResponseFraming, ResponseHead, Version, write};
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
        for (index, digit) in hex.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[((bits >> (index * 4)) & 15) as usize];
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
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    match &parts.rule.action {
        Action::Forward { rewrite: Some(_), .. } => rewrite_path(parts.rule, parts.path, out),
        _ => out.extend_from_slice(parts.path),
    }
    if let Some(query) = head.target.query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    // RFC 9110 section 7.2: Host first, so that the endpoint sees it early; an HTTP/1.0 client may have sent none.
    let edits = &parts.rule.request_headers;
    let host = edits.set.iter().find(|(name, _)| name.eq_ignore_ascii_case("Host"));
    write::field(out, "Host", host.map_or(head.host, |(_, value)| value.as_bytes()));

    let mut te_trailers = false;
    let mut copier = FieldCopier::new(head.bytes);
    for field in head.fields {
        if field.kind == FieldKind::Te {
            te_trailers |= contains_token(field.value, b"trailers");
            continue;
        }
        if field.hop_by_hop || is_written_anew(field.kind, parts) || is_edited(edits, field.name) {
            continue;
        }
        if let Some(left) = max_forwards(head, field) {
            copier.flush(out);
            write::field(out, field.name, itoa::Buffer::new().format(left.saturating_sub(1)).as_bytes());
            continue;
        }
        copier.copy(out, field);
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
        Framing::None => {}
        Framing::Length(n) => write::content_length(out, n),
        Framing::Chunked => write::transfer_encoding_chunked(out),
    }
    write_connection(out, parts, te_trailers);
    write::end_head(out);
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
    let values = |kind: FieldKind| {
        parts.head.fields.iter().filter(move |field| parts.trusted && field.kind == kind).map(|field| field.value)
    };
    if parts.forwarded.x_forwarded {
        if parts.peer.is_none() {
            // A process of this machine, behind a Unix socket: what it says of the client is all there is.
            for kind in [FieldKind::XForwardedFor, FieldKind::XRealIp] {
                for field in parts.head.fields.iter().filter(|field| parts.trusted && field.kind == kind) {
                    write::field(out, field.name, field.value);
                }
            }
        }
        if let Some(peer) = parts.peer {
            append_list(out, b"X-Forwarded-For: ", values(FieldKind::XForwardedFor));
            write_ip(out, peer);
            out.extend_from_slice(write::CRLF);
            if let Some(value) = values(FieldKind::XRealIp).next() {
                write::field(out, "X-Real-IP", value);
            } else {
                out.extend_from_slice(b"X-Real-IP: ");
                write_ip(out, peer);
                out.extend_from_slice(write::CRLF);
            }
        }
        write::field(out, "X-Forwarded-Proto", values(FieldKind::XForwardedProto).next().unwrap_or(b"http"));
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
    write::status_line(out, head.status, head.reason);
    write_response_fields(out, head, parts.edits);
    // RFC 9110 section 6.6.1: a recipient with a clock adds the Date that is missing.
    let dated = head.fields.iter().any(|field| field.kind == FieldKind::Date);
    if !dated && !parts.edits.is_some_and(|edits| is_edited(edits, "Date")) {
        write::field(out, "Date", &parts.date);
    }
    if let Some(edits) = parts.edits {
        write_edits(out, edits);
    }
    if parts.chunked {
        write::transfer_encoding_chunked(out);
    } else if let Some(length) = head.content_length
        && (parts.is_head || !matches!(head.framing, ResponseFraming::Chunked | ResponseFraming::UntilClose))
    {
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
    write::status_line(out, head.status, head.reason);
    write_response_fields(out, head, None);
    write::end_head(out);
}

/// Writes the 101 that turns the connection into a tunnel.
pub(crate) fn write_upgrade_head(out: &mut Vec<u8>, head: &ResponseHead<'_, '_>, edits: Option<&HeaderEdits>) {
    write::status_line(out, head.status, head.reason);
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

fn write_response_fields(out: &mut Vec<u8>, head: &ResponseHead<'_, '_>, edits: Option<&HeaderEdits>) {
    let mut copier = FieldCopier::new(head.bytes);
    for field in head.fields {
        let anew = matches!(field.kind, FieldKind::ContentLength | FieldKind::TransferEncoding);
        if field.hop_by_hop || anew || edits.is_some_and(|edits| is_edited(edits, field.name)) {
            continue;
        }
        copier.copy(out, field);
    }
    copier.flush(out);
}

/// Appends an IP address. IPv4 by hand: it is written twice per request, and `fmt` costs ten times as much.
fn write_ip(out: &mut Vec<u8>, ip: IpAddr) {
    let IpAddr::V4(ip) = ip else {
        let _ = write!(out, "{ip}");
        return;
    };
    for (index, octet) in ip.octets().into_iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        if octet >= 100 {
            out.push(b'0' + octet / 100);
        }
        if octet >= 10 {
            out.push(b'0' + octet / 10 % 10);
        }
        out.push(b'0' + octet % 10);
    }
}

/// Whether the edits remove or replace the fields of this name.
fn is_edited(edits: &HeaderEdits, name: &str) -> bool {
    if edits.is_empty() {
        return false;
    }
    edits.remove.iter().any(|removed| removed.eq_ignore_ascii_case(name))
        || edits.set.iter().any(|(set, _)| set.eq_ignore_ascii_case(name))
}

fn write_edits(out: &mut Vec<u8>, edits: &HeaderEdits) {
    for (name, value) in edits.set.iter().chain(&edits.add) {
        // Written already: there is one, and it comes first.
        if !name.eq_ignore_ascii_case("Host") {
            write::field(out, name, value.as_bytes());
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

    #[test]
    fn addresses_are_written_as_fmt_writes_them() {
        for ip in ["0.0.0.0", "1.20.255.100", "10.0.0.99", "127.0.0.1", "2001:db8::1", "::"] {
            let mut out = Vec::new();
            write_ip(&mut out, ip.parse().unwrap());
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
