//! The pools of many processes: each is a member that claims its share from a grantor (`weir` with a `[budget.NAME]`), over HTTP.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant as TokioInstant, sleep_until, timeout};
use weir_core::Instant;
use weir_pool_core::budget::{Claim, Demand, Grant, Member, MemberParams, NAME_BYTES_MAX, is_name};

use super::client::{self, Failure};
use super::{Governed, LOOK, LOOK_SOON};
use crate::settings::SettingsError;

/// Bytes that are left for what makes a member's name unique.
const SUFFIX_BYTES: usize = 17;
/// Wait for the answer to a goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// A budget that a running `weir` grants: `[budget.NAME]` in its configuration.
///
/// ```
/// use weir_pool::{Budget, RemoteBudget};
///
/// # fn main() -> Result<(), weir_pool::SettingsError> {
/// let budget: Budget = RemoteBudget::new("127.0.0.1:9902", "orders-db")?.member("checkout")?.into();
/// # let _ = budget;
/// # Ok(()) }
/// ```
///
/// # What happens when the grantor is away
/// Nothing, if its address refuses connections: the share is kept as long as that is so. If there is only silence, the pool
/// falls back to its floor after half a lease, and to nothing near the end of the lease of floors. A pool that starts while the
/// grantor is away has no connections until it has been granted some, unless [`RemoteBudget::start_with`] says otherwise.
#[derive(Clone)]
pub struct RemoteBudget {
    at: String,
    name: String,
    member: String,
    token: Option<String>,
    start: u32,
    refusal_is_proof: bool,
}

impl RemoteBudget {
    /// The budget `name` of the grantor at `at`: `HOST:PORT`.
    ///
    /// # Errors
    /// If `at` has no port, or `name` has other characters than letters, digits, `.`, `_` and `-`.
    pub fn new(at: impl Into<String>, name: impl Into<String>) -> Result<Self, SettingsError> {
        let (at, name) = (at.into(), name.into());
        let port = at.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(1..))) || at.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
            return Err(SettingsError::new("budget", format!("{at:?} is not HOST:PORT")));
        }
        if !is_name(&name) {
            return Err(SettingsError::new("budget", format!("{name:?} is not the name of a budget")));
        }
        Ok(Self { at, name, member: "pool".to_owned(), token: None, start: 0, refusal_is_proof: true })
    }

    /// What this process is called at the grantor, for people; a random suffix makes it unique. Default: `pool`.
    ///
    /// # Errors
    /// If it is too long, or has other characters than letters, digits, `.`, `_` and `-`.
    pub fn member(mut self, member: impl Into<String>) -> Result<Self, SettingsError> {
        self.member = member.into();
        if !is_name(&self.member) || self.member.len() > NAME_BYTES_MAX - SUFFIX_BYTES {
            return Err(SettingsError::new("budget", format!("{:?} is not the name of a member", self.member)));
        }
        Ok(self)
    }

    /// The token of the grantor's configuration.
    ///
    /// # Errors
    /// If it has characters that cannot stand in a header field.
    pub fn token(mut self, token: impl Into<String>) -> Result<Self, SettingsError> {
        let token = token.into();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SettingsError::new("budget", "a token consists of visible ASCII characters".to_owned()));
        }
        self.token = Some(token);
        Ok(self)
    }

    /// A pool may open so many connections before it has been granted any, for a start while the grantor is away. The grantor
    /// does not know of them: set its `connections` so much lower, for every process that may start then. Default: 0.
    #[must_use]
    pub fn start_with(mut self, connections: u32) -> Self {
        self.start = connections;
        self
    }

    /// Whether a refused connection proves that the grantor does not run, so that shares are kept. Not so if something
    /// between the two refuses in its place: a firewall that rejects, a virtual address that forwards. Default: true.
    #[must_use]
    pub fn refusal_is_proof(mut self, proof: bool) -> Self {
        self.refusal_is_proof = proof;
        self
    }
}

impl fmt::Debug for RemoteBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the token.
        write!(f, "RemoteBudget({} at {} for {})", self.name, self.at, self.member)
    }
}

type Answer = Pin<Box<dyn Future<Output = (u64, Result<Grant, Failure>)> + Send>>;

