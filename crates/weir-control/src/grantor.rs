//! The grantor's listener: where pools of other processes ask for their shares of a budget.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/budget/{name}/renew` | the share of a member, from a claim; both JSON |
//! | `DELETE /v1/budget/{name}/{member}?seq=N` | 204: it has closed everything and goes |
//! | `GET /v1/budget/{name}` | who holds what, for people |
//! | `GET /v1/budgets` | the same of all budgets |
//!
//! What is granted is decided by `weir_pool_core::budget`. Two rules are kept here: the grantor's time begins after its
//! address is bound (which only one process can), and it grants nothing any more before the address is given up. Members
//! take a refused connection for a proof that no grantor runs.
//!
//! An answer that would only repeat what the member holds is kept back for as long as the claim says (`wait_ms`, at most a tenth of
//! the lease), and given as soon as there is news: so that shares move when the load does, and not at the next renewal.
//!
//! Bounds: those of the observation listener, [`CLAIM_BYTES`] per claim, `WAITING_MAX` kept back, and the machine's numbers of members and bytes of names.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant as Clock};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{delete, get, post};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::timeout;
use weir_core::Instant;
use weir_pool_core::budget::{
    Amount, Claim, Grant, Grantor, GrantorParams, MEMBERS_MAX, Refused, WAITS_PER_LEASE, is_name,
};
use weir_telemetry::{BudgetMemberView, BudgetView};

use crate::routes::{common_fields, error};
use crate::server::{Bounds, MAX_CONNECTIONS, serve_router};

/// Bytes of a claim at most.
pub const CLAIM_BYTES: usize = 4 * 1_024;

/// Answers kept back at most, so that connections are left for others; more are given at once.
const WAITING_MAX: usize = MAX_CONNECTIONS / 2;

/// The grantor of the budgets of this process.
#[derive(Debug)]
pub struct Grantors {
    start: Clock,
    token: Option<Arc<str>>,
    /// `None` once it is stopping.
    budgets: Mutex<Option<BTreeMap<Arc<str>, Budget>>>,
}

#[derive(Debug)]
struct Budget {
    grantor: Grantor,
    claims: u64,
    refused: u64,
    /// Whom to answer: by member, with the number of its claim.
    waiting: BTreeMap<Box<str>, (u64, oneshot::Sender<Grant>)>,
}

/// An answer, now or later.
enum Answer {
    Now(Grant),
    Later(oneshot::Receiver<Grant>),
}

impl Budget {
    fn claim(&mut self, name: &str, claim: &Claim, waits: bool, now: Instant) -> Result<Answer, Refused> {
        self.claims += 1;
        let answer = if waits {
            self.grantor.handle_patient_claim(name, claim, now)
        } else {
            self.grantor.handle_claim(name, claim, now).map(Some)
        };
        self.refused += u64::from(answer.is_err());
        let answer = answer.map(|grant| {
            grant.map_or_else(
                || {
                    let (answers, answer) = oneshot::channel();
                    self.waiting.insert(name.into(), (claim.seq, answers));
                    Answer::Later(answer)
                },
                Answer::Now,
            )
        });
        self.answer(now);
        answer
    }

    /// Answers those who have waited for news, if there is any.
    fn answer(&mut self, now: Instant) {
        for (name, seq, grant) in self.grantor.poll_grants(now) {
            if let Some((_, answers)) = self.waiting.remove(&name).filter(|(waiting, _)| *waiting == seq) {
                // One that is gone says in its next claim that it holds less.
                let _ = answers.send(grant);
            }
        }
    }
}

impl Grantors {
    /// A grantor of these budgets. To be called after the address is bound: from now on it waits a lease for members that it
    /// does not know.
    pub fn new(token: Option<Arc<str>>, budgets: impl IntoIterator<Item = (Arc<str>, GrantorParams)>) -> Self {
        let budget = |(name, params)| {
            let grantor = Grantor::new(params, Instant::ZERO);
            (name, Budget { grantor, claims: 0, refused: 0, waiting: BTreeMap::new() })
        };
        let budgets = budgets.into_iter().map(budget).collect();
        Self { start: Clock::now(), token, budgets: Mutex::new(Some(budgets)) }
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.start.elapsed()
    }

