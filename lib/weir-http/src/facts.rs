//! What the fields of a head say about the connection and the body: one pass over them.
//!
//! The facts are gathered without judging where request and response differ; the two callers judge.

use arrayvec::ArrayVec;

use crate::scan::{token_len, value_len};
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

/// A text, and what follows its line.
pub(crate) type Split<'b> = (&'b [u8], &'b [u8]);

/// Why the field lines of a head are not taken.
pub(crate) enum Malformed {
    /// More fields than the limit.
    TooMany,
    /// What is wrong, with the section of the RFC.
    Detail(&'static str),
}

// === impl Facts ===

impl<'b> Facts<'b> {
    /// Reads the field lines and the empty line behind them from the start of `rest` into `fields` (emptied first), at
    /// most `max` of them, and gathers the facts; gives what follows. `None` = incomplete.
    ///
    /// Stricter than RFC 9112 lets a recipient be: a line ends in CRLF and nothing else (section 2.2), no line is
    /// folded (section 5.2), no white space before the colon (section 5.1).
    #[inline]
    pub(crate) fn read(
        &mut self,
        mut rest: &'b [u8],
        max: usize,
        fields: &mut ArrayVec<Field<'b>, { Limits::MAX_FIELDS }>,
    ) -> Result<Option<&'b [u8]>, Malformed> {
        fields.clear();
        loop {
            let len = token_len(rest);
            let (name, behind) = match rest.split_at_checked(len) {
                Some((name @ [_, ..], [b':', behind @ ..])) => (name, behind),
                Some(([], [b'\r', b'\n', behind @ ..])) => {
                    if self.nominations > 0 {
                        mark_nominated(fields);
                    }
                    return Ok(Some(behind));
                }
                _ => return no_name(rest, len),
            };
            let Some((value, behind)) = field_value(behind)? else {
                return Ok(None);
            };
            rest = behind;
            let kind = FieldKind::of(name);
            let hop_by_hop = kind.is_connection_specific();
            if fields.len() >= max || fields.try_push(Field { name, value, kind, hop_by_hop }).is_err() {
                return Err(Malformed::TooMany);
            }
            if kind != FieldKind::Other {
                self.note(kind, value).map_err(Malformed::Detail)?;
            }
        }
    }

    /// Not inlined: the loop over the fields keeps its registers.
    #[inline(never)]
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

/// Where a field name and its colon should be, there is something else, or nothing yet.
#[cold]
fn no_name<'b>(rest: &[u8], len: usize) -> Result<Option<&'b [u8]>, Malformed> {
    match (len, rest.get(len..)) {
        (_, None | Some([])) | (0, Some([b'\r'])) => Ok(None),
        (0, Some([b'\r', ..])) => Err(Malformed::Detail(BARE_CR)),
        (0, Some([b'\n', ..])) => Err(Malformed::Detail(BARE_LF)),
        _ => Err(Malformed::Detail(BAD_NAME)),
    }
}

/// The trimmed value behind a colon, and what follows the line. `None` = incomplete. A byte that cannot be right is
/// rejected as soon as it is there.
#[inline(always)]
fn field_value(behind_colon: &[u8]) -> Result<Option<Split<'_>>, Malformed> {
    // Nearly always one space; anything else is trimmed below.
    let text = behind_colon.strip_prefix(b" ").unwrap_or(behind_colon);
    let len = value_len(text);
    let (value, behind) = match text.split_at_checked(len) {
        Some((value, [b'\r', b'\n', behind @ ..])) => (value, behind),
        _ => match line_end(text, len).map_err(Malformed::Detail)? {
            Some(ends) => ends,
            None => return Ok(None),
        },
    };
    match value {
        [b' ' | b'\t', ..] | [.., b' ' | b'\t'] => Ok(Some((value.trim_ascii(), behind))),
        _ => Ok(Some((value, behind))),
    }
}

/// What comes before the end of a line, from `len` bytes on that were looked at, and what behind it. `None` =
/// incomplete.
#[cold]
pub(crate) fn line_end(text: &[u8], mut len: usize) -> Result<Option<Split<'_>>, &'static str> {
    loop {
        match text.split_at_checked(len) {
            Some((line, [b'\r', b'\n', behind @ ..])) => return Ok(Some((line, behind))),
            Some((_, [b'\t', more @ ..])) => len += 1 + value_len(more),
            None | Some((_, [] | [b'\r'])) => return Ok(None),
            Some((_, [b'\r', ..])) => return Err(BARE_CR),
            Some((_, [b'\n', ..])) => return Err(BARE_LF),
            Some(_) => return Err(BAD_VALUE),
        }
    }
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
            for field in fields.iter_mut().filter(|field| field.name.eq_ignore_ascii_case(option)) {
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

const BARE_CR: &str = "a bare CR (RFC 9112 section 2.2)";
pub(crate) const BARE_LF: &str = "a line ends in LF without CR (RFC 9112 section 2.2)";
const BAD_NAME: &str = "an invalid field name, white space before the colon, or a folded line (RFC 9112 section 5)";
const BAD_VALUE: &str =
    "a control character in a field value or a reason phrase (RFC 9110 section 5.5, RFC 9112 section 4)";
/// Options of `Connection` other than the known ones that a head may have.
const MAX_NOMINATIONS: u32 = 32;
/// Digits of a `Content-Length`: as many as 2^64 - 1 has.
const MAX_LENGTH_DIGITS: usize = 20;
