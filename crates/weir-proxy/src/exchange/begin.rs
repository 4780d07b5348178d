//! Reading a request head, hardening it, and deciding what is to be done with it.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use weir_balance::{Avoid, HashKey};
use weir_core::{EndCode, Instant, Origin, Phase, PhaseTimes, Reason};
use weir_http::{BodyReader, FieldKind, Form, Framing, Method, RequestHead, Scheme, Slots, parse_request};
use weir_net::{Close, ConnId, Io};
use weir_route::{Action, Fields, RequestView, Rule, normalise_path};

use super::{BodyOut, Exchange, ExchangeId, State, forward};
use crate::conns::{Client, Role};
use crate::runtime::{HttpListener, ListenerKind};
use crate::view::View;
use crate::worker::{LINGER, Worker};

/// Sent ahead by a client (pipelining) before reading pauses: one head of the default maximum.
pub(super) const STASH_BYTES: usize = 32 * 1024;
/// Pipelined requests served in one go before other connections get their turn.
const BURST: usize = 64;

/// What became of the bytes that a client sent.
pub(super) enum Taken {
    /// A request was begun (or answered); this many bytes were its head and body so far.
    Request(usize),
    /// The head is incomplete.
    Partial,
    /// The connection is closed or is to be left alone.
    Gone,
}

impl Worker {
    /// Enters a new client.
    pub(crate) fn accept_client<I: Io>(&mut self, io: &mut I, conn: ConnId, listener: u32, peer: Option<SocketAddr>) {
        self.open_clients += 1;
        self.conns.put(
            conn,
            Role::Client(Client {
                listener,
                peer,
                exchange: None,
                stash: Vec::new(),
                head_started: None,
                requests: 0,
                half_closed: false,
                paused: false,
                scheduled: false,
            }),
        );
        if let Some(http) = http_listener(&self.view, listener) {
            io.set_deadline(conn, Some(io.now() + http.plan.timeouts.head));
        }
    }

    /// Bytes from a client.
    pub(crate) fn client_data<I: Io>(&mut self, io: &mut I, conn: ConnId, data: &[u8]) {
        let Some(client) = self.conns.client(conn) else { return };
        if let Some(id) = client.exchange {
            let used = self.request_bytes(io, id, data);
            self.stash(io, conn, &data[used..]);
            return;
        }
        if client.stash.is_empty() {
            let used = self.serve(io, conn, data);
            self.stash(io, conn, &data[used..]);
        } else {
            client.stash.extend_from_slice(data);
            self.serve_stash(io, conn);
        }
    }

    /// Clients whose exchange ended go on with what they sent ahead.
    pub(crate) fn go_on<I: Io>(&mut self, io: &mut I) {
        for _ in 0..BURST {
            let Some(conn) = self.ready.pop() else { return };
            if let Some(client) = self.conns.client(conn) {
                client.scheduled = false;
                self.serve_stash(io, conn);
            }
        }
    }

    /// Has `conn` looked at again after the current event.
    pub(crate) fn schedule(&mut self, conn: ConnId) {
        if let Some(client) = self.conns.client(conn)
            && !client.scheduled
        {
            client.scheduled = true;
            self.ready.push(conn);
        }
    }

    fn serve_stash<I: Io>(&mut self, io: &mut I, conn: ConnId) {
        let Some(client) = self.conns.client(conn) else { return };
        if client.exchange.is_some() || client.stash.is_empty() {
            return;
        }
        let mut stash = std::mem::take(&mut client.stash);
        let used = self.serve(io, conn, &stash);
        stash.drain(..used);
        match self.conns.client(conn) {
            // While an exchange runs, what it has not used is kept; a partial head too.
            Some(client) if !stash.is_empty() => {
                if client.stash.is_empty() {
                    client.stash = stash;
                } else {
                    stash.extend_from_slice(&client.stash);
                    client.stash = stash;
                }
            }
            _ => self.buffers.give(stash),
        }
        if let Some(client) = self.conns.client(conn)
            && client.half_closed
            && client.exchange.is_none()
            && !client.scheduled
        {
            // What is left is half a request, and there will be no more.
            self.close_client(io, conn, Close::Linger(LINGER));
            return;
        }
        self.unpause_if_room(io, conn);
    }

