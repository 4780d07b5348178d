//! The production driver: edge-triggered epoll.
//!
//! A [`Worker`] owns one epoll instance, its connections and its loop; nothing in it is shared with other
//! threads but the mailbox. Per connection there is one `epoll_ctl`; per message one `recv` and one
//! `send`; an idle connection takes 64 bytes. Reads go through one scratch buffer that is lent to the
//! protocol; a read that does not fill it has drained the socket, so that no call is spent on EAGAIN.
//!
//! One wake-up: the clock is read, each event is handled, then the local work (connections that were
//! resumed, or had more input than their fair share), the mailbox, deadlines and timers, and at last
//! `on_batch`. With many connections the protocol sees the events coming in small groups ([`Protocol::upcoming`]). The
//! loop sleeps only when no local work is left, until the next deadline.
//!
//! Each step names its connection by token and looks it up again after every callback, since a
//! callback may close anything.

mod accept;
mod clock;
mod dispatch;
mod fault;
mod io;
mod pump;
mod slab;
mod timers;
mod wheel;
mod write;

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;
use weir_core::Instant;

pub use clock::Clock;
pub use io::EpollIo;

use crate::contract::{ConnId, ListenerId, Protocol};
use crate::mailbox::{Mailbox, Sender, Wake};
use clock::Wall;
use dispatch::Dispatch;
use io::{LISTENER_INDEX, WAKE_INDEX};

/// Bytes read at once, and so the largest `on_data`.
pub const SCRATCH_BYTES: usize = 64 * 1024;
/// Events taken from the kernel at once.
const EVENTS: usize = 256;
/// Events whose connections the protocol may look at together before they are handled.
const AHEAD: usize = 8;
/// With fewer connections than this everything known of them stays in the caches.
const AHEAD_CONNECTIONS: usize = 512;
const NOBODY: ConnId = ConnId { index: WAKE_INDEX, generation: 0 };
/// Rounds of local work at a time. Few, since what a round leaves (a bulk flow) must not keep new events
/// waiting; the loop looks at the kernel without sleeping and comes back.
const WORK_ROUNDS: usize = 2;

/// What a worker is told at its start.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Undelivered messages; a sender gets its message back when the mailbox is full.
    pub mailbox_len_max: usize,
    /// Accepting pauses while this many connections are in use (both directions count).
    pub connections_max: usize,
}

/// One worker: an event loop and everything in it. Runs on the thread that calls [`Worker::run`].
pub struct Worker<M> {
    io: EpollIo,
    mailbox: Mailbox<M>,
    waker: Arc<Bell>,
    scratch: Box<[u8]>,
    work: Vec<ConnId>,
    inbox: Vec<M>,
    due: Vec<u32>,
    started: bool,
}

/// Wakes the loop through an eventfd. It is registered edge-triggered and never read: every write is
/// an edge.
struct Bell(OwnedFd);

impl Wake for Bell {
    fn wake(&self) {
        // Fails only when the counter is full, and then the loop is being woken already.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

struct SharedBell(Arc<Bell>);

impl Wake for SharedBell {
    fn wake(&self) {
        self.0.wake();
    }
}

impl<M: Send + 'static> Worker<M> {
    /// A worker without listeners.
    ///
    /// # Errors
    /// If the kernel gives no descriptors.
    pub fn new(config: &WorkerConfig) -> std::io::Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let bell = eventfd(0, EventfdFlags::NONBLOCK.union(EventfdFlags::CLOEXEC))?;
        let data = epoll::EventData::new_u64(u64::from(WAKE_INDEX));
        epoll::add(&poll, &bell, data, epoll::EventFlags::IN.union(epoll::EventFlags::ET))?;
        let waker = Arc::new(Bell(bell));
        let clock = Clock;
        let now = clock.now();
        let mut wall = Wall::default();
        wall.refresh(clock, now);
        Ok(Self {
            io: EpollIo {
                epoll: poll,
                slab: slab::Slab::default(),
                wheel: wheel::Wheel::new(now),
                timers: timers::Timers::default(),
                work: Vec::new(),
                buffers: write::Buffers::default(),
                pipes: pump::Pipes::default(),
                listeners: accept::Listeners::new(),
                clock,
                now,
                latest: Cell::new(now),
                wall,
                stopping: false,
                connections_max: config.connections_max,
            },
            mailbox: Mailbox::new(config.mailbox_len_max, Box::new(SharedBell(Arc::clone(&waker)))),
            waker,
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            work: Vec::new(),
            inbox: Vec::new(),
            due: Vec::new(),
            started: false,
        })
    }

    /// A way for other threads to send messages to this worker's protocol.
    pub fn sender(&self) -> Sender<M> {
        self.mailbox.sender()
    }

