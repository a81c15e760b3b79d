//! The log as C2SP tlog-tiles (<https://c2sp.org/tlog-tiles>) has it: the latest checkpoint, the tree in tiles, the
//! records in bundles.

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Views;
use super::problem::Problem;
use super::records::look;
use crate::audit::merkle::tile::Tile;
use crate::audit::tiles;

/// `GET /checkpoint`
pub(super) async fn checkpoint(State(views): State<Views>) -> Response {
    let note = views.journal.shown_checkpoint();
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (headers, note.to_string()).into_response()
}

/// `GET /tile/<L>/<N>[.p/<W>]`, `GET /tile/entries/<N>[.p/<W>]`
pub(super) async fn tile(State(views): State<Views>, Path(path): Path<String>) -> Result<Response, Problem> {
    let tile =
        Tile::parse(&path).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let size = views.journal.size();
    if !tile.is_in(size) {
        let detail = format!("the log, of {size} records, has no tile {tile}");
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    }
    let bytes = look(move || tiles::read(&*views.store, &tile)).await?;
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, IMMUTABLE)];
    Ok((headers, bytes).into_response())
}

/// What a tile's path names never changes, a partial one's no more than a full one's. Only its reader may keep it,
/// though: a cache that others share would answer in the place of the policy and the log.
const IMMUTABLE: &str = "private, max-age=31536000, immutable";