    fn unpause_if_room<I: Io>(&mut self, io: &mut I, conn: ConnId) {
        if let Some(client) = self.conns.client(conn)
            && client.paused
            && client.stash.len() < STASH_BYTES
            && client.exchange.is_none()
            && io.unsent(conn) == 0
        {
            client.paused = false;
            io.resume(conn);
        }
    }

    /// Keeps bytes for later; beyond a bound reading stops.
    fn stash<I: Io>(&mut self, io: &mut I, conn: ConnId, rest: &[u8]) {
        if rest.is_empty() {
            return;
        }
        let Some(client) = self.conns.client(conn) else { return };
        if client.stash.capacity() == 0 {
            client.stash = self.buffers.take();
        }
        client.stash.extend_from_slice(rest);
        // A partial chunk line or trailer section of a running request has limits of its own, and its end must come.
        let exchange = client.exchange;
        let full = client.stash.len() >= STASH_BYTES && !client.paused;
        let ahead = exchange.and_then(|id| self.exchanges.get(id.0)).is_some_and(|exchange| exchange.request_done);
        if full
            && ahead
            && let Some(client) = self.conns.client(conn)
        {
            client.paused = true;
            io.pause(conn);
        }
    }

    /// Serves the requests at the start of `bytes` one after the other until one has to wait. Returns how many bytes
    /// were used.
    fn serve<I: Io>(&mut self, io: &mut I, conn: ConnId, bytes: &[u8]) -> usize {
        let mut used = 0;
        for _ in 0..BURST {
            if used == bytes.len() {
                return used;
            }
            if io.unsent(conn) > 0 {
                // It does not read its answers: the next request waits until it has (`client_drained`).
                if let Some(client) = self.conns.client(conn) {
                    client.paused = true;
                    io.pause(conn);
                }
                return used;
            }
            match self.next_request(io, conn, &bytes[used..]) {
                Taken::Request(n) => used += n,
                Taken::Partial => return used,
                Taken::Gone => return bytes.len(),
            }
            match self.conns.client(conn) {
                None => return bytes.len(),
                Some(client) if client.exchange.is_some() => return used,
                Some(_) => {}
            }
        }
        self.schedule(conn);
        used
    }

    fn next_request<I: Io>(&mut self, io: &mut I, conn: ConnId, bytes: &[u8]) -> Taken {
        let Some(client) = self.conns.client(conn) else { return Taken::Gone };
        let listener = client.listener;
        let first_byte = client.head_started.unwrap_or_else(|| io.now());
        let view = Rc::clone(&self.view);
        let Some(http) = http_listener(&view, listener) else { return Taken::Gone };
        let mut slots = Slots::new();
        match parse_request(bytes, &mut slots, &http.plan.limits) {
            Ok(Some(head)) => {
                if let Some(client) = self.conns.client(conn) {
                    client.head_started = None;
                    client.requests = client.requests.saturating_add(1);
                }
                self.begin(io, conn, &view, http, &head, &bytes[head.len..], first_byte)
            }
            Ok(None) => {
                let client = self.conns.client(conn);
                if let Some(client) = client
                    && client.head_started.is_none()
                {
                    client.head_started = Some(first_byte);
                    io.set_deadline(conn, Some(first_byte + http.plan.timeouts.head));
                }
                Taken::Partial
            }
            Err(reject) => {
                tracing::debug!(listener = %listener, reason = %reject.reason, detail = reject.detail, "request refused");
                self.refuse_request(io, conn, http, reject.reason, first_byte, None);
                Taken::Gone
            }
        }
    }

