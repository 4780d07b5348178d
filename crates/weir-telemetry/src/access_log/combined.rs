//! The combined format of Apache httpd and nginx, with times in UTC and `-` for what is absent.
//!
//! `CLIENT - - [TIME] "METHOD TARGET PROTOCOL" STATUS BYTES "REFERER" "USER-AGENT"`. The client is the
//! trusted client address; bytes are those sent to the client, head included.

use super::text::{combined, display, number};
use crate::Record;

pub(super) use super::text::ClockCache;

/// Appends the line of `record`.
pub(super) fn line(out: &mut Vec<u8>, record: &Record<'_>, clock: &mut ClockCache) {
    match (record.client, record.peer) {
        (Some(client), _) => display(out, client),
        (None, Some(peer)) => display(out, peer.ip()),
        (None, None) => out.push(b'-'),
    }
    out.extend_from_slice(b" - - [");
    clock.combined(out, record.start);
    out.extend_from_slice(b"] \"");
    if record.method.is_empty() {
        out.push(b'-');
    } else {
        combined(out, record.method);
        out.push(b' ');
        combined(out, record.target);
        out.push(b' ');
        out.extend_from_slice(record.protocol.as_str().as_bytes());
    }
    out.extend_from_slice(b"\" ");
    number(out, record.status);
    out.push(b' ');
    number(out, record.bytes_out);
    quoted(out, record.referer);
    quoted(out, record.user_agent);
    out.push(b'\n');
}

fn quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(b" \"");
    if text.is_empty() {
        out.push(b'-');
    } else {
        combined(out, text);
    }
    out.push(b'"');
}
