//! The health listener: `/livez`, `/readyz`, `/metrics`, `/.well-known/jwks.json`.
//!
//! It carries no record data and stands apart, unrecorded, so that it answers when the log cannot.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;

use super::drain::Drain;
use crate::audit::journal::Journal;
use crate::audit::mark::keeper;
use crate::audit::passes;
use crate::audit::record::Room;
use crate::audit::space::Space;
use crate::proxy::live::{Live, Refusals};

/// What the health listener tells of.
#[derive(Clone)]
pub struct Health {
    /// The log.
    pub journal: Journal,
    /// The snapshot that requests see.
    pub live: Arc<ArcSwap<Live>>,
    /// What was refused since.
    pub refusals: Arc<Refusals>,
    /// Going down.
    pub drain: Drain,
    /// The room on the log's disk.
    pub space: Space,
    /// How the log's outside mark stands, if it has one.
    pub mark: Option<Arc<keeper::Status>>,
    /// How the log's verification stands.
    pub verification: Arc<passes::Status>,
    /// The figures; `None` where another recorder was there first.
    pub metrics: Option<PrometheusHandle>,
}

/// The listener's answers.
pub fn router(health: Health) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(figures))
        .route("/.well-known/jwks.json", get(assertion_keys))
        .with_state(health)
}

/// Ready: the log takes records and its witnesses have not kept it waiting too long, its disk has room for more than the next few, and the gate is not going down. A refused
/// policy or config does not make the gate unready, since the old one serves on, nor does a mark that cannot be written,
/// nor a mismatch that is only to alarm; they stand in the detail.
async fn ready(State(health): State<Health>) -> Response {
    let live = health.live.load_full();
    let refused = |refusal: Option<Arc<crate::proxy::live::Refusal>>| {
        refusal.map(|refusal| json!({ "at": refusal.at.to_string(), "message": refusal.message }))
    };
    let (log_failed, draining) = (health.journal.has_failed(), health.drain.has_begun());
    let room = health.space.room();
    let log_stopped = health.journal.is_stopped();
    let unwitnessed = health.journal.release().denies();
    let ready = !log_failed && !log_stopped && !unwitnessed && !draining && room == Room::Ample;
    let (mark, verification) =
        (health.mark.as_ref().map(|mark| mark.standing()), health.verification.standing());
    let body = json!({
        "ready": ready,
        "draining": draining,
        "connections": health.drain.connections(),
        "in_flight": live.limits.in_flight.calls(),
        "log": {
            "failed": log_failed,
            "stopped": log_stopped,
            "unwitnessed": unwitnessed,
            "size": health.journal.size(),
            "waiting": health.journal.waiting(),
        },
        "disk": { "room": room.as_str(), "free_bytes": health.space.free() },
        "mark": mark.map(|mark| json!({ "size": mark.size, "failed": mark.failed })),
        "verification": {
            "state": verification.stage.as_str(),
            "first_bad_index": verification.mismatch.map(|mismatch| mismatch.index),
        },
        "policy": { "epoch": live.epochs.policy.to_string(), "refused": refused(health.refusals.policy.load_full()) },
        "config": { "epoch": live.epochs.config.to_string(), "refused": refused(health.refusals.config.load_full()) },
        "certificates": { "refused": refused(health.refusals.certificates.load_full()) },
        "issuers": live.authn.keys().into_iter().map(|keys| json!({
            "issuer": keys.issuer, "keys": keys.keys, "usable": keys.usable,
        })).collect::<Vec<_>>(),
    });
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

/// The public keys by which services check assertions (RFC 7517 §8.5). Whoever keeps them looks again in time to learn of a
/// key before it signs.
async fn assertion_keys(State(health): State<Health>) -> Response {
    let Some(keys) = health.live.load().assertion_keys.clone() else {
        return (StatusCode::NOT_FOUND, "no assertions are made here\n").into_response();
    };
    let headers =
        [(header::CONTENT_TYPE, "application/jwk-set+json"), (header::CACHE_CONTROL, "public, max-age=300")];
    (headers, keys).into_response()
}

async fn figures(State(health): State<Health>) -> Response {
    metrics::gauge!("portcullis_connections").set(health.drain.connections() as f64);
    metrics::gauge!("portcullis_in_flight").set(health.live.load().limits.in_flight.calls() as f64);
    metrics::gauge!("portcullis_log_waiting").set(health.journal.waiting() as f64);
    let Some(handle) = &health.metrics else {
        return (StatusCode::SERVICE_UNAVAILABLE, "no recorder\n").into_response();
    };
    handle.run_upkeep();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], handle.render()).into_response()
}
