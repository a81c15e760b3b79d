//! What stands around the path of a request.
//!
//! The order is this list, outermost first, and nowhere else:
//! 1. **panic**: a panic ends the one request it happened in, with 500;
//! 2. **drain**: once the gate goes down, no new call is decided;
//! 3. **load shed** and **in flight**: at most so many calls at once on all workers together; more are answered 503 at
//!    once, before any decision, and counted;
//! 4. the path itself.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use http::{HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::{Service, ServiceBuilder, ServiceExt};

use super::drain::Drain;
use crate::access::Connection;
use crate::proxy::body::Body;
use crate::proxy::live::Live;
use crate::proxy::{Proxy, respond};

/// Serves one call on one connection, through every layer.
pub async fn serve(
    drain: &Drain,
    path: Path,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    // RFC 9110 §9.3.2. HTTP/1 leaves a body out by itself; over HTTP/2 one would be an error of the stream.
    let bodiless = request.method() == Method::HEAD;
    let response = through_layers(drain, path, request).await;
    Ok(if bodiless { response.map(Body::left_out) } else { response })
}

async fn through_layers(drain: &Drain, path: Path, request: Request<Incoming>) -> Response<Body> {
    if drain.has_begun() {
        metrics::counter!("portcullis_shed_total", "cause" => "drain").increment(1);
        let mut response = respond::shed();
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return response;
    }
    let stack = ServiceBuilder::new()
        .load_shed()
        .layer(GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&path.live.limits.in_flight)))
        .service(path);
    let answer = AssertUnwindSafe(stack.oneshot(request)).catch_unwind().await;
    match answer {
        Ok(Ok(response)) => response,
        // The path itself cannot fail: this is the load shed.
        Ok(Err(_)) => {
            metrics::counter!("portcullis_shed_total", "cause" => "in_flight").increment(1);
            respond::shed()
        }
        Err(_) => {
            metrics::counter!("portcullis_panics_total").increment(1);
            respond::internal_error()
        }
    }
}

/// The path of a request as a tower service, for one connection.
#[derive(Clone)]
pub struct Path {
    /// The gate.
    pub proxy: Proxy,
    /// The snapshot this call sees.
    pub live: Arc<Live>,
    /// The connection.
    pub connection: Connection,
    /// This call's number.
    pub fresh: u128,
}

impl Service<Request<Incoming>> for Path {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = LocalBoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let path = self.clone();
        Box::pin(
            async move { Ok(path.proxy.handle(&path.live, request, &path.connection, path.fresh).await) },
        )
    }
}
