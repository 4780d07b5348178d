//! The one who tends several pools: tells the machine what is seen of them, and carries out what it says.
//!
//! Everything happens under one lock, which callers do not take; the locks of the pools are taken within it, one at a time.
//! Neither code of the user's nor a waker runs under it: managers are made before, callers are told afterwards.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::Waker;
use std::time::Duration;

use weir_balance::{Avoid, Load, Member};
use weir_core::{Address, Endpoint, EndpointId, Instant};
use weir_pool_core::{Evidence, Output, Roster, RosterParams, Standing};
use weir_resilience::OutlierParams;
use weir_resilience::outlier::{self, Detector};

use crate::clock::Clock;
use crate::error::{AcquireError, Refused};
use crate::log;
use crate::manager::Manager;
use crate::pool::Pool;
use crate::settings::Settings;
use crate::shared::wake_all;
use crate::sync::{Mutex, MutexGuard, Notify, Published, Runtime, sleep_until};
use crate::watch::Watch;

use super::error::DuplicateEndpoint;
use super::snapshot::{EndpointSnapshot, EndpointsSnapshot};
use super::view::{Pick, Site, View};

/// How often outputs of the machine and new evidence may follow each other before others get the lock.
const ROUNDS_MAX: usize = 8;

/// Makes the manager of an endpoint.
pub(super) type Factory<M> = Box<dyn Fn(&Endpoint) -> M + Send + Sync>;

pub(crate) struct Core<M: Manager> {
    view: Published<View<M>>,
    control: Mutex<Control<M>>,
    factory: Factory<M>,
    balance: weir_balance::Params,
    /// Of each pool, with no connections yet.
    settings: Settings,
    /// The name of the whole.
    name: Arc<str>,
    pub(crate) runtime: Runtime,
    /// Called by pools whose evidence has changed.
    watch: Arc<Notify>,
    /// Failures in a row that are reported; 0 = never.
    failures_max: u32,
    /// Tells callers that wait for an endpoint that there is another view.
    pub(super) published: Notify,
    pub(super) clock: Clock,
    pub(super) acquire_timeout: Duration,
    /// Callers that were turned away at an endpoint and went on to another.
    pub(super) moves: AtomicU64,
}

struct Control<M: Manager> {
    roster: Roster,
    detector: Detector,
    sites: BTreeMap<EndpointId, Seat<M>>,
    /// Managers of newcomers.
    managers: BTreeMap<Address, M>,
    closed: bool,
}

struct Seat<M: Manager> {
    site: Arc<Site<M>>,
    /// The number of the limit that it keeps.
    order: u64,
    /// What the roster was told last, and for which order.
    told: Option<(u64, Evidence)>,
    /// How often it was ejected because of its failures.
    ejections: u64,
}

/// What has become of an endpoint, for those that watch it.
#[derive(Clone, Copy)]
pub(crate) struct SeatReading {
    pub(crate) standing: Standing,
    pub(crate) outlier_ejections: u64,
}

/// Whom to tell when the lock is free again, and what goes then.
struct Told<M: Manager> {
    wake: Vec<Waker>,
    published: bool,
    forgotten: Vec<Arc<Site<M>>>,
}

impl<M: Manager> Default for Told<M> {
    fn default() -> Self {
        Self { wake: Vec::new(), published: false, forgotten: Vec::new() }
    }
}

impl<M: Manager> Core<M> {
    pub(super) fn start(
        settings: Settings,
        params: RosterParams,
        outliers: OutlierParams,
        balance: weir_balance::Params,
        factory: Factory<M>,
    ) -> Arc<Self> {
        let clock = Clock::new(settings.tokio_clock);
        let empty = View {
            members: Vec::new(),
            balancer: weir_balance::build(&balance, Vec::new(), None),
            down: false,
            panic: false,
            closed: false,
        };
        let failures_max = if outliers.enabled { outliers.consecutive_failures } else { 0 };
        let core = Arc::new(Self {
            view: Published::from_pointee(empty),
            control: Mutex::new(Control {
                roster: Roster::new(params),
                detector: Detector::new(outliers),
                sites: BTreeMap::new(),
                managers: BTreeMap::new(),
                closed: false,
            }),
            factory,
            balance,
            name: Arc::clone(&settings.name),
            runtime: Runtime::current(),
            watch: Arc::new(Notify::new()),
            failures_max,
            published: Notify::new(),
            clock,
            acquire_timeout: settings.acquire_timeout,
            moves: AtomicU64::new(0),
            settings: Settings { max_size: 0, ..settings },
        });
        core.runtime.spawn(tend(Arc::clone(&core)));
        core
    }

