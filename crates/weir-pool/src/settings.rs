//! The settings of a pool, and the builder that refuses contradictions.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use weir_pool_core::budget::WEIGHT_MAX;
use weir_pool_core::{AdmissionParams, BrokerParams, OpenParams, Params};

use crate::adaptive::Adaptive;
use crate::budget::{Budget, Part};
use crate::error::StartError;
use crate::manager::Manager;
use crate::pool::Pool;

/// Connections of one pool at most.
pub const SIZE_MAX: u32 = 1 << 16;
/// Shortest time-out that is taken; below it every hiccup of a machine is an error.
pub const TIMEOUT_MIN: Duration = Duration::from_millis(1);
/// How long a connection is trusted that nobody uses, unless the manager or the builder says otherwise.
pub(crate) const VALIDATE_AFTER: Duration = Duration::from_millis(500);

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Settings {
    pub(crate) name: Arc<str>,
    pub(crate) max_size: u32,
    pub(crate) min_idle: u32,
    /// Somebody has set it; otherwise it follows the maximum.
    pub(crate) min_idle_chosen: bool,
    pub(crate) acquire_timeout: Duration,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) validation_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) validate_after: Option<Duration>,
    /// Somebody has set it; otherwise the manager says.
    pub(crate) validate_after_chosen: bool,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) max_lifetime: Option<Duration>,
    pub(crate) lifetime_jitter: f64,
    pub(crate) keepalive: Option<Duration>,
    pub(crate) max_uses: Option<u32>,
    pub(crate) waiters_max: u32,
    pub(crate) parallel_connects: u32,
    pub(crate) backoff: Duration,
    pub(crate) backoff_max: Duration,
    pub(crate) down_after: Duration,
    pub(crate) leak_after: Option<Duration>,
    pub(crate) leak_backtrace: bool,
    pub(crate) tokio_clock: bool,
    pub(crate) budget: Option<Budget>,
    pub(crate) budget_floor: Option<u32>,
    pub(crate) budget_weight: Option<u32>,
    pub(crate) adaptive: Option<Adaptive>,
    pub(crate) admission: Option<AdmissionParams>,
}

impl Settings {
    /// What the manager says where nobody else has said anything.
    pub(crate) fn with_manager(mut self, manager: &impl Manager) -> Self {
        if !self.validate_after_chosen {
            self.validate_after = manager.validate_after();
        }
        self
    }

    /// Connections at most, with this share of a budget.
    pub(crate) fn size(&self, share: Option<u32>) -> u32 {
        self.max_size.min(share.unwrap_or(u32::MAX))
    }

    /// How the pool takes part in its budget. `endpoint`: the weight of its endpoint, if it is one of several, by the mean of all.
    pub(crate) fn part(&self, endpoint: f64) -> Part {
        let weight = (f64::from(self.budget_weight.unwrap_or(1)) * endpoint).round() as u32;
        Part { floor: self.budget_floor.unwrap_or(1), weight: weight.clamp(1, WEIGHT_MAX) }
    }

    pub(crate) fn broker(&self, share: Option<u32>) -> BrokerParams {
        let size = self.size(share);
        BrokerParams {
            keep: Params {
                max_idle: size,
                // As configured again when the pool has grown again.
                min_idle: self.min_idle.min(size),
                idle_timeout: self.idle_timeout.unwrap_or(Duration::MAX),
                max_lifetime: self.max_lifetime,
                lifetime_jitter: self.lifetime_jitter,
                max_uses: self.max_uses,
                max_connections: Some(size),
                ..Params::default()
            },
            open: OpenParams {
                parallel_max: self.parallel_connects,
                connect_timeout: self.connect_timeout(),
                backoff: self.backoff,
                backoff_max: self.backoff_max,
                down_after: self.down_after,
            },
            waiters_max: self.waiters_max,
            keepalive: self.keepalive,
            leak_after: self.leak_after,
            admission: self.admission,
        }
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.connect_timeout.unwrap_or(self.acquire_timeout)
    }

    /// An adaptive size stays within its bounds.
    pub(crate) fn check_bounds(&self, max_size: u32) -> Result<(), SettingsError> {
        self.adaptive.as_ref().map_or(Ok(()), |adaptive| adaptive.check(max_size))
    }

