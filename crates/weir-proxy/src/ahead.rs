//! Looking ahead. With thousands of connections, what a worker knows of each has left the nearest caches when its event
//! comes, and the steps of a request would wait for one line of memory after the other. So the worker reads a little of
//! everything that a group of events needs, in passes whose reads do not depend on each other: the processor fetches
//! those at the same time.

use std::hint::black_box;

use weir_net::{ConnId, Io};

use crate::exchange::{Exchange, ExchangeId, State};
use crate::worker::Worker;

impl Worker {
    /// Fetches what is known of `conns`, of their requests, and of the clients of these.
    pub(crate) fn look_ahead<I: Io>(&self, io: &I, conns: &[ConnId]) {
        let mut seen = 0;
        for &conn in conns {
            seen ^= self.conns.glance(conn) ^ io.unsent(conn);
        }
        // What a pass reads depends on the pass before: a guess at a branch between them would stop the reads.
        black_box(seen);
        let mut requests = 0;
        for &conn in conns {
            if let Some(exchange) = self.serving(conn) {
                seen ^= touch(exchange);
            } else {
                seen ^= self.buffers.glance(requests) ^ usize::from(self.exchanges.glance_free(requests));
                requests += 1;
            }
        }
        black_box(seen);
        for &conn in conns {
            if let Some(exchange) = self.serving(conn)
                && exchange.client != conn
            {
                seen ^= self.conns.glance(exchange.client) ^ io.unsent(exchange.client);
            }
        }
        black_box(seen);
    }

    fn serving(&self, conn: ConnId) -> Option<&Exchange> {
        let ExchangeId(index) = self.conns.exchange(conn)?;
        self.exchanges.get(index)
    }
}

/// Reads something in each 64 bytes of an exchange.
fn touch(exchange: &Exchange) -> usize {
    usize::from(matches!(exchange.state, State::Awaiting))
        ^ exchange.outbox.len()
        ^ exchange.head_len
        ^ exchange.sent_at.as_nanos() as usize
        ^ exchange.upstream.map_or(0, |upstream| upstream.index as usize)
        ^ exchange.serial as usize
        ^ usize::from(exchange.cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn each_line_of_an_exchange_is_read() {
        let mut offsets = [
            offset_of!(Exchange, state),
            offset_of!(Exchange, outbox),
            offset_of!(Exchange, head_len),
            offset_of!(Exchange, sent_at),
            offset_of!(Exchange, upstream),
            offset_of!(Exchange, serial),
            offset_of!(Exchange, cut),
        ];
        offsets.sort_unstable();
        // Wherever lines of 64 bytes begin in it.
        let size = size_of::<Exchange>();
        assert!(offsets[0] < 64 && offsets[6] + 64 > size, "{offsets:?} of {size}");
        assert!(offsets.windows(2).all(|pair| pair[1] - pair[0] <= 64), "{offsets:?}");
    }
}
