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
//! Bounds: those of the observation listener, [`CLAIM_BYTES`] per claim, and the machine's numbers of members and bytes of names.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant as Clock;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{delete, get, post};
use serde::Deserialize;
use serde_json::json;
use weir_core::Instant;
use weir_pool_core::budget::{Amount, Claim, Grant, Grantor, GrantorParams, MEMBERS_MAX, Refused, is_name};
use weir_telemetry::{BudgetMemberView, BudgetView};

use crate::routes::{common_fields, error};
use crate::server::{Bounds, serve_router};

/// Bytes of a claim at most.
pub const CLAIM_BYTES: usize = 4 * 1_024;

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
}

impl Grantors {
    /// A grantor of these budgets. To be called after the address is bound: from now on it waits a lease for members that it
    /// does not know.
    pub fn new(token: Option<Arc<str>>, budgets: impl IntoIterator<Item = (Arc<str>, GrantorParams)>) -> Self {
        let budget =
            |(name, params)| (name, Budget { grantor: Grantor::new(params, Instant::ZERO), claims: 0, refused: 0 });
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimBody {
    member: String,
    seq: u64,
    held: u32,
    floor_held: u32,
    floor: u32,
    weight: u32,
    demand: f64,
    max: u32,
}

/// Who claims, and what; or what is wrong with it: a code and its words.
pub(crate) fn read_claim(body: &[u8]) -> Result<(String, Claim), (&'static str, String)> {
    let body: ClaimBody =
        serde_json::from_slice(body).map_err(|wrong| ("bad_claim", format!("not a claim: {wrong}")))?;
    let ClaimBody { member, seq, held, floor_held, floor, weight, demand, max } = body;
    if !is_name(&member) {
        return Err(("bad_member", "`member` has 1 to 128 letters, digits, `.`, `_` or `-`".to_owned()));
    }
    // A fraction that is no number of connections is read as the nearest that is one.
    let demand = Amount::milli((demand * 1_000.0).clamp(0.0, f64::from(u32::MAX)) as u32);
    Ok((member, Claim { seq, held, floor_held, floor, weight, demand, max }))
}

async fn renew(State(grantors): Shared, Path(name): Path<String>, body: Bytes) -> Response {
    let (member, claim) = match read_claim(&body) {
        Ok(claim) => claim,
        Err((code, words)) => return error(StatusCode::BAD_REQUEST, code, &words),
    };
    let answer = grantors.with(&name, |_, budget, now| {
        budget.claims += 1;
        let answer = budget.grantor.handle_claim(&member, &claim, now);
        budget.refused += u64::from(answer.is_err());
        answer
    });
    match answer {
        Ok(Ok(grant)) => Json(grant_json(&grant)).into_response(),
        Ok(Err(Refused::Stale)) => {
            error(StatusCode::CONFLICT, "stale_claim", "a later claim of this member has been read: `seq` has to grow")
        }
        Ok(Err(Refused::Full)) => {
            let message = format!("this budget has {MEMBERS_MAX} members");
            error(StatusCode::SERVICE_UNAVAILABLE, "too_many_members", &message)
        }
        Err(none) => none.into_response(),
    }
}

pub(crate) fn grant_json(grant: &Grant) -> serde_json::Value {
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
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
    match grantors.with(&name, |_, budget, now| budget.grantor.handle_leave(&member, seq, now)) {
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