    /// Refuses sizes that contradict each other.
    fn check_sizes(&self) -> Result<(), SettingsError> {
        let Settings { max_size, min_idle, .. } = *self;
        if min_idle > max_size {
            return Err(SettingsError::new("min_idle", format!("{min_idle} is more than max_size ({max_size})")));
        }
        if min_idle == max_size && self.min_idle_chosen && self.idle_timeout.is_some() && max_size > 1 {
            let problem = format!(
                "{min_idle} is as much as max_size, so idle_timeout would never close anything; set idle_timeout to None for a \
                 pool of fixed size"
            );
            return Err(SettingsError::new("min_idle", problem));
        }
        if let Some(floor) = self.budget_floor.filter(|floor| *floor > max_size) {
            return Err(SettingsError::new("budget_floor", format!("{floor} is not within 0 and {max_size}")));
        }
        Ok(())
    }

    /// Refuses what contradicts itself.
    fn check(&self) -> Result<(), SettingsError> {
        let settings = self;
        let refuse = |setting, problem: String| Err(SettingsError { setting, problem });
        let Settings { max_size, acquire_timeout, .. } = *settings;
        check_size(max_size)?;
        settings.check_bounds(max_size)?;
        for (setting, value) in [
            ("acquire_timeout", acquire_timeout),
            ("connect_timeout", settings.connect_timeout()),
            ("validation_timeout", settings.validation_timeout),
            ("close_timeout", settings.close_timeout),
            ("backoff", settings.backoff),
        ] {
            if value < TIMEOUT_MIN {
                return refuse(setting, format!("{value:?} is shorter than {TIMEOUT_MIN:?}"));
            }
        }
        if settings.backoff_max < settings.backoff {
            return refuse(
                "backoff_max",
                format!("{:?} is less than backoff ({:?})", settings.backoff_max, settings.backoff),
            );
        }
        if let Some(admission) = settings.admission {
            let AdmissionParams { target, interval } = admission;
            if target < TIMEOUT_MIN {
                return refuse("admission", format!("a target of {target:?} is shorter than {TIMEOUT_MIN:?}"));
            }
            if interval < target {
                return refuse(
                    "admission",
                    format!("the interval ({interval:?}) is shorter than the target ({target:?})"),
                );
            }
            if 3 * target >= acquire_timeout {
                let problem = format!(
                    "three times the target ({target:?}) is not less than acquire_timeout ({acquire_timeout:?})"
                );
                return refuse("admission", problem);
            }
        }
        if settings.validation_timeout > acquire_timeout {
            let problem =
                format!("{:?} is more than acquire_timeout ({acquire_timeout:?})", settings.validation_timeout);
            return refuse("validation_timeout", problem);
        }
        if !(0.0..=0.5).contains(&settings.lifetime_jitter) {
            return refuse("lifetime_jitter", format!("{} is not within 0 and 0.5", settings.lifetime_jitter));
        }
        if let Some((keepalive, lifetime)) = settings.keepalive.zip(settings.max_lifetime)
            && keepalive >= lifetime
        {
            return refuse("keepalive", format!("{keepalive:?} is not less than max_lifetime ({lifetime:?})"));
        }
        for (setting, value) in [
            ("idle_timeout", settings.idle_timeout),
            ("max_lifetime", settings.max_lifetime),
            ("keepalive", settings.keepalive),
            ("leak_after", settings.leak_after),
        ] {
            if value.is_some_and(|value| value < TIMEOUT_MIN) {
                return refuse(setting, "is next to nothing; None switches it off".to_owned());
            }
        }
        if settings.leak_backtrace && settings.leak_after.is_none() {
            return refuse("leak_backtrace", "without leak_after nothing is reported".to_owned());
        }
        for (setting, value) in [("budget_floor", settings.budget_floor), ("budget_weight", settings.budget_weight)] {
            if value.is_some() && settings.budget.is_none() {
                return refuse(setting, "has no meaning without a budget".to_owned());
            }
        }
        if let Some(weight) = settings.budget_weight.filter(|weight| !(1..=WEIGHT_MAX).contains(weight)) {
            return refuse("budget_weight", format!("{weight} is not within 1 and {WEIGHT_MAX}"));
        }
        for (setting, value) in [
            ("max_uses", settings.max_uses.unwrap_or(1)),
            ("parallel_connects", settings.parallel_connects),
            ("waiters_max", settings.waiters_max),
        ] {
            if value == 0 {
                return refuse(setting, "0 makes the pool useless".to_owned());
            }
        }
        Ok(())
    }
}

