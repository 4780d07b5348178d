//! What is known of one request when it has ended: the single source of log line, counters and traces.

use std::net::{IpAddr, SocketAddr};

use weir_core::{EndCode, Phase, PhaseTimes, Reason, WallTime};

/// What was spoken with the client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Protocol {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// Bytes.
    Tcp,
}

impl Protocol {
    /// As it stands in the access log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Tcp => "TCP",
        }
    }
}

/// One request (or TCP session), complete or not. Everything is borrowed: building a record allocates
/// nothing. Text from the client may hold any bytes; the formatters escape it.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// When the first byte of the request arrived.
    pub start: WallTime,
    /// When each phase ended.
    pub times: &'a PhaseTimes,
    /// The other end of the client's connection; `None` for Unix sockets.
    pub peer: Option<SocketAddr>,
    /// The client as trusted: from a trusted proxy's forwarding fields, else the peer.
    pub client: Option<IpAddr>,
    /// Listener name.
    pub listener: &'a str,
    /// Method as sent; empty if the head was never read (or for TCP).
    pub method: &'a [u8],
    /// Path and query as sent.
    pub target: &'a [u8],
    /// `Host` as sent.
    pub host: &'a [u8],
    /// What was spoken.
    pub protocol: Protocol,
    /// Status given to the client; 0 if no response head was sent.
    pub status: u16,
    /// Bytes received from the client: head and body.
    pub bytes_in: u64,
    /// Bytes sent to the client: head and body.
    pub bytes_out: u64,
    /// Route that matched.
    pub route: Option<&'a str>,
    /// Cluster chosen.
    pub cluster: Option<&'a str>,
    /// Endpoint of the last attempt.
    pub endpoint: Option<&'a str>,
    /// Endpoints tried; 0 if none was reached.
    pub attempts: u32,
    /// Who ended it in which phase.
    pub end: EndCode,
    /// Why, unless complete.
    pub reason: Option<Reason>,
    /// X-Request-ID; empty if switched off.
    pub request_id: &'a [u8],
    /// `User-Agent`; empty if absent.
    pub user_agent: &'a [u8],
    /// `Referer`; empty if absent.
    pub referer: &'a [u8],
}

/// What is counted of an ended request: a part of its [`Record`], without the text that only a log needs.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// When each phase ended.
    pub times: &'a PhaseTimes,
    /// Status given to the client; 0 if no response head was sent.
    pub status: u16,
    /// Why it ended, unless complete.
    pub reason: Option<Reason>,
    /// Bytes received from the client: head and body.
    pub bytes_in: u64,
    /// Bytes sent to the client: head and body.
    pub bytes_out: u64,
}

impl<'a> Record<'a> {
    /// What is counted of it.
    #[inline]
    pub const fn ended(&self) -> Ended<'a> {
        let Self { times, status, reason, bytes_in, bytes_out, .. } = *self;
        Ended { times, status, reason, bytes_in, bytes_out }
    }

    /// From the first byte to the end of the last phase reached, in microseconds.
    #[inline]
    pub fn total_us(&self) -> u32 {
        last_end_us(self.times, Phase::Relay)
    }
}

/// The latest end among the phases up to and including `last`; 0 if none was reached.
#[inline]
pub(crate) fn last_end_us(times: &PhaseTimes, last: Phase) -> u32 {
    let mut latest = 0;
    for phase in &Phase::ALL[..=last as usize] {
        latest = latest.max(times.end_us(*phase).unwrap_or(0));
    }
    latest
}