    pub(super) fn pick(
        &self,
        key: Option<u64>,
        only: Option<&(dyn Fn(&Endpoint) -> bool + Sync)>,
        avoid: Avoid,
        now: Instant,
    ) -> Pick<M> {
        self.view.load().pick(key, only, avoid, now, seed())
    }

    pub(super) fn set_endpoints(&self, endpoints: Vec<Endpoint>) -> Result<(), DuplicateEndpoint> {
        let mut seen = std::collections::BTreeSet::new();
        if let Some(twice) = endpoints.iter().find(|endpoint| !seen.insert(&endpoint.address)) {
            return Err(DuplicateEndpoint(twice.address.clone()));
        }
        let mut managers: BTreeMap<Address, M> = BTreeMap::new();
        loop {
            let mut control = self.lock();
            if control.closed {
                return Ok(());
            }
            let is_new = |endpoint: &&Endpoint| {
                !managers.contains_key(&endpoint.address)
                    && control.roster.seats().all(|seat| seat.endpoint.address != endpoint.address)
            };
            let missing: Vec<&Endpoint> = endpoints.iter().filter(is_new).collect();
            if missing.is_empty() {
                control.managers = managers;
                control.roster.set_endpoints(endpoints, self.clock.now());
                let told = self.settle(&mut control);
                // Of endpoints that were known after all.
                let spare = std::mem::take(&mut control.managers);
                drop(control);
                drop(spare);
                self.tell(told);
                return Ok(());
            }
            drop(control);
            for endpoint in missing {
                managers.insert(endpoint.address.clone(), (self.factory)(endpoint));
            }
        }
    }

