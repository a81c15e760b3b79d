//! The gate's own answers: the one file that turns causes into HTTP statuses.
//!
//! All are problem+json (RFC 9457) and tell the caller nothing about the policy; the record's number is what a
//! refused user quotes.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::body::Body;
use super::cors::CorsAnswers;
use super::headers::{PORTCULLIS_RECORD, X_REQUEST_ID};
use super::rates::Exceeded;
use crate::access::{CredentialFault, Malformed, Reason};
use crate::audit::journal::{Denial, RecordRef, Unrecorded};

/// Answers a recorded deny, and where a rate was used up, says which. Where the service's CORS is answered here, the page that called may read the answer, and with
/// it the record's number.
pub fn denied(
    denial: &Denial,
    exceeded: Option<&Exceeded>,
    cors: Option<&CorsAnswers>,
    request: &HeaderMap,
) -> Response<Body> {
    let answer = denial_answer(denial.reason, denial.proved);
    let mut response = problem(answer.status, answer.title, Some(&denial.record));
    let headers = response.headers_mut();
    headers.insert(X_REQUEST_ID, denial.id.header().clone());
    if let Some(challenge) = answer.challenge {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if answer.status == StatusCode::METHOD_NOT_ALLOWED {
        headers
            .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    if answer.status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    if let Some(exceeded) = exceeded {
        say_exceeded(headers, exceeded);
    }
    if let Some(cors) = cors {
        cors.grant(request, headers);
    }
    if matches!(denial.reason, Reason::Malformed(Malformed::Framing)) {
        // What follows on this connection has no certain beginning.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Answers a call whose decision could not be recorded. It carries no record, for there is none.
pub fn unrecorded(cause: Unrecorded) -> Response<Body> {
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, "The audit log is not available", None);
    let retry = match cause {
        Unrecorded::QueueFull | Unrecorded::TimedOut | Unrecorded::Closed => "1",
        // It comes back by itself, but not at once.
        Unrecorded::DiskFull | Unrecorded::Unwitnessed => "10",
        Unrecorded::Failed | Unrecorded::Stopped => "30",
    };
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(retry));
    response
}

/// Answers a call that was shed before any decision.
pub fn shed() -> Response<Body> {
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, "The gate is at its limit", None);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// Answers an allowed call that could not be carried out.
pub fn not_carried_out(status: StatusCode, record: &RecordRef) -> Response<Body> {
    let title = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "The request's body is too large",
        StatusCode::REQUEST_TIMEOUT => "The request's body did not arrive in time",
        StatusCode::GATEWAY_TIMEOUT => "The service did not answer in time",
        StatusCode::SERVICE_UNAVAILABLE => "The service is not available",
        _ => "The service could not be reached",
    };
    problem(status, title, Some(record))
}

/// Answers a call in which the gate itself failed.
pub fn internal_error() -> Response<Body> {
    problem(StatusCode::INTERNAL_SERVER_ERROR, "The gate failed", None)
}

/// When to come again (RFC 9110 §10.2.3), and the rate that was used up, in the three fields that are in wide use
/// (draft-ietf-httpapi-ratelimit-headers up to its revision 06).
fn say_exceeded(headers: &mut HeaderMap, Exceeded { rate, wait, .. }: &Exceeded) {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let seconds = HeaderValue::from(seconds.max(1));
    headers.insert(header::RETRY_AFTER, seconds.clone());
    headers.insert(HeaderName::from_static("ratelimit-limit"), HeaderValue::from(rate.burst.get()));
    headers.insert(HeaderName::from_static("ratelimit-remaining"), HeaderValue::from(0));
    headers.insert(HeaderName::from_static("ratelimit-reset"), seconds);
}

struct Answer {
    status: StatusCode,
    title: &'static str,
    challenge: Option<&'static str>,
}

fn denial_answer(reason: Reason, proved: bool) -> Answer {
    let plain = |status, title| Answer { status, title, challenge: None };
    match reason {
        Reason::Malformed(Malformed::TargetTooLong) => {
            plain(StatusCode::URI_TOO_LONG, "The target is too long")
        }
        Reason::Malformed(Malformed::Expect) => {
            plain(StatusCode::EXPECTATION_FAILED, "The expectation cannot be met")
        }
        Reason::Malformed(Malformed::HeadTooLong | Malformed::TooManyFields) => {
            plain(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's head is too large")
        }
        Reason::Malformed(_) => plain(StatusCode::BAD_REQUEST, "The request is malformed or ambiguous"),
        Reason::NoService => plain(StatusCode::NOT_FOUND, "There is no such service"),
        Reason::MethodNotAllowed => plain(StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed"),
        Reason::Credential(CredentialFault::KeysUnavailable) => {
            plain(StatusCode::SERVICE_UNAVAILABLE, "The credential cannot be checked now")
        }
        Reason::RateLimited => plain(StatusCode::TOO_MANY_REQUESTS, "There were too many calls"),
        Reason::Misdirected => plain(
            StatusCode::MISDIRECTED_REQUEST,
            "This connection was made for another host; make one for this host",
        ),
        // No header can bring what is missing, so there is nothing to challenge with.
        Reason::Credential(CredentialFault::CertificateMissing) => {
            plain(StatusCode::FORBIDDEN, "A client certificate is required")
        }
        Reason::Credential(CredentialFault::CertificateRejected | CredentialFault::CertificateSubject) => {
            plain(StatusCode::FORBIDDEN, "The client certificate does not hold")
        }
        // RFC 6750 §3.1.
        Reason::Credential(_) => Answer {
            status: StatusCode::UNAUTHORIZED,
            title: "The credential does not hold",
            challenge: Some("Bearer realm=\"portcullis\", error=\"invalid_token\""),
        },
        Reason::PolicyDeny | Reason::NoMatch if !proved => Answer {
            status: StatusCode::UNAUTHORIZED,
            title: "A credential is required",
            challenge: Some("Bearer realm=\"portcullis\""),
        },
        Reason::PolicyDeny | Reason::NoMatch => plain(StatusCode::FORBIDDEN, "The call is not allowed"),
        Reason::PolicyTimeout => {
            plain(StatusCode::SERVICE_UNAVAILABLE, "The call could not be decided in time")
        }
        // An allow's reasons never stand on a denial; should one, it is the gate's own fault.
        Reason::PolicyError | Reason::Internal | Reason::PolicyAllow | Reason::CorsPreflight => {
            plain(StatusCode::INTERNAL_SERVER_ERROR, "The call could not be decided")
        }
    }
}

fn problem(status: StatusCode, title: &'static str, record: Option<&RecordRef>) -> Response<Body> {
    let mut json = format!("{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{}", status.as_u16());
    if let Some(record) = record {
        json.push_str(&format!(",\"record\":\"{record}\""));
    }
    json.push_str("}\n");
    let mut response = Response::new(Body::full(Bytes::from(json)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(record) = record
        && let Ok(value) = HeaderValue::from_str(&record.to_string())
    {
        headers.insert(PORTCULLIS_RECORD, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_turned_away_for_want_of_a_record_is_told_when_to_come_again() {
        use Unrecorded::{Closed, DiskFull, Failed, QueueFull, Stopped, TimedOut, Unwitnessed};
        for cause in [QueueFull, TimedOut, DiskFull, Failed, Stopped, Unwitnessed, Closed] {
            let answer = unrecorded(cause);
            let after = answer.headers().get(header::RETRY_AFTER).and_then(|after| after.to_str().ok());
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert!(after.is_some_and(|seconds| seconds.parse::<u8>().is_ok()), "{cause}");
            assert!(!answer.headers().contains_key(PORTCULLIS_RECORD));
        }
    }

    #[test]
    fn each_cause_has_its_status() {
        for (reason, proved, status, challenged) in [
            (Reason::NoMatch, false, 401, true),
            (Reason::NoMatch, true, 403, false),
            (Reason::PolicyDeny, true, 403, false),
            (Reason::PolicyDeny, false, 401, true),
            (Reason::Credential(CredentialFault::Expired), false, 401, true),
            (Reason::Credential(CredentialFault::KeysUnavailable), false, 503, false),
            (Reason::Malformed(Malformed::DotSegment), false, 400, false),
            (Reason::MethodNotAllowed, false, 405, false),
            (Reason::Misdirected, true, 421, false),
            (Reason::Credential(CredentialFault::CertificateMissing), false, 403, false),
            (Reason::NoService, true, 404, false),
            (Reason::RateLimited, false, 429, false),
            (Reason::PolicyError, true, 500, false),
            (Reason::Internal, true, 500, false),
        ] {
            let answer = denial_answer(reason, proved);
            assert_eq!(
                (answer.status.as_u16(), answer.challenge.is_some()),
                (status, challenged),
                "{reason:?}"
            );
        }
    }
}