    /// Grants nothing from now on.
    fn stop(&self) {
        *self.budgets.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Every budget as it is now; none once it has stopped.
    pub fn view(&self) -> Vec<BudgetView> {
        let now = self.now();
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        budgets.iter_mut().flatten().map(|(name, budget)| view(name, budget, now)).collect()
    }

    /// One that waits has no answer any more, whoever gave it up.
    fn has_room(&self) -> bool {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let budgets = budgets.iter_mut().flatten();
        let waiting = budgets.map(|(_, budget)| {
            budget.waiting.retain(|_, (_, answers)| !answers.is_closed());
            budget.waiting.len()
        });
        waiting.sum::<usize>() < WAITING_MAX
    }

    /// Does something with a budget.
    fn with<T>(&self, name: &str, f: impl FnOnce(&str, &mut Budget, Instant) -> T) -> Result<T, NoBudget> {
        let now = self.now();
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let budgets = budgets.as_mut().ok_or(NoBudget::Stopping)?;
        budgets.get_mut(name).map(|budget| f(name, budget, now)).ok_or(NoBudget::Unknown)
    }
}

/// Why there is no budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NoBudget {
    Unknown,
    Stopping,
}

impl IntoResponse for NoBudget {
    fn into_response(self) -> Response {
        match self {
            Self::Unknown => {
                let message = "no budget of this name: GET /v1/budgets lists them";
                error(StatusCode::NOT_FOUND, "no_such_budget", message)
            }
            Self::Stopping => error(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the grantor is stopping"),
        }
    }
}

fn view(name: &str, budget: &mut Budget, now: Instant) -> BudgetView {
    budget.grantor.handle_timeout(now);
    let snapshot = budget.grantor.snapshot();
    let members = snapshot.members.iter().map(|member| BudgetMemberView {
        name: member.name.to_string(),
        share: member.share,
        held: member.held,
        floor: member.floor,
        weight: member.weight,
        demand: member.demand.ceil(),
        max: member.max,
        heard_ms: u64::try_from(now.since(member.heard).as_millis()).unwrap_or(u64::MAX),
        silent: member.silent,
    });
    BudgetView {
        name: name.to_owned(),
        connections: snapshot.total,
        held: snapshot.held,
        unknown: snapshot.unknown,
        free: snapshot.free,
        floors: snapshot.floors,
        claims: budget.claims,
        refused: budget.refused,
        members: members.collect(),
    }
}

/// Serves the grantor's paths on `listener`, which nobody else may be bound to, until `shutdown` completes.
///
/// # Errors
/// The listener cannot be used by the runtime.
pub async fn serve_grantor(
    listener: std::net::TcpListener,
    grantors: Arc<Grantors>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let stopped = Arc::clone(&grantors);
    let shutdown = async move {
        shutdown.await;
        // Before the address is given up.
        stopped.stop();
    };
    serve_router(Bounds::DEFAULT, "grantor", listener, router(grantors), shutdown).await
}

fn router(grantors: Arc<Grantors>) -> Router {
    Router::new()
        .route("/v1/budgets", get(all))
        .route("/v1/budget/{name}", get(one))
        .route("/v1/budget/{name}/renew", post(renew))
        .route("/v1/budget/{name}/{member}", delete(leave))
        .fallback(async || error(StatusCode::NOT_FOUND, "not_found", "no such path: GET /v1/budgets lists the budgets"))
        .method_not_allowed_fallback(async || {
            let message = "POST .../renew claims, DELETE .../MEMBER leaves, GET shows";
            error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        })
        .layer(DefaultBodyLimit::max(CLAIM_BYTES))
        .layer(from_fn_with_state(Arc::clone(&grantors), authorize))
        .layer(map_response(common_fields))
        .with_state(grantors)
}

type Shared = State<Arc<Grantors>>;

async fn authorize(State(grantors): Shared, request: Request, next: Next) -> Response {
    if let Some(token) = &grantors.token {
        let presented = request.headers().get(header::AUTHORIZATION).map(axum::http::HeaderValue::as_bytes);
        let presented = presented.and_then(|value| value.strip_prefix(b"Bearer "));
        if !presented.is_some_and(|presented| is_same(presented, token.as_bytes())) {
            let message = "present the token of `[grantor]` as `Authorization: Bearer TOKEN`";
            let mut response = error(StatusCode::UNAUTHORIZED, "unauthorized", message);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, axum::http::HeaderValue::from_static("Bearer"));
            return response;
        }
    }
    next.run(request).await
}

/// Compares in a time that depends on the lengths only.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0, |differing, (a, b)| std::hint::black_box(differing | (a ^ b)));
    a.len() == b.len() && differing == 0
}

/// Fields that are not known are passed over: a member may be newer than its grantor.
#[derive(Deserialize)]
struct ClaimBody {
    member: String,
    seq: u64,
    held: u32,
    floor_held: u32,
    floor: u32,
    weight: u32,
    demand: f64,
    max: u32,
    /// For how long an answer without news may be kept back.
    #[serde(default)]
    wait_ms: u64,
}

