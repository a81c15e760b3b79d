//! What crosses the gate in headers, and what does not.
//!
//! Order matters: hop-by-hop fields and those that `Connection` nominates go first, then everything a service could
//! take for the gate's own word, and the gate's own are set last; so nothing a caller sends can remove or outlive them.

use std::fmt::Write as _;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::assertion::PORTCULLIS_ASSERTION;
use crate::access::address::write_ip;
use crate::access::{Client, Identity};
use crate::audit::journal::Passage;

/// The names under which a service learns who calls; lower-case.
#[derive(Clone, Debug)]
pub struct IdentityHeaders {
    /// Carries the caller's name, percent-encoded where it is not visible ASCII.
    pub subject: HeaderName,
    /// Carries the caller's roles, joined by commas.
    pub roles: HeaderName,
}

/// Turns the caller's headers into those the upstream gets.
pub fn for_upstream(
    headers: &mut HeaderMap,
    passage: &Passage,
    names: &IdentityHeaders,
    keep_authorization: bool,
) {
    let wants_trailers = has_token(headers, &header::TE, "trailers");
    strip_hop_by_hop(headers);
    if wants_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    let chain = passage.client.via.and_then(|_| forwarded_for(headers));
    let spoofable: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_ours_to_say(name, names, passage.client.via.is_some()))
        .cloned()
        .collect();
    for name in spoofable {
        headers.remove(name);
    }
    announce_only(headers, |name| !NEVER_TRAILERS.contains(name) && !is_ours_to_say(name, names, false));
    join_cookies(headers);
    // The gate answers it itself, when it begins to read the body.
    headers.remove(header::EXPECT);
    if !keep_authorization {
        headers.remove(header::AUTHORIZATION);
    }
    set(headers, header::HOST, passage.access.host.as_str());
    set(headers, X_FORWARDED_FOR, &appended(chain, &passage.client));
    if !headers.contains_key(&X_FORWARDED_PROTO) {
        set(headers, X_FORWARDED_PROTO, if passage.client.tls.is_some() { "https" } else { "http" });
    }
    if !headers.contains_key(&X_FORWARDED_HOST) {
        set(headers, X_FORWARDED_HOST, passage.access.host.as_str());
    }
    if let Identity::Proved(caller) = &passage.identity {
        let subject = caller.user.strip_prefix("user:").unwrap_or(&caller.user);
        set(headers, names.subject.clone(), &encoded(subject));
        if !caller.roles.is_empty() {
            let roles: Vec<String> =
                caller.roles.iter().map(|r| encoded(r.strip_prefix("role:").unwrap_or(r))).collect();
            set(headers, names.roles.clone(), &roles.join(","));
        }
    }
    set(headers, PORTCULLIS_RECORD, &passage.record.text());
    headers.insert(X_REQUEST_ID, passage.id.header().clone());
    headers.insert(TRACEPARENT, passage.trace.header().clone());
}

/// Turns the upstream's headers into those the caller gets.
pub fn for_caller(headers: &mut HeaderMap, passage: &Passage) {
    strip_hop_by_hop(headers);
    set(headers, PORTCULLIS_RECORD, &passage.record.text());
    headers.insert(X_REQUEST_ID, passage.id.header().clone());
}

/// Removes from a request's trailers what must not come by trailer (RFC 9110 §6.5.1), and whatever could pass for the
/// gate's word where an upstream merges trailers into headers. Not even a trusted proxy is believed here.
pub fn strip_request_trailers(trailers: &mut HeaderMap, names: &IdentityHeaders) {
    strip_hop_by_hop(trailers);
    let forbidden: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| NEVER_TRAILERS.contains(name) || is_ours_to_say(name, names, false))
        .cloned()
        .collect();
    for name in forbidden {
        trailers.remove(name);
    }
}

/// Removes from an answer's trailers what must not come by trailer, and what is the gate's to say.
pub fn strip_answer_trailers(trailers: &mut HeaderMap) {
    strip_hop_by_hop(trailers);
    for name in NEVER_TRAILERS.iter().chain(&[PORTCULLIS_RECORD, PORTCULLIS_ASSERTION, X_REQUEST_ID]) {
        trailers.remove(name);
    }
}

/// Whether an answer's head leaves the length of its body open: a coding other than `chunked`, or a length beside it.
pub fn is_ambiguous_length(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return false };
    !coding.as_bytes().eq_ignore_ascii_case(b"chunked")
        || codings.next().is_some()
        || headers.contains_key(header::CONTENT_LENGTH)
}

/// Drops from `Trailer` what the trailers will not have.
fn announce_only(headers: &mut HeaderMap, may_come: impl Fn(&HeaderName) -> bool) {
    if !headers.contains_key(header::TRAILER) {
        return;
    }
    let announced: Vec<String> = headers
        .get_all(header::TRAILER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse::<HeaderName>().ok())
        .filter(|name| may_come(name))
        .map(|name| name.to_string())
        .collect();
    headers.remove(header::TRAILER);
    if !announced.is_empty() {
        set(headers, header::TRAILER, &announced.join(", "));
    }
}

