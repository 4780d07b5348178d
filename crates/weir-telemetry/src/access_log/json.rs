//! The JSON format: one object a line, the same keys in the same order in every line.

use weir_core::Phase;

use super::text::{ClockCache, display, json, number};
use crate::Record;

/// Appends the line of `record`.
pub(super) fn line(out: &mut Vec<u8>, record: &Record<'_>, clock: &mut ClockCache) {
    out.extend_from_slice(b"{\"time\":\"");
    clock.rfc3339(out, record.start);
    out.push(b'"');
    key(out, "peer");
    quoted_or_null(out, record.peer);
    key(out, "client");
    quoted_or_null(out, record.client);
    text(out, "listener", Some(record.listener.as_bytes()));
    text(out, "method", present(record.method));
    text(out, "target", present(record.target));
    text(out, "host", present(record.host));
    text(out, "protocol", Some(record.protocol.as_str().as_bytes()));
    key(out, "status");
    number(out, record.status);
    key(out, "bytes_in");
    number(out, record.bytes_in);
    key(out, "bytes_out");
    number(out, record.bytes_out);
    text(out, "route", record.route.map(str::as_bytes));
    text(out, "cluster", record.cluster.map(str::as_bytes));
    text(out, "endpoint", record.endpoint.map(str::as_bytes));
    key(out, "attempts");
    number(out, record.attempts);
    key(out, "end");
    quoted_or_null(out, Some(record.end));
    text(
        out,
        "reason",
        record.reason.map(|reason| reason.as_str().as_bytes()),
    );
    text(out, "request_id", present(record.request_id));
    text(out, "user_agent", present(record.user_agent));
    text(out, "referer", present(record.referer));
    key(out, "total_us");
    number(out, record.total_us());
    phases(out, record);
    out.extend_from_slice(b"}\n");
}

/// The time spent in each phase, `null` where it was not reached.
fn phases(out: &mut Vec<u8>, record: &Record<'_>) {
    let mut before = 0;
    for phase in Phase::ALL {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(phase.as_str().as_bytes());
        out.extend_from_slice(b"_us\":");
        match record.times.end_us(phase) {
            Some(end) => {
                number(out, end.saturating_sub(before));
                before = before.max(end);
            }
            None => out.extend_from_slice(b"null"),
        }
    }
}

fn present(text: &[u8]) -> Option<&[u8]> {
    if text.is_empty() { None } else { Some(text) }
}

fn key(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

fn text(out: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    key(out, name);
    match value {
        Some(value) => {
            out.push(b'"');
            json(out, value);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
}

fn quoted_or_null(out: &mut Vec<u8>, value: Option<impl std::fmt::Display>) {
    match value {
        Some(value) => {
            out.push(b'"');
            display(out, value);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
}
