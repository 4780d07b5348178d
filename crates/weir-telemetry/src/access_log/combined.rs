//! The combined format of Apache httpd and nginx, with times in UTC and `-` for what is absent.
//!
//! `CLIENT - - [TIME] "METHOD TARGET PROTOCOL" STATUS BYTES "REFERER" "USER-AGENT"`. The client is the
//! trusted client address; bytes are those sent to the client, head included.

use super::text::{combined, ip, literal, number};
use crate::Record;

pub(super) use super::text::ClockCache;

/// Appends the line of `record`.
pub(super) fn line(out: &mut Vec<u8>, record: &Record<'_>, clock: &mut ClockCache) {
    match (record.client, record.peer) {
        (Some(client), _) => ip(out, client),
        (None, Some(peer)) => ip(out, peer.ip()),
        (None, None) => out.push(b'-'),
    }
    literal(out, b" - - [");
    clock.combined(out, record.start);
    literal(out, b"] \"");
    if record.method.is_empty() {
        out.push(b'-');
    } else {
        combined(out, record.method);
        out.push(b' ');
        combined(out, record.target);
        out.push(b' ');
        out.extend_from_slice(record.protocol.as_str().as_bytes());
    }
    literal(out, b"\" ");
    number(out, record.status);
    out.push(b' ');
    number(out, record.bytes_out);
    quoted(out, record.referer);
    quoted(out, record.user_agent);
    out.push(b'\n');
}

fn quoted(out: &mut Vec<u8>, text: &[u8]) {
    literal(out, b" \"");
    if text.is_empty() {
        out.push(b'-');
    } else {
        combined(out, text);
    }
    out.push(b'"');
}
