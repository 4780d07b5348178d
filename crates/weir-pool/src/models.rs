//! The pool's own code (`Pool`, `Wait`, `Guard`, `Shared`, the housekeeper and the machine under the lock) under loom, in every
//! interleaving with at most [`PREEMPTIONS`] preemptions:
//!
//! ```text
//! RUSTFLAGS="--cfg weir_loom" cargo test -p weir-pool --release --lib models
//! ```
//!
//! Connects, checks and closes end at once and time stands still; so no time-out saves a caller that nobody wakes: loom finds
//! that nobody can go on (`deadlock`). It also finds a pool that is never freed (`leaked`). [`Server`] sees a connection in
//! two hands, and more of them than the maximum.
//!
//! Seen to fail with a fault planted (`idle_connections…` has not been tried alone):
//!
//! | planted | fails |
//! |---|---|
//! | no hand-off: what comes back becomes idle | `a_connection_is_in_one_hand…`, `who_goes_away…`: deadlock |
//! | the waker of a hand-off is dropped | `a_connection_is_in_one_hand…`: deadlock |
//! | the lock is let go between asking and getting in line | `a_connection_is_in_one_hand…`: deadlock |
//! | who leaves keeps what it was given | `who_goes_away…`: deadlock |
//! | the housekeeper is not called | `the_housekeeper_hears…`: deadlock |
//! | closing refuses nobody in line | `who_waits_learns…`: deadlock |
//! | `close` looks before it listens | `who_waits_learns…`: deadlock |
//! | `resume` leaves the pool shut | `who_waits_for_a_suspended…`: deadlock |
//! | the last handle closes nothing | `the_last_handle…`: deadlock |
//! | the end of the housekeeper is told after the idle ones were let go | `the_housekeeper_ends…`: a connection is lost |

mod endpoints;
mod shortcut;

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use loom::future::block_on;
use loom::thread::{JoinHandle, spawn};

use crate::clock::Clock;
use crate::settings::Settings;
use crate::{Builder, Guard, Manager, Pool, Refused};

const PREEMPTIONS: usize = 2;

/// Words of stack of the thread that a model begins on. Loom's own 32 KiB are too few to set up pools over endpoints on, and how
/// much that takes depends on what the compiler inlines.
const STACK_WORDS: usize = 32 * 1_024;

fn model(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    let body = Arc::new(body);
    builder.check(move || {
        let body = Arc::clone(&body);
        let begun = loom::thread::Builder::new().stack_size(STACK_WORDS).spawn(move || body());
        begun.unwrap().join().unwrap();
    });
}

/// What is open. Of the standard library: it is to see what happens, and not to make more of it.
#[derive(Default)]
struct Server {
    open: AtomicU32,
    opened: AtomicU32,
}

struct Conn {
    server: Arc<Server>,
    held: AtomicBool,
}