pub(crate) fn check_size(max_size: u32) -> Result<(), SettingsError> {
    if (1..=SIZE_MAX).contains(&max_size) {
        return Ok(());
    }
    Err(SettingsError::new("max_size", format!("{max_size} is not within 1 and {SIZE_MAX}")))
}

impl Default for Settings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        let max_size = cores.saturating_mul(2).min(SIZE_MAX);
        Self {
            name: "pool".into(),
            max_size,
            min_idle: max_size / 2,
            min_idle_chosen: false,
            acquire_timeout: Duration::from_secs(3),
            connect_timeout: None,
            validation_timeout: Duration::from_secs(1),
            close_timeout: Duration::from_secs(1),
            validate_after: Some(VALIDATE_AFTER),
            validate_after_chosen: false,
            idle_timeout: Some(Duration::from_mins(10)),
            max_lifetime: Some(Duration::from_mins(30)),
            lifetime_jitter: 0.1,
            keepalive: Some(Duration::from_mins(2)),
            max_uses: None,
            waiters_max: 1 << 20,
            parallel_connects: 32,
            backoff: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
            down_after: Duration::from_secs(5),
            leak_after: None,
            leak_backtrace: false,
            tokio_clock: false,
            budget: None,
            budget_floor: None,
            budget_weight: None,
            adaptive: None,
            admission: None,
        }
    }
}

/// Settings that contradict each other, or make no sense.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SettingsError {
    setting: &'static str,
    problem: String,
}

impl SettingsError {
    pub(crate) fn new(setting: &'static str, problem: String) -> Self {
        Self { setting, problem }
    }

    /// Which setting is to be changed.
    pub fn setting(&self) -> &'static str {
        self.setting
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.problem)
    }
}

impl std::error::Error for SettingsError {}

/// The settings of a pool to be. Nothing is repaired: what contradicts itself is an error of [`Builder::build`].
///
/// | setting | default |
/// |---|---|
/// | `name` | `pool` |
/// | `max_size` | processors × 2 |
/// | `min_idle` | half of `max_size` |
/// | `acquire_timeout` | 3 s |
/// | `connect_timeout` | as `acquire_timeout` |
/// | `validation_timeout`, `close_timeout` | 1 s |
/// | `validate_after` | as the manager says: 500 ms, for MySQL any time at all ([`Manager::validate_after`]) |
/// | `idle_timeout` | 10 min |
/// | `max_lifetime` | 30 min, each connection up to 10 % less |
/// | `keepalive` | 2 min |
/// | `max_uses`, `leak_after` | none |
/// | `leak_backtrace` | no |
/// | `waiters_max` | 1,048,576 |
/// | `parallel_connects` | 32 |
/// | `backoff`, `backoff_max`, `down_after` | 50 ms, 1 s, 5 s |
/// | `adaptive`, `admission`, `budget` | none |
/// | `budget_floor`, `budget_weight` | 1 |
#[derive(Clone, Default, Debug)]
#[must_use]
pub struct Builder {
    settings: Settings,
    min_idle: Option<u32>,
    /// Of a pool whose settings are to be changed.
    before: Option<Sizes>,
}

/// What must fit together: the maximum, the minimum that was chosen, whether what is idle is closed.
type Sizes = (u32, Option<u32>, Option<Duration>);