/// Claims for a pool as long as it lives, then says goodbye.
pub(super) async fn keep(remote: Arc<RemoteBudget>, pool: Weak<dyn Governed>) {
    let start = TokioInstant::now();
    let now = || Instant::ZERO + start.elapsed();
    let Some((pool_name, part)) = pool.upgrade().map(|pool| (pool.name(), pool.load().part)) else { return };
    let name = format!("{}-{:016x}", remote.member, RandomState::new().hash_one(std::process::id()));
    let params = MemberParams {
        floor: part.floor,
        weight: part.weight,
        start: remote.start,
        refusal_is_proof: remote.refusal_is_proof,
    };
    let mut state = Keeping {
        machine: Member::new(params, now()),
        demand: Demand::new(),
        looked: Instant::ZERO,
        closing: false,
        pool: pool_name,
        trouble: false,
    };
    let mut answer: Option<Answer> = None;
    loop {
        // Not held across the wait: the last handle closes the pool.
        let Some(strong) = pool.upgrade() else { break };
        let turn = state.turn(&*strong, now());
        drop(strong);
        if matches!(turn, Turn::Over) {
            break;
        }
        if let Turn::Claim(claim) = turn {
            let (remote, name, within) = (Arc::clone(&remote), name.clone(), state.machine.answer_within());
            let patience = state.machine.patience();
            // One that was under way is given up.
            answer = Some(Box::pin(async move {
                let granted = timeout(within, client::claim(&remote.to(), &name, &claim, patience)).await;
                (claim.seq, granted.unwrap_or_else(|_| Err(Failure::Other("no answer in time".to_owned()))))
            }));
        }
        let wake = start + (state.wake_at() - Instant::ZERO);
        tokio::select! {
            (seq, granted) = async { match answer.as_mut() { Some(answer) => answer.await, None => std::future::pending().await } } => {
                answer = None;
                state.answered(seq, granted, now());
            }
            () = sleep_until(wake) => {}
        }
    }
    drop(answer);
    let seq = state.machine.leave();
    let _ = timeout(GOODBYE, client::leave(&remote.to(), &name, seq)).await;
}

/// What a turn came to.
enum Turn {
    Wait,
    Claim(Claim),
    /// The pool is closed and empty.
    Over,
}

/// The state of [`keep`].
struct Keeping {
    machine: Member,
    demand: Demand,
    looked: Instant,
    /// More is open than the share allows: others wait for it.
    closing: bool,
    pool: Arc<str>,
    /// The log says that the grantor is away.
    trouble: bool,
}

impl Keeping {
    /// Looks at the pool, applies its share, and says what to claim.
    fn turn(&mut self, pool: &dyn Governed, now: Instant) -> Turn {
        let before = self.machine.share();
        self.machine.handle_timeout(now);
        if self.machine.share() < before {
            let (share, silence) = (self.machine.share(), self.machine.silence(now));
            tracing::warn!(
                pool = &*self.pool,
                share,
                ?silence,
                "the grantor of the budget is silent: the pool falls back"
            );
        }
        let open = pool.limit(self.machine.share());
        let load = pool.load();
        if load.over {
            return Turn::Over;
        }
        self.closing = open > self.machine.share();
        if now >= self.looked + LOOK || self.closing {
            self.looked = now;
            self.demand.record(load.busy_nanos, load.waiting, load.hold, now);
        }
        let demand = self.demand.get().max(load.least());
        self.machine.set_part(load.part.floor, load.part.weight);
        self.machine.poll_claim(open, demand, load.max, now).map_or(Turn::Wait, Turn::Claim)
    }

    fn wake_at(&self) -> Instant {
        let look = if self.closing { LOOK_SOON } else { LOOK };
        self.machine.poll_timeout().min(self.looked + look).max(self.looked)
    }

    fn answered(&mut self, seq: u64, granted: Result<Grant, Failure>, now: Instant) {
        match granted {
            Ok(grant) => {
                self.machine.handle_grant(seq, &grant, now);
                if std::mem::take(&mut self.trouble) {
                    tracing::info!(pool = &*self.pool, share = grant.share, "the grantor of the budget answers again");
                }
            }
            Err(failure) => {
                match &failure {
                    Failure::Refused => self.machine.handle_refused(seq, now),
                    Failure::Other(_) => self.machine.handle_silence(seq, now),
                }
                if !std::mem::replace(&mut self.trouble, true) {
                    tracing::warn!(pool = &*self.pool, %failure, "no answer from the grantor of the budget");
                }
            }
        }
    }
}

impl RemoteBudget {
    fn to(&self) -> client::To<'_> {
        client::To { at: &self.at, budget: &self.name, token: self.token.as_deref() }
    }
}
