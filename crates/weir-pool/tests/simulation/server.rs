//! The server, and the manager of its connections: both are allowed everything.

use std::cell::RefCell;
use std::fmt;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::task::{Wake, Waker};
use std::time::Duration;

use weir_pool::{Manager, Pool, Release};

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Lets time pass on the paused clock.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await; // tidy: allow(sleep) virtual time: nothing waits for a machine
}

const ON_PURPOSE: &str = "on purpose";

/// The panics of the world belong to it; all others are shown.
pub(crate) fn hide_panics_on_purpose() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() != Some(&ON_PURPOSE) {
                before(info);
            }
        }));
    });
}

pub(crate) fn panic_on_purpose() {
    std::panic::panic_any(ON_PURPOSE);
}

/// Numbers that depend on the seed only.
pub(crate) struct Dice(AtomicU64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed.wrapping_mul(0x1000_0000_01B3)))
    }

    /// `splitmix64`.
    pub(crate) fn draw(&self, below: u64) -> u64 {
        let mut x = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ (x >> 31)) % below
    }

    pub(crate) fn one_in(&self, n: u64) -> bool {
        self.draw(n) == 0
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Mood {
    #[default]
    Quick,
    Slow,
    Refusing,
    Hanging,
}

/// What the server sees, and what it is like.
#[derive(Default, Debug)]
pub(crate) struct Sight {
    pub(crate) mood: Mood,
    /// Connections and connects in flight, without those that users keep for themselves.
    pub(crate) open: u32,
    /// So many there may be now.
    pub(crate) allowed: u32,
    pub(crate) connects: u64,
    /// Connections of before are dead.
    pub(crate) generation: u32,
}

pub(crate) struct Server {
    pub(crate) dice: Dice,
    sight: Mutex<Sight>,
    /// Hooks behave themselves: the world comes to its end.
    pub(crate) calm: AtomicBool,
    pub(crate) pool: Mutex<Option<Pool<Client>>>,
    /// Those in line, by the order in which they came.
    line: Mutex<Vec<Stands>>,
}

impl Server {
    pub(crate) fn new(seed: u64, allowed: u32) -> Self {
        Self {
            dice: Dice::new(seed),
            sight: Mutex::new(Sight { allowed, ..Sight::default() }),
            calm: AtomicBool::new(false),
            pool: Mutex::new(None),
            line: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn sight(&self) -> MutexGuard<'_, Sight> {
        self.sight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn line(&self) -> MutexGuard<'_, Vec<Stands>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn one_in(&self, n: u64) -> bool {
        !self.calm.load(Ordering::SeqCst) && self.dice.one_in(n)
    }

    /// What any hook may do instead of its work.
    async fn mischief(&self) -> Result<(), Failure> {
        if self.one_in(300) {
            panic_on_purpose();
        }
        if self.one_in(200) {
            pending::<()>().await;
        }
        if self.one_in(100) {
            return Err(Failure);
        }
        Ok(())
    }
}

/// A place at the server, from the beginning of the connect to the end of the connection.
struct Place(Option<Arc<Server>>);

impl Place {
    fn new(server: &Arc<Server>) -> Self {
        let mut sight = server.sight();
        sight.open += 1;
        sight.connects += 1;
        let (open, allowed) = (sight.open, sight.allowed);
        drop(sight);
        assert!(open <= allowed, "{open} connections where {allowed} are allowed");
        Self(Some(Arc::clone(server)))
    }

    fn leave(&mut self) {
        if let Some(server) = self.0.take() {
            server.sight().open -= 1;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

pub(crate) struct Conn {
    place: Place,
    generation: u32,
    /// It dies after so many uses.
    uses_left: u64,
    pub(crate) held: bool,
    pub(crate) dirty: bool,
    /// A hook was begun and has not ended well: nobody knows its state.
    unsure: bool,
}

impl Conn {
    /// A user keeps it.
    pub(crate) fn keep(mut self) {
        self.place.leave();
    }

    fn is_dead(&self) -> bool {
        let generation = self.place.0.as_ref().map_or(0, |server| server.sight().generation);
        self.generation != generation || self.uses_left == 0
    }

    /// Takes it into a hand.
    pub(crate) fn take(&mut self) {
        assert!(!self.unsure, "lent in the middle of something");
        assert!(!std::mem::replace(&mut self.held, true), "in two hands");
        self.uses_left = self.uses_left.saturating_sub(1);
    }
}

#[derive(Debug)]
pub(crate) struct Failure;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Failure {}

/// One in line.
#[derive(Debug)]
pub(crate) struct Stands {
    pub(crate) number: u64,
    woken: bool,
    /// Who stood before it when it was woken.
    overtakes: Option<u64>,
}

impl Stands {
    pub(crate) fn new(number: u64) -> Self {
        Self { number, woken: false, overtakes: None }
    }
}

/// One who asks for a connection, known to the hooks while it is polled; also its waker.
pub(crate) struct Asking {
    pub(crate) number: u64,
    /// It is woken by the pool only: not by a timer of its own.
    pub(crate) patient: bool,
    pub(crate) served: AtomicBool,
    pub(crate) server: Arc<Server>,
    pub(crate) task: Mutex<Waker>,
}

impl Wake for Asking {
    fn wake(self: Arc<Self>) {
        let mut line = self.server.line();
        if let Some(at) = line.iter().position(|one| one.number == self.number && !one.woken) {
            line[at].woken = true;
            line[at].overtakes = line[..at].iter().find(|one| !one.woken).map(|one| one.number);
        }
        drop(line);
        self.task.lock().unwrap().wake_by_ref();
    }
}

thread_local! {
    pub(crate) static ASKING: RefCell<Option<Arc<Asking>>> = const { RefCell::new(None) };
}

pub(crate) struct Client(pub(crate) Arc<Server>);

impl Client {
    /// The first hook that is called for one who has got a connection: it was its turn.
    fn served(&self) {
        let Some(asking) = ASKING.with_borrow(Option::clone) else { return };
        if asking.served.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut line = self.0.line();
        if let Some(at) = line.iter().position(|one| one.number == asking.number) {
            let one = line.remove(at);
            assert!(!asking.patient || one.overtakes.is_none(), "{one:?} in {line:?}");
            return;
        }
        drop(line);
        // It did not wait, so nobody did.
        let pool = self.0.pool.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let pending = pool.map_or(0, |pool| pool.snapshot().pending);
        assert_eq!(pending, 0, "served at once while {pending} wait");
    }
}

impl Manager for Client {
    type Connection = Conn;
    type Error = Failure;

    async fn connect(&self) -> Result<Conn, Failure> {
        let server = &self.0;
        let place = Place::new(server);
        let mood = server.sight().mood;
        match mood {
            Mood::Quick => pass(ms(server.dice.draw(6))).await,
            Mood::Slow => pass(ms(50 + server.dice.draw(350))).await,
            Mood::Refusing => {
                pass(ms(server.dice.draw(3))).await;
                return Err(Failure);
            }
            Mood::Hanging => pending().await,
        }
        server.mischief().await?;
        let generation = server.sight().generation;
        let uses_left = if server.one_in(4) { server.dice.draw(30) } else { u64::MAX };
        Ok(Conn { place, generation, uses_left, held: false, dirty: false, unsure: false })
    }

    async fn check(&self, conn: &mut Conn) -> Result<(), Failure> {
        assert!(!conn.held, "looked at in use");
        conn.unsure = true;
        pass(ms(self.0.dice.draw(3))).await;
        self.0.mischief().await?;
        conn.unsure = false;
        if conn.is_dead() { Err(Failure) } else { Ok(()) }
    }

    fn is_broken(&self, conn: &mut Conn) -> bool {
        self.served();
        if self.0.one_in(500) {
            panic_on_purpose();
        }
        conn.is_dead() && !self.0.one_in(2)
    }

    async fn on_acquire(&self, conn: &mut Conn) -> Result<(), Failure> {
        assert!(!conn.held, "prepared in use");
        conn.unsure = true;
        if self.0.one_in(30) {
            pass(ms(self.0.dice.draw(4))).await;
        }
        self.0.mischief().await?;
        conn.unsure = false;
        Ok(())
    }

    fn on_release(&self, conn: &mut Conn) -> Release {
        if self.0.one_in(300) {
            panic_on_purpose();
        }
        match (conn.dirty, self.0.one_in(50)) {
            (_, true) => Release::Close,
            (true, _) => Release::Reset,
            (false, _) => Release::Keep,
        }
    }

    async fn reset(&self, conn: &mut Conn) -> Result<(), Failure> {
        assert!(!conn.held, "reset in use");
        conn.dirty = false;
        conn.unsure = true;
        self.0.mischief().await?;
        conn.unsure = false;
        Ok(())
    }

    async fn close(&self, conn: Conn) {
        assert!(!conn.held, "closed in use");
        pass(ms(self.0.dice.draw(10))).await;
        let _ = self.0.mischief().await;
        drop(conn);
    }
}
