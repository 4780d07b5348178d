//! What the handles, the guards and the housekeeper of a pool share, and what happens under its lock.
//!
//! One lock, held for some tens of nanoseconds at a time: never across an await, I/O or code of the user's. The machine
//! (`weir_pool_core::Broker`) decides; connections travel through it as boxes.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, RandomState};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;
use std::sync::Mutex as NeverLocked;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Waker;
use std::time::Duration;

use weir_core::Instant;
use weir_pool_core::{Broker, CloseReason, Evidence, Loan, LocalQuota, Proposal, Ticket};

use crate::borrowers::{Borrower, Borrowers, Caller};
use crate::changing::Changing;
use crate::clock::{Clock, unix_nanos};
use crate::error::Failure;
use crate::lock::{Lock, Locked};
use crate::log;
use crate::manager::Manager;
use crate::settings::Settings;
use crate::shortcut::{Aside, Ledger, Shortcut};
use crate::sync::{AtomicBool, Counted, Guess, Mutex, Notify};
use crate::watch::Watch;
use crate::window::History;

pub(crate) struct Shared<M: Manager> {
    pub(crate) name: Arc<str>,
    /// In nanoseconds of Unix time.
    pub(crate) began: u64,
    pub(crate) manager: M,
    pub(crate) clock: Clock,
    state: Lock<State<M>>,
    /// Past the lock.
    pub(crate) shortcut: Shortcut<Entry<M>>,
    /// What the adaptive size is thought to be best.
    pub(crate) proposal: Mutex<Option<Proposal>>,
    /// Held while settings are changed.
    pub(crate) changing: Changing,
    /// Calls the housekeeper ([`Shared::call`]).
    pub(crate) housekeeper: Notify,
    /// There is no housekeeper any more.
    ended: AtomicBool,
    /// Steps of making a connection ready that have failed and not gone well since, as bits ([`Step`]). It decides nothing that
    /// other threads must see at once.
    trouble: AtomicU8,
    /// Callers who have come lately had to wait: the next one will have to, too. Costs or spares a clone of a waker.
    pub(crate) line: Guess,
    /// Tells that a connect has ended, well or not.
    pub(crate) connected: Notify,
    /// Tells that the pool is closed and empty.
    pub(crate) emptied: Notify,
    /// Calls the one who tends several pools, if this is one of them, when its evidence has changed.
    pub(crate) watch: Option<Arc<Watch>>,
    /// What the pool was like in the last seconds. Never locked together with the state.
    pub(crate) history: Mutex<History>,
}

pub(crate) struct State<M: Manager> {
    pub(crate) broker: Broker<Entry<M>, Waker, LocalQuota>,
    pub(crate) settings: Arc<Settings>,
    /// What the budget allows; `None` without one.
    pub(crate) share: Option<u32>,
    /// Of the endpoint, where the pool is one of several, by the mean of all.
    pub(crate) endpoint_weight: f64,
    pub(crate) leaks: u64,
    /// Who holds connections is noted.
    pub(crate) watches: bool,
    pub(crate) borrowers: Borrowers,
    /// Of connects, what is to be logged.
    pub(crate) connects: log::Connects,
    /// The last failure of a connect, and when it was.
    pub(crate) last_failure: Option<(Failure<M::Error>, Instant)>,
    /// Idle connections from before this moment are checked before they are lent, however short they were idle: one of them
    /// has turned out to be dead.
    pub(crate) suspect_before: Instant,
    /// As in the settings; `Duration::MAX` for never.
    pub(crate) validate_after: Duration,
    /// As in the settings.
    pub(crate) acquire_timeout: Duration,
    /// Of the shortcut.
    pub(crate) aside: Aside,
    /// `Stats::busy` as it was told last: a use that ends in the moment of a reading may be missing in it.
    pub(crate) told_busy: u64,
}

/// What is done to make a connection ready for its next user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Step {
    Reset = 1,
    Check = 2,
    Hook = 4,
}

/// A connection, in the pool or lent.
pub(crate) struct Entry<M: Manager> {
    pub(crate) conn: M::Connection,
    /// Kept alive by its own connections; the last handle closes the pool, which empties it.
    pub(crate) shared: Counted<Shared<M>>,
    pub(crate) opened: Instant,
    /// When it was opened or checked last.
    pub(crate) checked: Instant,
    pub(crate) needs_reset: bool,
    pub(crate) needs_check: bool,
    /// It is being made ready for its next user: nobody knows its state.
    pub(crate) preparing: bool,
    /// It is closed when it comes back.
    pub(crate) evicted: bool,
    /// Who holds it is noted.
    pub(crate) watched: bool,
    /// It is lent by the shortcut.
    pub(crate) ledger: Option<Arc<Ledger>>,
    /// What users keep with the connection (prepared statements and the like), by type.
    pub(crate) extras: Extras,
}

