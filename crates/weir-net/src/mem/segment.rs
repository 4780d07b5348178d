//! Bytes under way: written by one end, cut, delayed, held by partitions, received by the other.

use std::time::Duration;

use super::config::{LATENCY_MIN, draw_time};
use super::fault::Parties;
use super::net::{Event, MemIo};
use super::pair::{End, EndKey, Owner, Segment};
use crate::IoFault;

impl MemIo {
    /// Sends a segment to `to` from its peer.
    pub(super) fn put(&mut self, to: EndKey, segment: Segment) {
        let Some(pair) = self.pairs.get(to) else {
            return;
        };
        let [client, server] = [pair.ends[0].node, pair.ends[1].node];
        let (mut delay, mut rate) = match self.links.get(&(client.min(server), client.max(server))) {
            Some(link) => (draw_time(&mut self.rng, &link.latency), link.bytes_per_second),
            None => (draw_time(&mut self.rng, &self.config.latency), self.config.bytes_per_second),
        };
        if !self.rules.is_empty() {
            let parties = Parties { client, server: Some(server), address: &pair.address };
            let (extra, limit) = self.rules.segment(&mut self.rng, self.now, parties);
            delay = delay.saturating_add(extra);
            rate = [rate, limit].into_iter().flatten().min();
        }
        let Some(end) = self.pairs.end_mut(to) else {
            return;
        };
        let len = match &segment {
            Segment::Data(bytes) => bytes.len(),
            Segment::Fin | Segment::Rst => 0,
        };
        let mut at = (self.now + delay.max(LATENCY_MIN)).max(end.last_arrival);
        if let Some(rate) = rate {
            at = at + Duration::from_nanos((len as u64).saturating_mul(1_000_000_000) / rate.max(1));
        }
        end.last_arrival = at;
        end.used += len;
        end.in_flight.push_back((at, segment));
        if !end.arrival_scheduled {
            end.arrival_scheduled = true;
            self.schedule(at, Event::Arrive(to));
        }
    }

    pub(super) fn arrive(&mut self, to: EndKey) {
        let parted = self.is_parted(to);
        let now = self.now;
        let Some(end) = self.pairs.end_mut(to) else {
            return;
        };
        end.arrival_scheduled = false;
        if parted {
            return self.hold(to);
        }
        end.held_since = None;
        loop {
            let Some(end) = self.pairs.end_mut(to) else {
                return;
            };
            match end.in_flight.front() {
                Some((at, _)) if *at <= now => {}
                Some((at, _)) => {
                    let at = *at;
                    if !std::mem::replace(&mut end.arrival_scheduled, true) {
                        self.schedule(at, Event::Arrive(to));
                    }
                    return;
                }
                None => return,
            }
            match end.in_flight.pop_front() {
                Some((_, Segment::Data(bytes))) => self.receive(to, &bytes),
                Some((_, Segment::Fin)) => {
                    end.fin_received = true;
                    self.linger(to);
                    self.ready(to);
                }
                Some((_, Segment::Rst)) => self.break_end(to, IoFault::Reset),
                None => return,
            }
        }
    }

    /// What is in flight meets a partition: it is sent again later, but for resets.
    fn hold(&mut self, to: EndKey) {
        let (now, retry_after, give_up_after) = (self.now, self.config.retry_after, self.config.give_up_after);
        let Some(end) = self.pairs.end_mut(to) else {
            return;
        };
        end.in_flight.retain(|(_, segment)| !matches!(segment, Segment::Rst));
        if end.in_flight.is_empty() {
            return;
        }
        let since = *end.held_since.get_or_insert(now);
        if now.since(since) < give_up_after {
            end.arrival_scheduled = true;
            self.schedule_after(retry_after, Event::Arrive(to));
            return;
        }
        end.in_flight.clear();
        end.used = end.received.len();
        self.break_end(to.peer(), IoFault::TimedOut);
    }