    /// Routes a complete head and starts its exchange. `rest` is what follows the head.
    #[allow(clippy::too_many_arguments, reason = "one call site; a struct would only rename the arguments")]
    fn begin<I: Io>(
        &mut self,
        io: &mut I,
        conn: ConnId,
        view: &Rc<View>,
        http: &HttpListener,
        head: &RequestHead<'_, '_>,
        rest: &[u8],
        first_byte: Instant,
    ) -> Taken {
        let mut times = PhaseTimes::starting(first_byte);
        times.stamp(Phase::Head, io.clock());

        if head.method == Method::Connect {
            self.refuse_request(io, conn, http, Reason::NotImplemented, first_byte, Some(head));
            return Taken::Gone;
        }
        // RFC 9110 section 7.4: an https resource is not served over an unsecured connection, but for a gateway that is
        // trusted to have had a secured one.
        let peer = self.conns.client(conn).and_then(|client| client.peer).map(|peer| peer.ip().to_canonical());
        if head.target.scheme == Some(Scheme::Https) && !is_trusted(peer, http) {
            self.refuse_request(io, conn, http, Reason::BadRequest, first_byte, Some(head));
            return Taken::Gone;
        }
        // RFC 9110 section 7.6.2: with nothing left, the answer comes from here.
        if matches!(head.method, Method::Options | Method::Trace)
            && head.fields.iter().any(|field| forward::max_forwards(head, field) == Some(0))
        {
            return self.answer_as_last(io, conn, http, head, rest, times);
        }
        let raw_path: &[u8] = if head.target.path.is_empty() { b"/" } else { head.target.path };
        let mut path_scratch = std::mem::take(&mut self.path_scratch);
        let path = match normalise_path(raw_path, &http.plan.path_policy, &mut path_scratch) {
            // `OPTIONS *` asks about the server as a whole; it is no path and has no normal form.
            _ if head.target.form == Form::Asterisk => head.target.path,
            Ok(path) => path,
            Err(reject) => {
                tracing::debug!(detail = %reject, "path refused");
                self.path_scratch = path_scratch;
                self.refuse_request(io, conn, http, Reason::BadRequest, first_byte, Some(head));
                return Taken::Gone;
            }
        };
        let routed = http.router.route(&RequestView {
            host: head.host,
            path,
            query: head.target.query,
            method: head.method.as_str(),
            fields: &HeadFields(head),
        });
        let used = head.len;
        let taken = match routed {
            None => self.answer_directly(io, conn, http, head, rest, times, Reason::NoRoute),
            Some(rule_id) => {
                let rule = http.router.rule(rule_id);
                match &rule.action {
                    Action::Forward { cluster, .. } => {
                        let exchange =
                            self.new_exchange(io, conn, view, http, head, rule, rule_id, cluster.0, path, times);
                        let id = ExchangeId(self.exchanges.insert(exchange));
                        self.stats.in_flight.inc();
                        if let Some(client) = self.conns.client(conn) {
                            client.exchange = Some(id);
                        }
                        match self.first_body_bytes(io, id, rest) {
                            Ok(body) => {
                                self.admit(io, id);
                                Taken::Request(used + body)
                            }
                            // Nothing has been sent: the endpoint never hears of it.
                            Err(reason) => {
                                self.fail(io, id, Origin::Downstream, Phase::Head, reason);
                                Taken::Gone
                            }
                        }
                    }
                    Action::Redirect(_) | Action::Respond(_) => {
                        self.answer_by_rule(io, conn, http, head, rule, path, rest, times)
                    }
                }
            }
        };
        self.path_scratch = path_scratch;
        taken
    }

