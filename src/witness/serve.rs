//! The HTTP around a witness: `POST /add-checkpoint`, bounded in bytes, time and number.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::judge::{Answer, Witness};

/// Where checkpoints are sent to.
pub const PATH: &str = "/add-checkpoint";

/// Serves on `listener` until dropped.
pub async fn serve(witness: Arc<Witness>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Who comes when all places are taken waits with the system until one is free.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(AFTER_ERROR).await;
                continue;
            }
        };
        let witness = Arc::clone(&witness);
        tokio::spawn(async move {
            connection(witness, stream).await;
            drop(place);
        });
    }
}

/// A connection serves as many requests as it likes within its time.
async fn connection(witness: Arc<Witness>, stream: TcpStream) {
    let service = service_fn(move |request| {
        let witness = Arc::clone(&witness);
        async move { Ok::<_, Infallible>(answer(witness, request).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_TIMEOUT, serving).await {
        tracing::debug!(%error, "a connection ended in error");
    }
}

async fn answer(witness: Arc<Witness>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.uri().path() != PATH {
        return plain(StatusCode::NOT_FOUND, "a witness answers POST /add-checkpoint, and nothing else\n");
    }
    if request.method() != Method::POST {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "POST a checkpoint\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let body = Limited::new(request.into_body(), BODY_BYTES).collect();
    let body = match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than any checkpoint\n");
        }
        Ok(Err(_)) => return plain(StatusCode::BAD_REQUEST, "the body broke off\n"),
        Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "the body did not come in time\n"),
    };
    // It syncs a file. Once begun it is ended, whether or not the caller still waits.
    let judged = tokio::task::spawn_blocking(move || witness.add_checkpoint(&body)).await;
    respond(judged.unwrap_or(Answer::Failed))
}

fn respond(answer: Answer) -> Response<Full<Bytes>> {
    match answer {
        Answer::Cosigned(line) => plain(StatusCode::OK, line),
        Answer::Malformed(what) => plain(StatusCode::BAD_REQUEST, format!("{what}\n")),
        Answer::Unsigned => {
            plain(StatusCode::FORBIDDEN, "no good signature by a key that this log is known by\n")
        }
        Answer::UnknownLog => plain(StatusCode::NOT_FOUND, "this log is not known here\n"),
        Answer::Conflict(size) => {
            let mut response = plain(StatusCode::CONFLICT, format!("{size}\n"));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(SIZE_TYPE));
            response
        }
        Answer::Inconsistent => plain(
            StatusCode::UNPROCESSABLE_ENTITY,
            "the proof does not lead from what was cosigned last to this checkpoint\n",
        ),
        Answer::Failed => plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the witness could not write down what it would cosign\n",
        ),
    }
}

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The type of a 409's body (tlog-witness).
pub const SIZE_TYPE: &str = "text/x.tlog.size";

/// A checkpoint with 16 post-quantum signatures of 5 kB each, and a proof of 63 hashes, is well below.
const BODY_BYTES: usize = 256 * 1024;
const HEAD_BYTES: usize = 16 * 1024;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(600);
const CONNECTIONS: usize = 256;
const AFTER_ERROR: Duration = Duration::from_millis(100);