/// RFC 9113 §8.2.3: fields that HTTP/2 split are one again where HTTP/1.1 is spoken.
fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
    }
}

/// Removes what RFC 9110 §7.6.1 says ends here: the fields `Connection` nominates, and those that are hop-by-hop
/// whether nominated or not. `Trailer` stays, since trailers are passed on.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let nominated = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok());
    // Most heads have few fields, so each is looked at once rather than all that could be there looked for.
    let hop_by_hop = headers.keys().filter(|name| HOP_BY_HOP.contains(name)).cloned();
    let ending: Vec<HeaderName> = nominated.chain(hop_by_hop).collect();
    for name in ending {
        headers.remove(name);
    }
}

/// Whether a header could pass for the gate's word: under any spelling that a service may fold into the real one.
fn is_ours_to_say(name: &HeaderName, names: &IdentityHeaders, by_trusted_proxy: bool) -> bool {
    let by_config =
        || [&names.subject, &names.roles].iter().any(|ours| folded(name.as_str()).eq(folded(ours.as_str())));
    // Nearly every name begins otherwise than all of ours, and need not be held against each.
    if !name.as_str().bytes().next().is_some_and(|first| OURS_BEGIN_WITH.contains(&first)) {
        return by_config();
    }
    let folds_to = |ours: &str| folded(name.as_str()).eq(ours.bytes());
    let folds_under = |prefix: &str| folded(name.as_str()).take(prefix.len()).eq(prefix.bytes());
    let forwarding = folds_under("x-forwarded") || folds_to("forwarded") || folds_to("x-real-ip");
    if forwarding && by_trusted_proxy {
        // Only under its own spelling; another is not what a proxy sends.
        return name.as_str().contains(['_', '.']);
    }
    forwarding
        || OURS_BY_PREFIX.iter().any(|prefix| folds_under(prefix))
        || OURS_BY_NAME.iter().any(|ours| folds_to(ours))
        || by_config()
}

/// A header name's bytes as a CGI-like service may see them: `_` and `.` are `-`. Names are lower-case already.
fn folded(name: &str) -> impl Iterator<Item = u8> + '_ {
    name.bytes().map(|byte| if matches!(byte, b'_' | b'.') { b'-' } else { byte })
}

fn forwarded_for(headers: &HeaderMap) -> Option<String> {
    let values: Vec<&str> =
        headers.get_all(X_FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// The client's address; behind a trusted proxy, what the proxy said. The proxy's own address is not added: it is
/// the operator's, and known.
fn appended(chain: Option<String>, client: &Client) -> String {
    chain.unwrap_or_else(|| {
        let mut text = Vec::with_capacity(15);
        write_ip(client.ip, &mut text);
        String::from_utf8(text).unwrap_or_default()
    })
}

/// Percent-encodes what is not visible ASCII, `%` and `,`, so that the value can be split and read back.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' && byte != b',' {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    match HeaderValue::from_str(value) {
        Ok(value) => headers.insert(name, value),
        // Ours are ASCII by construction; should one not be, the caller's must still not stand in its place.
        Err(_) => headers.remove(name),
    };
}

/// The record's number, to the upstream and to the caller.
pub const PORTCULLIS_RECORD: HeaderName = HeaderName::from_static("portcullis-record");
/// The request's id, to the upstream and to the caller.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

static HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// What says where a message ends, where it goes, or who sends it.
static NEVER_TRAILERS: [HeaderName; 8] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::AUTHORIZATION,
    header::COOKIE,
    header::SET_COOKIE,
    header::EXPECT,
];

/// What all of these, and the forwarding fields, begin with.
const OURS_BEGIN_WITH: &[u8] = b"cfpstx";

const OURS_BY_PREFIX: [&str; 11] = [
    "x-original-",
    "x-rewrite-",
    "x-envoy-",
    "x-auth-",
    "portcullis-",
    // What servers that end TLS say of a client's certificate (RFC 9440, and names of old).
    "client-cert",
    "x-client-cert",
    "ssl-client-",
    "x-ssl-",
    "x-tls-",
    "x-amzn-mtls-",
];

