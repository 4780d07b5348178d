//! The JSON format: one object a line, the same keys in the same order in every line.
//!
//! Keys are literals together with their punctuation, so that the compiler copies them with plain stores.

use weir_core::{EndCode, Phase, Reason};

use super::text::{ClockCache, address, display, ip, json, literal, number};
use crate::Record;

/// Appends the line of `record`.
pub(super) fn line(out: &mut Vec<u8>, record: &Record<'_>, clock: &mut ClockCache) {
    literal(out, b"{\"time\":\"");
    clock.rfc3339(out, record.start);
    literal(out, b"\",\"peer\":");
    quoted(out, record.peer, address);
    literal(out, b",\"client\":");
    quoted(out, record.client, ip);
    literal(out, b",\"listener\":");
    quoted(out, Some(record.listener.as_bytes()), json);
    literal(out, b",\"method\":");
    quoted(out, present(record.method), json);
    literal(out, b",\"target\":");
    quoted(out, present(record.target), json);
    literal(out, b",\"host\":");
    quoted(out, present(record.host), json);
    literal(out, b",\"protocol\":");
    quoted(out, Some(record.protocol.as_str()), word);
    literal(out, b",\"status\":");
    number(out, record.status);
    literal(out, b",\"bytes_in\":");
    number(out, record.bytes_in);
    literal(out, b",\"bytes_out\":");
    number(out, record.bytes_out);
    literal(out, b",\"route\":");
    quoted(out, record.route.map(str::as_bytes), json);
    literal(out, b",\"cluster\":");
    quoted(out, record.cluster.map(str::as_bytes), json);
    literal(out, b",\"endpoint\":");
    quoted(out, record.endpoint.map(str::as_bytes), json);
    literal(out, b",\"attempts\":");
    number(out, record.attempts);
    literal(out, b",\"end\":");
    quoted(out, Some(record.end), end);
    literal(out, b",\"reason\":");
    quoted(out, record.reason.map(Reason::as_str), word);
    literal(out, b",\"request_id\":");
    quoted(out, present(record.request_id), json);
    literal(out, b",\"user_agent\":");
    quoted(out, present(record.user_agent), json);
    literal(out, b",\"referer\":");
    quoted(out, present(record.referer), json);
    literal(out, b",\"total_us\":");
    number(out, record.total_us());
    phases(out, record);
    literal(out, b"}\n");
}

/// The time spent in each phase, `null` where it was not reached.
fn phases(out: &mut Vec<u8>, record: &Record<'_>) {
    let mut before = 0;
    for phase in Phase::ALL {
        literal(out, b",\"");
        out.extend_from_slice(phase.as_str().as_bytes());
        literal(out, b"_us\":");
        match record.times.end_us(phase) {
            Some(end) => {
                number(out, end.saturating_sub(before));
                before = before.max(end);
            }
            None => literal(out, b"null"),
        }
    }
}

fn present(text: &[u8]) -> Option<&[u8]> {
    if text.is_empty() { None } else { Some(text) }
}

fn end(out: &mut Vec<u8>, end: EndCode) {
    if end.is_complete() {
        out.push(b'-');
    } else {
        display(out, end);
    }
}

/// One of Weir's own words, which hold nothing to escape.
fn word(out: &mut Vec<u8>, word: &'static str) {
    out.extend_from_slice(word.as_bytes());
}

#[inline]
fn quoted<T>(out: &mut Vec<u8>, value: Option<T>, write: impl FnOnce(&mut Vec<u8>, T)) {
    match value {
        Some(value) => {
            out.push(b'"');
            write(out, value);
            out.push(b'"');
        }
        None => literal(out, b"null"),
    }
}
