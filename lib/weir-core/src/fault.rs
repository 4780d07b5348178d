//! What went wrong, who caused it, in which phase, and whether to try again.

use std::fmt;

use crate::Phase;

/// Who ended the exchange.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// The client, or its connection.
    Downstream,
    /// The endpoint, or the connection to it.
    Upstream,
    /// Weir itself: a limit, a time-out, a rule, a shutdown.
    Weir,
}

impl Origin {
    /// One letter for the end code: `D`, `U`, `W`.
    pub const fn letter(self) -> char {
        match self {
            Self::Downstream => 'D',
            Self::Upstream => 'U',
            Self::Weir => 'W',
        }
    }
}

/// Whether the request may be given to another endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Retry {
    /// No byte of this request was given to the kernel on this connection: always safe.
    NeverSent,
    /// Bytes were sent: only for idempotent requests whose body is absent or still whole.
    IfIdempotent,
    /// Never: the client has already received response bytes, or the fault is not the endpoint's.
    Never,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $status:literal;)*) => {
        /// Why an exchange ended other than by a complete response. The code is stable: it appears in
        /// the access log, in metrics and in the `weir-reason` header.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable code.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The HTTP status that Weir answers with for this reason, where it still can.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }
        }
    };
}

reasons! {
    /// The request head is malformed, ambiguous or forbidden by RFC 9110/9112.
    BadRequest = "bad_request", 400;
    /// No route matches.
    NoRoute = "no_route", 404;
    /// The request head did not arrive within the head time-out.
    HeadTimeout = "head_timeout", 408;
    /// The request target is longer than the limit.
    TargetTooLong = "target_too_long", 414;
    /// The request head is larger than the limit, or has too many fields.
    HeadTooLarge = "head_too_large", 431;
    /// The request body paused for longer than the idle time-out.
    RequestBodyTimeout = "request_body_timeout", 408;
    /// The request body is malformed (chunked framing).
    BadRequestBody = "bad_request_body", 400;
    /// A transfer coding or an expectation that Weir does not implement.
    NotImplemented = "not_implemented", 501;
    /// The `Expect` field holds something else than 100-continue.
    ExpectationFailed = "expectation_failed", 417;
    /// An HTTP version other than 1.0 and 1.1.
    VersionNotSupported = "version_not_supported", 505;
    /// The listener's limit of connections is reached.
    TooManyConnections = "too_many_connections", 503;
    /// The cluster has no endpoint that may get traffic.
    NoEndpoint = "no_endpoint", 503;
    /// The wait queue for a place at the endpoint is full.
    PoolQueueFull = "pool_queue_full", 503;
    /// No place at the endpoint became free within the queue time-out.
    PoolWaitTimeout = "pool_wait_timeout", 503;
    /// The endpoint refused the connection.
    ConnectRefused = "connect_refused", 503;
    /// The connection to the endpoint was not established in time.
    ConnectTimeout = "connect_timeout", 503;
    /// The connection to the endpoint failed in another way (unreachable, no local port).
    ConnectFailed = "connect_failed", 503;
    /// The endpoint did not send a response head in time.
    ResponseHeadTimeout = "response_head_timeout", 504;
    /// The endpoint paused within the response body for longer than the idle time-out.
    ResponseBodyTimeout = "response_body_timeout", 504;
    /// The endpoint closed the connection before a complete response head.
    UpstreamClosed = "upstream_closed", 502;
    /// The endpoint reset the connection before a complete response head.
    UpstreamReset = "upstream_reset", 502;
    /// The endpoint ended the response before its declared end.
    UpstreamTruncated = "upstream_truncated", 502;
    /// The response head is malformed, ambiguous or too large.
    BadResponse = "bad_response", 502;
    /// The response body is malformed (chunked framing).
    BadResponseBody = "bad_response_body", 502;
    /// The route's hard deadline for the whole request passed.
    Deadline = "deadline", 504;
    /// The client closed or reset its connection.
    ClientGone = "client_gone", 499;
    /// The client did not read the response for longer than the idle time-out.
    ClientStalled = "client_stalled", 499;
    /// Nothing moved in a tunnel for its idle time-out.
    TunnelIdle = "tunnel_idle", 504;
    /// Weir is stopping and its deadline passed.
    Shutdown = "shutdown", 503;
    /// An unexpected state inside Weir; please report it.
    Internal = "internal", 500;
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One failure of an exchange: who, in which phase, why, and may it be tried again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fault {
    /// Who caused it.
    pub origin: Origin,
    /// In which phase it happened.
    pub phase: Phase,
    /// Why.
    pub reason: Reason,
    /// Whether another endpoint may be tried.
    pub retry: Retry,
}

/// How an exchange ended: *who ended it* and *in which phase*, printed as `-` for a complete
/// exchange and as `U:await` and the like otherwise. (HAProxy's termination state, spelt out.)
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct EndCode(Option<(Origin, Phase)>);

impl EndCode {
    /// The exchange is complete.
    pub const COMPLETE: Self = Self(None);

    /// `origin` ended it during `phase`.
    pub const fn by(origin: Origin, phase: Phase) -> Self {
        Self(Some((origin, phase)))
    }

    /// Whether the exchange is complete.
    pub const fn is_complete(self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Display for EndCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("-"),
            Some((origin, phase)) => write!(f, "{}:{}", origin.letter(), phase.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_words() {
        let mut seen = std::collections::BTreeSet::new();
        for reason in Reason::ALL {
            assert!(reason.as_str().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            assert!(seen.insert(reason.as_str()), "{reason} twice");
            assert!((400..600).contains(&reason.status()));
        }
    }

    #[test]
    fn end_code_reads_who_and_where() {
        assert_eq!(EndCode::COMPLETE.to_string(), "-");
        assert_eq!(EndCode::by(Origin::Upstream, Phase::Await).to_string(), "U:await");
    }
}
