//! What the fields of a head say about the connection and the body: one pass over them.
//!
//! The facts are gathered without judging where request and response differ; the two callers judge.

use arrayvec::ArrayVec;

use crate::syntax::is_token_byte;
use crate::{Field, FieldKind, Limits, Version};

/// What was found. Values are borrowed from the head.
#[derive(Default)]
pub(crate) struct Facts<'b> {
    pub(crate) host: Option<&'b [u8]>,
    pub(crate) repeated_host: bool,
    pub(crate) content_length: Option<u64>,
    /// `Content-Length` came on several lines, all with the same value.
    pub(crate) repeated_length: bool,
    /// A coding other than `chunked` is among the transfer codings.
    pub(crate) unknown_coding: bool,
    pub(crate) expect_continue: bool,
    pub(crate) other_expectation: bool,
    coding_count: u32,
    chunked_count: u32,
    last_is_chunked: bool,
    close: bool,
    asks_keep_alive: bool,
    asks_upgrade: bool,
    upgrade: Option<&'b [u8]>,
    repeated_upgrade: bool,
    /// `Connection` options that may be field names.
    nominations: u32,
}

// === impl Facts ===

impl<'b> Facts<'b> {
    /// Classifies `raw` into `fields` (emptied first) and gathers the facts.
    #[inline]
    pub(crate) fn collect(
        raw: &[httparse::Header<'b>],
        fields: &mut ArrayVec<Field<'b>, { Limits::MAX_FIELDS }>,
    ) -> Result<Self, &'static str> {
        let mut facts = Self::default();
        fields.clear();
        for &httparse::Header { name, value } in raw {
            let kind = FieldKind::of(name);
            let field = Field { name, value, kind, hop_by_hop: kind.is_connection_specific() };
            if kind != FieldKind::Other {
                facts.note(kind, value)?;
            }
            fields.try_push(field).map_err(|_| "more fields than there is storage for")?;
        }
        if facts.nominations > 0 {
            mark_nominated(fields);
        }
        Ok(facts)
    }

    #[inline]
    fn note(&mut self, kind: FieldKind, value: &'b [u8]) -> Result<(), &'static str> {
        match kind {
            FieldKind::Host => self.repeated_host |= self.host.replace(value).is_some(),
            FieldKind::ContentLength => self.note_length(value)?,
            FieldKind::TransferEncoding => self.note_codings(value)?,
            FieldKind::Connection => self.note_connection(value)?,
            FieldKind::Upgrade => self.repeated_upgrade |= self.upgrade.replace(value).is_some(),
            FieldKind::Expect if value.eq_ignore_ascii_case(b"100-continue") => {
                self.expect_continue = true;
            }
            FieldKind::Expect => self.other_expectation = true,
            _ => {}
        }
        Ok(())
    }

    fn note_length(&mut self, value: &[u8]) -> Result<(), &'static str> {
        let length = parse_length(value)
            .ok_or("Content-Length is not one decimal number below 2^63 (RFC 9112 section 6.3, item 5)")?;
        match self.content_length {
            None => self.content_length = Some(length),
            Some(before) if before == length => self.repeated_length = true,
            Some(_) => {
                return Err("Content-Length with differing values (RFC 9112 section 6.3, item 5)");
            }
        }
        Ok(())
    }

