//! What this worker knows of each of its connections, in a `Vec` parallel to the engine's slab.
//!
//! An idle client costs one entry here and nothing else.

use std::net::SocketAddr;

use weir_core::Instant;
use weir_net::ConnId;
use weir_pool_core::SlotId;

use crate::exchange::ExchangeId;
use crate::tcp::SessionId;
use crate::view::LocalEndpoint;

/// A client's connection on an HTTP listener.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) listener: u32,
    pub(crate) peer: Option<SocketAddr>,
    /// The request being served.
    pub(crate) exchange: Option<ExchangeId>,
    /// A partial head, or what the client sent ahead (pipelining).
    pub(crate) stash: Vec<u8>,
    /// When the first byte of the head in `stash` arrived.
    pub(crate) head_started: Option<Instant>,
    /// Requests begun on this connection.
    pub(crate) requests: u32,
    /// The client has sent FIN.
    pub(crate) half_closed: bool,
    /// Reading is paused because enough is stashed.
    pub(crate) paused: bool,
    /// Already in the list of clients that go on with their stash after this event.
    pub(crate) scheduled: bool,
}

/// A connection to an endpoint.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) endpoint: LocalEndpoint,
    pub(crate) slot: SlotId,
    /// The exchange that uses it; `None` while idle (or being opened ahead of demand).
    pub(crate) exchange: Option<ExchangeId>,
    /// Opened ahead of demand.
    pub(crate) warm: bool,
    /// A partial response head, chunk line or trailer section.
    pub(crate) stash: Vec<u8>,
    pub(crate) connecting_since: Instant,
}

/// What a connection is for.
#[derive(Debug)]
pub(crate) enum Role {
    Free,
    Client(Client),
    Upstream(Upstream),
    /// One side of a TCP session.
    Tcp {
        session: SessionId,
        client_side: bool,
    },
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    role: Role,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Conns {
    entries: Vec<Entry>,
}

impl Conns {
    /// Enters a new connection.
    pub(crate) fn put(&mut self, id: ConnId, role: Role) {
        let index = id.index as usize;
        if index >= self.entries.len() {
            self.entries.resize_with(index + 1, || Entry { generation: 0, role: Role::Free });
        }
        self.entries[index] = Entry { generation: id.generation, role };
    }

    /// The exchange that a connection serves, without asking whose connection it is.
    pub(crate) fn exchange(&self, id: ConnId) -> Option<ExchangeId> {
        match &self.entries.get(id.index as usize)?.role {
            Role::Client(client) => client.exchange,
            Role::Upstream(upstream) => upstream.exchange,
            Role::Free | Role::Tcp { .. } => None,
        }
    }

    /// A number from the entry of a connection: to have read it.
    pub(crate) fn glance(&self, id: ConnId) -> usize {
        self.entries.get(id.index as usize).map_or(0, |entry| entry.generation as usize)
    }

    /// What the connection is for; `Free` for stale tokens is never returned as live.
    pub(crate) fn role(&mut self, id: ConnId) -> Option<&mut Role> {
        let entry = self.entries.get_mut(id.index as usize)?;
        (entry.generation == id.generation && !matches!(entry.role, Role::Free)).then_some(&mut entry.role)
    }

    /// The client behind `id`, if it is one.
    pub(crate) fn client(&mut self, id: ConnId) -> Option<&mut Client> {
        match self.role(id) {
            Some(Role::Client(client)) => Some(client),
            _ => None,
        }
    }

    /// The upstream connection behind `id`, if it is one.
    pub(crate) fn upstream(&mut self, id: ConnId) -> Option<&mut Upstream> {
        match self.role(id) {
            Some(Role::Upstream(upstream)) => Some(upstream),
            _ => None,
        }
    }

    /// Forgets a connection and returns what it was.
    pub(crate) fn take(&mut self, id: ConnId) -> Option<Role> {
        let entry = self.entries.get_mut(id.index as usize)?;
        if entry.generation != id.generation || matches!(entry.role, Role::Free) {
            return None;
        }
        Some(std::mem::replace(&mut entry.role, Role::Free))
    }

    /// Every connection to an endpoint.
    pub(crate) fn upstreams(&self) -> impl Iterator<Item = ConnId> {
        self.entries.iter().enumerate().filter_map(|(index, entry)| match &entry.role {
            Role::Upstream(_) => Some(ConnId { index: index as u32, generation: entry.generation }),
            _ => None,
        })
    }

    /// Every client connection.
    pub(crate) fn clients(&self) -> impl Iterator<Item = (ConnId, &Client)> {
        self.entries.iter().enumerate().filter_map(|(index, entry)| match &entry.role {
            Role::Client(client) => Some((ConnId { index: index as u32, generation: entry.generation }, client)),
            _ => None,
        })
    }
}