/// The mutex is never locked: it makes a guard `Sync` where its connection is, whatever is kept with it.
pub(crate) type Extras = NeverLocked<HashMap<TypeId, Box<dyn Any + Send>>>;

impl<M: Manager> Entry<M> {
    /// Whether there is nothing to wait for before it can be used.
    #[inline]
    pub(crate) fn is_fresh(&self) -> bool {
        !self.needs_check && !self.needs_reset
    }
}

impl<M: Manager> Shared<M> {
    pub(crate) fn new(manager: M, settings: Settings, clock: Clock, watch: Option<Arc<Watch>>) -> Self {
        let settings = settings.with_manager(&manager);
        // Under a budget it begins with nothing.
        let share = settings.budget.as_ref().map(|_| 0);
        let quota = LocalQuota::new(settings.size(share));
        let seed = seed(&settings);
        // Who tends several pools wants to hear of each use.
        let shortcut = if watch.is_some() { Shortcut::none() } else { Shortcut::new() };
        Self {
            manager,
            name: Arc::clone(&settings.name),
            began: unix_nanos(),
            clock,
            state: Lock::new(State {
                broker: Broker::new(settings.broker(share), quota, seed),
                acquire_timeout: settings.acquire_timeout,
                validate_after: settings.validate_after.unwrap_or(Duration::MAX),
                watches: settings.leak_after.is_some(),
                settings: Arc::new(settings),
                share,
                endpoint_weight: 1.0,
                leaks: 0,
                borrowers: Borrowers::new(),
                connects: log::Connects::new(),
                last_failure: None,
                suspect_before: Instant::ZERO,
                aside: Aside::new(&shortcut),
                told_busy: 0,
            }),
            shortcut,
            proposal: Mutex::new(None),
            changing: Changing::default(),
            housekeeper: Notify::new(),
            ended: AtomicBool::new(false),
            trouble: AtomicU8::new(0),
            line: Guess::new(false),
            connected: Notify::new(),
            emptied: Notify::new(),
            watch,
            history: Mutex::new(History::new()),
        }
    }