    /// Changes the roster and carries out what follows.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Roster, Instant) -> T) -> T {
        self.change_all(|control, now| change(&mut control.roster, now))
    }

    /// Ends all ejections of an endpoint. False if there is none of that address.
    pub(super) fn restore(&self, address: &Address) -> bool {
        self.change_all(|control, now| {
            let there = control.roster.seats().find(|seat| seat.endpoint.address == *address).map(|seat| seat.id);
            if let Some(id) = there {
                control.absolve(id, now);
            }
            control.roster.restore(address, now)
        })
    }

    fn change_all<T>(&self, change: impl FnOnce(&mut Control<M>, Instant) -> T) -> T {
        let mut control = self.lock();
        let result = change(&mut control, self.clock.now());
        let told = self.settle(&mut control);
        drop(control);
        self.tell(told);
        result
    }

    /// Closes all pools for good.
    pub(crate) fn shut(&self) {
        let mut control = self.lock();
        if std::mem::replace(&mut control.closed, true) {
            return;
        }
        let before = self.view.load_full();
        self.view.store(Arc::new(View {
            members: Vec::new(),
            balancer: Arc::clone(&before.balancer),
            down: false,
            panic: false,
            closed: true,
        }));
        let sites: Vec<Arc<Site<M>>> = control.sites.values().map(|seat| Arc::clone(&seat.site)).collect();
        drop(control);
        self.published.notify_waiters();
        for site in sites {
            site.pool.shared.shut();
        }
        self.watch.notify_one();
    }

    pub(super) fn sites(&self) -> Vec<Arc<Site<M>>> {
        self.lock().sites.values().map(|seat| Arc::clone(&seat.site)).collect()
    }

    /// Why the connects fail of one of those where they do.
    pub(super) fn failing(&self, waited: Duration, at: &'static Location<'static>) -> Option<AcquireError<M::Error>> {
        let mut errors = self.sites().into_iter().map(|site| site.pool.error(Refused::Down, waited, Some(at)));
        errors.find(|error| error.snapshot().failing_for.is_some())
    }

    pub(super) fn snapshot(&self) -> EndpointsSnapshot {
        let control = self.lock();
        let now = self.clock.now();
        let endpoints = control.roster.seats().filter_map(|seat| {
            let Seat { site, ejections, .. } = control.sites.get(&seat.id)?;
            Some(EndpointSnapshot {
                endpoint: seat.endpoint.clone(),
                standing: seat.standing,
                ejected_for: seat.ejected_until.max(seat.outlier_until).map(|until| until.since(now)),
                outlier: seat.outlier_until.is_some(),
                outlier_ejections: *ejections,
                leaving: seat.is_leaving,
                share: seat.share.target,
                in_flight: site.load.in_flight(),
                pool: site.pool.snapshot(),
            })
        });
        EndpointsSnapshot {
            name: Arc::clone(&self.name),
            max_size: control.roster.params().total,
            endpoints: endpoints.collect(),
            panic: control.roster.is_panic(),
            down: control.roster.is_down(),
            moves: self.moves.load(Ordering::Relaxed),
            closed: control.closed,
        }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn is_shut(&self) -> bool {
        self.lock().closed
    }

    /// The pools, with the addresses of their endpoints and what has become of them.
    pub(crate) fn seated(&self) -> Vec<(Address, Pool<M>, SeatReading)> {
        let control = self.lock();
        let seats = control.roster.seats().filter_map(|seat| {
            let Seat { site, ejections, .. } = control.sites.get(&seat.id)?;
            let reading = SeatReading { standing: seat.standing, outlier_ejections: *ejections };
            Some((site.endpoint.address.clone(), site.pool.clone(), reading))
        });
        seats.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Control<M>> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, told: Told<M>) {
        wake_all(&self.name, told.wake);
        if told.published {
            self.published.notify_waiters();
            let view = self.view.load();
            let (pool, members) = (&*self.name, view.members.len());
            tracing::info!(pool, members, down = view.down, panic = view.panic, "endpoints changed");
        }
        drop(told.forgotten);
    }

    /// Looks at the pools and does what is due; when to come again if nothing calls before, or `None` if it is over.
    fn visit(&self) -> Option<Instant> {
        let mut control = self.lock();
        if control.closed {
            return None;
        }
        control.roster.handle_timeout(self.clock.now());
        let told = self.settle(&mut control);
        let nexts = [control.roster.poll_timeout(), control.detector.poll_timeout()];
        let next = nexts.into_iter().flatten().min().unwrap_or(Instant::FAR);
        drop(control);
        self.tell(told);
        Some(next)
    }

    /// Carries out what the machine says and tells it what has come of it, until it has nothing more to say.
    fn settle(&self, control: &mut Control<M>) -> Told<M> {
        let mut told = Told::default();
        for _ in 0..ROUNDS_MAX {
            self.carry_out(control, &mut told);
            self.observe(control);
            self.judge(control);
            if !self.carry_out(control, &mut told) {
                return told;
            }
        }
        self.watch.notify_one();
        told
    }

    /// Whether there was anything.
    fn carry_out(&self, control: &mut Control<M>, told: &mut Told<M>) -> bool {
        let mut any = false;
        while let Some(output) = control.roster.poll_output() {
            any = true;
            match output {
                Output::Make(id) => self.make(control, id),
                Output::Open(id) => with(control, id, |seat| seat.site.pool.shared.update(|s, _, _| s.broker.unbar())),
                Output::Limit(order) => with(control, order.id, |seat| {
                    seat.order = order.order;
                    seat.site.pool.shared.set_max(order.limit);
                }),
                Output::Publish => {
                    self.publish(control);
                    told.published = true;
                }
                Output::Close(id) => with(control, id, |seat| {
                    seat.site.pool.shared.update(|state, _, _| state.broker.bar(&mut told.wake));
                }),
                Output::Empty(id) => with(control, id, |seat| seat.site.pool.shared.update(|s, _, _| s.broker.empty())),
                Output::Forget(id) => told.forgotten.extend(control.sites.remove(&id).map(|seat| seat.site)),
            }
        }
        any
    }

    fn make(&self, control: &mut Control<M>, id: EndpointId) {
        let Some(endpoint) = control.roster.seats().find(|seat| seat.id == id).map(|seat| seat.endpoint.clone()) else {
            return;
        };
        let Some(manager) = control.managers.remove(&endpoint.address) else {
            unreachable!("made before the endpoint was set")
        };
        let settings = Settings { name: format!("{}/{}", self.name, endpoint.name).into(), ..self.settings.clone() };
        let watch = Arc::new(Watch::new(Arc::clone(&self.watch), self.failures_max));
        let pool = Pool::start_in(&self.runtime, manager, settings, self.clock.clone(), Arc::clone(&watch));
        // Until it is told to take callers its connections are checked.
        pool.shared.update(|state, _, wake| state.broker.bar(wake));
        let site = Arc::new(Site::new(id, endpoint, pool, Arc::new(Load::new()), watch));
        control.sites.insert(id, Seat { site, order: 0, told: None, ejections: 0 });
    }

    /// Tells the detector who serves and who fails, and the roster what it says.
    fn judge(&self, control: &mut Control<M>) {
        let now = self.clock.now();
        let Control { roster, detector, sites, .. } = control;
        let there = |seat: &weir_pool_core::Seat<'_>| !seat.is_leaving;
        let ids: Vec<EndpointId> = roster.seats().filter(there).map(|seat| seat.id).collect();
        detector.set_endpoints(&ids, now);
        // First those who serve: the last of them is not taken out.
        let mut seats: Vec<_> = roster.seats().filter(there).map(|seat| (seat.serves, seat.id)).collect();
        seats.sort_unstable_by_key(|(serves, _)| !serves);
        for (serves, id) in seats {
            detector.handle_usable(id, serves, now);
        }
        for (id, seat) in sites.iter() {
            if let Some(count) = seat.site.watch.take_reported() {
                detector.handle_consecutive(*id, count, now);
            }
        }
        detector.handle_timeout(now);
        while let Some(output) = detector.poll_output() {
            let (id, until) = match output {
                outlier::Output::Eject { endpoint, until, .. } => (endpoint, Some(until)),
                outlier::Output::Restore { endpoint } => (endpoint, None),
            };
            if let Some(seat) = sites.get_mut(&id) {
                seat.site.watch.forgive();
                seat.ejections += u64::from(until.is_some());
                log::judged(&seat.site.pool.shared.name, until.map(|until| until.since(now)));
            }
            roster.set_outlier(id, until, now);
        }
    }

    fn observe(&self, control: &mut Control<M>) {
        let now = self.clock.now();
        for (id, seat) in &mut control.sites {
            let evidence = seat.site.pool.shared.lock().broker.evidence();
            let news = Some((seat.order, evidence));
            if seat.told != news {
                seat.told = news;
                control.roster.handle_evidence(*id, seat.order, evidence, now);
            }
        }
    }

    /// What the endpoints are to each other holds in the budget, too.
    fn weigh(control: &Control<M>) {
        let weights =
            || control.roster.seats().filter(|seat| !seat.is_leaving).map(|seat| (seat.id, seat.endpoint.weight));
        let (count, sum) =
            weights().fold((0.0, 0.0), |(count, sum), (_, weight)| (count + 1.0, sum + f64::from(weight.get())));
        for (id, weight) in weights() {
            if let Some(seat) = control.sites.get(&id) {
                let relative = if sum > 0.0 { f64::from(weight.get()) * count / sum } else { 1.0 };
                seat.site.pool.shared.lock().endpoint_weight = relative;
            }
        }
    }

    fn publish(&self, control: &mut Control<M>) {
        if self.settings.budget.is_some() {
            Self::weigh(control);
        }
        let before = self.view.load_full();
        let mut members = Vec::new();
        for (id, endpoint) in control.roster.members() {
            let Some(seat) = control.sites.get_mut(&id) else { continue };
            if seat.site.endpoint != *endpoint {
                seat.site = Arc::new(seat.site.renamed(endpoint.clone()));
            }
            members.push(Arc::clone(&seat.site));
        }
        let same = members.len() == before.members.len()
            && members.iter().zip(&before.members).all(|(now, before)| Arc::ptr_eq(now, before));
        let balancer = if same {
            Arc::clone(&before.balancer)
        } else {
            let list = members.iter().map(|site| Member {
                id: site.id,
                name: Arc::clone(&site.endpoint.name),
                weight: site.endpoint.weight,
                load: Arc::clone(&site.load),
            });
            weir_balance::build(&self.balance, list.collect(), Some(&*before.balancer))
        };
        let (down, panic) = (control.roster.is_down(), control.roster.is_panic());
        self.view.store(Arc::new(View { members, balancer, down, panic, closed: false }));
    }
}

