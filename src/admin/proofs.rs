//! Proofs over the log: that a record is under a checkpoint, that the log has only grown.

use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Views;
use super::problem::Problem;
use super::records::failed;
use crate::audit::checkpoint::Checkpoint;
use crate::audit::merkle::proof::MakeError;
use crate::audit::tiles::{self, ProveError};

/// `GET /v1/records/{index}/proof?size=`: a C2SP tlog-proof, which has no media type of its own, under the latest
/// checkpoint or the kept one of that size.
pub(super) async fn record(
    State(views): State<Views>,
    Path(index): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let index = whole("an index", &index)?;
    let [size] = sizes(query.as_deref(), ["size"])?;
    let proof = prove(move || {
        let latest = views.journal.checkpoint();
        let note = match size {
            None => latest.to_string(),
            Some(size) => tiles::checkpoint_of(&*views.store, size, &latest)?
                .ok_or(ProveError::NoCheckpoint { size })?,
        };
        tiles::prove(&*views.store, index, note)
    })
    .await?;
    Ok(answer("text/plain; charset=utf-8", proof.to_text()))
}

/// `GET /v1/consistency?from=&to=`; without `to`, up to the latest checkpoint.
pub(super) async fn consistency(
    State(views): State<Views>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let [from, to] = sizes(query.as_deref(), ["from", "to"])?;
    let from = from.ok_or_else(|| bad("from is missing: the size of a checkpoint you have"))?;
    let latest = views.journal.checkpoint();
    let size = Checkpoint::stated(latest.as_bytes()).map_or(0, |(size, _)| size);
    let to = to.unwrap_or(size);
    if from > to || to > size {
        return Err(bad(format!(
            "from must be at most to, and to at most {size}, the latest checkpoint's size"
        )));
    }
    let origin = views.journal.origin().to_string();
    let proof = prove(move || tiles::prove_growth(&*views.store, (from, to), &origin, &latest)).await?;
    Ok(answer("application/json", proof.to_json()))
}

fn answer(content_type: &'static str, body: String) -> Response {
    ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

/// Makes a proof on a thread where it may block.
async fn prove<T: Send + 'static>(
    make: impl FnOnce() -> Result<T, ProveError> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(make).await {
        Ok(Ok(proof)) => Ok(proof),
        Ok(Err(ProveError::Make(MakeError::NoSuchLeaf { index, size }))) => Err(Problem::new(
            StatusCode::NOT_FOUND,
            format!("there is no record {index} under that checkpoint: it covers {size} records, from 0 on"),
        )),
        Ok(Err(error @ ProveError::NoCheckpoint { .. })) => {
            let detail = format!("{error}; leave size out for the latest");
            Err(Problem::new(StatusCode::NOT_FOUND, detail))
        }
        Ok(Err(ProveError::Make(error @ MakeError::Backwards { .. }))) => Err(bad(error.to_string())),
        Ok(Err(error @ (ProveError::Make(MakeError::Fetch(_)) | ProveError::Damaged(_)))) => {
            Err(failed(&error))
        }
        Err(error) => Err(failed(&error)),
    }
}

/// The sizes that a query string names.
fn sizes<const N: usize>(query: Option<&str>, names: [&str; N]) -> Result<[Option<u64>; N], Problem> {
    let mut sizes = [None; N];
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let place = names.iter().zip(&mut sizes).find(|(known, _)| **known == name);
        let Some((known, size)) = place else {
            return Err(bad(format!("there is no parameter {name:?}; there is {}", names.join(", "))));
        };
        if size.replace(whole(known, &value)?).is_some() {
            return Err(bad(format!("{known} is there twice")));
        }
    }
    Ok(sizes)
}

fn whole(what: &str, text: &str) -> Result<u64, Problem> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| bad(format!("{what} is a whole number from 0 on")))
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}