    /// The state, with the shortcut closed. Nothing that could panic runs under the lock but the machine itself.
    #[inline]
    pub(crate) fn lock(&self) -> Locked<'_, State<M>> {
        let mut state = self.lock_unsettled();
        if state.aside.is_open() {
            state.settle(&self.shortcut, self.clock.now());
        }
        state
    }

    /// The state, with the shortcut as it is: what is in its lanes is lent, and what it was used for is not counted yet.
    #[inline]
    pub(crate) fn lock_unsettled(&self) -> Locked<'_, State<M>> {
        self.state.lock()
    }

    /// Tells whom it must after a release, or the like.
    #[inline]
    pub(crate) fn released(&self, mut state: Locked<'_, State<M>>, waker: Option<Waker>) {
        let calls = state.broker.calls_housekeeper();
        drop(state);
        // Before the waker, which is code of an executor and may panic.
        if calls {
            self.call();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Changes the state, then tells whom it must.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut State<M>, Instant, &mut Vec<Waker>) -> T) -> T {
        let mut wake = Vec::new();
        let now = self.clock.now();
        let mut state = self.lock();
        let before = self.evidence(&state);
        let result = change(&mut state, now, &mut wake);
        let changed = self.evidence(&state) != before;
        let calls = state.broker.calls_housekeeper();
        let emptied = state.broker.is_shut() && state.broker.is_empty();
        drop(state);
        wake_all(&self.name, wake);
        self.tell(changed);
        if calls || emptied {
            self.call();
        }
        if emptied {
            self.emptied.notify_waiters();
        }
        result
    }

    /// What the one who tends several pools wants to know; `None` if there is none.
    pub(crate) fn evidence(&self, state: &State<M>) -> Option<Evidence> {
        self.watch.as_ref().map(|_| state.broker.evidence())
    }

    /// Calls whoever tends several pools if the evidence of this one has changed.
    pub(crate) fn tell(&self, changed: bool) {
        if let Some(watch) = self.watch.as_ref().filter(|_| changed) {
            watch.call();
        }
    }

    /// Keeps another maximum.
    pub(crate) fn set_max(&self, max_size: u32) {
        self.install(|present| Settings { max_size, ..present.clone() });
    }

    /// Puts settings in force that are made of the present ones.
    pub(crate) fn install(&self, make: impl FnOnce(&Settings) -> Settings) {
        self.update(|state, now, _| {
            let settings = make(&state.settings);
            state.install(settings, now);
        });
        // What a warm-up wishes for may be there now, or may be wished for again.
        self.connected.notify_waiters();
    }

    /// Calls the housekeeper, after the machine has asked for it.
    pub(crate) fn call(&self) {
        if self.ended.load(Ordering::Acquire) {
            self.let_go();
        } else {
            self.housekeeper.notify_one();
        }
    }

    /// The housekeeper ends. From now on what comes back is let go of by whoever brings it.
    pub(crate) fn end(&self) {
        // Before the lock: whoever brings something later sees it.
        self.ended.store(true, Ordering::Release);
        self.let_go();
    }

    /// Drops the connections that nobody uses: there is nobody to close them. They hold the pool, which goes when they do.
    #[cold]
    fn let_go(&self) {
        let mut state = self.lock();
        let left = state.broker.take_all();
        let emptied = state.broker.is_empty();
        drop(state);
        drop(left);
        if emptied {
            self.emptied.notify_waiters();
        }
    }

    /// As [`Shared::take_back`], under the lock.
    #[inline]
    pub(crate) fn give_back(&self, mut loan: Loan<Entry<M>>) {
        self.forget(&loan);
        let now = self.clock.now();
        let mut state = if loan.ledger.is_some() {
            // Its lane may be open, and would stay so without a connection.
            let mut state = self.lock();
            state.book(&mut loan);
            state
        } else {
            // Nobody waits while the shortcut is open.
            self.lock_unsettled()
        };
        let (waker, _) = state.broker.release(loan, now);
        self.came_back(&mut state, waker.is_some());
        self.released(state, waker);
    }

    /// Takes back a connection that was not used.
    pub(crate) fn put_back(&self, mut loan: Loan<Entry<M>>) {
        self.forget(&loan);
        self.update(|state, now, wake| {
            state.book(&mut loan);
            wake.extend(state.broker.put_back(loan, now));
        });
    }

    /// Takes back a connection that must not be used again: the housekeeper closes it.
    pub(crate) fn discard(&self, mut loan: Loan<Entry<M>>, reason: CloseReason) {
        self.forget(&loan);
        self.update(|state, now, _| {
            state.book(&mut loan);
            state.broker.discard(loan, reason, now);
        });
    }

    /// Takes back a connection that never got to a user, and must not: the housekeeper closes it.
    pub(crate) fn discard_unused(&self, mut loan: Loan<Entry<M>>) {
        self.forget(&loan);
        self.update(|state, now, _| {
            state.book(&mut loan);
            state.broker.discard_unused(loan, CloseReason::Failed, now);
        });
    }

    /// A connection does not answer, or not as it should: that may be the other end, of which whoever tends several pools hears.
    pub(crate) fn unsound(&self) {
        if let Some(watch) = &self.watch {
            watch.failed();
        }
    }

    /// The other end has undone what a user has left.
    pub(crate) fn answered(&self) {
        if let Some(watch) = &self.watch {
            watch.succeeded();
        }
    }

    /// A connection has turned out to be dead: those of its age are suspect.
    pub(crate) fn failed(&self, failure: Failure<M::Error>) {
        self.unsound();
        log::found_dead(&self.name, &failure);
        // The one before is dropped outside the lock: its end is code of the user's.
        drop(self.update(|state, now, _| {
            state.suspect_before = now;
            state.last_failure.replace((failure, now))
        }));
    }

    /// A connection that was opened at `opened` could not be made ready for its user: the step failed.
    pub(crate) fn useless(&self, opened: Instant, step: Step) {
        self.trouble.fetch_or(step as u8, Ordering::Relaxed);
        self.update(|state, now, _| state.broker.found_useless(opened, now));
    }

    /// Connections open, and cannot be made ready for their users.
    pub(crate) fn is_in_trouble(&self) -> bool {
        self.trouble.load(Ordering::Relaxed) != 0
    }

    /// These steps have gone well.
    #[inline]
    pub(crate) fn went_well(&self, steps: u8) {
        if self.trouble.load(Ordering::Relaxed) & steps != 0 {
            self.trouble_ends(steps);
        }
    }

    #[cold]
    fn trouble_ends(&self, steps: u8) {
        let before = self.trouble.fetch_and(!steps, Ordering::Relaxed);
        if before & !steps == 0 {
            self.update(|state, _, _| state.broker.found_useful());
        }
    }

    /// A connect has failed.
    pub(crate) fn connect_failed(&self, failure: &Failure<M::Error>) {
        let (told, before) = self.update(|state, now, _| {
            let told = state.connects.failed(now);
            (told, state.last_failure.replace((failure.clone(), now)))
        });
        // Not under the lock: its end is code of the user's.
        drop(before);
        log::connect_failed(&self.name, told, failure);
    }

    // === who holds what, where leaks are looked for ===

    /// Notes who has got a connection, if that is wanted.
    #[inline]
    pub(crate) fn note(&self, loan: &Loan<Entry<M>>, acquired_at: &'static Location<'static>) {
        if loan.watched {
            self.note_caller(loan, acquired_at);
        }
    }

    #[cold]
    fn note_caller(&self, loan: &Loan<Entry<M>>, acquired_at: &'static Location<'static>) {
        let with_backtrace = self.lock().settings.leak_backtrace;
        let caller = Caller::note(acquired_at, with_backtrace);
        self.lock().borrowers.lent(loan.slot(), caller, loan.since());
    }

    /// Forgets who has got a connection: it comes back. Nobody can get it before that.
    #[inline]
    pub(crate) fn forget(&self, loan: &Loan<Entry<M>>) {
        if loan.watched {
            self.forget_caller(loan);
        }
    }

    #[cold]
    fn forget_caller(&self, loan: &Loan<Entry<M>>) {
        let now = self.clock.now();
        let back = self.lock().borrowers.back(loan.slot(), now);
        if let Some(borrower) = back {
            log::came_back(&self.name, &borrower);
        }
    }

    pub(crate) fn borrowers(&self) -> Vec<Borrower> {
        let now = self.clock.now();
        self.lock().borrowers.all(now)
    }

    /// Closes the pool for good. The housekeeper empties it.
    pub(crate) fn shut(&self) {
        let first = self.update(|state, _, wake| {
            let first = !state.broker.is_shut();
            state.broker.shut(wake);
            first
        });
        // Those who warm it up wait in vain.
        self.connected.notify_waiters();
        if first {
            log::told(&self.name, "closed");
        }
    }
}