const OURS_BY_NAME: [&str; 9] = [
    "x-request-id",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    // CGI turns it into HTTP_PROXY, which HTTP clients obey.
    "proxy",
    "x-ms-client-principal",
];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::access::attempt::{Attempt, Connection, ReadRules, TrustedProxies};
    use crate::access::path::Tolerance;
    use crate::access::route::{HostPattern, Preflights, Route, Routes};
    use crate::access::{Caller, ProofMethod, Reason};
    use crate::audit::journal::RecordRef;
    use crate::clock::Timestamp;

    fn passage(request: &http::request::Parts, trusted: bool, identity: Identity) -> Passage {
        let routes = Routes::new([Route {
            service: "app".into(),
            hosts: vec![HostPattern::Any],
            prefix: "/".into(),
            rewrite: None,
            tolerance: Tolerance::default(),
            preflights: Preflights::Off,
            certificates: Default::default(),
            recording: Default::default(),
        }]);
        let networks = if trusted { vec!["192.0.2.0/24".parse().unwrap()] } else { vec![] };
        let trusted = TrustedProxies::new(networks);
        let connection = Connection::without_certificate("192.0.2.1:5000".parse().unwrap(), Some("TLSv1.3"));
        let rules = ReadRules { routes: &routes, trusted: &trusted, target_bytes: 1000 };
        let attempt = Attempt::read(request, &connection, &rules, 7);
        Passage {
            access: attempt.access.unwrap(),
            identity,
            client: attempt.client,
            id: attempt.id,
            trace: attempt.trace,
            reason: Reason::PolicyAllow,
            record: RecordRef { origin: "gate".into(), index: 3 },
        }
    }

    #[test]
    fn every_name_of_ours_begins_as_the_quick_look_expects() {
        let forwarding = ["x-forwarded", "forwarded", "x-real-ip"];
        for ours in OURS_BY_PREFIX.iter().chain(&OURS_BY_NAME).chain(&forwarding) {
            assert!(OURS_BEGIN_WITH.contains(&ours.as_bytes()[0]), "{ours}");
        }
    }

    fn caller(user: &str, roles: &[&str]) -> Identity {
        Identity::Proved(Arc::new(Caller {
            user: user.into(),
            roles: roles.iter().map(|r| r.to_string()).collect(),
            issuer: "i".into(),
            method: ProofMethod::Jwt,
            token_id: None,
            key_id: None,
            expires: Timestamp::from_micros(0),
            also: None,
        }))
    }

    fn sent(fields: &[(&str, &str)], trusted: bool, identity: Identity) -> HeaderMap {
        let mut request = http::Request::get("/").header("host", "App.:80");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        let passage = passage(&head, trusted, identity);
        let names = IdentityHeaders {
            subject: HeaderName::from_static("x-auth-subject"),
            roles: HeaderName::from_static("remote-roles"),
        };
        for_upstream(&mut head.headers, &passage, &names, false);
        head.headers
    }

    #[test]
    fn nothing_a_stranger_says_can_pass_for_the_gates_word() {
        let spoofs = [
            "x-forwarded-for",
            "x-forwarded-uri",
            "x_forwarded_for",
            "x-forwarded.for",
            "x-forwarded",
            "forwarded",
            "x-real-ip",
            "x_real_ip",
            "x-original-url",
            "x-rewrite-url",
            "x-envoy-original-path",
            "client-cert",
            "client_cert-chain",
            "ssl-client-s-dn",
            "x-ssl-client-verify",
            "x-tls-client-cert",
            "x-amzn-mtls-clientcert-subject",
            "x-auth-user",
            "x_auth_subject",
            "x-auth-subject",
            "x.auth.subject",
            "remote-roles",
            "remote_roles",
            "portcullis-record",
            "portcullis-assertion",
            "x-request-id",
            "x-http-method-override",
            "x_http_method_override",
            "proxy",
            "authorization",
            "x-forwarded-prefix",
        ];
        let fields: Vec<_> = spoofs.iter().map(|name| (*name, "SPOOF")).collect();
        let headers = sent(&fields, false, Identity::Anonymous);
        for (name, value) in &headers {
            assert_ne!(value, "SPOOF", "{name}");
        }
        assert_eq!(headers["x-forwarded-for"], "192.0.2.1");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "app:80");
        assert_eq!(headers["portcullis-record"], "gate/3");
        assert!(!headers.contains_key("x-auth-subject") && !headers.contains_key("remote-roles"));
    }

    #[test]
    fn connection_cannot_nominate_the_gates_own_headers_away() {
        let headers = sent(
            &[
                ("connection", "close, X-Auth-Subject, x-secret, x-forwarded-for"),
                ("x-secret", "1"),
                ("te", "gzip, trailers"),
            ],
            false,
            caller("user:alice", &["role:viewer", "role:a,b"]),
        );
        assert_eq!(headers["x-auth-subject"], "alice");
        assert_eq!(headers["remote-roles"], "viewer,a%2Cb");
        assert_eq!(headers["te"], "trailers");
        assert!(headers.contains_key("x-forwarded-for"));
        assert!(!headers.contains_key("x-secret") && !headers.contains_key("connection"));
    }

    #[test]
    fn an_upgrade_is_stripped_whole() {
        let headers = sent(
            &[("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("http2-settings", "AAM")],
            false,
            Identity::Anonymous,
        );
        for name in ["connection", "upgrade", "http2-settings"] {
            assert!(!headers.contains_key(name), "{name}");
        }
    }

    #[test]
    fn a_trusted_proxys_forwarding_headers_pass_and_nothing_else_of_its() {
        let headers = sent(
            &[
                ("x-forwarded-for", "203.0.113.9"),
                ("x-forwarded-proto", "http"),
                ("x_forwarded_for", "SPOOF"),
                ("x-auth-subject", "SPOOF"),
            ],
            true,
            caller("user:é", &[]),
        );
        assert_eq!(headers["x-forwarded-for"], "203.0.113.9");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-auth-subject"], "%C3%A9");
        assert!(headers.values().all(|value| value != "SPOOF"));
    }
}
