//! Bodies: by length, chunked, or until the connection closes.

use memchr::memchr;
use weir_core::Reason;

use crate::chunked::{Malformed, chunk_line, split_field, trailer_section};
use crate::{Field, FieldKind, Framing, Limits, Reject, ResponseFraming};

/// Takes one body apart. Bytes go in, slices of the same bytes come out.
///
/// ```text
/// Length(n) ── n bytes ──────────────────────────────────────────────▶ Done
/// UntilClose ── on_eof ──────────────────────────────────────────────▶ Done
/// ChunkSize ── size > 0 ─▶ ChunkData(n) ── n bytes ─▶ ChunkEnd ── CRLF ─▶ ChunkSize
///     └─────── size 0 ───▶ Trailers ── fields, empty line ───────────▶ Done
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BodyReader {
    state: State,
    side: Side,
}

/// What [`BodyReader::feed`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyEvent<'b> {
    /// Bytes of the body, never empty.
    Data(&'b [u8]),
    /// The trailer section, whole; comes only if it has fields. [`BodyEvent::End`] follows.
    Trailers(TrailerBlock<'b>),
    /// The body is complete; the bytes behind it belong to the next message. Comes again if asked again.
    End,
    /// Bytes that were not consumed (none, or part of a chunk line or trailer section) must be
    /// presented again with more behind them.
    NeedMore,
}

/// How a body ends and whose it is: made from a [`Framing`] or a [`ResponseFraming`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BodyKind {
    framing: ResponseFraming,
    side: Side,
}

/// A trailer section, checked as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrailerBlock<'b> {
    /// Field lines, each with its CRLF, all checked; without the empty line.
    lines: &'b [u8],
}

/// The fields of a [`TrailerBlock`] that may be forwarded.
#[derive(Clone, Debug)]
pub struct TrailerFields<'b> {
    rest: &'b [u8],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Length(u64),
    UntilClose,
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Request,
    Response,
}

// === impl BodyReader ===

impl BodyReader {
    /// A body that starts with the next byte, of a [`Framing`] (request) or a [`ResponseFraming`].
    pub fn new(framing: impl Into<BodyKind>) -> Self {
        let BodyKind { framing, side } = framing.into();
        let state = match framing {
            ResponseFraming::None | ResponseFraming::Length(0) => State::Done,
            ResponseFraming::Length(n) => State::Length(n),
            ResponseFraming::Chunked => State::ChunkSize,
            ResponseFraming::UntilClose => State::UntilClose,
        };
        Self { state, side }
    }

    /// Takes the next piece from `bytes`: how many bytes were consumed, and what they are. Call
    /// until [`BodyEvent::End`] or [`BodyEvent::NeedMore`].
    ///
    /// # Errors
    /// The chunked framing is malformed or larger than `limits`: the message is lost, and so is
    /// the connection.
    pub fn feed<'b>(&mut self, bytes: &'b [u8], limits: &Limits) -> Result<(usize, BodyEvent<'b>), Reject> {
        let mut at = 0;
        // Each turn but the last consumes at least one byte.
        loop {
            let rest = &bytes[at..];
            match self.state {
                State::Done => return Ok((at, BodyEvent::End)),
                State::UntilClose | State::Length(_) | State::ChunkData(_) if rest.is_empty() => {
                    return Ok((at, BodyEvent::NeedMore));
                }
                State::UntilClose => return Ok((bytes.len(), BodyEvent::Data(rest))),
                State::Length(remaining) => {
                    let (data, left) = take(rest, remaining);
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                    return Ok((at + data.len(), BodyEvent::Data(data)));
                }
                State::ChunkData(remaining) => {
                    let (data, left) = take(rest, remaining);
                    self.state = if left == 0 { State::ChunkEnd } else { State::ChunkData(left) };
                    return Ok((at + data.len(), BodyEvent::Data(data)));
                }
                State::ChunkEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        at += 2;
                        self.state = State::ChunkSize;
                    }
                    [] | [b'\r'] => return Ok((at, BodyEvent::NeedMore)),
                    _ => {
                        return Err(self.malformed("no CRLF behind the data of a chunk (RFC 9112 section 7.1)"));
                    }
                },
                State::ChunkSize => match chunk_line(rest, limits).map_err(|what| self.malformed(what))? {
                    None => return Ok((at, BodyEvent::NeedMore)),
                    Some((len, size)) => {
                        at += len;
                        self.state = if size == 0 { State::Trailers } else { State::ChunkData(size) };
                    }
                },
                State::Trailers => match trailer_section(rest, limits).map_err(|what| self.malformed(what))? {
                    None => return Ok((at, BodyEvent::NeedMore)),
                    Some(lines) => {
                        at += lines.len() + 2;
                        self.state = State::Done;
                        if !lines.is_empty() {
                            return Ok((at, BodyEvent::Trailers(TrailerBlock { lines })));
                        }
                    }
                },
            }
        }
    }

    fn malformed(&self, detail: Malformed) -> Reject {
        let reason = match self.side {
            Side::Request => Reason::BadRequestBody,
            Side::Response => Reason::BadResponseBody,
        };
        Reject::new(reason, detail)
    }

    /// The peer will send no more. Ends a body of [`ResponseFraming::UntilClose`].
    ///
    /// # Errors
    /// The body is truncated: [`Reason::ClientGone`] for a request, [`Reason::UpstreamTruncated`]
    /// for a response.
    pub fn on_eof(&mut self) -> Result<(), Reject> {
        match (self.state, self.side) {
            (State::Done | State::UntilClose, _) => {
                self.state = State::Done;
                Ok(())
            }
            (_, Side::Request) => Err(Reject::new(
                Reason::ClientGone,
                "the connection closed within the request body (RFC 9112 section 8)",
            )),
            (_, Side::Response) => Err(Reject::new(
                Reason::UpstreamTruncated,
                "the connection closed within the response body (RFC 9112 section 8)",
            )),
        }
    }

    /// Whether the body is complete. True as soon as its last byte was given out, before
    /// [`BodyEvent::End`].
    pub const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Bytes still to come of a body by length (0 when done); `None` for the other framings. For
    /// moving the rest of a body without reading it.
    pub const fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(n) => Some(n),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// Counts `n` bytes of a body by length or until close that were moved without being fed, at
    /// most [`BodyReader::remaining`].
    pub fn skip(&mut self, n: u64) {
        debug_assert!(self.remaining().is_none_or(|remaining| n <= remaining));
        if let State::Length(remaining) = self.state {
            self.state = match remaining.saturating_sub(n) {
                0 => State::Done,
                rest => State::Length(rest),
            };
        }
    }
}