/// Wakes all of them, whatever one of them does: wakers are code of executors.
pub(crate) fn wake_all(pool: &str, wake: impl IntoIterator<Item = Waker>) {
    for waker in wake {
        if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
            log::waker_panicked(pool);
        }
    }
}

/// Of lifetimes and pauses: another one in each process; but not for a test that has the time in its hand.
fn seed(settings: &Settings) -> u64 {
    if settings.tokio_clock {
        return BuildHasherDefault::<DefaultHasher>::default().hash_one(&settings.name);
    }
    RandomState::new().hash_one(&settings.name)
}

impl<M: Manager> State<M> {
    /// The waker of one who leaves the line, to be dropped outside the lock: a task may end with its last waker.
    pub(crate) fn take_waker(&mut self, ticket: Ticket) -> Option<Waker> {
        let waker = self.broker.waiting_mut(ticket)?;
        Some(std::mem::replace(waker, Waker::noop().clone()))
    }

    /// Puts new settings in force.
    pub(crate) fn install(&mut self, settings: Settings, now: Instant) {
        self.acquire_timeout = settings.acquire_timeout;
        self.validate_after = settings.validate_after.unwrap_or(Duration::MAX);
        self.watches = settings.leak_after.is_some();
        self.broker.limit_warm_ups(settings.max_size);
        self.settings = Arc::new(settings);
        self.apply_size(now);
    }

    /// Applies the maximum of the settings and the share of the budget.
    pub(crate) fn apply_size(&mut self, now: Instant) {
        self.broker.quota().set_max(self.settings.size(self.share));
        self.broker.set_params(self.settings.broker(self.share));
        self.broker.resized(now);
    }

    /// An idle connection with which nothing need be awaited first.
    pub(crate) fn take_fresh(&mut self, now: Instant) -> Option<Loan<Entry<M>>> {
        let Self { broker, validate_after, suspect_before, watches, .. } = self;
        broker.try_acquire(now, |loan| {
            loan.needs_check = needs_check(loan, *validate_after, *suspect_before);
            loan.watched = *watches;
            loan.is_fresh()
        })
    }

    /// Notes whether the connection must be looked at before it is used.
    #[inline]
    pub(crate) fn mark(&self, loan: &mut Loan<Entry<M>>) {
        loan.needs_check = needs_check(loan, self.validate_after, self.suspect_before);
        loan.watched = self.watches;
    }
}

/// Whether nobody has used a connection for long, or others of its age were dead.
#[inline]
pub(crate) fn needs_check<M: Manager>(
    loan: &Loan<Entry<M>>,
    validate_after: Duration,
    suspect_before: Instant,
) -> bool {
    loan.quiet() >= validate_after || loan.checked < suspect_before
}