    #[allow(clippy::too_many_arguments, reason = "one call site; a struct would only rename the arguments")]
    fn new_exchange<I: Io>(
        &mut self,
        io: &mut I,
        conn: ConnId,
        view: &Rc<View>,
        http: &HttpListener,
        head: &RequestHead<'_, '_>,
        rule: &Rule,
        rule_id: weir_route::RouteId,
        cluster: u32,
        path: &[u8],
        times: PhaseTimes,
    ) -> Exchange {
        self.serial = self.serial.wrapping_add(1);
        let (listener, peer) = self.conns.client(conn).map_or((0, None), |client| (client.listener, client.peer));
        let peer_ip = peer.map(|peer| peer.ip().to_canonical());
        let trusted = is_trusted(peer_ip, http);
        let mut outbox = self.buffers.take();
        let request_id = forward::RequestId::choose(head, trusted, &http.plan.forwarded, &mut self.rng);
        // `h2c` would lead past every route and rule: HTTP/2 to the endpoint inside a tunnel.
        let offered = head.upgrade.filter(|protocols| head.framing.is_empty() && !forward::names_http2(protocols));
        forward::write_request_head(
            &mut outbox,
            &forward::RequestParts {
                head,
                path,
                rule,
                forwarded: &http.plan.forwarded,
                peer: peer_ip,
                trusted,
                offered,
            },
            request_id.as_ref(),
        );
        let plan = &view.snapshot.config.clusters[cluster as usize].plan;
        let balance = &plan.balance;
        let idempotent = head.method.is_idempotent();
        let held_max = u64::from(plan.retry.body_buffer);
        let ip = client_ip(head, peer_ip, trusted, http);
        let key = pick_key(balance, head, path, ip);
        let log = self.access_log.is_some().then(|| {
            let mut fields = self.log_fields.pop().unwrap_or_default();
            let id = request_id.as_ref().map_or(&b""[..], forward::RequestId::as_bytes);
            fields.capture(head, id, ip);
            fields
        });
        Exchange {
            serial: self.serial,
            client: conn,
            listener,
            view: Some(Rc::clone(view)),
            rule: rule_id,
            cluster,
            key,
            state: State::Starting,
            endpoint: None,
            upstream: None,
            slot: None,
            permit: false,
            reused: false,
            fresh_only: false,
            attempts: 0,
            avoid: Avoid::NONE,
            version: head.version,
            idempotent,
            unrepeatable: !idempotent || matches!(head.framing, Framing::Length(length) if length > held_max),
            is_head: head.method == Method::Head,
            is_last: !head.keep_alive && head.framing.is_empty(),
            offered: offered.map(Box::from),
            head_len: outbox.len(),
            outbox,
            replayable: true,
            request_framing: head.framing,
            request_body: BodyReader::new(head.framing),
            request_done: false,
            request_broken: false,
            never_sent: false,
            trailers_written: false,
            request_pumped: false,
            response_body: BodyReader::new(weir_http::ResponseFraming::None),
            body_out: BodyOut::Identity,
            response_pumped: false,
            response_trailers: false,
            cut: false,
            response_begun: false,
            interim_responses: 0,
            status: 0,
            keep_client: head.keep_alive,
            keep_upstream: false,
            times,
            sent_at: Instant::ZERO,
            hard_deadline: rule.deadline.map_or(Instant::FAR, |deadline| io.now() + deadline),
            wait_deadline: Instant::FAR,
            tunnel_ends: (false, false),
            pump_mark: 0,
            bytes_in: head.len as u64,
            bytes_out: 0,
            end: EndCode::COMPLETE,
            reason: None,
            log,
        }
    }

    /// The client half-closed.
    pub(crate) fn client_eof<I: Io>(&mut self, io: &mut I, conn: ConnId) {
        let Some(client) = self.conns.client(conn) else { return };
        client.half_closed = true;
        match client.exchange {
            // Requests sent ahead are served in turns; the last one closes.
            None if client.scheduled && !client.stash.is_empty() => {}
            // Not at once: the end of a response may still be on its way.
            None => self.close_client(io, conn, Close::Linger(LINGER)),
            Some(id) => self.request_eof(io, id),
        }
    }

    /// The client's connection broke.
    pub(crate) fn client_reset<I: Io>(&mut self, io: &mut I, conn: ConnId) {
        let exchange = self.conns.client(conn).and_then(|client| client.exchange);
        self.forget_client(conn);
        if let Some(id) = exchange {
            self.client_gone(io, id);
        }
        self.finish_drain(io);
    }

    /// The deadline of the phase that a client is in.
    pub(crate) fn client_deadline<I: Io>(&mut self, io: &mut I, conn: ConnId) {
        let view = Rc::clone(&self.view);
        let Some(client) = self.conns.client(conn) else { return };
        if let Some(id) = client.exchange {
            self.exchange_deadline(io, id);
            return;
        }
        let (listener, first_byte) = (client.listener, client.head_started);
        match (first_byte, http_listener(&view, listener)) {
            (Some(first_byte), Some(http)) => {
                self.refuse_request(io, conn, http, Reason::HeadTimeout, first_byte, None);
            }
            _ => self.close_client(io, conn, Close::Linger(LINGER)),
        }
    }

    /// Closes a client's connection that has no exchange.
    pub(crate) fn close_client<I: Io>(&mut self, io: &mut I, conn: ConnId, how: Close) {
        self.forget_client(conn);
        io.close(conn, how);
        self.finish_drain(io);
    }

