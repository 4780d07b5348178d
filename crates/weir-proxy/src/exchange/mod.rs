//! The life of a request, in reading order:
//!
//! ```text
//! begin    read head, harden, normalise, route          Head, Route, Admit
//!   acquire  pick → permit → connection                 Pick, Acquire, Connect
//!     send     head (and body) to the endpoint          Send
//!       respond_head  await and relay the response head Await
//!         relay    bodies both ways                     Relay
//!           finish   report, release, keep alive
//! retry    from any step before a response byte went to the client: back to acquire
//! reply    Weir's own answers (errors, redirects, fixed responses)
//! tunnel   after a 101: bytes both ways until the end
//! ```
//!
//! Each step is a module with an `impl Worker` block. State is in [`Exchange`]; a step leaves it in
//! exactly one [`State`].

pub(crate) mod acquire;
pub(crate) mod begin;
pub(crate) mod finish;
pub(crate) mod forward;
pub(crate) mod keep_alive;
pub(crate) mod relay;
pub(crate) mod reply;
pub(crate) mod respond_head;
pub(crate) mod retry;
pub(crate) mod send;
pub(crate) mod tunnel;

use std::rc::Rc;

use weir_balance::Avoid;
use weir_core::{EndCode, Instant, Phase, PhaseTimes, Reason};
use weir_http::{BodyReader, Framing, Version};
use weir_limit::Ticket;
use weir_net::ConnId;
use weir_pool_core::SlotId;
use weir_route::RouteId;

use crate::log::LogFields;
use crate::view::{LocalEndpoint, View};

/// Position of an exchange in its worker's slab.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ExchangeId(pub(crate) u32);

/// Where an exchange is.
///
/// ```text
///            ┌────────────── retry ──────────────┐
///            ▼                                   │
/// (begin) → Queued → Waiting → Connecting → Awaiting → Relaying → (finish)
///            └──────────┴───────────┴───────────┘          Awaiting → Tunnel → (finish)
/// ```
#[derive(Debug)]
pub(crate) enum State {
    /// Between two steps of one callback; never seen from outside.
    Starting,
    /// In the endpoint's FIFO, for a place.
    Queued(Ticket),
    /// Has a place; waits for a connection, since the endpoint's connection maximum is reached.
    WaitingForConnection,
    /// The connection is being opened.
    Connecting,
    /// The head has been sent; the body may still be on its way; no final response head yet.
    Awaiting,
    /// The final response head has been relayed.
    Relaying,
    /// After a 101: bytes both ways.
    Tunnel,
}

/// How the response body goes to the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BodyOut {
    /// As it comes: a known length, or until close.
    Identity,
    /// Chunked by Weir.
    Chunked,
}

/// One request in flight.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) serial: u32,
    pub(crate) client: ConnId,
    pub(crate) listener: u32,
    /// Held until the response head is relayed; tunnels and long bodies do not pin a snapshot.
    pub(crate) view: Option<Rc<View>>,
    pub(crate) rule: RouteId,
    pub(crate) cluster: u32,
    pub(crate) key: Option<u64>,
    pub(crate) state: State,

    pub(crate) endpoint: Option<LocalEndpoint>,
    pub(crate) upstream: Option<ConnId>,
    pub(crate) slot: Option<SlotId>,
    pub(crate) permit: bool,
    /// The connection had served a request before.
    pub(crate) reused: bool,
    /// After a stale connection: the next attempt opens a new one.
    pub(crate) fresh_only: bool,
    pub(crate) attempts: u8,
    pub(crate) avoid: Avoid,

    pub(crate) version: Version,
    pub(crate) idempotent: bool,
    /// Lost if the endpoint closes the connection while it is on its way: not idempotent (RFC 9110 section 9.2.2), or its
    /// body will not be held.
    pub(crate) unrepeatable: bool,
    pub(crate) is_head: bool,
    /// The client asked to close after this request and has nothing more to send: it has no body, and a client that
    /// says `close` sends no further request (RFC 9112 section 9.6).
    pub(crate) is_last: bool,
    /// The protocols that the client offers to switch to.
    pub(crate) offered: Option<Box<[u8]>>,
    /// Head, and the body while it is small enough to be sent again.
    pub(crate) outbox: Vec<u8>,
    pub(crate) head_len: usize,
    /// The whole request so far is in `outbox`.
    pub(crate) replayable: bool,
    pub(crate) request_framing: Framing,
    pub(crate) request_body: BodyReader,
    pub(crate) request_done: bool,
    /// The endpoint no longer takes the request.
    pub(crate) request_broken: bool,
    /// It took no byte of it: the first write of the attempt failed.
    pub(crate) never_sent: bool,
    /// The trailer section of the request body has been written.
    pub(crate) trailers_written: bool,
    /// The kernel moves the rest of the request body.
    pub(crate) request_pumped: bool,

    pub(crate) response_body: BodyReader,
    pub(crate) body_out: BodyOut,
    pub(crate) response_pumped: bool,
    /// The trailer section of the response has been written.
    pub(crate) response_trailers: bool,
    /// The client has part of a response that will never be whole: its connection is reset.
    pub(crate) cut: bool,
    /// A byte of the response (interim ones included) has been given to the client's connection.
    pub(crate) response_begun: bool,
    /// Interim responses so far, of all attempts.
    pub(crate) interim_responses: u16,
    pub(crate) status: u16,
    pub(crate) keep_client: bool,
    pub(crate) keep_upstream: bool,

    pub(crate) times: PhaseTimes,
    /// When the attempt in progress had its endpoint, place and connection, just before it was sent: what the
    /// endpoint's latency is measured from.
    pub(crate) sent_at: Instant,
    pub(crate) hard_deadline: Instant,
    /// Until when the attempt waits for a place and a connection, both together; `Instant::FAR` while it has not begun to.
    pub(crate) wait_deadline: Instant,
    /// Which directions of a tunnel have ended: client's, endpoint's.
    pub(crate) tunnel_ends: (bool, bool),
    pub(crate) pump_mark: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) end: EndCode,
    pub(crate) reason: Option<Reason>,
    pub(crate) log: Option<Box<LogFields>>,
}

impl Exchange {
    /// The phase that it is in.
    pub(crate) fn phase(&self) -> Phase {
        match self.state {
            State::Starting => Phase::Admit,
            State::Queued(_) | State::WaitingForConnection => Phase::Acquire,
            State::Connecting => Phase::Connect,
            State::Awaiting if !self.request_done => Phase::Send,
            State::Awaiting => Phase::Await,
            State::Relaying | State::Tunnel => Phase::Relay,
        }
    }
}