// === impl BodyKind ===

impl From<Framing> for BodyKind {
    fn from(framing: Framing) -> Self {
        let framing = match framing {
            Framing::None => ResponseFraming::None,
            Framing::Length(n) => ResponseFraming::Length(n),
            Framing::Chunked => ResponseFraming::Chunked,
        };
        Self { framing, side: Side::Request }
    }
}

impl From<ResponseFraming> for BodyKind {
    fn from(framing: ResponseFraming) -> Self {
        Self { framing, side: Side::Response }
    }
}

// === impl TrailerBlock ===

impl<'b> TrailerBlock<'b> {
    /// The fields that may be forwarded. Those that frame, route, authenticate or modify a request,
    /// or belong to one connection, must not come in a trailer section and are left out (RFC 9110
    /// section 6.5.1).
    pub fn fields(&self) -> TrailerFields<'b> {
        TrailerFields { rest: self.lines }
    }
}

impl<'b> IntoIterator for TrailerBlock<'b> {
    type Item = Field<'b>;
    type IntoIter = TrailerFields<'b>;

    fn into_iter(self) -> TrailerFields<'b> {
        self.fields()
    }
}

// === impl TrailerFields ===

impl<'b> Iterator for TrailerFields<'b> {
    type Item = Field<'b>;

    fn next(&mut self) -> Option<Field<'b>> {
        // The section was checked as a whole, so each line has a colon and ends in CRLF.
        while let Some(end) = memchr(b'\n', self.rest) {
            let (line, rest) = self.rest.split_at(end + 1);
            self.rest = rest;
            let field = line.strip_suffix(b"\r\n").and_then(split_field);
            if let Some((name, value)) = field {
                let kind = FieldKind::of(name);
                if may_be_trailer(name, kind) {
                    return Some(Field { name, value, kind, hop_by_hop: false });
                }
            }
        }
        None
    }
}

/// The first of `remaining` bytes, as many as there are, and how many are left to come.
#[inline]
fn take(bytes: &[u8], remaining: u64) -> (&[u8], u64) {
    match usize::try_from(remaining) {
        Ok(all) if all <= bytes.len() => (&bytes[..all], 0),
        _ => (bytes, remaining - bytes.len() as u64),
    }
}

/// Whether a field may be forwarded from a trailer section. Not those that are needed before the
/// body: for framing, routing, modifying the request, authentication, or reading the content
/// (RFC 9110 section 6.5.1).
fn may_be_trailer(name: &[u8], kind: FieldKind) -> bool {
    match kind {
        FieldKind::Other => !NEVER_TRAILERS.iter().any(|never| name.eq_ignore_ascii_case(never.as_bytes())),
        FieldKind::Date | FieldKind::Server | FieldKind::Via | FieldKind::Traceparent | FieldKind::Tracestate => true,
        _ => false,
    }
}

/// Field names beyond those of [`FieldKind`] that a trailer section must not have.
const NEVER_TRAILERS: [&str; 26] = [
    "age",
    "authorization",
    "authentication-info",
    "cache-control",
    "clear-site-data",
    "content-encoding",
    "content-location",
    "content-range",
    "content-type",
    "expires",
    "http2-settings",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "location",
    "origin",
    "pragma",
    "proxy-authentication-info",
    "range",
    "sec-websocket-key",
    "strict-transport-security",
    "vary",
    "warning",
    "www-authenticate",
];