/// Who claims, what, and for how many milliseconds an answer without news may be kept back; or what is wrong with it: a code and its
/// words.
pub(crate) fn read_claim(body: &[u8]) -> Result<(String, Claim, u64), (&'static str, String)> {
    let body: ClaimBody =
        serde_json::from_slice(body).map_err(|wrong| ("bad_claim", format!("not a claim: {wrong}")))?;
    let ClaimBody { member, seq, held, floor_held, floor, weight, demand, max, wait_ms } = body;
    if !is_name(&member) {
        return Err(("bad_member", "`member` has 1 to 128 letters, digits, `.`, `_` or `-`".to_owned()));
    }
    // A fraction that is no number of connections is read as the nearest that is one.
    let demand = Amount::milli((demand * 1_000.0).clamp(0.0, f64::from(u32::MAX)) as u32);
    Ok((member, Claim { seq, held, floor_held, floor, weight, demand, max }, wait_ms))
}

async fn renew(State(grantors): Shared, Path(name): Path<String>, body: Bytes) -> Response {
    let (member, claim, wait_ms) = match read_claim(&body) {
        Ok(claim) => claim,
        Err((code, words)) => return error(StatusCode::BAD_REQUEST, code, &words),
    };
    let seq = claim.seq;
    let waits = wait_ms > 0 && grantors.has_room();
    let answer = grantors.with(&name, |_, budget, now| budget.claim(&member, &claim, waits, now));
    let grant = match answer {
        Ok(Ok(Answer::Now(grant))) => Ok(grant),
        Ok(Ok(Answer::Later(answer))) => grantors.later(&name, &member, seq, answer, wait_ms).await,
        Ok(Err(refused)) => Err(refusal(refused)),
        Err(none) => Err(none.into_response()),
    };
    grant.map_or_else(|refusal| refusal, |grant| Json(grant_json(&grant)).into_response())
}

impl Grantors {
    /// The answer to a claim that waits for news, or that it has waited for long enough.
    async fn later(
        &self,
        budget: &str,
        member: &str,
        seq: u64,
        mut answer: oneshot::Receiver<Grant>,
        wait_ms: u64,
    ) -> Result<Grant, Response> {
        let most = self.with(budget, |_, budget, _| budget.grantor.params().lease / WAITS_PER_LEASE);
        let most = most.map_err(NoBudget::into_response)?;
        if let Ok(granted) = timeout(most.min(Duration::from_millis(wait_ms)), &mut answer).await {
            // Without an answer: the grantor is stopping, or the member has claimed again.
            return match (granted, self.with(budget, |_, _, _| ())) {
                (Ok(grant), _) => Ok(grant),
                (Err(_), Err(none)) => Err(none.into_response()),
                (Err(_), Ok(())) => Err(refusal(Refused::Stale)),
            };
        }
        let granted = self.with(budget, |_, budget, now| {
            let granted = budget.grantor.handle_impatience(member, seq, now);
            budget.answer(now);
            granted
        });
        // It may have come in the meantime.
        let granted = granted.map_err(NoBudget::into_response)?.or_else(|| answer.try_recv().ok());
        granted.ok_or_else(|| refusal(Refused::Stale))
    }
}

fn refusal(refused: Refused) -> Response {
    match refused {
        Refused::Stale => {
            let message = "a later claim of this member has been read: `seq` has to grow";
            error(StatusCode::CONFLICT, "stale_claim", message)
        }
        Refused::Full => {
            let message = format!("this budget has {MEMBERS_MAX} members");
            error(StatusCode::SERVICE_UNAVAILABLE, "too_many_members", &message)
        }
    }
}

pub(crate) fn grant_json(grant: &Grant) -> serde_json::Value {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    json!({
        "share": grant.share,
        "floor": grant.floor,
        "lease_ms": millis(grant.lease),
        "floor_lease_ms": millis(grant.floor_lease),
        "renew_after_ms": millis(grant.renew_after),
    })
}

#[derive(Deserialize)]
struct Leave {
    seq: u64,
}

async fn leave(
    State(grantors): Shared,
    Path((name, member)): Path<(String, String)>,
    Query(Leave { seq }): Query<Leave>,
) -> Response {
    let left = grantors.with(&name, |_, budget, now| {
        let left = budget.grantor.handle_leave(&member, seq, now);
        budget.answer(now);
        left
    });
    match left {
        Ok(true) => StatusCode::NO_CONTENT.into_response(),
        Ok(false) => error(StatusCode::NOT_FOUND, "no_such_member", "no member of this name, or it has claimed since"),
        Err(none) => none.into_response(),
    }
}

async fn one(State(grantors): Shared, Path(name): Path<String>) -> Response {
    match grantors.with(&name, view) {
        Ok(view) => Json(view).into_response(),
        Err(none) => none.into_response(),
    }
}

async fn all(State(grantors): Shared) -> Response {
    Json(json!({ "budgets": grantors.view() })).into_response()
}

#[cfg(test)]
mod tests;
