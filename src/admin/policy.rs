//! The policy in force, and decisions explained by it or by a candidate that is sent along. A candidate is loaded, asked and
//! dropped: policy files are the only way into force.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::Views;
use super::problem::Problem;
use super::records::{failed, look};
use super::status::{going, refusal};
use crate::access::path::Tolerance;
use crate::audit::hash::Hash;
use crate::policy::{Call, Explanation, LoadError, PathForms, Policy, Text, Texts};
use crate::proxy::live::Live;

/// Longest question, bytes, a candidate policy included.
const MOST_BYTES: usize = 1 << 20;
/// Longest wait for an explanation.
const DEADLINE: Duration = Duration::from_secs(10);
/// Explanations worked on at once; one that is given up on keeps its place until it is done.
const AT_ONCE: usize = 2;
/// Rows that do not match: told unless asked otherwise, and at most.
const NEAR: usize = 3;
const MOST_NEAR: usize = 100;

/// Room for explanations, which take time and memory that nobody waits for in vain. Clones are one.
#[derive(Clone, Debug)]
pub struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

/// `GET /v1/policy`: the policy in force, when it was loaded, and the last refusal.
pub(super) async fn show(State(views): State<Views>) -> Result<Json<Value>, Problem> {
    let live = views.live.upgrade().ok_or_else(going)?.load_full();
    let policy = live.gate.policy();
    let counts = policy.counts();
    let (model, rows) = policy.files();
    Ok(Json(json!({
        "epoch": live.epochs.policy.to_string(),
        "loaded": live.policy_loaded.to_string(),
        "model": model,
        "files": rows,
        "matcher": policy.model().matcher,
        "effect": policy.model().effect.as_str(),
        "rules": counts.rules,
        "links": counts.links,
        "compiled": policy.is_compiled(),
        "refused": views.refusals.policy.load().as_deref().map(refusal),
    })))
}

/// `GET /v1/policies/{epoch}`: the policy of that epoch, as it was loaded.
pub(super) async fn kept(State(views): State<Views>, Path(epoch): Path<String>) -> Result<Response, Problem> {
    let epoch = Hash::from_hex(epoch.as_bytes()).ok_or_else(|| {
        Problem::new(StatusCode::BAD_REQUEST, "an epoch is 64 hex digits in lower case, as records name it")
    })?;
    let piece = look(move || views.store.policy(epoch)).await?.ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, format!("no policy of epoch {epoch} is kept with this log"))
    })?;
    let texts = Texts::read(&piece).filter(|_| Hash::of(&piece) == epoch);
    let texts =
        texts.ok_or_else(|| failed(&format_args!("what is kept under {epoch} is not that policy")))?;
    let answer = json!({ "epoch": epoch.to_string(), "model": texts.model, "policies": texts.policies });
    // It never changes; but who may read it can.
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}

/// `POST /v1/policy/explain`: why a call is decided as it is.
pub(super) async fn explain(State(views): State<Views>, body: Body) -> Result<Json<Value>, Problem> {
    let asked = Asked::read(body).await?;
    let live = views.live.upgrade().ok_or_else(going)?.load_full();
    let room = views.explaining.clone();
    room.work(DEADLINE, move || asked.explain(&live)).await?.map(Json)
}

/// What is asked: a call, and perhaps by which policy.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default = "anonymous")]
    user: String,
    #[serde(default)]
    roles: Vec<String>,
    service: String,
    method: String,
    path: String,
    #[serde(default)]
    host: String,
    #[serde(default = "localhost")]
    ip: IpAddr,
    #[serde(default = "near")]
    near: usize,
    candidate: Option<Candidate>,
}

/// A policy to try.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Candidate {
    model: String,
    policies: Vec<String>,
}

fn anonymous() -> String {
    "anonymous".to_owned()
}

const fn localhost() -> IpAddr {
    IpAddr::V4(Ipv4Addr::LOCALHOST)
}

const fn near() -> usize {
    NEAR
}

impl Asked {
    async fn read(body: Body) -> Result<Self, Problem> {
        let bytes = to_bytes(body, MOST_BYTES).await.map_err(|_| {
            let detail = format!("the question is longer than {MOST_BYTES} bytes, or did not come whole");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
        })?;
        let asked: Self = serde_json::from_slice(&bytes).map_err(|error| {
            let detail = format!(
                "expected a JSON object with service, method and path, and perhaps user, roles, host, ip, near and \
                 candidate: {error}"
            );
            Problem::new(StatusCode::BAD_REQUEST, detail)
        })?;
        if asked.near > MOST_NEAR {
            return Err(Problem::new(StatusCode::BAD_REQUEST, format!("near is at most {MOST_NEAR}")));
        }
        Ok(asked)
    }

