//! Keeping requests that cannot be repeated away from connections that the endpoint may be about to close.

use std::time::Duration;

use weir_core::Instant;
use weir_http::{FieldKind, ResponseHead};
use weir_net::ConnId;

use crate::view::LocalEndpoint;
use crate::worker::Worker;

impl Worker {
    /// The first response on a connection may say how long the endpoint keeps idle ones.
    pub(super) fn note_keep_alive(&mut self, local: LocalEndpoint, head: &ResponseHead<'_, '_>) {
        let timeout = head.fields.iter().filter(|field| field.kind == FieldKind::KeepAlive);
        let timeout = timeout.filter_map(|field| keep_alive_timeout(field.value)).min();
        if let Some(endpoint) = self.endpoints.get_mut(local) {
            endpoint.pool.peer_announced(timeout);
        }
    }

    /// The endpoint has closed a connection that was idle.
    pub(super) fn note_idle_close(&mut self, conn: ConnId, now: Instant) {
        if let Some(upstream) = self.conns.upstream(conn)
            && let Some(endpoint) = self.endpoints.get_mut(upstream.endpoint)
        {
            endpoint.pool.peer_closed(upstream.slot, now);
        }
    }
}

/// The `timeout` of a `Keep-Alive` field, in seconds (RFC 2068 section 19.7.1.1, and what servers send: `timeout=5, max=100`).
fn keep_alive_timeout(value: &[u8]) -> Option<Duration> {
    value.split(|&byte| byte == b',').find_map(|param| {
        let at = param.iter().position(|&byte| byte == b'=')?;
        let (name, value) = (param[..at].trim_ascii(), param[at + 1..].trim_ascii());
        if !name.eq_ignore_ascii_case(b"timeout") {
            return None;
        }
        std::str::from_utf8(value).ok()?.parse().ok().map(Duration::from_secs)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_alive_fields_of_real_servers() {
        for (value, seconds) in [
            ("timeout=5", Some(5)),
            ("timeout=5, max=100", Some(5)),
            ("max=100 , TIMEOUT = 75", Some(75)),
            ("timeout=0", Some(0)),
            ("max=100", None),
            ("timeout", None),
            ("timeout=", None),
            ("timeout=-1", None),
            ("timeout=99999999999999999999", None),
            ("timeout=18446744073709551615", Some(u64::MAX)),
            ("", None),
        ] {
            assert_eq!(keep_alive_timeout(value.as_bytes()), seconds.map(Duration::from_secs), "{value}");
        }
    }
}