    /// Forgets a client and gives back what it held.
    pub(crate) fn forget_client(&mut self, conn: ConnId) {
        if let Some(Role::Client(client)) = self.conns.take(conn) {
            self.open_clients -= 1;
            self.stats.open.dec();
            if let Some(listener) = self.view.snapshot.config.listeners.get(client.listener as usize) {
                listener.connections.give_back();
            }
            self.buffers.give(client.stash);
        }
    }
}

/// The HTTP settings of a listener.
pub(crate) fn http_listener(view: &View, listener: u32) -> Option<&HttpListener> {
    match &view.snapshot.config.listeners.get(listener as usize)?.kind {
        ListenerKind::Http(http) => Some(http),
        ListenerKind::Tcp(_) => None,
    }
}

/// Fields of a head by name, for the router.
struct HeadFields<'a, 'b, 's>(&'a RequestHead<'b, 's>);

impl Fields for HeadFields<'_, '_, '_> {
    fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.0.fields.iter().any(|field| field.name.eq_ignore_ascii_case(name.as_bytes()) && test(field.value))
    }
}

/// Whether the forwarding fields of this peer are believed. A peer on a Unix socket (`None`) is a process of this
/// machine that the socket's permissions let in: trusted.
pub(crate) fn is_trusted(peer: Option<IpAddr>, http: &HttpListener) -> bool {
    peer.is_none_or(|ip| http.plan.forwarded.trusted.iter().any(|net| net.contains(ip)))
}

/// The client's address as far as it can be believed: from a trusted peer, the last address of X-Forwarded-For
/// that is not itself trusted; else the peer's.
pub(crate) fn client_ip(
    head: &RequestHead<'_, '_>,
    peer: Option<IpAddr>,
    trusted: bool,
    http: &HttpListener,
) -> Option<IpAddr> {
    if !trusted {
        return peer;
    }
    let mut best = peer;
    let lines = head.fields.iter().rev().filter(|field| field.kind == FieldKind::XForwardedFor);
    for item in lines.flat_map(|field| field.value.rsplit(|&byte| byte == b',')) {
        let Some(ip) = std::str::from_utf8(item).ok().and_then(|text| text.trim().parse::<IpAddr>().ok()) else {
            break;
        };
        best = Some(ip.to_canonical());
        if !http.plan.forwarded.trusted.iter().any(|net| net.contains(ip)) {
            break;
        }
    }
    best
}

/// The pick key of the hashing algorithms; without the value named, the client's address decides.
fn pick_key(
    balance: &weir_balance::Params,
    head: &RequestHead<'_, '_>,
    path: &[u8],
    ip: Option<IpAddr>,
) -> Option<u64> {
    if !balance.algorithm.row().keyed {
        return None;
    }
    let by_value = match &balance.key {
        HashKey::ClientIp => None,
        HashKey::Header(name) => {
            head.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name.as_bytes())).map(|field| field.value)
        }
        HashKey::Cookie(name) => head
            .fields
            .iter()
            .filter(|field| field.kind == FieldKind::Cookie)
            .find_map(|field| cookie(field.value, name.as_bytes())),
        HashKey::Query(name) => head.target.query.and_then(|query| query_value(query, name.as_bytes())),
        HashKey::Path => Some(path),
    };
    match by_value {
        Some(value) => Some(balance.hash_key(value)),
        None => ip.map(|ip| balance.hash_ip(ip)),
    }
}

/// The value of a query parameter, as written; its name may be percent-encoded.
fn query_value<'b>(query: &'b [u8], name: &[u8]) -> Option<&'b [u8]> {
    weir_route::query_params(query)
        .find(|(encoded, _)| *weir_route::decode_param(encoded) == *name)
        .map(|(_, value)| value)
}

/// The value of a cookie within one `Cookie` field.
fn cookie<'b>(field: &'b [u8], name: &[u8]) -> Option<&'b [u8]> {
    field.split(|&byte| byte == b';').map(<[u8]>::trim_ascii).find_map(|pair| {
        let value = pair.strip_prefix(name)?;
        value.strip_prefix(b"=")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_by_whole_name() {
        assert_eq!(cookie(b"a=1; sid=xyz; b=2", b"sid"), Some(&b"xyz"[..]));
        assert_eq!(cookie(b"xsid=1; sid2=3", b"sid"), None);
        assert_eq!(cookie(b"sid=", b"sid"), Some(&b""[..]));
    }
}