    fn receive(&mut self, to: EndKey, bytes: &[u8]) {
        let Some(pair) = self.pairs.get_mut(to) else {
            return;
        };
        let mut keep = bytes.len();
        let mut is_last = false;
        if let Some(left) = &mut pair.bytes_left {
            keep = keep.min(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= keep as u64;
            is_last = *left == 0;
        }
        let Some(end) = self.pairs.end_mut(to) else {
            return;
        };
        match end.owner {
            Owner::Gone | Owner::Nobody => {
                // RFC 9293 section 3.10.7.1: data for a closed connection is answered with a reset.
                end.used -= bytes.len();
                self.put(to.peer(), Segment::Rst);
            }
            Owner::Lingering(..) => {
                end.used -= bytes.len();
                self.unblock(to.peer());
            }
            _ if end.broken.is_some() || end.write_dead.is_some() => end.used -= bytes.len(),
            _ => {
                end.received.extend(&bytes[..keep]);
                end.used -= bytes.len() - keep;
                self.ready(to);
            }
        }
        if is_last {
            self.break_pair(to);
        }
    }

    /// How many of `wanted` bytes the kernel takes now; if not all, the writer is told when to go on.
    pub(super) fn admit(&mut self, from: EndKey, wanted: usize) -> usize {
        let room = self.pairs.end(from.peer()).map_or(0, End::room);
        let fits = wanted.min(room);
        let mut taken = fits;
        if fits > 1 && self.rng.below(1_000) < u64::from(self.config.short_write_permille) {
            taken = 1 + self.rng.below(fits as u64) as usize;
        }
        if taken < wanted
            && let Some(end) = self.pairs.end_mut(from)
        {
            end.write_blocked = true;
            if taken < fits {
                self.schedule_after(LATENCY_MIN, Event::Writable(from));
            }
        }
        taken
    }

    /// Sends bytes that were admitted.
    pub(super) fn transmit(&mut self, from: EndKey, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(self.config.pieces.cut(&mut self.rng, bytes.len()));
            self.put(from.peer(), Segment::Data(piece.to_vec()));
            bytes = rest;
        }
    }

    pub(super) fn send_fin(&mut self, from: EndKey) {
        if let Some(end) = self.pairs.end_mut(from)
            && !end.fin_sent
            && end.broken.is_none()
        {
            end.fin_sent = true;
            self.put(from.peer(), Segment::Fin);
        }
    }

    /// Writes stuck bytes as far as there is room.
    pub(super) fn flush(&mut self, from: EndKey) {
        let Some(end) = self.pairs.end(from) else {
            return;
        };
        let taken = self.admit(from, end.stuck.len());
        let Some(end) = self.pairs.end_mut(from) else {
            return;
        };
        let bytes: Vec<u8> = end.stuck.drain(..taken).collect();
        self.transmit(from, &bytes);
    }

    /// The reader has made room: tells a writer that waits for it.
    pub(super) fn unblock(&mut self, writer: EndKey) {
        let Some(reader) = self.pairs.end(writer.peer()) else {
            return;
        };
        // Room for a few bytes is not worth a wake-up (Linux: a third of the buffer).
        let enough = reader.used <= reader.capacity / 4 * 3;
        if let Some(end) = self.pairs.end_mut(writer)
            && end.write_blocked
            && enough
        {
            end.write_blocked = false;
            let delay = draw_time(&mut self.rng, &self.config.latency).max(LATENCY_MIN);
            self.schedule_after(delay, Event::Writable(writer));
        }
    }

    pub(super) fn writable(&mut self, key: EndKey) {
        if let Some(end) = self.pairs.end_mut(key) {
            end.write_blocked = false;
            end.has_news_for_pumps = true;
            self.linger(key);
            self.ready(key);
        }
    }

    pub(super) fn is_parted(&self, key: EndKey) -> bool {
        if self.rules.is_empty() {
            return false;
        }
        let Some(pair) = self.pairs.get(key) else {
            return false;
        };
        let [client, server] = [&pair.ends[0], &pair.ends[1]];
        if server.owner == Owner::Nobody {
            return false;
        }
        let parties = Parties { client: client.node, server: Some(server.node), address: &pair.address };
        self.rules.parted(self.now, parties)
    }
}
