//! What stands around the path of a request.
//!
//! The order is this list, outermost first, and nowhere else:
//! 1. **drain**: once the gate goes down, no new call is decided;
//! 2. **in flight**: at most so many calls at once on all workers together, each until its answer's last byte and its
//!    record are out of the way; more are answered 503 at once, before any decision, and counted. The path itself turns
//!    away what a service or a caller has beyond its share;
//! 3. **panic**: a panic ends the one request it happened in, with 500. One within a decision, which is to be on record, and
//!    one in an answer's body, which comes later, are caught where they happen;
//! 4. the path itself.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use http::{HeaderValue, Method, Request, Response, header};
use hyper::body::{Body as _, Incoming};
use tokio::sync::Semaphore;

use super::connection::Host;
use crate::access::Connection;
use crate::access::attempt::Unreadable;
use crate::proxy::body::Body;
use crate::proxy::live::Live;
use crate::proxy::room::Place;
use crate::proxy::{Call, respond};

/// Serves one call on one connection, through every layer. The answer comes with the room it takes up until it has been
/// sent.
pub async fn serve(
    host: &Host,
    arrival: Arrival,
    request: Request<Incoming>,
) -> (Response<Body>, Option<Arc<Place>>) {
    if host.drain.has_begun() {
        let mut response = shed("drain");
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return (response, None);
    }
    let Some(place) = arrival.live.limits.room(host.proxy.face()).enter() else {
        return (shed("in_flight"), None);
    };
    let place = Arc::new(place);
    let head = request.method() == Method::HEAD;
    let Arrival { live, connection, fresh, unreadable, turns } = arrival;
    let call = Call { connection, fresh, unreadable, place: Arc::clone(&place), turns };
    // Boxed: what a call takes would otherwise be moved through every layer around it, twenty times.
    let response = caught(Box::pin(host.proxy.handle(&live, request, &call))).await;
    (if head { without_content(response) } else { response }, Some(place))
}

/// The answer of `path`; 500 if it panics. What a panic leaves half done is the call's own: a permit that it held is
/// dropped, and with it the allow closed.
async fn caught(path: impl Future<Output = Response<Body>>) -> Response<Body> {
    AssertUnwindSafe(path).catch_unwind().await.unwrap_or_else(|_| {
        metrics::counter!("portcullis_panics_total").increment(1);
        respond::internal_error()
    })
}

/// The answer to HEAD: what GET would get, less the content.
fn without_content(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact().filter(|length| *length > 0) {
        head.headers.entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from(length));
    }
    Response::from_parts(head, body.without_content())
}

/// Answers a call that is not even decided.
fn shed(cause: &'static str) -> Response<Body> {
    metrics::counter!("portcullis_shed_total", "cause" => cause).increment(1);
    respond::shed()
}

/// A call that has just come in.
pub struct Arrival {
    /// The snapshot this call sees.
    pub live: Arc<Live>,
    /// The connection.
    pub connection: Connection,
    /// This call's number.
    pub fresh: u128,
    /// Why the call's head was not handed on, if it was not: then the request only stands in its place.
    pub unreadable: Option<Unreadable>,
    /// Turns for records of this connection.
    pub turns: Arc<Semaphore>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_own_call_with_500_and_no_other() {
        let panics = caught(async { panic!("on purpose") });
        let waits = caught(async {
            tokio::task::yield_now().await;
            Response::new(Body::full(bytes::Bytes::new()))
        });
        let (panicked, other) = tokio::join!(panics, waits);
        assert_eq!((panicked.status().as_u16(), other.status().as_u16()), (500, 200));
    }
}
