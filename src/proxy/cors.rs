//! CORS answers of the gate's own (WHATWG Fetch §3.2), for services that ask for them.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use super::body::Body;

/// What a service's browsers may do from elsewhere.
#[derive(Clone, Debug, Default)]
pub struct CorsAnswers {
    /// Origins allowed, as browsers write them; `*` for all.
    pub origins: Vec<String>,
    /// Methods allowed.
    pub methods: Vec<String>,
    /// Request headers allowed.
    pub headers: Vec<String>,
    /// How long a browser may remember the answer.
    pub max_age: Duration,
    /// Whether browsers may send credentials.
    pub credentials: bool,
}

impl CorsAnswers {
    /// Answers a preflight. An origin that is not allowed gets an answer without permission, as Fetch wants it.
    pub fn preflight(&self, request: &HeaderMap) -> Response<Body> {
        let mut response = Response::new(Body::full(Bytes::new()));
        *response.status_mut() = StatusCode::NO_CONTENT;
        if self.grant(request, response.headers_mut()) {
            let headers = response.headers_mut();
            set(headers, header::ACCESS_CONTROL_ALLOW_METHODS, &self.methods.join(", "));
            set(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, &self.headers.join(", "));
            set(headers, header::ACCESS_CONTROL_MAX_AGE, &self.max_age.as_secs().to_string());
        }
        response
    }

    /// Adds permission to a relayed answer, in place of what the upstream may have said; `false` if the request's
    /// origin has none.
    pub fn grant(&self, request: &HeaderMap, response: &mut HeaderMap) -> bool {
        response.append(header::VARY, HeaderValue::from_static("Origin"));
        response.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
        response.remove(header::ACCESS_CONTROL_ALLOW_CREDENTIALS);
        let Some(origin) = request.get(header::ORIGIN) else { return false };
        let allowed = self.origins.iter().any(|o| o == "*" || o.as_bytes() == origin.as_bytes());
        if allowed {
            response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            response.append(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
            if self.credentials {
                response.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
        }
        allowed
    }
}

/// What a page may read of the gate's headers: the numbers its user quotes.
const EXPOSED: &str = "Portcullis-Record, X-Request-Id";

fn set(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value)
        && !value.is_empty()
    {
        headers.insert(name, value);
    }
}
