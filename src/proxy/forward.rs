//! Carrying out what was allowed: a permit goes in, the service's answer comes out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use hyper::body::{Body as _, Incoming};
use tower::ServiceExt;

use super::assertion::{Assertions, PORTCULLIS_ASSERTION};
use super::body::{Body, BodyBounds, RequestBody, RequestEnd};
use super::cors::CorsAnswers;
use super::headers::{self, IdentityHeaders};
use super::respond;
use super::upstream::{Pool, UpstreamSet};
use crate::access::route::Preflights;
use crate::access::{Attempt, Reason};
use crate::audit::journal::{OpenAllow, Passage, Permit};

/// What stands behind the gate under one service's name.
#[derive(Debug)]
pub struct Backend {
    /// Where calls go.
    pub target: Target,
    /// The longest request body, bytes.
    pub max_body: u64,
    /// Bytes a second that must come of a request's body; 0 asks for none.
    pub min_rate: u64,
    /// How long the head of an answer may take once the request's body no longer moves.
    pub head_timeout: Duration,
    /// How long either body may stand still.
    pub idle_timeout: Duration,
    /// Whether the service gets to see the caller's credential.
    pub forward_authorization: bool,
    /// CORS answers of the gate's own.
    pub cors: Option<CorsAnswers>,
    /// What vouches for each call, if the service asks for it.
    pub assertions: Option<Arc<Assertions>>,
}

impl Backend {
    const fn body_bounds(&self) -> BodyBounds {
        BodyBounds { bytes: self.max_body, idle: self.idle_timeout, min_rate: self.min_rate }
    }
}

/// Where a service's calls go.
#[derive(Debug)]
pub enum Target {
    /// To its upstreams.
    Upstreams(UpstreamSet),
    /// To the gate's own admin API.
    Admin(axum::Router),
}

/// All services' backends, by name.
#[derive(Debug)]
pub struct Backends {
    /// By service.
    pub by_service: HashMap<Arc<str>, Backend>,
    /// How callers are made known to services.
    pub identity_headers: Arc<IdentityHeaders>,
}

impl Backends {
    /// The CORS answers of the service that an attempt is for, if the gate gives them.
    pub fn cors_of(&self, attempt: &Attempt) -> Option<&CorsAnswers> {
        self.by_service.get(attempt.service()?)?.cors.as_ref()
    }
}

/// One worker's upstream side.
#[derive(Clone, Default)]
pub struct Upstreams {
    pool: Pool,
}

impl Upstreams {
    /// Carries out the call that `permit` stands for. Service, method, host and path are the permit's; of `request`
    /// only headers, query and body are used. The call's outcome is recorded when the answer's body ends.
    pub async fn forward(
        &self,
        permit: Permit,
        backends: &Backends,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let (passage, mut open) = permit.spend();
        let Some(backend) = backends.by_service.get(&passage.access.route.service) else {
            return given_up(open, &passage, "no_backend", StatusCode::BAD_GATEWAY);
        };
        if passage.reason == Reason::CorsPreflight
            && passage.access.route.preflights == Preflights::Answer
            && let Some(cors) = &backend.cors
        {
            let mut response = cors.preflight(request.headers());
            headers::for_caller(response.headers_mut(), &passage);
            open.outcome().status = Some(response.status().as_u16());
            open.completed();
            return response;
        }
        if passage.reason == Reason::CorsPreflight && !request.body().is_end_stream() {
            // An HTTP/2 body shows only here. Nobody asked policy about it.
            return given_up(open, &passage, "preflight_with_body", StatusCode::BAD_REQUEST);
        }
        if request.body().size_hint().lower() > backend.max_body {
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            return given_up(open, &passage, "request_body_too_large", status);
        }
        let origin_headers = backend.cors.as_ref().map(|_| request.headers().clone());
        let mut response = match &backend.target {
            Target::Upstreams(set) => {
                self.relay(set, backend, &backends.identity_headers, (passage, open), request).await
            }
            Target::Admin(router) => {
                Box::pin(local(router, backend, &backends.identity_headers, (passage, open), request)).await
            }
        };
        if let (Some(cors), Some(request)) = (&backend.cors, origin_headers) {
            cors.grant(&request, response.headers_mut());
        }
        response
    }

