//! The paths and their answers.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::json;

use crate::accept::exposition;
use crate::{Readiness, View};

type Shared = State<Arc<dyn View>>;

/// All routes.
pub(crate) fn router(view: Arc<dyn View>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/live", get(live))
        .route("/ready", get(ready))
        .route("/clusters", get(clusters))
        .route("/clusters/{name}", get(cluster))
        .route("/version", get(version))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(map_response(common_fields))
        .with_state(view)
}

async fn metrics(State(view): Shared, headers: HeaderMap) -> Response {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = exposition(&accept.collect::<Vec<_>>().join(","));
    let text = weir_telemetry::render(view.sources(), format);
    ([(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")], text).into_response()
}

async fn live() -> Response {
    Json(json!({ "live": true })).into_response()
}

async fn ready(State(view): Shared) -> Response {
    match view.readiness() {
        Readiness::Ready => Json(json!({ "ready": true })).into_response(),
        Readiness::NotReady(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "ready": false, "reason": reason }))).into_response()
        }
    }
}

async fn clusters(State(view): Shared) -> Response {
    Json(json!({ "clusters": view.clusters() })).into_response()
}

async fn cluster(State(view): Shared, Path(name): Path<String>) -> Response {
    match view.cluster(&name) {
        Some(cluster) => Json(cluster).into_response(),
        None => error(StatusCode::NOT_FOUND, "no_such_cluster", "no cluster of this name: see /clusters"),
    }
}

async fn version(State(view): Shared) -> Response {
    let build = view.build();
    Json(json!({ "name": "weir", "version": build.version, "commit": build.commit })).into_response()
}

async fn index() -> Response {
    const PAGE: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Weir</title></head>\n\
        <body><h1>Weir</h1>\n<ul>\n\
        <li><a href=\"/metrics\">/metrics</a>: metrics for Prometheus</li>\n\
        <li><a href=\"/clusters\">/clusters</a>: clusters and endpoints as JSON; /clusters/NAME for one</li>\n\
        <li><a href=\"/ready\">/ready</a>: 200 while new traffic is welcome, else 503</li>\n\
        <li><a href=\"/live\">/live</a>: 200 while the process answers</li>\n\
        <li><a href=\"/version\">/version</a>: the build</li>\n\
        </ul></body></html>\n";
    ([(header::CONTENT_SECURITY_POLICY, "default-src 'none'")], Html(PAGE)).into_response()
}

async fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "not_found", "no such path: / lists the paths")
}

async fn method_not_allowed() -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this listener is read-only: use GET or HEAD")
}

pub(crate) fn error(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "error": code, "message": message }))).into_response()
}

pub(crate) async fn common_fields(mut response: Response) -> Response {
    let fields = response.headers_mut();
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
