//! A protocol with messages of its own in a world whose nodes all take the same (empty) message.
//!
//! Workers, the keeper, clients and origins share one [`World`](weir_net::mem::World) but not one type of message. Each
//! has its own mailbox here, and the world's message only says "look into it".

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use weir_net::mem::{MemIo, NodeId, World};
use weir_net::{ConnId, IoFault, ListenerId, Mailbox, Protocol, PumpEnd, Sender, Wake};

/// Undelivered messages of one node: as many as a real worker's.
const MAILBOX_MAX: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Hosted<P, M> {
    pub(crate) inner: P,
    mailbox: Mailbox<M>,
    taken: Vec<M>,
}

/// Rings the world's bell for a node.
struct Bell(Arc<OnceLock<Sender<()>>>);

impl Wake for Bell {
    fn wake(&self) {
        if let Some(node) = self.0.get() {
            // A dead node needs no waking; a full mailbox is awake.
            let _ = node.post(());
        }
    }
}

/// Adds a node that runs `protocol`; gives the way to send messages to it.
pub(crate) fn host<P, M>(world: &mut World<()>, protocol: P) -> (NodeId, Sender<M>)
where
    M: Send + 'static,
    P: Protocol<MemIo, Message = M> + 'static,
{
    host_with(world, protocol, |_| {})
}

/// [`host`] that tells `before` how to reach the node before it starts.
pub(crate) fn host_with<P, M>(world: &mut World<()>, protocol: P, before: impl FnOnce(Sender<M>)) -> (NodeId, Sender<M>)
where
    M: Send + 'static,
    P: Protocol<MemIo, Message = M> + 'static,
{
    let bell = Arc::new(OnceLock::new());
    let mailbox = Mailbox::new(MAILBOX_MAX, Box::new(Bell(Arc::clone(&bell))));
    let sender = mailbox.sender();
    before(mailbox.sender());
    let node = world.add_node(Hosted { inner: protocol, mailbox, taken: Vec::new() });
    let _ = bell.set(world.sender(node));
    (node, sender)
}

/// Starts a dead node again.
pub(crate) fn restart<P>(world: &mut World<()>, node: NodeId, protocol: P)
where
    P: Protocol<MemIo, Message = ()> + 'static,
{
    let mailbox = Mailbox::new(MAILBOX_MAX, Box::new(Bell(Arc::default())));
    world.restart(node, Hosted { inner: protocol, mailbox, taken: Vec::new() });
}

impl<M, P> Protocol<MemIo> for Hosted<P, M>
where
    M: Send + 'static,
    P: Protocol<MemIo, Message = M>,
{
    type Message = ();

    fn on_start(&mut self, io: &mut MemIo) {
        self.inner.on_start(io);
    }

    fn on_accepted(&mut self, io: &mut MemIo, conn: ConnId, listener: ListenerId, peer: Option<SocketAddr>) {
        self.inner.on_accepted(io, conn, listener, peer);
    }

    fn on_connected(&mut self, io: &mut MemIo, conn: ConnId, result: Result<(), IoFault>) {
        self.inner.on_connected(io, conn, result);
    }

    fn on_data(&mut self, io: &mut MemIo, conn: ConnId, data: &[u8]) {
        self.inner.on_data(io, conn, data);
    }

    fn on_eof(&mut self, io: &mut MemIo, conn: ConnId) {
        self.inner.on_eof(io, conn);
    }

    fn on_drained(&mut self, io: &mut MemIo, conn: ConnId) {
        self.inner.on_drained(io, conn);
    }

    fn on_pumped(&mut self, io: &mut MemIo, from: ConnId, moved: u64, end: PumpEnd) {
        self.inner.on_pumped(io, from, moved, end);
    }

    fn on_reset(&mut self, io: &mut MemIo, conn: ConnId, fault: IoFault) {
        self.inner.on_reset(io, conn, fault);
    }

    fn on_deadline(&mut self, io: &mut MemIo, conn: ConnId) {
        self.inner.on_deadline(io, conn);
    }

    fn on_timer(&mut self, io: &mut MemIo, key: u32) {
        self.inner.on_timer(io, key);
    }

    fn on_message(&mut self, io: &mut MemIo, (): ()) {
        self.mailbox.take_all(&mut self.taken);
        for message in self.taken.drain(..) {
            self.inner.on_message(io, message);
        }
    }

    fn on_batch(&mut self, io: &mut MemIo) {
        self.inner.on_batch(io);
    }
}