    /// `Transfer-Encoding` is a list that may go over several lines; a coding may have parameters,
    /// but `chunked` has none (RFC 9112 section 7). Empty elements are not taken.
    fn note_codings(&mut self, value: &[u8]) -> Result<(), &'static str> {
        for coding in value.split(|&byte| byte == b',') {
            let coding = coding.trim_ascii();
            if !is_token(coding) {
                return Err("Transfer-Encoding is not a list of codings without parameters (RFC 9112 section 6.1)");
            }
            self.coding_count += 1;
            self.last_is_chunked = coding.eq_ignore_ascii_case(b"chunked");
            self.chunked_count += u32::from(self.last_is_chunked);
            self.unknown_coding |= !self.last_is_chunked;
        }
        Ok(())
    }

    fn note_connection(&mut self, value: &[u8]) -> Result<(), &'static str> {
        for option in options(value) {
            match option.len() {
                5 if option.eq_ignore_ascii_case(b"close") => self.close = true,
                10 if option.eq_ignore_ascii_case(b"keep-alive") => self.asks_keep_alive = true,
                7 if option.eq_ignore_ascii_case(b"upgrade") => self.asks_upgrade = true,
                0 => {}
                _ if !is_token(option) => {
                    return Err("Connection is not a list of tokens (RFC 9110 section 7.6.1)");
                }
                // The two fields of these options are connection-specific anyway.
                _ => self.nominations += 1,
            }
        }
        // Each nomination is compared with each field, so their number is bounded.
        if self.nominations > MAX_NOMINATIONS {
            return Err("Connection nominates more fields than the limit (RFC 9110 section 7.6.1)");
        }
        Ok(())
    }

    pub(crate) const fn has_transfer_encoding(&self) -> bool {
        self.coding_count > 0
    }

    /// With a `Transfer-Encoding`, the body has a reliable end only if `chunked` is there once, at
    /// the end (RFC 9112 section 6.1).
    pub(crate) fn check_final_chunked(&self) -> Result<(), &'static str> {
        match (self.chunked_count, self.last_is_chunked) {
            (2.., _) => Err("chunked applied twice (RFC 9112 section 6.1)"),
            (1, false) => Err("chunked is not the final transfer coding (RFC 9112 section 6.1)"),
            _ => Ok(()),
        }
    }

    /// Whether the connection persists (RFC 9112 section 9.3). `close` beats `keep-alive`.
    pub(crate) fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.asks_keep_alive)
    }

    /// `Upgrade`, where it counts: named by `Connection`, in 1.1, on one line (RFC 9110 section 7.8).
    pub(crate) fn upgrade(&self, version: Version) -> Option<&'b [u8]> {
        let counts = self.asks_upgrade && version == Version::Http11 && !self.repeated_upgrade;
        self.upgrade.filter(|value| counts && !value.is_empty())
    }
}

/// Whether every line of the head ends in CRLF. The tokeniser also takes a bare LF, which some
/// recipients take for a line end and others for a part of the value (RFC 9112 section 2.2). It
/// rejects every CR that is not before LF, so only the byte before the LF of each line is left to
/// look at: two before the name that follows.
pub(crate) fn check_line_ends(bytes: &[u8], len: usize, raw: &[httparse::Header<'_>]) -> bool {
    let before = |header: &httparse::Header<'_>| offset_in(bytes, header.name).wrapping_sub(2);
    bytes[..len].ends_with(b"\r\n\r\n") && raw.iter().all(|header| bytes.get(before(header)) == Some(&b'\r'))
}

/// Where `part`, a slice of `bytes`, starts in it.
#[inline]
pub(crate) fn offset_in(bytes: &[u8], part: &str) -> usize {
    part.as_ptr().addr().wrapping_sub(bytes.as_ptr().addr())
}

/// Flags the fields that `Connection` nominates. Framing and host stay: a client that could have
/// them dropped would choose how the next recipient reads the message.
#[cold]
fn mark_nominated(fields: &mut [Field<'_>]) {
    for at in 0..fields.len() {
        if fields[at].kind != FieldKind::Connection {
            continue;
        }
        for option in options(fields[at].value) {
            for field in fields.iter_mut().filter(|field| field.name.as_bytes().eq_ignore_ascii_case(option)) {
                field.hop_by_hop |= !matches!(field.kind, FieldKind::Host | FieldKind::ContentLength);
            }
        }
    }
}

/// The elements of a list of tokens; empty ones come too.
fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// `1*DIGIT` below 2^63: no sign, no list, no white space. Recipients that keep lengths in a signed
/// integer read the same number.
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > MAX_LENGTH_DIGITS {
        return None;
    }
    let mut length = 0_i64;
    for byte in value {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        length = length.checked_mul(10)?.checked_add(i64::from(digit))?;
    }
    u64::try_from(length).ok()
}

/// Options of `Connection` other than the known ones that a head may have.
const MAX_NOMINATIONS: u32 = 32;
/// Digits of a `Content-Length`: as many as 2^64 - 1 has.
const MAX_LENGTH_DIGITS: usize = 20;