    /// A way to make the loop go round once (`on_batch` is called), for executors and signals.
    pub fn waker(&self) -> Arc<dyn Wake> {
        Arc::clone(&self.waker) as Arc<dyn Wake>
    }

    /// Adds a listening socket. See [`EpollIo::add_listener`].
    ///
    /// # Errors
    /// If the descriptor is not a socket or cannot be registered.
    pub fn add_listener(&mut self, id: ListenerId, fd: OwnedFd) -> std::io::Result<()> {
        self.io.add_listener(id, fd)
    }

    /// What the protocol will see; for preparations before [`Worker::run`].
    pub fn io(&mut self) -> &mut EpollIo {
        &mut self.io
    }

    /// Runs the loop until the protocol calls `stop`; the mailbox is closed then. `on_start` is called the first time.
    ///
    /// # Errors
    /// Only if the kernel refuses to wait on the epoll instance, which nothing in Weir can cause.
    pub fn run<P: Protocol<EpollIo, Message = M>>(&mut self, protocol: &mut P) -> std::io::Result<()> {
        // Not in the struct: the kernel's event type holds a raw pointer, and a worker moves to its thread.
        let mut events = Vec::with_capacity(EVENTS);
        self.tick();
        self.io.stopping = false;
        if !std::mem::replace(&mut self.started, true) {
            protocol.on_start(&mut self.io);
        }
        while !self.io.stopping {
            let timeout = self.timeout();
            events.clear();
            match epoll::wait(&self.io.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            self.tick();
            self.turn(protocol, &events);
        }
        self.deliver_last(protocol);
        Ok(())
    }

    /// What is left in the mailbox when the loop has ended (rule 7 of the contract).
    #[cold]
    fn deliver_last<P: Protocol<EpollIo, Message = M>>(&mut self, protocol: &mut P) {
        let mut rest = Vec::new();
        self.mailbox.close(&mut rest);
        for message in rest {
            protocol.on_message(&mut self.io, message);
        }
    }

    /// Handles one batch of events and everything that follows from it.
    fn turn<P: Protocol<EpollIo, Message = M>>(&mut self, protocol: &mut P, events: &[epoll::Event]) {
        let Self { io, mailbox, scratch, work, inbox, due, .. } = self;
        let mut dispatch = Dispatch { io, protocol, scratch };
        for group in events.chunks(AHEAD) {
            if group.len() > 1 && dispatch.io.slab.len() > AHEAD_CONNECTIONS {
                let mut conns = [NOBODY; AHEAD];
                conns.iter_mut().zip(group).for_each(|(conn, event)| *conn = token(event));
                dispatch.protocol.upcoming(dispatch.io, &conns[..group.len()]);
            }
            for event in group {
                let conn = token(event);
                match conn.index {
                    WAKE_INDEX => {}
                    LISTENER_INDEX => dispatch.accept(conn.generation as usize),
                    _ => dispatch.event(conn, event.flags),
                }
            }
        }
        dispatch.local_work(work);
        mailbox.take_all(inbox);
        for message in inbox.drain(..) {
            dispatch.protocol.on_message(dispatch.io, message);
        }
        dispatch.deadlines(due);
        // What the messages and deadlines resumed goes on within this wake-up.
        dispatch.local_work(work);
        dispatch.protocol.on_batch(dispatch.io);
    }

    fn tick(&mut self) {
        self.io.now = self.io.clock.now();
        self.io.latest.set(self.io.now);
        self.io.wall.refresh(self.io.clock, self.io.now);
    }

    /// How long the loop may sleep: rounded up to whole milliseconds by the kernel interface, so never
    /// too short; `None` for as long as nothing happens.
    fn timeout(&self) -> Option<Timespec> {
        let io = &self.io;
        if !io.work.is_empty() || self.mailbox.is_pending() {
            return Some(Timespec::default());
        }
        let next = io.wheel.next().unwrap_or(Instant::FAR);
        let next = next.min(io.timers.next().unwrap_or(Instant::FAR)).min(io.listeners.retry_at());
        if next == Instant::FAR {
            return None;
        }
        // The last reading, not the start of the batch, which may have taken a while. A day at most, which every
        // kernel accepts.
        let left = (next - io.latest.get()).min(Duration::from_hours(24));
        Timespec::try_from(left).ok()
    }
}

/// What an event is for: a connection, or one of the numbers that no connection has.
fn token(event: &epoll::Event) -> ConnId {
    let data = event.data.u64();
    ConnId { index: data as u32, generation: (data >> 32) as u32 }
}

impl<M> std::fmt::Debug for Worker<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("io", &self.io).finish_non_exhaustive()
    }
}
