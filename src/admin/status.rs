//! How the gate stands.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Views;
use super::problem::Problem;
use crate::audit::passes::Standing;
use crate::proxy::live::Refusal;

/// `GET /v1/status`: the log, the epochs, the issuers' keys.
pub(super) async fn status(State(views): State<Views>) -> Result<Json<Value>, Problem> {
    let live = views.live.upgrade().ok_or_else(going)?.load_full();
    let keys: Vec<Value> = live
        .authn
        .keys()
        .into_iter()
        .map(|keys| {
            json!({
                "issuer": keys.issuer,
                "keys": keys.keys,
                "place": keys.place,
                "seen": keys.seen.map(|at| at.to_string()),
                "usable": keys.usable,
                "last_failure": keys.last_failure,
            })
        })
        .collect();
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started": views.started.to_string(),
        "now": views.clock.now().to_string(),
        "log": {
            "origin": views.journal.origin().to_string(),
            "size": views.journal.size(),
            "waiting": views.journal.waiting(),
            "failed": views.journal.has_failed(),
            "stopped": views.journal.is_stopped(),
        },
        "disk": { "room": views.space.room().as_str(), "free_bytes": views.space.free() },
        "mark": views.mark.as_ref().map(|mark| {
            let standing = mark.standing();
            json!({ "size": standing.size, "failed": standing.failed })
        }),
        "verification": verification(views.verification.standing()),
        "policy": { "epoch": live.epochs.policy.to_string(), "refused": views.refusals.policy.load().as_deref().map(refusal) },
        "config": { "epoch": live.epochs.config.to_string(), "refused": views.refusals.config.load().as_deref().map(refusal) },
        "certificates": { "refused": views.refusals.certificates.load().as_deref().map(refusal) },
        "issuers": keys,
    })))
}

fn verification(standing: Standing) -> Value {
    json!({
        "state": standing.stage.as_str(),
        "at": standing.at,
        "of": standing.of,
        "passes": standing.passes,
        "last_pass": standing.last_pass.map(|pass| json!({
            "at": pass.at.to_string(),
            "records": pass.records,
            "root": STANDARD.encode(pass.root.0),
        })),
        "mismatch": standing.mismatch.map(|mismatch| json!({
            "at": mismatch.at.to_string(),
            "first_bad_index": mismatch.index,
            "proven": mismatch.proven,
            "fault": mismatch.what,
        })),
    })
}

pub(super) fn refusal(refusal: &Refusal) -> Value {
    json!({ "at": refusal.at.to_string(), "message": refusal.message })
}

pub(super) fn going() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the gate is shutting down")
}