impl Drop for Conn {
    fn drop(&mut self) {
        assert!(!self.held.load(Ordering::SeqCst), "closed in use");
        self.server.open.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Client(Arc<Server>, u32);

impl Manager for Client {
    type Connection = Conn;
    type Error = Infallible;

    async fn connect(&self) -> Result<Conn, Infallible> {
        self.0.opened.fetch_add(1, Ordering::SeqCst);
        assert!(self.0.open.fetch_add(1, Ordering::SeqCst) < self.1, "more than the maximum");
        Ok(Conn { server: Arc::clone(&self.0), held: AtomicBool::new(false) })
    }

    async fn check(&self, _: &mut Conn) -> Result<(), Infallible> {
        Ok(())
    }
}

/// A pool of `max` connections with its housekeeper on a thread of its own, which ends when the pool is closed and empty.
fn pool(max: u32) -> (Arc<Server>, Pool<Client>, JoinHandle<()>) {
    started(max, settings(max))
}

/// As [`pool`], with all connections opened before they are asked for.
fn warm_pool(max: u32) -> (Arc<Server>, Pool<Client>, JoinHandle<()>) {
    started(max, Settings { min_idle: max, ..settings(max) })
}

fn started(max: u32, settings: Settings) -> (Arc<Server>, Pool<Client>, JoinHandle<()>) {
    let server = Arc::new(Server::default());
    let client = Client(Arc::clone(&server), max);
    let (pool, housekeeper) = Pool::with_housekeeper(client, settings, Clock::new(false), None);
    let housekeeper = spawn(move || block_on(housekeeper));
    (server, pool, housekeeper)
}

/// A pool of one connection, which is lent, and its housekeeper, which runs when it is polled.
fn by_hand() -> (Arc<Server>, Pool<Client>, Pin<Box<dyn Future<Output = ()>>>, Guard<Client>) {
    let server = Arc::new(Server::default());
    let (pool, housekeeper) =
        Pool::with_housekeeper(Client(Arc::clone(&server), 1), settings(1), Clock::new(false), None);
    let mut housekeeper: Pin<Box<dyn Future<Output = ()>>> = Box::pin(housekeeper);
    let mut cx = Context::from_waker(Waker::noop());
    let mut asks = Box::pin(pool.acquire());
    assert!(asks.as_mut().poll(&mut cx).is_pending());
    assert!(housekeeper.as_mut().poll(&mut cx).is_pending());
    let Poll::Ready(Ok(first)) = asks.as_mut().poll(&mut cx) else { panic!("it was opened") };
    drop(asks);
    (server, pool, housekeeper, first)
}

fn settings(max: u32) -> Settings {
    let settings = Builder::new().max_size(max).min_idle(0).idle_timeout(None).max_lifetime(None).keepalive(None);
    settings.validate_after(None).check().unwrap()
}

/// Holds a connection: nobody else does.
fn use_it(guard: &Guard<Client>) {
    assert!(!guard.held.swap(true, Ordering::SeqCst), "in two hands");
    loom::thread::yield_now();
    guard.held.store(false, Ordering::SeqCst);
}

fn acquire(pool: &Pool<Client>) -> Guard<Client> {
    let guard = block_on(pool.acquire()).unwrap();
    use_it(&guard);
    guard
}

/// Closes the pool by its last handle: all is gone then, without a place that is still taken.
fn end(server: &Server, pool: Pool<Client>, housekeeper: JoinHandle<()>) {
    let state = pool.snapshot();
    assert_eq!((state.active, state.pending), (0, 0), "{state}");
    drop(pool);
    housekeeper.join().unwrap();
    assert_eq!(server.open.load(Ordering::SeqCst), 0, "a connection was lost");
}

/// The idle list, the line and the hand-off between two who want the same connection again and again.
#[test]
fn a_connection_is_in_one_hand_and_whoever_waits_is_woken() {
    model(|| {
        let (server, pool, housekeeper) = pool(1);
        let other = pool.clone();
        let other = spawn(move || {
            drop(acquire(&other));
        });
        drop(acquire(&pool));
        drop(acquire(&pool));
        other.join().unwrap();
        assert_eq!(server.opened.load(Ordering::SeqCst), 1);
        end(&server, pool, housekeeper);
    });
}

/// Two connections, three who want one.
#[test]
fn idle_connections_and_the_line_are_never_both_there() {
    model(|| {
        let (server, pool, housekeeper) = pool(2);
        let first = acquire(&pool);
        let others = [pool.clone(), pool.clone()].map(|pool| spawn(move || drop(acquire(&pool))));
        drop(first);
        for other in others {
            other.join().unwrap();
        }
        end(&server, pool, housekeeper);
    });
}

/// A caller goes away while a connection is on its way to it: it goes to the next.
#[test]
fn who_goes_away_passes_on_what_was_kept_for_it() {
    model(|| {
        let (server, pool, housekeeper) = pool(1);
        let first = acquire(&pool);
        let other = pool.clone();
        let fickle = spawn(move || {
            let mut wait = pin!(other.acquire());
            let mut cx = Context::from_waker(Waker::noop());
            // It stands in line, or has got it already; in both cases it goes.
            match wait.as_mut().poll(&mut cx) {
                Poll::Ready(guard) => use_it(&guard.unwrap()),
                Poll::Pending => {}
            }
        });
        drop(first);
        drop(acquire(&pool));
        fickle.join().unwrap();
        end(&server, pool, housekeeper);
    });
}

/// A connection is closed and must be opened anew while the housekeeper goes to sleep.
#[test]
fn the_housekeeper_hears_a_call_when_it_goes_to_sleep() {
    model(|| {
        let (server, pool, housekeeper) = pool(1);
        acquire(&pool).discard();
        drop(acquire(&pool));
        assert_eq!(server.opened.load(Ordering::SeqCst), 2);
        end(&server, pool, housekeeper);
    });
}

/// The pool is closed while one waits and one holds a connection.
#[test]
fn who_waits_learns_that_the_pool_is_closed() {
    model(|| {
        let (server, pool, housekeeper) = pool(1);
        let first = acquire(&pool);
        let other = pool.clone();
        let waiter = spawn(move || match block_on(other.acquire()) {
            Ok(guard) => use_it(&guard),
            Err(error) => assert_eq!(error.refused(), Refused::Closed),
        });
        let other = pool.clone();
        let closer = spawn(move || block_on(other.close(Duration::MAX)).unwrap());
        drop(first);
        closer.join().unwrap();
        assert_eq!(server.open.load(Ordering::SeqCst), 0, "closed when it says so");
        waiter.join().unwrap();
        end(&server, pool, housekeeper);
    });
}

/// A connection comes back while the pool is suspended, and a caller comes.
#[test]
fn who_waits_for_a_suspended_pool_is_served_when_it_goes_on() {
    model(|| {
        let (server, pool, housekeeper) = pool(1);
        let first = acquire(&pool);
        pool.suspend();
        let other = pool.clone();
        let waiter = spawn(move || drop(acquire(&other)));
        drop(first);
        pool.resume();
        waiter.join().unwrap();
        end(&server, pool, housekeeper);
    });
}

/// The last handle goes while the last connection comes back.
#[test]
fn the_last_handle_goes_while_a_connection_comes_back() {
    model(|| {
        let (server, pool, housekeeper) = pool(1);
        let first = acquire(&pool);
        let user = spawn(move || drop(first));
        drop(pool);
        user.join().unwrap();
        housekeeper.join().unwrap();
        assert_eq!(server.open.load(Ordering::SeqCst), 0, "a connection was lost");
    });
}

/// The runtime ends, and with it the housekeeper, while a connection comes back and one waits.
#[test]
fn the_housekeeper_ends_while_a_connection_comes_back() {
    model(|| {
        let (server, pool, housekeeper, first) = by_hand();
        let user = spawn(move || drop(first));
        let other = pool.clone();
        let waiter = spawn(move || match block_on(other.acquire()) {
            Ok(guard) => use_it(&guard),
            Err(error) => assert_eq!(error.refused(), Refused::Closed),
        });
        drop(housekeeper);
        user.join().unwrap();
        waiter.join().unwrap();
        assert_eq!(server.open.load(Ordering::SeqCst), 0, "a connection was lost");
        drop(pool);
    });
}
