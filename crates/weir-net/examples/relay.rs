//! A blind relay on one worker: each client is paired with a connection of its own to one address.
//!
//! `relay LISTEN TARGET [pump]` — with `pump`, the kernel moves the bytes. Used to measure the engine.
#![allow(clippy::print_stderr, reason = "a command line program")]

use std::net::SocketAddr;
use std::time::Duration;

use weir_core::Address;
use weir_net::epoll::{EpollIo, Worker, WorkerConfig};
use weir_net::{
    Close, ConnId, ConnectOptions, Io, IoFault, ListenOptions, ListenerId, Piece, Protocol, PumpEnd, Sent,
    bind_listener,
};

struct Relay {
    target: Address,
    pump: bool,
    /// By slot: the other side.
    partners: Vec<Option<ConnId>>,
}

impl Relay {
    fn set(&mut self, conn: ConnId, partner: Option<ConnId>) {
        let index = conn.index as usize;
        if self.partners.len() <= index {
            self.partners.resize(index + 1, None);
        }
        self.partners[index] = partner;
    }

    fn partner(&self, conn: ConnId) -> Option<ConnId> {
        self.partners.get(conn.index as usize).copied().flatten()
    }

    fn end(&mut self, io: &mut EpollIo, conn: ConnId, how: Close) {
        if let Some(partner) = self.partner(conn) {
            self.set(partner, None);
            io.close(partner, how);
        }
        self.set(conn, None);
        io.close(conn, how);
    }
}

impl Protocol<EpollIo> for Relay {
    type Message = ();

    fn on_accepted(&mut self, io: &mut EpollIo, conn: ConnId, _: ListenerId, _: Option<SocketAddr>) {
        io.pause(conn);
        let out = io.connect(&self.target, &ConnectOptions { timeout: Duration::from_secs(5) });
        self.set(conn, Some(out));
        self.set(out, Some(conn));
    }

    fn on_connected(&mut self, io: &mut EpollIo, conn: ConnId, result: Result<(), IoFault>) {
        let Some(client) = self.partner(conn) else {
            return;
        };
        if result.is_err() {
            self.end(io, client, Close::Reset);
        } else if self.pump {
            io.pump(client, conn, None);
            io.pump(conn, client, None);
        } else {
            io.resume(client);
        }
    }

    fn on_data(&mut self, io: &mut EpollIo, conn: ConnId, data: &[u8]) {
        let Some(partner) = self.partner(conn) else {
            return;
        };
        match io.send(partner, &mut [Piece::Lent(data)]) {
            Sent::All => {}
            Sent::Stuck => io.pause(conn),
            Sent::Failed { .. } => self.end(io, conn, Close::Reset),
        }
    }

    fn on_eof(&mut self, io: &mut EpollIo, conn: ConnId) {
        if let Some(partner) = self.partner(conn) {
            io.shutdown_write(partner);
        }
    }

    fn on_drained(&mut self, io: &mut EpollIo, conn: ConnId) {
        if let Some(partner) = self.partner(conn) {
            io.resume(partner);
        }
    }

    fn on_pumped(&mut self, io: &mut EpollIo, from: ConnId, _: u64, end: PumpEnd) {
        match (end, self.partner(from)) {
            (PumpEnd::Eof, Some(partner)) => io.shutdown_write(partner),
            _ => self.end(io, from, Close::Reset),
        }
    }

    fn on_reset(&mut self, io: &mut EpollIo, conn: ConnId, _: IoFault) {
        self.end(io, conn, Close::Reset);
    }

    fn on_deadline(&mut self, _: &mut EpollIo, _: ConnId) {}
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, listen, target, rest @ ..] = arguments.as_slice() else {
        return Err("usage: relay LISTEN TARGET [pump]".into());
    };
    let address = |text: &str| Address::parse(text).map_err(|error| format!("{text}: {error}"));
    weir_net::raise_nofile();
    let options = ListenOptions { backlog: None, ipv6_only: true, unix_mode: 0o660 };
    let bound = bind_listener(&address(listen)?, 1, &options)?;
    let mut worker = Worker::new(&WorkerConfig { mailbox_len_max: 1, connections_max: 100_000 })?;
    for fd in bound.sockets {
        worker.add_listener(ListenerId(0), fd)?;
    }
    eprintln!("relaying {} to {target}", bound.address);
    let pump = rest.first().is_some_and(|word| word == "pump");
    worker.run(&mut Relay { target: address(target)?, pump, partners: Vec::new() })?;
    Ok(())
}
