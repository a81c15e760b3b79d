//! The admin API: views of the log and the policy, as JSON. A policy can be tried here; it cannot be put in force.
//!
//! It is the service `admin` of the gate: every call to it has passed the same path, policy and log as any other
//! before it gets here. Nothing here can write to the log.
//!
//! | path | what |
//! |---|---|
//! | `GET /v1/records` | records by filter, in pages |
//! | `GET /v1/records/{index}` | one record's stored bytes |
//! | `GET /v1/records/{index}/proof` | that it is under the latest checkpoint, or an earlier one (C2SP tlog-proof) |
//! | `GET /v1/consistency` | that the log has only grown from one size to another |
//! | `GET /checkpoint` | the latest checkpoint (C2SP tlog-checkpoint) |
//! | `GET /tile/…` | the tree and the records, in tiles (C2SP tlog-tiles) |
//! | `GET /v1/policy` | the policy in force, and the last refusal |
//! | `GET /v1/policies/{epoch}` | the policy of that epoch, which records name |
//! | `POST /v1/policy/explain` | why a call is decided as it is, by that policy or by one that is sent along |
//! | `GET /v1/status` | how the gate stands |

pub mod policy;
pub mod problem;
mod proofs;
mod records;
mod status;
mod tiles;

use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};

use self::problem::Problem;
use crate::audit::journal::Journal;
use crate::audit::mark::keeper;
use crate::audit::passes;
use crate::audit::space::Space;
use crate::audit::storage::Store;
use crate::clock::{Clock, Timestamp};
use crate::proxy::live::{Live, Refusals};

/// What the admin API can see.
#[derive(Clone)]
pub struct Views {
    /// The log's records.
    pub store: Arc<dyn Store>,
    /// The log's head: how much of it is durable.
    pub journal: Journal,
    /// The snapshot that requests see. The snapshot holds the API, so this must not hold the snapshot.
    pub live: Weak<ArcSwap<Live>>,
    /// What was refused since.
    pub refusals: Arc<Refusals>,
    /// When the gate started.
    pub started: Timestamp,
    /// The time.
    pub clock: Clock,
    /// The room on the log's disk.
    pub space: Space,
    /// How the log's outside mark stands, if it has one.
    pub mark: Option<Arc<keeper::Status>>,
    /// How the log's verification stands.
    pub verification: Arc<passes::Status>,
    /// Room for explanations.
    pub explaining: policy::Room,
}

/// The API.
pub fn router(views: Views) -> Router {
    Router::new()
        .route("/v1/records", get(records::list))
        .route("/v1/records/{index}", get(records::show))
        .route("/v1/records/{index}/proof", get(proofs::record))
        .route("/v1/consistency", get(proofs::consistency))
        .route("/checkpoint", get(tiles::checkpoint))
        .route("/tile/{*path}", get(tiles::tile))
        .route("/v1/policy", get(policy::show))
        .route("/v1/policies/{epoch}", get(policy::kept))
        .route("/v1/policy/explain", post(policy::explain))
        .route("/v1/status", get(status::status))
        .fallback(async || {
            Problem::new(
                StatusCode::NOT_FOUND,
                "there is no such view; see /v1/records, /v1/consistency, /v1/policy, /v1/policies/{epoch}, /v1/policy/explain, /v1/status, /checkpoint, /tile/…",
            )
        })
        .method_not_allowed_fallback(async || {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "the admin API answers GET and HEAD, and POST to /v1/policy/explain: nobody edits history",
            )
        })
        .with_state(views)
}