impl<M: Manager> Control<M> {
    /// Forgets what is held against an endpoint.
    fn absolve(&mut self, id: EndpointId, now: Instant) {
        // The detector forgets whom it does not know any more.
        let others: Vec<EndpointId> = self.roster.seats().map(|seat| seat.id).filter(|other| *other != id).collect();
        self.detector.set_endpoints(&others, now);
        if let Some(seat) = self.sites.get(&id) {
            seat.site.watch.forgive();
        }
        self.roster.set_outlier(id, None, now);
    }
}

fn with<M: Manager>(control: &mut Control<M>, id: EndpointId, act: impl FnOnce(&mut Seat<M>)) {
    if let Some(seat) = control.sites.get_mut(&id) {
        act(seat);
    }
}

/// Fresh bits for a pick. Of each thread its own: one counter for all would go from core to core with every acquire.
#[inline]
fn seed() -> u64 {
    thread_local!(static NEXT: Cell<u64> = const { Cell::new(0) });
    NEXT.with(|next| {
        let seed = match next.get() {
            0 => RandomState::new().hash_one(0),
            seed => seed,
        };
        next.set(seed.wrapping_add(0x9E37_79B9_7F4A_7C15));
        seed
    })
}

/// Runs until the pools are closed.
async fn tend<M: Manager>(core: Arc<Core<M>>) {
    while let Some(next) = core.visit() {
        tokio::select! {
            () = sleep_until(core.clock.at(next)) => {}
            () = core.watch.notified() => {}
        }
    }
}
