//! What is measured: one row per mode.

/// How the load is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// wrk: each connection sends its next request when it has the answer to the last.
    Closed {
        /// Connections.
        connections: u32,
        /// Each request on a connection of its own.
        fresh: bool,
        /// Bytes of the response body.
        body_bytes: u32,
    },
    /// `bench-openload`: requests are due at fixed moments.
    Open {
        /// Connections.
        connections: u32,
        /// Requests per second in all.
        rate: u32,
    },
    /// Connections that have done one request and wait.
    Idle {
        /// Connections.
        connections: u32,
    },
    /// System calls per request under strace.
    Syscalls {
        /// Connections.
        connections: u32,
    },
    /// User instructions per request under callgrind; Weir and HAProxy only.
    Callgrind,
}

/// A row.
#[derive(Debug)]
pub struct Mode {
    /// Name on the command line.
    pub name: &'static str,
    /// Heading in the report.
    pub title: &'static str,
    /// How.
    pub kind: Kind,
}

const KIB: u32 = 1_024;
const MIB: u32 = 1_024 * 1_024;

/// Every mode.
pub const MODES: &[Mode] = &[
    closed("keepalive-64", "Keep-alive, 64 connections", 64),
    closed("keepalive-1000", "Keep-alive, 1,000 connections", 1_000),
    closed("keepalive-5000", "Keep-alive, 5,000 connections", 5_000),
    Mode {
        name: "fresh-64",
        title: "One request per connection, 64 at a time",
        kind: Kind::Closed { connections: 64, fresh: true, body_bytes: KIB },
    },
    Mode {
        name: "body-1m",
        title: "1 MiB responses, 64 connections",
        kind: Kind::Closed { connections: 64, fresh: false, body_bytes: MIB },
    },
    Mode {
        name: "open-5000",
        title: "Open loop: 5,000 connections, 5,000 requests/s in all, latency from the due moment",
        kind: Kind::Open { connections: 5_000, rate: 5_000 },
    },
    Mode { name: "idle-5000", title: "5,000 idle keep-alive connections", kind: Kind::Idle { connections: 5_000 } },
    Mode {
        name: "syscalls",
        title: "System calls per request, 64 connections",
        kind: Kind::Syscalls { connections: 64 },
    },
    Mode { name: "callgrind", title: "User instructions per request", kind: Kind::Callgrind },
];

const fn closed(name: &'static str, title: &'static str, connections: u32) -> Mode {
    Mode { name, title, kind: Kind::Closed { connections, fresh: false, body_bytes: KIB } }
}

impl Mode {
    /// Bytes of the backends' response bodies.
    pub fn body_bytes(&self) -> u32 {
        match self.kind {
            Kind::Closed { body_bytes, .. } => body_bytes,
            _ => KIB,
        }
    }

    /// Whether responses are long: the balancers with a setting for that take part with it.
    pub fn is_large(&self) -> bool {
        self.body_bytes() >= MIB
    }
}