    async fn relay(
        &self,
        set: &UpstreamSet,
        backend: &Backend,
        names: &Arc<IdentityHeaders>,
        (passage, mut open): (Passage, OpenAllow),
        request: Request<Incoming>,
    ) -> Response<Body> {
        let Some(upstream) = set.choose() else {
            return given_up(open, &passage, "no_upstream", StatusCode::SERVICE_UNAVAILABLE);
        };
        open.outcome().upstream = Some(Arc::clone(&upstream.name));
        let mut connection = match self.pool.connect(upstream).await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(upstream = %upstream.name, %error, "no connection to an upstream");
                return upstream_failed(open, &passage, error.as_str(), error.status());
            }
        };
        let (mut head, body) = request.into_parts();
        headers::for_upstream(&mut head.headers, &passage, names, backend.forward_authorization);
        if let Some(assertions) = &backend.assertions
            && let Some(assertion) = assertions.assert(&passage, &open.epochs().policy)
        {
            head.headers.insert(PORTCULLIS_ASSERTION, assertion);
        }
        let sent = Arc::clone(&open.outcome().request_bytes);
        if !body.is_end_stream() && body.size_hint().exact().is_none() {
            // hyper would send no body where the method usually has none.
            head.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let body = RequestBody::new(body, backend.body_bounds(), Arc::clone(names), Arc::clone(&sent));
        let progress = body.progress();
        let request = assemble(&passage, head.uri.query(), head.headers, body);
        open.forwarding();
        let moved = || sent.load(Ordering::Relaxed);
        match connection.exchange(request, backend.head_timeout, moved).await {
            // No upgrade was asked for, so none is let through.
            Ok(response) if response.status().is_informational() => {
                upstream_failed(open, &passage, "unexpected_upgrade", StatusCode::BAD_GATEWAY)
            }
            // RFC 9112 §6.3: an answer whose length has two readings is no answer.
            Ok(response) if headers::is_ambiguous_length(response.headers()) => {
                upstream_failed(open, &passage, "ambiguous_length", StatusCode::BAD_GATEWAY)
            }
            Ok(response) => {
                let (mut head, body) = response.into_parts();
                headers::for_caller(&mut head.headers, &passage);
                if backend.assertions.is_some() {
                    // A service that shows what it got is not to show callers this.
                    head.headers.remove(PORTCULLIS_ASSERTION);
                }
                head.version = Version::HTTP_11;
                open.outcome().status = Some(head.status.as_u16());
                let body = Body::relayed(body, open, backend.idle_timeout, connection, progress);
                Response::from_parts(head, body)
            }
            Err(error) => match progress.end().and_then(RequestEnd::fault) {
                // The caller's body was at fault, not the upstream.
                Some((detail, status)) => given_up(open, &passage, detail, status),
                None => {
                    tracing::warn!(upstream = %upstream.name, %error, "no answer from an upstream");
                    upstream_failed(open, &passage, error.as_str(), error.status())
                }
            },
        }
    }
}

async fn local(
    router: &axum::Router,
    backend: &Backend,
    names: &Arc<IdentityHeaders>,
    (passage, mut open): (Passage, OpenAllow),
    request: Request<Incoming>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let sent = Arc::clone(&open.outcome().request_bytes);
    let body = RequestBody::new(body, backend.body_bounds(), Arc::clone(names), sent);
    let request = assemble(&passage, head.uri.query(), head.headers, axum::body::Body::new(body));
    open.forwarding();
    let response = match router.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let (mut head, body) = response.into_parts();
    headers::for_caller(&mut head.headers, &passage);
    open.outcome().status = Some(head.status.as_u16());
    Response::from_parts(head, Body::local(body, open, backend.idle_timeout))
}

/// The request as it was decided, with the caller's query.
fn assemble<B>(passage: &Passage, query: Option<&str>, headers: HeaderMap, body: B) -> Request<B> {
    let path = passage.access.path.as_str();
    let target = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut request = Request::new(body);
    *request.method_mut() = passage.access.method.clone();
    *request.headers_mut() = headers;
    // A canonical path and a query that hyper has read always make a target; `/` would be a different one, so a
    // target that is somehow not valid goes out as `*`, which no service takes for a path.
    *request.uri_mut() = PathAndQuery::try_from(target).map_or_else(|_| Uri::from_static("*"), Uri::from);
    request
}

/// The upstream is to blame.
fn upstream_failed(
    open: OpenAllow,
    passage: &Passage,
    detail: &'static str,
    status: StatusCode,
) -> Response<Body> {
    open.upstream_failed(detail, Some(status.as_u16()));
    not_carried_out(passage, status)
}

/// The upstream is not.
fn given_up(open: OpenAllow, passage: &Passage, detail: &'static str, status: StatusCode) -> Response<Body> {
    open.given_up(detail, status.as_u16());
    not_carried_out(passage, status)
}

fn not_carried_out(passage: &Passage, status: StatusCode) -> Response<Body> {
    let mut response = respond::not_carried_out(status, &passage.record);
    headers::for_caller(response.headers_mut(), passage);
    response
}