    /// Explains by the candidate, or else by the policy in force. Blocks.
    fn explain(self, live: &Live) -> Result<Value, Problem> {
        let services = || live.front.iter().chain(live.admin.iter());
        let candidate = match &self.candidate {
            Some(candidate) => {
                let forms = PathForms::granted(services().map(|route| route.tolerance));
                Some(candidate.load(forms).map_err(|error| {
                    let detail = format!("the candidate does not hold:\n{error}");
                    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
                })?)
            }
            None => None,
        };
        let policy = candidate.as_ref().unwrap_or_else(|| live.gate.policy());
        let known = services().find(|route| *route.service == *self.service);
        let granted = known.map_or_else(Tolerance::default, |route| route.tolerance);
        let unknown = known.is_none().then(|| format!("there is no service {}", self.service));
        let near = self.near;
        let mut explained = Explanation::of(policy, self.call(), granted, near);
        explained.notes.extend(unknown);
        let mut told = explained.json();
        if let Some(told) = told.as_object_mut() {
            told.insert("policy".to_owned(), policy.epoch().to_string().into());
            told.insert("in_force".to_owned(), (policy.epoch() == live.epochs.policy).into());
        }
        Ok(told)
    }

    fn call(self) -> Call {
        let Self { user, roles, service, method, path, host, ip, near: _, candidate: _ } = self;
        Call { user, roles, service, method, path, host, ip }
    }
}

impl Candidate {
    fn load(&self, forms: PathForms) -> Result<Policy, LoadError> {
        let text = |name: String, text: &str| Text { name, text: text.to_owned() };
        let policies: Vec<Text> = self
            .policies
            .iter()
            .enumerate()
            .map(|(at, policy)| text(format!("candidate.policies[{at}]"), policy))
            .collect();
        Policy::load_text(&text("candidate.model".to_owned(), &self.model), &policies, forms)
    }
}

impl Room {
    /// Does `work` where it may block, and waits for it no longer than `deadline`, the wait for room included.
    async fn work<T: Send + 'static>(
        self,
        deadline: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let done = async {
            let place = self.0.acquire_owned().await.map_err(|_| going())?;
            let work = tokio::task::spawn_blocking(move || {
                let _place = place;
                work()
            });
            work.await.map_err(|error| {
                tracing::error!(%error, "an explanation failed");
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the explanation failed")
            })
        };
        tokio::time::timeout(deadline, done).await.unwrap_or_else(|_| {
            let detail =
                format!("no explanation within {} s; ask `portcullis policy explain`", deadline.as_secs());
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_is_read_whole_or_refused() {
        let read = |text: &str| Asked::read(Body::from(text.to_owned()));
        let asked = read(r#"{"service":"app","method":"GET","path":"/"}"#).await.unwrap();
        assert_eq!((asked.user.as_str(), asked.near, asked.ip), ("anonymous", NEAR, localhost()));
        for bad in [
            "",
            "[]",
            r#"{"service":"app","method":"GET"}"#,
            r#"{"service":"app","method":"GET","path":"/","token":"x"}"#,
            r#"{"service":"app","method":"GET","path":"/","ip":"x"}"#,
            r#"{"service":"app","method":"GET","path":"/","near":101}"#,
            r#"{"service":"app","method":"GET","path":"/","candidate":{"model":""}}"#,
        ] {
            assert!(read(bad).await.is_err(), "{bad}");
        }
        let long =
            format!(r#"{{"service":"app","method":"GET","path":"/","user":"{}"}}"#, "x".repeat(MOST_BYTES));
        let refused = axum::response::IntoResponse::into_response(read(&long).await.unwrap_err());
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn nobody_waits_beyond_the_deadline_and_work_given_up_on_keeps_its_place() {
        let room = Room::default();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let ended = Arc::new(std::sync::Mutex::new(ended));
        for _ in 0..AT_ONCE {
            let ended = Arc::clone(&ended);
            let stuck = room.clone().work(Duration::from_millis(1), move || ended.lock().unwrap().recv());
            assert!(stuck.await.is_err());
        }
        assert_eq!(room.0.available_permits(), 0);
        let crowded = room.clone().work(Duration::from_millis(1), || ());
        assert!(crowded.await.is_err(), "there is no room");
        drop(end);
        assert!(room.work(Duration::from_secs(60), || ()).await.is_ok());
    }
}
