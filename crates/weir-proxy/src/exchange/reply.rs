//! Weir's own answers: errors with a reason, redirects, fixed responses.

use std::fmt::Write as _;
use std::io::Write as _;

use weir_core::{EndCode, Instant, Origin, Phase, PhaseTimes, Reason};
use weir_http::{RequestHead, Version, write};
use weir_net::{Close, ConnId, Io, Piece};
use weir_route::{Action, Redirect, RedirectFrom, Rule, redirect_location};
use weir_telemetry::{Protocol, Record};

use super::begin::{Taken, client_ip, is_trusted};
use crate::runtime::HttpListener;
use crate::worker::{LINGER, Worker};

/// Seconds after which a client may try again, on 429 and 503, unless more is known: overload passes soon.
pub(super) const RETRY_AFTER_SECS: u32 = 1;
/// However long the next probe may take, clients ask again after so many seconds.
const RETRY_AFTER_MAX_SECS: u32 = 30;

/// One of Weir's own responses.
struct Answer<'a> {
    status: u16,
    content_type: &'a str,
    body: &'a [u8],
    location: Option<&'a [u8]>,
    reason: Option<Reason>,
    /// Seconds, for 429 and 503.
    retry_after: u32,
}

impl Worker {
    /// `Retry-After` of a request for a cluster: while it has nobody to serve, until probes may bring somebody back.
    pub(super) fn retry_after(&self, cluster: u32, now: Instant) -> u32 {
        let wait = self.view.snapshot.clusters.get(cluster as usize).and_then(|cluster| cluster.comeback_in(now));
        let seconds = wait.map_or(0, |wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        u32::try_from(seconds).unwrap_or(u32::MAX).clamp(RETRY_AFTER_SECS, RETRY_AFTER_MAX_SECS)
    }

    /// Answers a request that matched a redirect or a fixed response.
    #[allow(clippy::too_many_arguments, reason = "one call site; a struct would only rename the arguments")]
    pub(super) fn answer_by_rule<I: Io>(
        &mut self,
        io: &mut I,
        conn: ConnId,
        http: &HttpListener,
        head: &RequestHead<'_, '_>,
        rule: &Rule,
        path: &[u8],
        rest: &[u8],
        times: PhaseTimes,
    ) -> Taken {
        match &rule.action {
            Action::Redirect(redirect) => {
                let location = location_of(redirect, rule, head, path);
                let answer = Answer {
                    status: redirect.status,
                    content_type: "text/plain; charset=utf-8",
                    body: b"",
                    location: Some(&location),
                    reason: None,
                    retry_after: RETRY_AFTER_SECS,
                };
                self.answer(io, conn, http, head, rest, times, Some(rule), &answer)
            }
            Action::Respond(respond) => {
                let answer = Answer {
                    status: respond.status,
                    content_type: &respond.content_type,
                    body: &respond.body,
                    location: None,
                    reason: None,
                    retry_after: RETRY_AFTER_SECS,
                };
                self.answer(io, conn, http, head, rest, times, Some(rule), &answer)
            }
            Action::Forward { .. } => Taken::Gone,
        }
    }

    /// Answers a well-formed request with an error of Weir's own.
    #[allow(clippy::too_many_arguments, reason = "one call site; a struct would only rename the arguments")]
    pub(super) fn answer_directly<I: Io>(
        &mut self,
        io: &mut I,
        conn: ConnId,
        http: &HttpListener,
        head: &RequestHead<'_, '_>,
        rest: &[u8],
        times: PhaseTimes,
        reason: Reason,
    ) -> Taken {
        let mut text = String::new();
        let (content_type, body) = error_body(http, reason, &mut text);
        let answer = Answer {
            status: reason.status(),
            content_type,
            body,
            location: None,
            reason: Some(reason),
            retry_after: RETRY_AFTER_SECS,
        };
        self.answer(io, conn, http, head, rest, times, None, &answer)
    }

    /// Answers an OPTIONS or TRACE that must not go further (`Max-Forwards: 0`). Weir shows nobody what a request looks
    /// like inside, so a TRACE that ends here is not implemented.
    pub(super) fn answer_as_last<I: Io>(
        &mut self,
        io: &mut I,
        conn: ConnId,
        http: &HttpListener,
        head: &RequestHead<'_, '_>,
        rest: &[u8],
        times: PhaseTimes,
    ) -> Taken {
        if head.method == weir_http::Method::Trace {
            return self.answer_directly(io, conn, http, head, rest, times, Reason::NotImplemented);
        }
        let answer = Answer {
            status: 200,
            content_type: "",
            body: b"",
            location: None,
            reason: None,
            retry_after: RETRY_AFTER_SECS,
        };
        self.answer(io, conn, http, head, rest, times, None, &answer)
    }

    /// Answers without an endpoint. The connection goes on only if the request has no body (nobody reads it).
    #[allow(clippy::too_many_arguments, reason = "the two callers above")]
    fn answer<I: Io>(
        &mut self,
        io: &mut I,
        conn: ConnId,
        http: &HttpListener,
        head: &RequestHead<'_, '_>,
        rest: &[u8],
        mut times: PhaseTimes,
        rule: Option<&Rule>,
        answer: &Answer<'_>,
    ) -> Taken {
        let last = rest.is_empty() && self.conns.client(conn).is_some_and(|client| client.half_closed);
        let keep = head.keep_alive && head.framing.is_empty() && !self.draining && !last;
        let is_head = head.method == weir_http::Method::Head;
        let sent = self.write_answer(io, conn, http, rule, answer, head.version, keep, is_head);
        times.stamp(Phase::Relay, io.clock());
        self.report_answer(io, conn, Some(head), http, rule, answer.status, answer.reason, &times, sent);
        if keep {
            io.set_deadline(conn, Some(io.now() + http.plan.timeouts.keep_alive));
            Taken::Request(head.len)
        } else {
            self.close_client(io, conn, Close::Linger(LINGER));
            Taken::Gone
        }
    }

    /// Answers bytes that are no (acceptable) request, and closes: where the next request starts is unknown.
    pub(super) fn refuse_request<I: Io>(
        &mut self,
        io: &mut I,
        conn: ConnId,
        http: &HttpListener,
        reason: Reason,
        first_byte: Instant,
        head: Option<&RequestHead<'_, '_>>,
    ) {
        let version = head.map_or(Version::Http11, |head| head.version);
        let is_head = head.is_some_and(|head| head.method == weir_http::Method::Head);
        let sent = self.write_error(io, conn, http, reason, RETRY_AFTER_SECS, version, false, is_head);
        let mut times = PhaseTimes::starting(first_byte);
        times.stamp(Phase::Head, io.clock());
        self.report_answer(io, conn, head, http, None, reason.status(), Some(reason), &times, sent);
        self.close_client(io, conn, Close::Linger(LINGER));
    }

    /// Writes an error response; returns its bytes.
    #[allow(clippy::too_many_arguments, reason = "each is a fact of the answer")]
    pub(super) fn write_error<I: Io>(
        &mut self,
        io: &mut I,
        conn: ConnId,
        http: &HttpListener,
        reason: Reason,
        retry_after: u32,
        version: Version,
        keep: bool,
        is_head: bool,
    ) -> u64 {
        let mut text = String::new();
        let (content_type, body) = error_body(http, reason, &mut text);
        let answer =
            Answer { status: reason.status(), content_type, body, location: None, reason: Some(reason), retry_after };
        self.write_answer(io, conn, http, None, &answer, version, keep, is_head)
    }

    /// Writes the 503 of a connection beyond the limit, before any request was read.
    pub(crate) fn write_too_many<I: Io>(&mut self, io: &mut I, conn: ConnId) {
        let reason = Reason::TooManyConnections;
        self.stats.reasons.inc(reason);
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        let status = reason.status();
        write::status_line(&mut out, status, write::reason_phrase(status).as_bytes());
        write::field(&mut out, "Date", &self.date.text(io.wall()));
        let _ = write!(
            out,
            "Retry-After: {RETRY_AFTER_SECS}\r\nweir-reason: {reason}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let _ = io.send(conn, &mut [Piece::Lent(&out)]);
        self.scratch = out;
    }

    #[allow(clippy::too_many_arguments, reason = "each is a fact of the answer")]
    fn write_answer<I: Io>(
        &mut self,
        io: &mut I,
        conn: ConnId,
        http: &HttpListener,
        rule: Option<&Rule>,
        answer: &Answer<'_>,
        version: Version,
        keep: bool,
        is_head: bool,
    ) -> u64 {
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        write::status_line(&mut out, answer.status, write::reason_phrase(answer.status).as_bytes());
        write::field(&mut out, "Date", &self.date.text(io.wall()));
        if let Some(location) = answer.location {
            write::field(&mut out, "Location", location);
        }
        if !answer.body.is_empty() {
            write::field(&mut out, "Content-Type", answer.content_type.as_bytes());
        }
        if !matches!(answer.status, 204 | 304) {
            write::content_length(&mut out, answer.body.len() as u64);
        }
        if let Some(reason) = answer.reason {
            if matches!(answer.status, 429 | 503) {
                let _ = write!(out, "Retry-After: {}\r\n", answer.retry_after);
            }
            if http.plan.reason_header && answer.status >= 500 {
                write::field(&mut out, "weir-reason", reason.as_str().as_bytes());
            }
        }
        if let Some(rule) = rule {
            for (name, value) in rule.response_headers.set.iter().chain(&rule.response_headers.add) {
                write::field(&mut out, name.as_bytes(), value.as_bytes());
            }
        }
        match (version, keep) {
            (Version::Http11, true) => {}
            (Version::Http10, true) => write::field(&mut out, "Connection", b"keep-alive"),
            (_, false) => write::field(&mut out, "Connection", b"close"),
        }
        write::end_head(&mut out);
        if !is_head && !matches!(answer.status, 204 | 304) {
            out.extend_from_slice(answer.body);
        }
        let bytes = out.len() as u64;
        // A client that no longer takes it is closed by the caller, or by the reset that follows.
        let _ = io.send(conn, &mut [Piece::Lent(&out)]);
        self.scratch = out;
        bytes
    }

    #[allow(clippy::too_many_arguments, reason = "each is a fact of the record")]
    fn report_answer<I: Io>(
        &mut self,
        io: &I,
        conn: ConnId,
        head: Option<&RequestHead<'_, '_>>,
        http: &HttpListener,
        rule: Option<&Rule>,
        status: u16,
        reason: Option<Reason>,
        times: &PhaseTimes,
        sent: u64,
    ) {
        let client = self.conns.client(conn);
        let (peer, listener) = client.map_or((None, 0), |client| (client.peer, client.listener));
        let config = &self.view.snapshot.config;
        let peer_ip = peer.map(|peer| peer.ip().to_canonical());
        let mut fields = self.log_fields.pop().unwrap_or_default();
        fields.capture_answered(
            head,
            head.map_or(peer_ip, |head| client_ip(head, peer_ip, is_trusted(peer_ip, http), http)),
        );
        let origin = if reason.is_some_and(|reason| reason.status() < 500) { Origin::Downstream } else { Origin::Weir };
        let record = Record {
            start: io.wall(),
            times,
            peer,
            client: fields.client(),
            listener: config.listeners.get(listener as usize).map_or("", |listener| &listener.name),
            method: fields.method(),
            target: fields.target(),
            host: fields.host(),
            protocol: match head.map(|head| head.version) {
                Some(Version::Http10) => Protocol::Http10,
                _ => Protocol::Http11,
            },
            status,
            bytes_in: head.map_or(0, |head| head.len as u64),
            bytes_out: sent,
            route: rule.map(|rule| &*rule.name),
            cluster: None,
            endpoint: None,
            attempts: 0,
            end: reason.map_or(EndCode::COMPLETE, |reason| {
                EndCode::by(origin, if reason == Reason::NoRoute { Phase::Route } else { Phase::Head })
            }),
            reason,
            request_id: b"",
            user_agent: fields.user_agent(),
            referer: fields.referer(),
        };
        self.stats.record(&record.ended());
        if let Some(log) = &mut self.access_log {
            log.log(&record);
        }
        self.log_fields.push(fields);
    }
}

/// The body of an error: the configured page, or one line of text.
fn error_body<'a>(http: &'a HttpListener, reason: Reason, text: &'a mut String) -> (&'a str, &'a [u8]) {
    if let Some(page) = http.plan.error_pages.get(&reason.status()) {
        return (&page.content_type, &page.body);
    }
    let status = reason.status();
    let _ = writeln!(text, "{status} {} ({reason})", write::reason_phrase(status));
    ("text/plain; charset=utf-8", text.as_bytes())
}

fn location_of(redirect: &Redirect, rule: &Rule, head: &RequestHead<'_, '_>, path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    let from = RedirectFrom { scheme: "http", host: head.host, path, query: head.target.query };
    redirect_location(rule, redirect, &from, &mut out);
    out
}