macro_rules! set {
    ($($(#[$doc:meta])* $name:ident: $type:ty),+ $(,)?) => {
        $($(#[$doc])* pub fn $name(mut self, $name: $type) -> Self {
            self.settings.$name = $name;
            self
        })+
    };
}

impl Builder {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the pool is called in errors, logs and metrics.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// Idle connections that are kept open ahead of demand; `idle_timeout` does not close them. Below `max_size`, or the idle
    /// time-out would never do anything.
    pub fn min_idle(mut self, min_idle: u32) -> Self {
        self.min_idle = Some(min_idle);
        self
    }

    set! {
        /// Most connections: idle, in use, being opened and being closed, together. Never exceeded, not for a moment.
        max_size: u32,
        /// How long a caller waits in all: in line, for a connect and for validation together.
        acquire_timeout: Duration,
        /// How long a check may take; within the caller's time.
        validation_timeout: Duration,
        /// How long an orderly close may take.
        close_timeout: Duration,
        /// An idle connection beyond `min_idle` is closed after this. `None` = never.
        idle_timeout: Option<Duration>,
        /// A connection is not used again after this. Set it some seconds below the limit of the server or of a firewall.
        /// `None` = unlimited.
        max_lifetime: Option<Duration>,
        /// 0 to 0.5: each connection lives this share less at most, drawn, so that those opened together do not end
        /// together.
        lifetime_jitter: f64,
        /// An idle connection is checked after this, to keep it alive. `None` = never.
        keepalive: Option<Duration>,
        /// A connection is closed after this many uses. `None` = unlimited.
        max_uses: Option<u32>,
        /// Most callers in line; more are refused at once.
        waiters_max: u32,
        /// Most connects at the same time.
        parallel_connects: u32,
        /// Pause after the first failed connect; it doubles with each further one.
        backoff: Duration,
        /// Longest pause between two connects.
        backoff_max: Duration,
        /// New callers are refused at once if no connection is open and connects have failed for this long.
        down_after: Duration,
        /// A connection that is held for longer is reported ([`Pool::leaks`], and a line of the log), with where it was acquired and in
        /// which span. `None` = never, and nothing is noted of who holds what.
        leak_after: Option<Duration>,
        /// Reports of leaks show how the caller got to its acquire, too. Noting that costs some microseconds per acquire (where
        /// `leak_after` is set), and as much memory as the stack is deep: to find a leak, not to leave on.
        leak_backtrace: bool,
        /// Reads tokio's clock instead of the processor's counter, and draws lifetimes and pauses from the pool's name: for tests that
        /// pause the clock (`tokio::time::pause`) and can be repeated.
        tokio_clock: bool,
    }

    /// Shares a number of connections with other pools: the pool opens no more than its share, which follows the load, and never
    /// more than `max_size`. It has none until it is granted some.
    pub fn budget(mut self, budget: &Budget) -> Self {
        self.settings.budget = Some(budget.clone());
        self
    }

    /// What the pool ought to have of its budget in any case, and keeps while a remote grantor is silent; at most `max_size`.
    pub fn budget_floor(mut self, floor: u32) -> Self {
        self.settings.budget_floor = Some(floor);
        self
    }

    /// The pool's part of what is scarce in its budget, and of what is left over, relative to the others. Of pools over endpoints each
    /// has this, times its endpoint's weight by the mean of all, rounded: more than 1 where weights differ.
    pub fn budget_weight(mut self, weight: u32) -> Self {
        self.settings.budget_weight = Some(weight);
        self
    }

    /// Callers are refused early ([`Refused::Overload`](crate::Refused::Overload)) instead of timing out late: at once if their turn
    /// would come too late for a use of the usual length within their own time (`acquire_timeout`, or that of
    /// [`Pool::acquire_timeout`], which then cover waiting and use), and when the line stands. See
    /// [`weir_pool_core::Admission`] for the rules. `None` = never.
    pub fn admission(mut self, admission: impl Into<Option<AdmissionParams>>) -> Self {
        self.settings.admission = admission.into();
        self
    }

    /// The pool finds its size itself, or proposes one: see [`Adaptive`]. `max_size` is where it begins.
    pub fn adaptive(mut self, adaptive: Adaptive) -> Self {
        self.settings.adaptive = Some(adaptive);
        self
    }

    /// A connection that nobody has used for this long is checked before it is lent: a round trip. `None` = never. One that goes
    /// straight from one use to the next has not been without a use; `Duration::ZERO` checks that one as well.
    pub fn validate_after(mut self, validate_after: Option<Duration>) -> Self {
        self.settings.validate_after = validate_after;
        self.settings.validate_after_chosen = true;
        self
    }

    /// A connect is given up after this.
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.settings.connect_timeout = Some(connect_timeout);
        self
    }

    /// A pool of the connections of `manager`. It belongs to the tokio runtime in which this is called: its connects and
    /// housekeeping run there. Callers may be in other runtimes with timers, but wait in vain while that one is not driven (of one
    /// thread, and outside its `block_on`); only [`Pool::acquire_timeout`] ends by itself. When that runtime ends, the pool is
    /// closed, and connections in use are dropped where they come back. Guards may be dropped anywhere.
    ///
    /// # Errors
    /// If settings contradict each other.
    ///
    /// # Panics
    /// Outside a tokio runtime with its timers enabled.
    pub fn build<M: Manager>(self, manager: M) -> Result<Pool<M>, SettingsError> {
        Ok(Pool::start(manager, self.check()?))
    }

    /// A pool that has a connection: as [`Builder::build`], and then the first one is opened (and `min_idle` of them are begun). Fails
    /// if the server cannot be reached or refuses the credentials, so that a wrong configuration is found at the start and not
    /// by the first user. Connects are tried again until `limit` is over (paced as `backoff` says); [`Duration::ZERO`]: the first
    /// failure is the last.
    ///
    /// # Fairness
    /// Nobody else has the pool yet.
    ///
    /// # Cancel safety
    /// Dropping the future closes the pool.
    ///
    /// # Errors
    /// Contradictions, or why the last connect failed.
    ///
    /// # Panics
    /// As [`Builder::build`].
    pub async fn start<M: Manager>(self, manager: M, limit: Duration) -> Result<Pool<M>, StartError<M::Error>> {
        let pool = self.build(manager)?;
        pool.first_connection(limit).await?;
        Ok(pool)
    }

    /// What a pool has now, to be changed.
    pub(crate) fn of(settings: &Settings) -> Self {
        // A minimum that was never chosen follows the maximum.
        let min_idle = settings.min_idle_chosen.then_some(settings.min_idle);
        Self {
            settings: settings.clone(),
            min_idle,
            before: Some((settings.max_size, min_idle, settings.idle_timeout)),
        }
    }

    pub(crate) fn check(self) -> Result<Settings, SettingsError> {
        let min_idle = self.settings.max_size / 2;
        self.check_or(min_idle)
    }

    /// As [`Builder::check`], with another default of `min_idle`.
    pub(crate) fn check_or(self, min_idle: u32) -> Result<Settings, SettingsError> {
        let mut settings = self.settings;
        // A pool may have been resized since: then its minimum stays what it was, and other settings can be changed although it is
        // more than the maximum is now.
        if self.before.is_none_or(|(max_size, ..)| max_size != settings.max_size) || self.min_idle.is_some() {
            settings.min_idle = self.min_idle.unwrap_or(min_idle);
        }
        settings.min_idle_chosen = self.min_idle.is_some();
        settings.check()?;
        if self.before != Some((settings.max_size, self.min_idle, settings.idle_timeout)) {
            settings.check_sizes()?;
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_table() {
        let defaults = Builder::new().check().unwrap();
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u32;
        assert_eq!((defaults.max_size, defaults.min_idle, &*defaults.name), (2 * cores, cores, "pool"));
        let seconds = Duration::from_secs;
        let times =
            [defaults.acquire_timeout, defaults.connect_timeout(), defaults.validation_timeout, defaults.close_timeout];
        assert_eq!(times, [seconds(3), seconds(3), seconds(1), seconds(1)]);
        let kept = [defaults.idle_timeout, defaults.max_lifetime, defaults.keepalive, defaults.leak_after];
        assert_eq!(kept, [Some(seconds(600)), Some(seconds(1_800)), Some(seconds(120)), None]);
        assert_eq!(
            (defaults.lifetime_jitter, defaults.max_uses, defaults.validate_after),
            (0.1, None, Some(VALIDATE_AFTER))
        );
        let pace = (defaults.backoff, defaults.backoff_max, defaults.down_after, defaults.parallel_connects);
        assert_eq!(pace, (Duration::from_millis(50), seconds(1), seconds(5), 32));
        assert_eq!(defaults.waiters_max, 1_048_576);
        assert!(defaults.adaptive.is_none() && defaults.admission.is_none() && defaults.budget.is_none());
        let part = defaults.part(1.0);
        assert_eq!((part.floor, part.weight), (1, 1));
    }

    #[test]
    fn a_weight_in_a_budget_is_that_of_the_pool_and_of_its_endpoint() {
        let weight = |pool, endpoint| Settings { budget_weight: pool, ..Settings::default() }.part(endpoint).weight;
        assert_eq!([weight(None, 1.5), weight(Some(10), 0.5), weight(Some(10), 0.0)], [2, 5, 1]);
        assert_eq!(weight(Some(WEIGHT_MAX), 2.0), WEIGHT_MAX);
    }
}
